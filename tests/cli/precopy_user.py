#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
# user: the same as precopy.py, restored in namespaces of its own
import sys

import precopy

sys.exit(precopy.main())
