# SPDX-License-Identifier: LGPL-2.1-or-later
"""The plots of a run: what each shows of which cases. One whose cases were not run is not written."""
import os
import statistics

import svg
from bulk import size_name

# (name, kind of case, figure)
FREEZE = [("bare fork()", "random", "fork"),
          ("cpx, idle", "random", "raw_gap"),
          ("cpx, 1,000 pages/s written", "slow", "raw_gap"),
          ("cpx, writing fast", "busy", "raw_gap"),
          ("cpx --precopy, 1,000 pages/s written", "precopy", "precopy_gap"),
          ("CRIU, idle", "random", "criu_dump_gap")]
RESTORE = [("bare UFFDIO_COPY", "random", "fill"),
           ("cpx, raw", "random", "restore_wall"),
           ("cpx, lz4 (text)", "text", "restore_wall"),
           ("cpx --lazy, first instruction", "lazy", "lazy_first"),
           ("CRIU", "random", "criu_restore_wall")]
SMALL = [("freeze seen inside", "dump_gap"), ("dump", "dump_wall"), ("restore", "restore_wall")]
IMAGES = [("memory", "memory"), ("cpx, raw", "none"), ("cpx, lz4", "lz4"), ("cpx, zstd:1", "zstd:1"), ("CRIU", "criu")]


def _by_size(cases, kind, figure):
    """{MiB: (median, min, max)}"""
    return {c.size: (statistics.median(c.figures[figure]), min(c.figures[figure]), max(c.figures[figure]))
            for c in cases if c.name.split("-")[0] == kind and c.figures.get(figure)}


def _lines(cases, title, y_label, what):
    series = [(name, _by_size(cases, kind, figure)) for name, kind, figure in what]
    if any(points for _, points in series):
        return svg.lines(title, "touched memory", y_label, series, size_name)
    return None


def _bars(cases, title, unit, what):
    groups = [(c.title, [statistics.median(c.figures[f]) if c.figures.get(f) else None for _, f in what]) for c in cases]
    groups = [g for g in groups if any(v is not None for v in g[1])]
    return svg.bars(title, unit, [name for name, _ in what], groups) if groups else None


def write(directory, cases):
    """The names of the files."""
    small = [c for c in cases if hasattr(c, "words")]
    images = [c for c in cases if c.name.startswith("images-")]
    made = {"freeze.svg": _lines(cases, "Freeze against size, seen by the target", "longest gap", FREEZE),
            "restore.svg": _lines(cases, "Restore against size, from a warm file", "from the command on", RESTORE),
            "images.svg": _bars(images, "Size of images", "MiB", IMAGES),
            "small.svg": _bars(small, "Many or few small things", "ms", SMALL)}
    made = {name: text for name, text in made.items() if text}
    for name, text in made.items():
        with open(os.path.join(directory, name), "w") as f:
            f.write(text)
    return list(made)
