"""The pictures of a report as SVG that stands in the page: the map of the pages, and two charts.

Owns: how they look. Charts are made by matplotlib, each for three widths, since text in a picture
that is scaled cannot be read; the page shows the one that fits.

Promises: no colour stands in a picture: all are names the style sheet knows, so that light and dark
work. Text is text. No picture has an id that another one has, or refers to anything outside.

Does not: know a store, or choose words beyond the labels of axes.
"""

from __future__ import annotations

import datetime as dt
import io
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.dates
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from shmkv.history import Curve, Moment
from shmkv.inspect import words
from shmkv.report.pages import LEVELS, QUEUED, Cell
from shmkv.top.draw import count

dates: Any = matplotlib.dates  # has no types
STEPS = 520  # of a line: two pixels of the widest
WIDTHS = {"narrow": 340, "middle": 700, "wide": 1040}  # of the page, in its pixels
DOT = 100  # of them to an inch: fonts are given in points, of 72
INK, QUIET, LINE, ACCENT, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505"
COLOURS = {INK: "ink", QUIET: "quiet", LINE: "line", ACCENT: "accent", PAPER: "paper"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # of matplotlib's own, to measure by: wider than most
    "font.size": 8.6,
    "text.color": QUIET,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 8.6,
    "axes.titlecolor": QUIET,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 6,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}


# ---- the map ------------------------------------------------------------------------------------


def columns(cells: int) -> int:
    """Of a map: about four times as many as rows."""
    for wide in (16, 24, 32, 48, 64, 96):
        if cells <= wide * wide // 4:
            return wide
    return 128


