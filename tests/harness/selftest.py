# SPDX-License-Identifier: LGPL-2.1-or-later
"""The harness must not pass what was not dumped and restored: every mode is run with a fake of cpx
that only pretends, and must fail."""
import os

import sandbox
import subjects

FAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake-cpx")
LIES = ("does-nothing", "kills-only", "starts-over")


class SelfTest(subjects.SubjectTest):
    def __init__(self, entry, mode, program, lie):
        super().__init__(entry, mode, program)
        self.lie = lie
        self.name = f"harness/{lie}/{mode}"

    def run(self, directory):
        os.environ.update(CPX=FAKE, FAKE_LIE=self.lie, FAKE_DIR=directory)
        try:
            super().run(directory)
        except sandbox.Fail as e:
            print(f"as it should: {e}")
            return
        raise sandbox.Fail(f"passes although cpx {self.lie}")


def tests(programs):
    canary = next(e for e in subjects.table() if e.name == "canary")
    program = os.path.join(programs, "canary")
    return [SelfTest(canary, mode, program, lie) for lie in LIES for mode in subjects.MODES
            if mode not in ("undisturbed", "continue")]
