#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 100
# user: the same as clones.py, in a user namespace
import sys

import clones

sys.exit(clones.main())
