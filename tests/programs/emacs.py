#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
"""emacs in a terminal: see editor.py."""
import sys

import editor


class Emacs(editor.Editor):
    command, screen = "emacs -nw -Q", "(New file)"
    leave = "\x18\x13\x18\x03"  # C-x C-s C-x C-c
    splits = (29,)  # it takes two seconds to start


sys.exit(editor.test(Emacs()))
