"""Plots (result.Plot, as JSON has them) as SVG text.  No library: a few hundred bytes of text that a diff can show.

    lines   medians over a number, joined; the band is the range of the runs; names stand at the ends of their lines
    bars    one row per name; on a logarithmic axis a dot instead of a bar, whose length would mean nothing

Colours follow the reader's theme (prefers-color-scheme), with a ground of their own, so that they are readable on any page.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

WIDTH, PLOT_HEIGHT = 760, 300
TOP, BOTTOM, ROW = 56, 56, 30
MANY, SLIM = 20, 20             # names from which rows are lower, and how low
CHARACTER = 6.6                 # px of an average character at 12 px
OURS = "nfqfw"                  # always has the first colour

LIGHT = {"ground": "#fff", "text": "#1f2328", "quiet": "#59636e", "grid": "#e3e7eb", "axis": "#8c959f",
         "shades": ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#7d5d00", "#57606a")}
DARK = {"ground": "#0d1117", "text": "#e6edf3", "quiet": "#9198a1", "grid": "#262c36", "axis": "#656c76",
        "shades": ("#58a6ff", "#f0883e", "#3fb950", "#bc8cff", "#f778ba", "#d29922", "#8b949e")}
SHADES = len(LIGHT["shades"])


def colours(theme: dict) -> str:
    """No custom properties: not every program that shows SVG knows them."""
    out = [f".ground{{fill:{theme['ground']}}}.text{{fill:{theme['text']}}}.quiet{{fill:{theme['quiet']}}}",
           f".grid{{stroke:{theme['grid']}}}.axis{{stroke:{theme['axis']}}}.mark{{stroke:{theme['quiet']}}}"]
    for number, colour in enumerate(theme["shades"]):
        at = f".s{number} "
        out.append(f"{at}.line,{at}.whisker{{stroke:{colour}}}{at}.dot,{at}.bar,{at}.band,{at}.name{{fill:{colour}}}")
    return "".join(out)


STYLE = (f'text{{font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}}.title{{font-size:15px;font-weight:600}}'
         f".line{{fill:none;stroke-width:2}}.band{{opacity:.18}}.whisker{{stroke-width:2}}.name{{font-weight:600}}"
         f"{colours(LIGHT)}@media (prefers-color-scheme:dark){{{colours(DARK)}}}")


class Scale:
    """Values to pixels, and the ticks between."""

    def __init__(self, values: list[float], log: bool, first: float, last: float):
        self.log = log and min(values) > 0
        self.ticks = log_ticks(min(values), max(values)) if self.log else linear_ticks(max(values))
        low, high = self.of(self.ticks[0]), self.of(self.ticks[-1])
        self.place: Callable[[float], float] = lambda value: first + (self.of(value) - low) / ((high - low) or 1) * (last - first)

    def of(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.log else value


def linear_ticks(high: float) -> list[float]:
    """From 0 in round steps to what holds `high`."""
    rough = (high or 1) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    return [step * i for i in range(math.ceil(high / step * 0.999) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Decades, or 1, 2, 5 of them where there are few."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    steps = (1,) if last - first > 3 else (1, 2, 5)
    ticks = [factor * 10.0 ** power for power in range(first, last + 1) for factor in steps]
    start = max((i for i, tick in enumerate(ticks) if tick <= low * 1.001), default=0)
    end = next((i for i, tick in enumerate(ticks) if tick >= high * 0.999), len(ticks) - 1)
    return ticks[start:max(end, start + 1) + 1]


def number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def labelled(axis: dict) -> str:
    return axis["label"] + (" (logarithmic)" if axis["log"] else "")


def draw(plot: dict) -> str:
    """An SVG document."""
    return lines(plot) if plot["kind"] == "lines" else bars(plot)


def document(plot: dict, height: float, parts: list[str]) -> str:
    described = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}" role="img">'
    note = text(16, height - 10, plot["note"], "quiet") if plot.get("note") else ""
    return "\n".join([described, f"<title>{escape(plot['title'])}</title><style>{STYLE}</style>",
                      f'<rect class="ground" width="{WIDTH}" height="{height:g}" rx="6"/>', text(16, 26, plot["title"], "text title"), *parts,
                      note, "</svg>", ""])


def text(x: float, y: float, content: str, classes: str, anchor: str = "start") -> str:
    return f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, classes: str) -> str:
    return f'<line class="{classes}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def shades(names: list[str]) -> dict[str, str]:
    """Class of each series: ours the first colour, the others in order."""
    others = [name for name in names if name != OURS]
    return {name: "s0" if name == OURS else f"s{(i + (OURS in names)) % SHADES}" for i, name in enumerate(others)} | (
        {OURS: "s0"} if OURS in names else {})


# ---- lines ------------------------------------------------------------------------------------------------------------

def lines(plot: dict) -> str:
    series, shade = plot["series"], shades(list(plot["series"]))
    points = [point for each in series.values() for point in each]
    named = len(series) > 1 or "" not in series
    right = WIDTH - 24 - (max(len(name) for name in series) * CHARACTER * 1.05 if named else 0)
    left, top, bottom = 66, TOP + 8, TOP + 8 + PLOT_HEIGHT
    marked = [plot["mark"][0]] if plot.get("mark") else []
    x = Scale([point[0] for point in points], plot["x"]["log"], left, right - 10)
    y = Scale([value for point in points for value in point[1:]] + marked, plot["y"]["log"], bottom, top)
    parts = [text(16, 46, labelled(plot["y"]), "quiet")]
    for tick in y.ticks:
        parts += [line(left, y.place(tick), right - 10, y.place(tick), "grid"), text(left - 8, y.place(tick) + 4, number(tick), "quiet", "end")]
    for tick in x.ticks:
        parts += [line(x.place(tick), top, x.place(tick), bottom, "grid"), text(x.place(tick), bottom + 18, number(tick), "quiet", "middle")]
    parts += [line(left, bottom, right - 10, bottom, "axis"), text((left + right) / 2, bottom + 38, labelled(plot["x"]), "quiet", "middle")]
    if marked:
        at = y.place(marked[0])
        parts += [f'<line class="mark" stroke-dasharray="5 4" x1="{left}" y1="{at:.1f}" x2="{right - 10:.1f}" y2="{at:.1f}"/>',
                  text(left + 6, at - 5, plot["mark"][1], "quiet")]
    for name, each in series.items():
        parts.append(curve([(x.place(p[0]), *map(y.place, p[1:])) for p in each], shade[name]))
    if named:
        parts += end_names({name: y.place(each[-1][1]) for name, each in series.items()}, shade, right, top)
    return document(plot, bottom + BOTTOM + (14 if plot.get("note") else 0), parts)


def curve(places: list[tuple[float, float, float, float]], shade: str) -> str:
    """places: x, median, low, high in pixels."""
    band = " ".join(f"{x:.1f},{low:.1f}" for x, _, low, _ in places) + " " + " ".join(f"{x:.1f},{high:.1f}" for x, _, _, high in reversed(places))
    path = " ".join(f"{x:.1f},{median:.1f}" for x, median, _, _ in places)
    dots = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{median:.1f}" r="3.5"/>' for x, median, _, _ in places)
    return f'<g class="{shade}"><polygon class="band" points="{band}"/><polyline class="line" points="{path}"/>{dots}</g>'


def end_names(places: dict[str, float], shade: dict[str, str], x: float, top: float) -> list[str]:
    """Names at the ends of their lines, moved apart where they would touch."""
    out, before = [], top - 16
    for name, y in sorted(places.items(), key=lambda item: item[1]):
        before = max(y + 4, before + 16)
        out.append(f'<g class="{shade[name]}">{text(x, before, name, "name")}</g>')
    return out


# ---- bars -------------------------------------------------------------------------------------------------------------

def bars(plot: dict) -> str:
    series, shade = plot["series"], shades(list(plot["series"]))
    names = list(dict.fromkeys(point[0] for each in series.values() for point in each))
    left = 28 + max(map(len, names)) * CHARACTER
    of_name = {name: [(label, point) for label, each in series.items() for point in each if point[0] == name] for name in names}
    most = max(map(len, of_name.values()))
    thick = 18 if most == 1 else 14
    row = (ROW if len(names) <= MANY else SLIM) if most == 1 else thick * most + 16
    top, right = TOP + (20 if len(series) > 1 else 0), WIDTH - 70
    bottom = top + row * len(names)
    marked = [plot["mark"][0]] if plot.get("mark") else []
    scale = Scale([value for each in series.values() for point in each for value in point[1:]] + marked, plot["x"]["log"], left, right)
    parts = []
    for tick in scale.ticks:
        parts += [line(scale.place(tick), top, scale.place(tick), bottom, "grid"),
                  text(scale.place(tick), bottom + 18, number(tick), "quiet", "middle")]
    parts += [line(left, top, left, bottom, "axis"), text((left + right) / 2, bottom + 38, labelled(plot["x"]), "quiet", "middle")]
    if len(series) > 1:
        parts += legend({name: shade[name] for name in series}, left, TOP - 6)
    for i, name in enumerate(names):
        parts.append(text(left - 10, top + row * (i + 0.5) + 4, name, "text", "end"))
        for j, (label, point) in enumerate(of_name[name]):
            middle = top + row * (i + 0.5) + (j - (len(of_name[name]) - 1) / 2) * thick
            only = shade[label] if len(series) > 1 else "s0" if name.startswith(OURS) else "s6"
            parts.append(bar(scale, left, middle, thick - 4, point, only))
    if marked:
        at = scale.place(marked[0])
        parts += [f'<line class="mark" stroke-dasharray="5 4" x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{bottom:.1f}"/>',
                  text(at, top - 5, plot["mark"][1], "quiet", "middle")]
    return document(plot, bottom + BOTTOM + (14 if plot.get("note") else 0), parts)


def bar(scale: Scale, left: float, y: float, thick: float, point: list, shade: str) -> str:
    _, median, low, high = point
    at, ends = scale.place(median), (scale.place(low), scale.place(high))
    if scale.log:
        shape = f'{line(left, y, at, y, "grid")}<circle class="dot" cx="{at:.1f}" cy="{y:.1f}" r="5"/>'
    else:
        shape = f'<rect class="bar" x="{left:.1f}" y="{y - thick / 2:.1f}" width="{max(at - left, 1):.1f}" height="{thick}" rx="2"/>'
    whisker = line(ends[0], y, ends[1], y, "whisker") if scale.log or ends[1] - ends[0] > 2 else ""
    return f'<g class="{shade}">{shape}{whisker}</g>' + text(max(at, ends[1]) + 9, y + 4, number_exact(median), "text")


def number_exact(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def legend(shade: dict[str, str], x: float, y: float) -> list[str]:
    out = []
    for name, each in shade.items():
        out.append(f'<g class="{each}"><rect class="bar" x="{x:.1f}" y="{y - 9:.1f}" width="10" height="10" rx="2"/></g>' + text(x + 15, y, name, "text"))
        x += 30 + len(name) * CHARACTER
    return out
