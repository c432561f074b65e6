#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
# user: the same as external_pipes.py, restored in namespaces of its own
import sys

import external_pipes

sys.exit(external_pipes.main())
