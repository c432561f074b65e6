#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
# user: the same as vi.py, restored in namespaces of its own
import sys

import editor
from vi import Vi

sys.exit(editor.test(Vi()))
