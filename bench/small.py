# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cases whose cost is not that of their memory: one tiny task, many tasks, threads, mappings, descriptors."""
import resource

from case import Case
from report import Row, at_most
from target import FORK_ALL, TOUCH

MIB = 2**20


class Small(Case):
    """Dump and restore with the options that one gets without saying anything."""

    freeze_bar = restore_bar = dump_bar = None
    words = ""
    full, small = {}, {}  # arguments of the workload; those with --quick

    def __init__(self, tools, quick):
        super().__init__(tools, quick)
        self.title = self.words.format(**self.workload())

    def workload(self):
        return self.small if self.quick else self.full

    def regrow(self):
        """The arguments of the primitive of a restore of many; None: it is compared with starting a program."""
        return None

    def round(self):
        self.note("nothing", self.tools.nothing())
        self.target.do(TOUCH)
        fork = self.target.do(FORK_ALL)
        self.note("bare", fork + self.tools.stop(self.target))
        self.dump("dump")
        self.note("image", self.tools.size_mib("image"))
        if self.regrow():
            self.target.end()
            self.note("regrow", self.tools.regrow(*self.regrow()))
        self.restore("restore")
        self.tools.remove("image")
        self.criu_round()

    def rows(self):
        spawn, fork = ("nothing", "fork+exec+exit"), ("bare", "ptrace, fork()")
        regrow = ("regrow", "clone+fill+ptrace") if self.regrow() else spawn
        rows = [Row("freeze (frozen_us)", "dump_frozen", "ms", *fork, self.freeze_bar),
                Row("freeze seen inside", "dump_gap", "ms", *fork, self.freeze_bar),
                Row("dump wall", "dump_wall", "ms", *spawn, self.dump_bar),
                Row("restore wall", "restore_wall", "ms", *regrow, self.restore_bar),
                Row("image", "image", "MiB")]
        if self.tools.criu:
            rows += [Row("CRIU freeze seen inside", "criu_dump_gap", "ms", *fork),
                     Row("CRIU dump wall", "criu_dump_wall", "ms", *spawn),
                     Row("CRIU restore wall", "criu_restore_wall", "ms", *spawn),
                     Row("CRIU image", "criu_image", "MiB")]
        return rows


class Tiny(Small):
    name, words, repeat = "tiny", "one tiny task", 4
    dump_bar = restore_bar = at_most(5)


class Tasks(Small):
    name, words = "tasks", "{tasks} tasks x {mib} MiB"
    full, small = {"tasks": 100, "mib": 4}, {"tasks": 8, "mib": 1}
    freeze_bar, restore_bar = at_most(60), at_most(150)
    needs, spare = 1200 * MIB, 800 * MIB

    def regrow(self):
        return self.tools.path("image"), self.workload()["tasks"], self.workload()["mib"], self.tools.cpus


class Threads(Small):
    name, words, repeat = "threads", "{threads} threads", 2
    full, small = {"threads": 200}, {"threads": 20}
    freeze_bar, restore_bar = at_most(10), at_most(15)

    def regrow(self):
        return "-", self.workload()["threads"]


class Threads2000(Small):
    name, words = "threads2000", "{threads:,} threads"
    full, small = {"threads": 2000}, {"threads": 100}
    regrow = Threads.regrow


class Maps(Small):
    name, words = "maps", "{maps:,} mappings"
    full, small = {"maps": 10000}, {"maps": 300}


class Fds(Small):
    name, words = "fds", "{fds:,} descriptors"
    full, small = {"fds": 10000}, {"fds": 300}

    def workload(self):
        """A restore needs some twice as many at once."""
        room = (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1000) // 2
        return {"fds": min(super().workload()["fds"], room // 6 * 6)}


CASES = [Tiny, Tasks, Threads, Threads2000, Maps, Fds]
