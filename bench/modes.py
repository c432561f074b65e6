# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cases of the ways to dump and restore that are made for speed: pre-copy, lazy, clones, deltas, dumps in a loop."""
import json
import os
import signal
import time

from bulk import MIB, Bulk, Writing, size_name
from case import Case
from report import Bar, Row, at_most
from target import DIRTY, FORK, PAGE, SAVE, TOUCH, BenchError, Control, marked, wait_until

SIZES = {"256m": 256, "1g": 1024, "4g": 4096, "8g": 8192}


class Precopy(Writing):
    """Freeze by pre-copy of a target that writes."""

    rate, how, bar = "1000", "1,000 pages/s", None

    def round(self):
        self.target.do(TOUCH)
        self.note("fork", self.target.do(FORK))
        if self.has(("precopy_frozen", "precopy_gap", "precopy_wall"), "dump", "--precopy"):
            self.dump_touched("precopy", "--precopy", "--compress=none")
            self.tools.remove("image")

    def rows(self):
        return [Row("--precopy: freeze (frozen_us)", "precopy_frozen", "ms", "fork", "fork()", self.bar),
                Row("--precopy: freeze seen inside", "precopy_gap", "ms", "fork", "fork()", self.bar),
                Row("--precopy: dump wall, raw", "precopy_wall")]


class Lazy(Case):
    """From the start of the command to the first instruction of the restored tree. Text, so that 8 GiB have room."""

    mib = 0

    def __init__(self, tools, quick):
        super().__init__(tools, quick)
        self.size = self.mib // 64 if quick else self.mib
        self.needs = self.size * MIB * 5 // 4
        self.title = f"{size_name(self.size)} text"

    def workload(self):
        return {"mib": self.size, "fill": "text"}

    def prepare(self):
        self.tools.dump(self.target)

    def round(self):
        self.note("nothing", self.tools.nothing())
        if self.has(("lazy_first", "lazy_wall"), "restore", "--lazy"):
            self.restore("lazy", "--lazy")

    def rows(self):
        spawn = ("nothing", "fork+exec+exit")
        return [Row("--lazy: start to first instruction", "lazy_first", "ms", *spawn, at_most(10)),
                Row("--lazy: restore -d wall", "lazy_wall", "ms", *spawn)]


def _pss_mib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:")) / 1024


def _command(pid):
    with open(f"/proc/{pid}/comm") as f:
        return f.read().strip()