def map_svg(cells: Sequence[Cell], names: Callable[[Cell], str], label: str) -> Markup:
    """All cells, row by row; those alike that stand side by side are one stroke."""
    wide = columns(len(cells))
    apart = len(cells) <= 1024  # so few that each can be seen
    strokes: dict[Cell, list[str]] = {}
    at = 0
    while at < len(cells):
        cell, row = cells[at], at // wide
        end = at + 1
        while not apart and end < len(cells) and cells[end] == cell and end // wide == row:
            end += 1
        length = end - at - (0.12 if apart else 0)
        strokes.setdefault(cell, []).append(f"M{at % wide} {row}h{length:g}v.88h-{length:g}z")
        at = end
    tall = max(-(-len(cells) // wide), 1)
    parts = [
        Markup('<path class="{}" d="{}"><title>{}</title></path>').format(
            cell_class(cell), "".join(strokes[cell]), names(cell)
        )
        for cell in sorted(strokes)
    ]
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        wide, tall, label, Markup("").join(parts)
    )


def cell_class(cell: Cell) -> str:
    """What the style sheet calls it: k and the kind, l and the level of what lives."""
    return f"k{cell.kind} l{cell.level if cell.kind >= QUEUED else LEVELS - 1}"


# ---- charts -------------------------------------------------------------------------------------


def _figure(wide: int, high: float, *, rows: int = 1, below: int = 26) -> Figure:
    """Of so many pixels, with room for what stands around its axes.

    To measure the words would take as long as all the rest.
    """
    left, right, above, between = 44, 26, 22, 34
    figure = Figure(figsize=(wide / DOT, high / DOT))
    inner = high - above - below - between * (rows - 1)
    figure.subplots_adjust(
        left=left / wide,
        right=1 - right / wide,
        top=1 - above / high,
        bottom=below / high,
        hspace=between * rows / inner,
    )
    return figure


def past(moments: Sequence[Moment], zone: dt.tzinfo, label: str) -> list[Markup]:
    """Hit ratio over time; below, how much was read, and what left to make room.

    Each moment has a length.
    """
    few = thinned(moments)
    return _pictures(lambda wide: _past(few, zone, wide), label, "past")


def thinned(moments: Sequence[Moment]) -> list[Moment]:
    """No more moments than can be told apart: those of a step of the line are one."""
    first, last = moments[0].start, _end(moments[-1])
    step = max((last - first) / STEPS, 1e-9)
    groups = itertools.groupby(moments, key=lambda one: min((one.start - first) // step, STEPS))
    return [_joined(list(group)) for _, group in groups]


def _joined(group: Sequence[Moment]) -> Moment:
    """One after the other as one."""
    last = group[-1]
    names = ("hits", "misses", "sets", "deletes", "evicted", "expired")
    sums = {name: sum(getattr(one, name) for one in group) for name in names}
    return last._replace(start=group[0].start, seconds=_end(last) - group[0].start, **sums)


def _past(moments: Sequence[Moment], zone: dt.tzinfo, wide: int) -> Figure:
    evicted = any(one.evicted for one in moments)
    shares = [3.2, 1.3, 1.3][: 3 if evicted else 2]
    figure = _figure(wide, 64 * sum(shares), rows=len(shares))
    made = figure.subplots(len(shares), 1, sharex=True, height_ratios=shares, squeeze=False)
    axes: list[Axes] = [one for (one,) in made]
    ratios = [_ratio(one) for one in moments]
    known = [ratio for ratio in ratios if ratio is not None]
    low = _floor(min(known, default=0.0))
    axes[0].set_title("Reads that hit, %")
    axes[0].set_ylim(low, 100)
    _steps(axes[0], moments, ratios, ACCENT)
    rates = [("Reads a second", [(one.hits + one.misses) / one.seconds for one in moments])]
    if evicted:
        rates.append(("Evicted a second", [one.evicted / one.seconds for one in moments]))
    for below, (title, values) in zip(axes[1:], rates, strict=True):
        below.set_title(title)
        _steps(below, moments, values, QUIET)
        below.set_ylim(0, max(values) * 1.08 or 1.0)
        below.yaxis.set_major_locator(MaxNLocator(2))
        below.yaxis.set_major_formatter(FuncFormatter(lambda number, _: count(number)))
    locator = dates.AutoDateLocator(tz=zone, minticks=3, maxticks=5 if wide < 500 else 9)
    axes[-1].xaxis.set_major_locator(locator)
    axes[-1].xaxis.set_major_formatter(_clock(locator, zone))
    axes[-1].set_xlim(*_numbers((moments[0].start, _end(moments[-1]))))
    return figure


def _clock(locator: Any, zone: dt.tzinfo) -> Any:
    """Clock times, with the day where it begins."""
    return dates.ConciseDateFormatter(
        locator,
        tz=zone,
        formats=["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"],
        zero_formats=["%Y", "%Y", "%d %b", "%d %b", "%H:%M", "%H:%M:%S"],
        show_offset=False,
    )


def _ratio(one: Moment) -> float | None:
    asked = one.hits + one.misses
    return 100 * one.hits / asked if asked else None


def _floor(least: float) -> int:
    """Where the axis begins: at nothing, unless all is so high that nothing could be told apart."""
    return next((low for low in (95, 90, 80, 50) if least > low + 0.2 * (100 - low)), 0)


def _end(one: Moment) -> float:
    return one.start + one.seconds


def _numbers(times: Sequence[float]) -> Any:
    """What matplotlib takes for moments."""
    return dates.date2num((np.array(times) * 1e6).astype("datetime64[us]"))


def _steps(
    axes: Axes,
    moments: Sequence[Moment],
    values: Iterable[float | None],
    colour: str,
) -> None:
    """A level for each moment; a gap where there is none, or where nobody looked."""
    at: list[float] = []
    level: list[float] = []
    for i, (one, value) in enumerate(zip(moments, values, strict=True)):
        if i and one.start > _end(moments[i - 1]) + 0.5 * one.seconds:
            at.append(at[-1])
            level.append(float("nan"))
        at += (one.start, _end(one))
        level += [float("nan") if value is None else value] * 2
    axes.plot(
        _numbers(at),
        level,
        color=colour,
        linewidth=1.2 if colour == QUIET or len(moments) > 200 else 1.8,
    )


def what_if(curve: Curve, now: int, label: str) -> list[Markup]:
    """Hit ratio over the size of the store; the size it has now is marked."""
    return _pictures(lambda wide: _what_if(curve, now, wide), label, "curve")


def _what_if(curve: Curve, now: int, wide: int) -> Figure:
    narrow = wide < 500
    figure = _figure(wide, 230 if narrow else 280, below=44)
    axes = figure.subplots()
    sizes = [point.size for point in curve.points]
    ratios = [100 * point.hit_ratio for point in curve.points]
    low, high = _floor(min(ratios)), 100.0
    axes.plot(sizes, ratios, color=ACCENT)
    marked = [one for one in curve.points if _power(one.size, curve.size)]
    axes.plot(
        [one.size for one in marked],
        [100 * one.hit_ratio for one in marked],
        "o",
        color=ACCENT,
        markersize=4.5,
    )
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(*sizes, now) * 0.94, max(*sizes, now) * 1.06)
    axes.set_ylim(low, high)
    axes.axvline(now, color=INK, linewidth=1.1, linestyle=(0, (3, 3)))
    left = now > (min(sizes) * max(sizes)) ** 0.5
    axes.annotate(
        f"now {words.about(now)}",
        (now, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, -2),
        textcoords="offset points",
        color=INK,
        ha="right" if left else "left",
        va="top",
        bbox={"boxstyle": "square,pad=0.25", "fc": PAPER, "ec": "none"},
    )
    ticks = [one.size for one in marked] or sizes[:: max(len(sizes) // 4, 1)]
    shown = ticks[:: 2 if narrow and len(ticks) > 4 else 1]
    axes.set_xticks(shown, [words.about(size) for size in shown])
    axes.minorticks_off()
    axes.set_title("Reads that would have hit, %")
    axes.set_xlabel("size of the store")
    return figure


def _power(size: int, of: int) -> bool:
    """Is it the half, the double and so on?"""
    whole, part = divmod(max(size, of), max(min(size, of), 1))
    return part * 50 < of and whole & (whole - 1) == 0


# ---- SVG ----------------------------------------------------------------------------------------


def _pictures(draw: Callable[[int], Figure], label: str, salt: str) -> list[Markup]:
    found = []
    for fits, wide in WIDTHS.items():
        with mpl.rc_context(STYLE | {"svg.hashsalt": f"{salt}-{fits}"}):
            found.append(_svg(draw(wide), label, fits))
    return found


def _svg(figure: Figure, label: str, fits: str) -> Markup:
    """What matplotlib writes, as a part of a page: without its head, its style and its ids."""
    made = io.StringIO()
    about: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(made, format="svg", transparent=True, metadata=about)
    text = made.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.S)
    text = re.sub(r'(<g) id="[^"]*"', r"\1", text)
    text = re.sub(r"font-family: [^;\"]*;? ?|font: ([\d.]+px)[^;\"]*", _font, text)
    for colour, name in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None, "matplotlib has written no viewBox"
    inner = text[text.index(">") + 1 :]
    head = Markup('<svg class="{}" {} role="img" aria-label="{}">')
    return head.format(fits, Markup(view[0]), label) + Markup(inner.strip())


def _font(found: re.Match[str]) -> str:
    """The size alone: the page says which face."""
    return f"font-size: {found[1]}" if found[1] else ""
