# SPDX-License-Identifier: LGPL-2.1-or-later
"""A case: one workload, its rounds in which all that is compared takes its turn, and its rows."""
import os
import statistics

from target import BenchError, Target
from tools import Criu

GIB = 2**30


def _available(name="MemAvailable"):
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(name))


def _processor_time():
    """(stolen by other guests of the host, all)"""
    with open("/proc/stat") as f:
        times = [int(t) for t in f.readline().split()[1:9]]
    return times[7], sum(times)


class Case:
    name = title = ""
    needs = 0  # bytes of memory at once
    spare = 0  # those of them that a round takes beside the target, whose pages were touched before
    rounds = None  # if it needs no more than so many
    repeat = 1  # each round so many times: of what is short, and varies

    def __init__(self, tools, quick):
        self.tools, self.quick = tools, quick
        self.criu = Criu(tools) if tools.criu else None
        self.figures, self.absent, self.notes, self.has_failed = {}, {}, [], False
        self.target, self.stolen = None, 0

    # ---- what each case says ----

    def workload(self):
        """The arguments of its target."""
        raise NotImplementedError

    def prepare(self):
        """Once, before the rounds."""

    def round(self):
        raise NotImplementedError

    def rows(self):
        raise NotImplementedError

    # ---- helpers ----

    def note(self, figure, value):
        self.figures.setdefault(figure, []).append(value)

    def median(self, figure):
        return statistics.median(self.figures[figure])

    def has(self, figures, command, option):
        """False, and those figures are marked as absent, if this cpx lacks the option."""
        if self.tools.has(command, option):
            return True
        for figure in figures:
            self.absent[figure] = "not in this cpx"
        return False

    def twin(self):
        """Options for a dump by a twin, where memory might be copied beforehand without being asked for."""
        return ["--precopy=0"] if self.tools.has("dump", "--precopy") else []

    def start(self):
        self.target = Target(self.tools, **self.workload())

    def dump(self, prefix, *options, image="image"):
        wall, result = self.tools.dump(self.target, *options, image=image)
        self.note(f"{prefix}_wall", wall)
        self.note(f"{prefix}_frozen", result["frozen_us"] / 1e3)
        self.note(f"{prefix}_gap", self.target.gap())
        return result

    def restore(self, prefix, *options, image="image"):
        """In place of the target, which is ended."""
        self.target.end()
        wall, first = self.tools.restore(self.target, *options, image=image)
        self.note(f"{prefix}_wall", wall)
        self.note(f"{prefix}_first", first)

    def criu_round(self, prefix="criu"):
        """Where there is one: the same as cpx did, and last. It may fail, as that says nothing of cpx."""
        if not self.criu:
            return
        try:
            self._criu_round(prefix)
        except BenchError as e:
            self.criu_failed(e)
            self._end()
            self._begin()

    def _criu_round(self, prefix):
        self.note(f"{prefix}_dump_wall", self.criu.dump(self.target))
        self.note(f"{prefix}_dump_gap", self.target.gap())
        self.note(f"{prefix}_image", self.criu.size_mib())
        self.target.end()
        self.note(f"{prefix}_restore_wall", self.criu.restore(self.target))
        self.tools.remove("image.criu")

    def criu_failed(self, error):
        self.criu = None
        self.notes.append(f"[{self.name}] {error}")

    # ---- running it ----

    def _check_room(self):
        room = os.statvfs(self.tools.directory)
        free = min(_available(), room.f_bavail * room.f_frsize + GIB)
        if free < self.needs * 1.2:
            raise BenchError(f"needs {self.needs / GIB:.0f} GiB of memory")

    def _begin(self):
        self.start()
        self.prepare()

    def _rounds(self, rounds):
        """A round that fails is tried once more with a new target: another process may have taken a PID, say."""
        has_failed, done = False, 0
        while done < rounds:
            try:
                self.tools.warm(self.spare)
                self.round()
                done += 1
            except BenchError as e:
                if has_failed:
                    raise
                has_failed = True
                self.notes.append(f"[{self.name}] a round was begun again: {e}")
                self._end()
                self._begin()

    def _end(self):
        if self.target:
            self.target.end()
        self.target = None
        self.tools.clear()

    def run(self, rounds):
        """Whatever happens, nothing of it is left."""
        before = _processor_time()
        try:
            self._check_room()
            self._begin()
            self._rounds(self.rounds or rounds * self.repeat)
        except BenchError as e:
            self.has_failed = True
            self.notes.append(f"[{self.name}] failed: {e}")
        finally:
            self._end()
            stolen, total = (b - a for a, b in zip(before, _processor_time()))
            self.stolen = stolen / max(total, 1) * 100

    def all_rows(self):
        rows = self.rows()
        for row in rows:
            row.case = self
        return rows