class Clones(Case):
    """Many trees of one image; the time until the last of them runs, and what memory each takes for itself."""

    name = "clones"
    needs = 4 * 1024 * MIB

    def __init__(self, tools, quick):
        super().__init__(tools, quick)
        self.copies, self.size = (5, 16) if quick else (50, 256)
        self.title = f"{self.copies} clones of {size_name(self.size)}"

    def workload(self):
        return {"mib": self.size}

    def prepare(self):
        self.tools.dump(self.target, "--compress=none")
        self.target.end()
        self.target.control["tick_us"] = 100000  # fifty that tick often would take all processors

    def round(self):
        self.note("fill", self.tools.fill("image"))
        if self.has(("clones_wall", "pss"), "restore", "--copies"):
            self.clone()

    def clone(self):
        outputs = self.tools.path("image.clones")
        argv = [self.tools.cpx, "restore", self.tools.path("image"), f"--copies={self.copies}", f"--output-dir={outputs}"]
        self.target.arm()
        began = time.time_ns() / 1e6
        pid = self.tools.start(argv)
        self.note("clones_wall", self.last_started(pid, outputs) - began)
        roots = [p for p in marked(self.target.marker) if _command(p) == "workload"]
        self.note("pss", max(_pss_mib(p) for p in roots) / self.size * 100)
        for root in roots:
            os.kill(root, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.tools.remove("image.clones")

    def last_started(self, pid, outputs):
        """CLOCK_REALTIME in ms. Each has a page of its own to say so, as it had it mapped shared."""
        pages = [outputs + f"/{i + 1}" + self.tools.path("control") for i in range(self.copies)]

        def all_started():
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                with open(self.tools.path("stderr")) as f:
                    raise BenchError(f"cpx restore --copies ended: {f.read().strip()}")
            return all(os.path.exists(p) and os.path.getsize(p) >= PAGE and Control(p, is_new=False)["started"] for p in pages)

        wait_until(all_started, "all clones run")
        return max(Control(p, is_new=False)["started_ns"] for p in pages) / 1e6

    def rows(self):
        return [Row("until all run", "clones_wall", "ms", "fill", "UFFDIO_COPY, once", at_most(1500)),
                Row("largest PSS of one, of its memory", "pss", "%", bar=Bar("10 %", lambda m: 10))]


class Delta(Bulk):
    """What has changed since an image: one page in a hundred."""

    name, mib = "delta", 1024
    share = 100

    def __init__(self, tools, quick):
        super().__init__(tools, quick)
        self.title += ", 1 % changed"
        self.pages = self.size * MIB // PAGE // self.share
        self.needs, self.spare = 3 * self.size * MIB, 2 * self.size * MIB

    def round(self):
        self.dump_touched("full", "--compress=none")
        self.note("changed", self.pages * PAGE / MIB)
        if self.has(("hash_wall", "hash_size"), "dump", "--parent"):
            self.target.do(DIRTY, self.pages)
            wall, _ = self.tools.dump(self.target, "--parent", self.tools.path("image"), "--compress=none",
                                      image="image.delta")
            self.note("hash_wall", wall)
            self.note("hash_size", self.tools.size_mib("image.delta"))
        self.tools.clear()
        if self.has(("track_wall", "track_size"), "dump", "--every"):
            self.track()
            self.tools.clear()

    def track(self):
        """By a cpx that keeps watching: it says what each dump took, the last one being the delta."""
        argv = [self.tools.cpx, "dump", str(self.target.pid), "-o", self.tools.path("image.every"), "--compress=none",
                "--every=2s", "--count=2", "--json"]
        pid = self.tools.start(argv)
        wait_until(lambda: os.path.exists(self.tools.path("image.every")), "the first image is complete")
        self.target.do(DIRTY, self.pages)
        try:
            said = self.tools.finish(pid, argv)
            self.note("track_wall", json.loads(said[said.rindex("\n{") + 1:])["wall_us"] / 1e3)
            self.note("track_size", self.tools.size_mib("image.every.1"))
        except (ValueError, KeyError, OSError) as e:
            raise BenchError(f"dump --every: {e}") from e

    def rows(self):
        full, changed = ("full_wall", "full dump"), ("changed", "changed")
        size_bar = Bar("1.2 x the changed bytes", lambda m: 1.2 * m("changed"))
        return [Row("--parent: dump wall, by comparison", "hash_wall", "ms", *full),
                Row("--every: dump wall, by tracking", "track_wall", "ms", *full,
                    Bar("0.35 x a full dump", lambda m: 0.35 * m("full_wall"))),
                Row("--every: size of the delta", "track_size", "MiB", *changed, size_bar),
                Row("--parent: size of the delta", "hash_size", "MiB", *changed, size_bar)]


class Loop(Bulk):
    """What a target gets done while one dump follows the other: of nothing but random writes, which meets a page that
    is shared with the twin each time; or of one write for each 10 us of work. Beside it what a loop of fork() and
    write() by the child leaves of it, which no dump by a twin can surpass by much."""

    mib, seconds = 1024, 1

    def __init__(self, tools, quick):
        super().__init__(tools, quick)
        self.title += f", {self.how}"
        self.needs, self.spare = 3 * self.size * MIB, 2 * self.size * MIB
        self.seconds = 0.1 if quick else self.seconds

    def workload(self):
        return {**super().workload(), "rate": self.rate}

    def measure(self, what, work):
        """Thousands of writes in a second while that is done again and again; and what share of the undisturbed it is."""
        start, before = time.monotonic(), self.target.control["writes"]
        while time.monotonic() - start < self.seconds:
            work()
        rate = (self.target.control["writes"] - before) / (time.monotonic() - start) / 1e3
        self.note(what, rate)
        self.note(f"{what}_share", rate / self.figures["alone"][-1] * 100)

    def round(self):
        self.target.do(TOUCH)
        self.measure("alone", lambda: time.sleep(self.seconds))
        self.measure("save", lambda: self.target.do(SAVE))
        for method in ("lz4", "none"):
            self.measure(method, lambda m=method: self.tools.dump(self.target, f"--compress={m}"))
            self.tools.remove("image")

    def rows(self):
        bar = Bar("at least 60 %", lambda m: 60, is_minimum=True)
        return [Row("writes, undisturbed", "alone", "k/s"),
                Row("bare fork() + write(): throughput", "save_share", "%"),
                Row("loop of dumps, lz4: throughput", "lz4_share", "%", "save_share", "bare fork() + write()", bar),
                Row("loop of dumps, raw: throughput", "none_share", "%", "save_share", "bare fork() + write()", bar)]


def _cases():
    bars = {"4g": at_most(8)}
    cases = [type(f"precopy-{s}", (Precopy,), {"name": f"precopy-{s}", "mib": SIZES[s], "bar": bars.get(s)})
             for s in ("256m", "1g", "4g")]
    cases.append(type("precopybusy-1g", (Precopy,), {"name": "precopybusy-1g", "mib": SIZES["1g"], "rate": "full",
                                                    "how": "writing fast"}))
    cases += [type(f"lazy-{s}", (Lazy,), {"name": f"lazy-{s}", "mib": mib}) for s, mib in SIZES.items()]
    loops = [type(name, (Loop,), {"name": name, "rate": rate, "how": how}) for name, rate, how in (
        ("loop", "full", "writing without pause"), ("loop-server", "server", "a write each 10 us"))]
    return cases + [Clones, Delta, *loops]


CASES = _cases()
