# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rows of the table: figures of one kind, against those of a primitive, and a bar that they must not exceed."""
import statistics
from dataclasses import dataclass
from typing import Callable, Optional


@dataclass
class Bar:
    """The largest median that is good (or the smallest), from the medians of the other figures of the case."""
    text: str
    limit: Callable
    is_minimum: bool = False

    def is_met(self, value, limit):
        return value >= limit if self.is_minimum else value <= limit


def at_most(limit, text=None):
    return Bar(text or f"{limit:g} ms", lambda m: limit)


@dataclass
class Row:
    label: str
    figure: str  # its name in the case
    unit: str = "ms"
    base: Optional[str] = None  # the figure that it is compared with
    base_label: str = ""
    bar: Optional[Bar] = None
    case: object = None


def summary(row):
    """What a row says, as it is in the JSON file."""
    figures, case = row.case.figures, row.case
    s = {"case": case.name, "workload": case.title, "what": row.label, "unit": row.unit,
         "stolen_percent": round(case.stolen, 1)}
    if not figures.get(row.figure):
        s["missing"] = case.absent.get(row.figure) or ("failed" if case.has_failed else "not measured")
        s["bar"] = {"text": row.bar.text} if row.bar else None
        return s
    values = figures[row.figure]
    s.update(median=statistics.median(values), min=min(values), max=max(values), values=values, bar=None)
    if row.base and figures.get(row.base):
        base = statistics.median(figures[row.base])
        s["base"] = {"what": row.base_label, "median": base, "values": figures[row.base]}
        s["ratio"] = s["median"] / base if base else None
    if row.bar:
        limit = row.bar.limit(case.median)
        s["bar"] = {"text": row.bar.text, "limit": limit, "met": row.bar.is_met(s["median"], limit)}
    return s


def number(value):
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _verdict(bar, is_missing):
    if not bar:
        return ""
    if is_missing:
        return f"{'':>8}  -       {bar['text']}"
    return f"{number(bar['limit']):>8}  {'met' if bar['met'] else 'MISSED':6}  {bar['text']}"


def line(s):
    head = f"{s['what']:40} {s['unit']:4}"
    if "missing" in s:
        return f"{head} {s['missing']:28} {'':35} {_verdict(s['bar'], True)}".rstrip()
    against = ratio = ""
    if "base" in s:
        against = f"{s['base']['what']} {number(s['base']['median'])}"
        ratio = f"{s['ratio']:.2f}" if s["ratio"] is not None else ""
    spread = f"{number(s['min'])} - {number(s['max'])}"
    return f"{head} {number(s['median']):>8} {spread:>19}  {against:>28} {ratio:>6} {_verdict(s['bar'], False)}".rstrip()


def table(summaries, about, notes):
    """All of it, for people."""
    head = f"{'':40} {'':4} {'median':>8} {'min - max':>19}  {'against':>28} {'ratio':>6} {'bar':>8}"
    lines, last = [about, "", head], None
    for s in summaries:
        if s["case"] != last:
            stolen = f"   (the host took {s['stolen_percent']:.0f} % of the processors away)" if s["stolen_percent"] >= 2 else ""
            lines += ["", f"[{s['case']}] {s['workload']}{stolen}"]
            last = s["case"]
        lines.append(line(s))
    bars = [s["bar"] for s in summaries if s["bar"]]
    count = [sum(b.get("met") is verdict for b in bars) for verdict in (True, False, None)]
    lines += [""] * bool(notes) + notes
    return "\n".join(lines + ["", f"bars: {count[0]} met, {count[1]} missed, {count[2]} not measured"]) + "\n"
