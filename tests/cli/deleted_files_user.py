#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
# user: the same as deleted_files.py, restored in namespaces of its own
import sys

import deleted_files

sys.exit(deleted_files.main())
