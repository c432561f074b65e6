#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
# user: the same as changed_files.py, restored in namespaces of its own
import sys

import changed_files

sys.exit(changed_files.main())
