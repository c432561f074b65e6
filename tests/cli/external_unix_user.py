#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
# user: the same as external_unix.py, restored in namespaces of its own
import sys

import external_unix

sys.exit(external_unix.main())
