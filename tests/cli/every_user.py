#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 90
# user: the same as every.py, restored in namespaces of its own
import sys

import every

sys.exit(every.main())
