# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small plots, written by hand: lines on two logarithmic axes, and bars. Light or dark as the reader has it."""
import math
from html import escape

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760, 76, 24, 84, 56
LIGHT = {"surface": "#fcfcfb", "ink": "#0b0b0b", "soft": "#52514e", "grid": "#e1e0d9",
         "series": ["#2a78d6", "#eb6834", "#1baf7a", "#eda100", "#e87ba4", "#4a3aa7"]}
DARK = {"surface": "#1a1a19", "ink": "#ffffff", "soft": "#c3c2b7", "grid": "#2c2c2a",
        "series": ["#3987e5", "#d95926", "#199e70", "#c98500", "#d55181", "#9085e9"]}


def _colours(c):
    series = "".join(f".s{i}{{color:{s}}}" for i, s in enumerate(c["series"]))
    return (f".surface{{fill:{c['surface']}}}text{{fill:{c['soft']}}}.title{{fill:{c['ink']}}}"
            f".grid{{stroke:{c['grid']}}}.axis{{stroke:{c['soft']}}}.dot{{stroke:{c['surface']}}}{series}")


STYLE = ("<style>text{font:12px system-ui,sans-serif;stroke:none}.title{font-size:15px;font-weight:600}"
         ".grid,.axis{stroke-width:1}.line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}"
         ".spread{stroke:currentColor;stroke-width:1.5}.dot{fill:currentColor;stroke-width:2}.bar{fill:currentColor}.end{text-anchor:end}.middle{text-anchor:middle}"
         f"{_colours(LIGHT)}@media(prefers-color-scheme:dark){{{_colours(DARK)}}}</style>")


def _text(x, y, text, kind="", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" {more}>{escape(text)}</text>'


def _line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _legend(names):
    """One row of it, or two."""
    out, x, y = [], LEFT, 46
    for i, name in names:
        if x + 30 + 6.6 * len(name) > WIDTH:
            x, y = LEFT, y + 18
        out.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" rx="2" class="bar s{i}"/>')
        out.append(_text(x + 15, y, name))
        x += 36 + 6.6 * len(name)
    return out


def _document(height, title, body):
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
                      f'height="{height}" role="img">', f"<title>{escape(title)}</title>", STYLE,
                      f'<rect width="{WIDTH}" height="{height}" class="surface"/>',
                      _text(LEFT, 24, title, "title"), *body, "</svg>"]) + "\n"


def milliseconds(value):
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"


class _Scale:
    """Logarithmic, from pixel `start` to `end`."""

    def __init__(self, low, high, start, end):
        self.low, self.high, self.start, self.end = math.log(low), math.log(high), start, end

    def __call__(self, value):
        share = (math.log(value) - self.low) / (self.high - self.low or 1)
        return self.start + share * (self.end - self.start)


def _decades(values):
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values) * 1.01))


def _axes(x, y, xs, decades, x_label, y_label, x_name, height):
    bottom = height - BOTTOM
    out = []
    for decade in range(decades[0], decades[1] + 1):
        at = y(10**decade)
        out += [_line(LEFT, at, WIDTH - RIGHT, at, "grid"), _text(LEFT - 8, at + 4, milliseconds(10**decade), "end")]
    for value in xs:
        out.append(_text(x(value), bottom + 18, x_name(value), "middle"))
    return out + [_line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"),
                  _text((LEFT + WIDTH - RIGHT) / 2, height - 14, x_label, "middle"),
                  _text(18, (TOP + bottom) / 2, y_label, "middle", f'transform="rotate(-90 18 {(TOP + bottom) / 2})"')]


def _series(i, points, x, y):
    """points: {x: (median, min, max)}"""
    at = [(x(v), *(y(p) for p in points[v])) for v in sorted(points)]
    out = [f'<polyline class="line s{i}" points="{" ".join(f"{p[0]:.1f},{p[1]:.1f}" for p in at)}"/>']
    for px, median, low, high in at:
        out.append(_line(px, low, px, high, f"spread s{i}"))
        out.append(f'<circle cx="{px:.1f}" cy="{median:.1f}" r="4" class="s{i} dot"/>')
    return out


def lines(title, x_label, y_label, series, x_name):
    """series: [(name, {x: (median, min, max)} in ms)]; one without points keeps its colour and is left out."""
    height = 440
    shown = [(i, name, points) for i, (name, points) in enumerate(series) if points]
    xs = sorted({v for _, _, points in shown for v in points})
    decades = _decades([max(v, 1e-3) for _, _, points in shown for p in points.values() for v in p])
    x = _Scale(xs[0] / 1.2, xs[-1] * 1.2, LEFT, WIDTH - RIGHT)
    y = _Scale(10**decades[0], 10**decades[1], height - BOTTOM, TOP)
    body = _legend([(i, name) for i, name, _ in shown])
    body += _axes(x, y, xs, decades, x_label, y_label, x_name, height)
    for i, _, points in shown:
        body += _series(i, points, x, y)
    return _document(height, title, body)


def bars(title, unit, names, groups):
    """groups: [(label, [value or None for each of names])], drawn from left to right from zero."""
    left, thick = 150, 14
    most = max(v for _, values in groups for v in values if v is not None) or 1
    room, y, body = WIDTH - left - 90, TOP, []
    for label, values in groups:
        known = [(i, v) for i, v in enumerate(values) if v is not None]
        body.append(_text(left - 10, y + len(known) * (thick + 2) / 2 + 4, label, "end"))
        for i, value in known:
            body.append(f'<rect x="{left}" y="{y}" width="{max(value / most * room, 1):.1f}" height="{thick}" rx="2" '
                        f'class="bar s{i}"/>')
            body.append(_text(left + max(value / most * room, 1) + 6, y + 11, f"{value:.3g} {unit}"
                              if value < 1000 else f"{value:.0f} {unit}"))
            y += thick + 2
        y += 14
    used = [(i, n) for i, n in enumerate(names) if any(values[i] is not None for _, values in groups)]
    return _document(y + 10, title, _legend(used) + [_line(left, TOP - 6, left, y - 8, "axis")] + body)
