"""One trace, many sizes: the figures behind a curve of hit ratio over size.

Owns: which sizes, and the replays at each of them.

Does not: draw (`curve`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from shmkv.config import SIZE_MIN, SIZE_STEP
from shmkv.replay.requests import Trace
from shmkv.replay.run import Progress, Result, replay

POINTS = 8
SMALLEST = 0.01  # of the footprint


def sizes(footprint: int, points: int = POINTS) -> list[int]:
    """Bytes of stores, evenly spaced in their logarithm, from 1 % of the footprint to all of it."""
    low = max(SIZE_MIN, footprint * SMALLEST)
    high = max(low, footprint)
    steps = [low * (high / low) ** (i / max(points - 1, 1)) for i in range(points)]
    return sorted({round(step / SIZE_STEP) * SIZE_STEP for step in steps})


def sweep(
    trace: Trace,
    of_sizes: list[int],
    *,
    progress: Callable[[int], Progress | None] | None = None,
    **options: Any,
) -> Iterator[Result]:
    """Replay a trace at each size. `progress` makes the listener of one replay, by its size."""
    for size in of_sizes:
        yield replay(trace, size, progress=progress(size) if progress else None, **options)
