"""One picture of the results: operations a second of every peer, by count of processes.

Two panels, reads and 90/10, with a bar for each count of processes on a logarithmic scale, since
the peers lie five orders of magnitude apart. The figure stands at the end of each bar. The picture
has a light ground of its own, so that it reads the same on a white page and on a dark one; letters
are drawn as outlines, so that no font has to be there.

Needs matplotlib, which nothing else here does.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from tests.bench.peers.bars import OURS, PLAIN, Rates, count_of
from tests.bench.peers.kv import Measured
from tests.bench.peers.results import SAID, rate, rates_of

PANELS = ("read", "90/10")
GROUND, INK, QUIET, GRID = "#fbfaf7", "#23272e", "#5b626c", "#dedbd3"
# From one process to many; a chart with more counts than shades uses the last one again.
SHADES = {
    OURS: ("#a83a00", "#dd6b20", "#f2a565"),
    PLAIN: ("#6f6f6f", "#9b9b9b", "#c3c3c3"),
    "": ("#1d4e79", "#3f80b5", "#91bfe0"),
}
# Whose memory is not shared, or not with a Python program of one's own.
LABELS = {
    PLAIN: "dict (private)",
    "uWSGI cache": "uWSGI cache (in uWSGI)",
    "APCu": "APCu (PHP)",
}
BAR_INCHES, GAP = 0.15, 1.1  # height of a bar; space between peers, in bars
WIDTH, HEAD, FOOT, LEFT, RIGHT = 11.5, 1.12, 0.62, 1.95, 0.3  # inches


def shade(peer: str, place: int) -> str:
    """The colour of a bar."""
    shades = SHADES.get(peer, SHADES[""])
    return shades[min(place, len(shades) - 1)]


def power_of_ten(value: float) -> str:
    """1 k, 10 k, 100 k"""
    for unit, letter in ((1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.0f}{letter}"
    return f"{value:.0f}"


def panel(axes: Axes, rates: Rates, mix: str, names: Sequence[str], counts: Sequence[int]) -> None:
    """The bars of one mix."""
    step = len(counts) + GAP
    shown = [value for (_, of_mix, _), value in rates.items() if of_mix in PANELS]
    low, high = 10 ** math.floor(math.log10(min(shown))), max(shown)
    for row, peer in enumerate(names):
        for place, count in enumerate(counts):
            value = rates.get((peer, mix, count))
            if value is None:
                continue
            at = row * step + place
            axes.barh(at, value - low, left=low, height=0.92, color=shade(peer, place), zorder=2)
            figure = axes.text(value * 1.12, at, rate(value), va="center", size=7, color=INK)
            figure.set_bbox({"facecolor": GROUND, "edgecolor": "none", "pad": 0.6})
    axes.set_xscale("log")
    axes.set_xlim(low, high * 6)  # room for the figure at the end of the longest bar
    axes.set_ylim(len(names) * step - GAP / 2 - 0.5, -0.5 - GAP / 2)
    middle = (len(counts) - 1) / 2
    axes.set_yticks([row * step + middle for row in range(len(names))], names)
    axes.set_title(SAID[mix], loc="left", size=11, color=INK, pad=6)
    axes.grid(axis="x", color=GRID, linewidth=0.8, zorder=0)
    axes.tick_params(axis="both", length=0, colors=QUIET, labelsize=8)
    axes.set_facecolor(GROUND)
    for spine in axes.spines.values():
        spine.set_visible(False)
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    ticks = [10.0**power for power in powers]
    axes.set_xticks(ticks, [power_of_ten(tick) for tick in ticks])
    axes.minorticks_off()


def draw(measured: Sequence[Measured], about: Mapping[str, Any], path: Path) -> None:
    """Write the picture; of several value sizes the smallest is shown."""
    if not any(each.figures["mix"] in PANELS for each in measured):
        return  # nothing that is shown was asked for
    size = min(each.value_bytes for each in measured)
    rates = rates_of(each for each in measured if each.value_bytes == size)
    counts = sorted({count for _, _, count in rates})
    first = {peer: rates.get((peer, PANELS[0], counts[0]), 0.0) for peer, _, _ in rates}
    names = sorted(first, key=lambda peer: -first[peer])
    plot = len(names) * (len(counts) + GAP) * BAR_INCHES
    height = HEAD + plot + FOOT
    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": OURS})
    figure = Figure(figsize=(WIDTH, height), facecolor="none")
    edge = FancyBboxPatch(
        (0.002, 0.002),
        0.996,
        0.996,
        boxstyle="round,pad=0,rounding_size=0.008",
        mutation_aspect=WIDTH / height,
        transform=figure.transFigure,
        facecolor=GROUND,
        edgecolor=GRID,
        zorder=-1,  # behind the panels
    )
    figure.patches.append(edge)
    wide = (WIDTH - LEFT - RIGHT - 0.25) / 2 / WIDTH
    for place, mix in enumerate(PANELS):
        left = LEFT / WIDTH + place * (wide + 0.25 / WIDTH)
        axes = figure.add_axes((left, FOOT / height, wide, plot / height))
        panel(axes, rates, mix, names, counts)
        if place:
            axes.set_yticklabels([])
    name_labels(figure.axes[0], names)
    write_words(figure, about, size, counts, height)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def name_labels(axes: Axes, names: Sequence[str]) -> None:
    """What stands beside the bars."""
    axes.set_yticklabels([LABELS.get(name, name) for name in names])
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set(color=INK, size=9.5)
        if name == OURS:
            label.set(color=SHADES[OURS][0], weight="bold")


def write_words(
    figure: Figure, about: Mapping[str, Any], size: int, counts: Sequence[int], height: float
) -> None:
    """Title, legend, and where and when."""
    title = f"Operations a second, keys of 13 B, values of {size:,} B"
    figure.text(0.02, 1 - 0.36 / height, title, size=14, color=INK, weight="bold")
    said = f"zipf 0.99 over {about['keys']:,} keys, all processes together; logarithmic scale"
    figure.text(0.02, 1 - 0.62 / height, said, size=9, color=QUIET)
    grey = SHADES[PLAIN]
    patches = [
        Patch(color=grey[min(place, len(grey) - 1)], label=count_of(count))
        for place, count in enumerate(counts)
    ]
    legend = figure.legend(
        handles=patches,
        loc="upper right",
        bbox_to_anchor=(0.985, 1 - 0.16 / height),
        ncols=len(counts),
        frameon=False,
        fontsize=9,
    )
    for text in legend.get_texts():
        text.set_color(INK)
    where = f"{about['machine']}, CPython {about['python']}, {about['date']}; medians of the rounds"
    figure.text(0.02, 0.2 / height, where, size=8, color=QUIET)
