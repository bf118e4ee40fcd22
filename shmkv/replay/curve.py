"""The picture: hit ratio over size, the store beside LRU with the same memory.

Owns: `draw`. The only file of the room that needs matplotlib; no window is opened.

Does not: measure (`sweep`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from matplotlib.figure import Figure

from shmkv.replay.run import Result

OURS, OTHER, QUIET = "#a83a00", "#3f80b5", "#5b626c"
MIB = 1 << 20


def draw(results: Sequence[Result], file: IO[bytes], *, format: str = "png") -> None:
    """Write a picture of these results, one point each."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    at = [result.size / MIB for result in results]
    ours = [100 * result.store.hit_ratio for result in results]
    bytes_ = [100 * result.store.byte_hit_ratio for result in results]
    axes.plot(at, ours, "o-", color=OURS, label="shmkv")
    axes.plot(at, bytes_, "o:", color=OURS, label="shmkv, bytes", linewidth=1, markersize=3)
    lru = [result.lru for result in results if result.lru is not None]
    if len(lru) == len(results):
        axes.plot(at, [100 * one.hit_ratio for one in lru], "s-", color=OTHER, label="LRU")
        over = [100 * one.byte_hit_ratio for one in lru]
        axes.plot(at, over, "s:", color=OTHER, label="LRU, bytes", linewidth=1, markersize=3)
    axes.set_xscale("log")
    axes.set_xticks(at, [f"{size:.3g}" for size in at])
    axes.minorticks_off()
    axes.set_xlabel("store, MiB")
    axes.set_ylabel("hit ratio, %")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    requests = results[0].requests if results else 0
    title = results[0].trace if results else ""
    axes.set_title(f"{title}, {requests:,} requests", color=QUIET, size=10)
    figure.savefig(file, format=format, dpi=150)
