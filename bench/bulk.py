# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cases whose cost is that of their memory: so many MiB of random bytes, text, or half zeros; idle or written to."""
from case import Case
from report import Bar, Row, at_most
from target import FORK, LZ4, TOUCH, WRITE, BenchError

MIB = 2**20
SIZES = {"256m": 256, "1g": 1024, "4g": 4096}
METHODS = ["none", "lz4", "zstd:1"]
FREEZE = Bar("1.3 x fork() + 2 ms", lambda m: 1.3 * m("fork") + 2)


def size_name(mib):
    return f"{mib} MiB" if mib < 1024 else f"{mib // 1024} GiB"


class Bulk(Case):
    """One size of one content."""

    fill, mib = "random", 0
    raw_bar = fill_bar = None

    def __init__(self, tools, quick):
        super().__init__(tools, quick)
        self.size = self.mib // 64 if quick else self.mib
        self.needs, self.spare = 2 * self.size * MIB, self.size * MIB
        self.title = f"{size_name(self.size)} {self.fill}"

    def workload(self):
        return {"mib": self.size, "fill": self.fill}

    def primitives(self):
        self.target.do(TOUCH)
        self.note("fork", self.target.do(FORK))
        self.note("write", self.target.do(WRITE))

    def dump_touched(self, prefix, *options):
        """As if it had run on for a while since the last fork: no page is shared copy-on-write."""
        self.target.do(TOUCH)
        return self.dump(prefix, *options)

    def criu_rows(self):
        if not self.tools.criu:
            return []
        return [Row("CRIU freeze seen inside", "criu_dump_gap", "ms", "fork", "fork()"),
                Row("CRIU dump wall", "criu_dump_wall", "ms", "write", "write()"),
                Row("CRIU restore wall", "criu_restore_wall", "ms", "fill", "UFFDIO_COPY")]


class Raw(Bulk):
    """Images without compression, restored from a warm file."""

    def round(self):
        self.primitives()
        self.dump_touched("raw", "--compress=none", *self.twin())
        self.target.end()
        self.note("fill", self.tools.fill("image"))
        self.restore("restore")
        self.tools.remove("image")
        self.criu_round()

    def rows(self):
        fork, write = ("fork", "fork()"), ("write", "write()")
        return [Row("freeze (frozen_us)", "raw_frozen", "ms", *fork, FREEZE),
                Row("freeze seen inside", "raw_gap", "ms", *fork, FREEZE),
                Row("dump wall, raw", "raw_wall", "ms", *write, self.raw_bar),
                Row("restore wall, raw", "restore_wall", "ms", "fill", "UFFDIO_COPY", self.fill_bar)] + self.criu_rows()


class Text(Bulk):
    """Images compressed by lz4, as files are by default."""

    fill = "text"
    lz4_bar = None

    def round(self):
        self.primitives()
        self.note("lz4", self.target.do(LZ4, self.tools.cpus))
        self.note("floor", max(self.figures["write"][-1], self.figures["lz4"][-1]))
        self.dump_touched("lz4", "--compress=lz4", *self.twin())
        self.restore("restore")
        self.tools.remove("image")

    def rows(self):
        floor = ("floor", "larger of write(), lz4")
        return [Row("bare lz4", "lz4", "ms", "write", "write()"),
                Row("freeze seen inside", "lz4_gap", "ms", "fork", "fork()"),
                Row("dump wall, lz4", "lz4_wall", "ms", *floor, self.lz4_bar),
                Row("restore wall, lz4", "restore_wall", "ms", *floor)]


class Images(Bulk):
    """How large they get by each method. Once: they do not vary."""

    rounds = 1

    def round(self):
        self.note("memory", self.size)
        for method in METHODS:
            self.tools.dump(self.target, f"--compress={method}")
            self.note(method, self.tools.size_mib("image"))
            self.tools.remove("image")
        if self.criu:
            self.criu_size()

    def criu_size(self):
        try:
            self.criu.dump(self.target)
            self.note("criu", self.criu.size_mib())
        except BenchError as e:
            self.criu_failed(e)

    def rows(self):
        names = [*METHODS, "criu"] if self.tools.criu else METHODS
        return [Row(f"image, {name}", name, "MiB", "memory", "memory") for name in names]


class Writing(Bulk):
    """The freeze of a target that goes on writing: 1,000 pages a second, or as fast as it can."""

    rate = how = ""

    def __init__(self, tools, quick):
        super().__init__(tools, quick)
        self.title += f", {self.how}"

    def workload(self):
        return {**super().workload(), "rate": self.rate}

    def round(self):
        self.target.do(TOUCH)
        self.note("fork", self.target.do(FORK))
        self.dump_touched("raw", "--compress=none", *self.twin())
        self.tools.remove("image")

    def rows(self):
        return [Row("freeze (frozen_us)", "raw_frozen", "ms", "fork", "fork()"),
                Row("freeze seen inside", "raw_gap", "ms", "fork", "fork()"),
                Row("dump wall, raw", "raw_wall", "ms")]


def _make(kind, prefix, size, **more):
    return type(f"{prefix}-{size}", (kind,), {"name": f"{prefix}-{size}", "mib": SIZES[size], **more})


def _cases():
    cases = []
    for size in SIZES:
        bars = {}
        if size == "1g":
            bars = {"raw_bar": Bar("1.15 x write()", lambda m: 1.15 * m("write")),
                    "fill_bar": Bar("1.3 x UFFDIO_COPY", lambda m: 1.3 * m("fill")),
                    "lz4_bar": Bar("1.2 x the larger", lambda m: 1.2 * m("floor"))}
        cases.append(_make(Raw, "random", size, **bars))
        cases.append(_make(Text, "text", size, **bars))
        cases.append(_make(Raw, "half", size, fill="half"))
        cases.append(_make(Writing, "slow", size, rate="1000", how="1,000 pages/s"))
        cases.append(_make(Writing, "busy", size, rate="full", how="writing fast"))
    for fill in ("random", "text", "half"):
        cases.append(_make(Images, "images", "1g", fill=fill, name=f"images-{fill}"))
    return cases


CASES = _cases()
