#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
"""vi: see editor.py."""
import sys

import editor


class Vi(editor.Editor):
    command, screen = "vi -u NONE -N", "[New]"
    insert, leave = "i", "\033:wq\n"


if __name__ == "__main__":
    sys.exit(editor.test(Vi()))
