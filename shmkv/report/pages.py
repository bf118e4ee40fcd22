"""The page table of a segment as a map: what each page is, and how much of it lives.

Owns: `Map`, its cells, and the sums by queue and state, which are those of `Store._memory`.

Promises: one copy of the table is read, and nothing beyond the watermark. A map has `CELLS` cells
at most: of larger stores a cell stands for several pages, and shows what most of them are. What
makes no sense in the table is shown as held by somebody, never followed.

Does not: look into pages (`items`), or draw (`charts`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from shmkv.inspect.geometry import Geometry
from shmkv.inspect.layout import GRANULE, PAGE, State
from shmkv.top.sample import Part

CELLS = 4096
LEVELS = 4  # of live share: up to a quarter, a half, three quarters, all
UNTAKEN, FREE, INDEX, HELD = range(4)  # kinds; a page of queue q is QUEUED + q
QUEUED = 4
KINDS = QUEUED + 16
EXPIRY_MS = 4000  # of the first place of a page's expiry histogram; each next is 4 times later
EXPIRY_MANY = 65_535  # in a place: too many to be counted
OF_QUEUES = (State.OPEN, State.CLOSED, State.CLEANING)
TABLE = np.dtype(
    {
        "names": ["word", "tail", "dead", "suspect", "opened_ms", "expiry"],
        "formats": ["<u8", "<u4", "<u4", "<u4", "<u8", "(8,)<u2"],
        "offsets": [
            PAGE.fields[name][0]
            for name in ("word", "tail", "dead", "suspect", "opened_ms", "expiry")
        ],
        "itemsize": PAGE.size,
    }
)
Read = Callable[[int, int], bytes]
"""Bytes of a segment from a place on, so many or as many as there are."""
Array = np.ndarray[Any, np.dtype[Any]]


class Cell(NamedTuple):
    """What most of its pages are, and the share of their bytes that lives, in steps."""

    kind: int
    level: int
    """0 to LEVELS - 1; of pages that belong to no queue the last."""


class Map(NamedTuple):
    """All pages within a store's size, in the order of memory."""

    cells: tuple[Cell, ...]
    pages: int
    per_cell: int
    page_bytes: int
    untaken: int
    """Pages that have not been taken from the system."""
    parts: tuple[Part, ...]


def read_map(read: Read, geometry: Geometry, size: int, watermark: int, clock_ms: int) -> Map:
    """The map of a segment whose geometry is known; numbers of its header may be nonsense."""
    pages = geometry.bases_within(size)
    taken = min(max(watermark - geometry.off_arena, 0) >> geometry.base_shift, pages)
    raw = read(geometry.off_pages, taken * PAGE.size)
    table = np.frombuffer(raw, TABLE, count=len(raw) // PAGE.size)
    heads = _Heads(table, geometry, clock_ms)
    per_cell = max(-(-pages // CELLS), 1)
    kinds = np.full(pages, UNTAKEN, np.uint8)
    shares = np.ones(pages)
    kinds[: len(table)], shares[: len(table)] = heads.kinds, heads.shares
    return Map(
        cells=_cells(kinds, shares, per_cell),
        pages=pages,
        per_cell=per_cell,
        page_bytes=geometry.base_bytes,
        untaken=pages - len(table),
        parts=heads.parts(),
    )


class _Heads:
    """What the heads of runs say, spread over their pages."""

    def __init__(self, table: Array, geometry: Geometry, clock_ms: int) -> None:
        places = np.arange(len(table))
        word = table["word"]
        self.state = (word & 15).astype(np.int64)
        self.queue = (word >> 4 & 15).astype(np.int64)
        inside = self.state == State.INTERIOR
        run = np.where(np.isin(self.state, (State.FREE, State.INTERIOR)), 1, word >> 8 & 0xFFFFFF)
        run = np.minimum(np.maximum(run.astype(np.int64), 1), len(table) - places)
        head = np.maximum.accumulate(np.where(inside, 0, places)) if len(table) else places
        lost = inside & (places - head >= run[head])  # of no run
        self.heads = ~inside | lost
        self.run_bytes = run << geometry.base_shift
        queued = np.isin(self.state, [int(state) for state in OF_QUEUES])
        tail = np.minimum(table["tail"].astype(np.int64), run * geometry.base_granules)
        self.filled = np.where(queued, tail, 0) * GRANULE
        self.garbage = np.where(queued, np.minimum(_garbage(table, clock_ms), tail), 0) * GRANULE
        share = (self.filled - self.garbage) / np.maximum(self.run_bytes, 1)
        kind = np.full(len(table), HELD, np.uint8)
        kind[self.state == State.FREE] = FREE
        kind[self.state == State.INDEX] = INDEX
        kind[queued] = (QUEUED + self.queue[queued]).astype(np.uint8)
        self.kinds = np.where(lost, HELD, kind[head]).astype(np.uint8)
        self.shares = np.where(self.kinds >= QUEUED, share[head], 1.0)

    def parts(self) -> tuple[Part, ...]:
        """Sums by queue and state; what belongs to no queue counts for the first."""
        queued = np.isin(self.state, [int(state) for state in OF_QUEUES])
        code = np.where(queued, self.queue, 0) * 16 + self.state
        found = []
        for one in np.unique(code[self.heads]):
            chosen = self.heads & (code == one)
            sums = (int(of[chosen].sum()) for of in (self.run_bytes, self.filled, self.garbage))
            state = int(one) % 16
            named = State(state).name.lower() if state <= State.INTERIOR else "taken"
            found.append(Part(int(one) // 16, named, *sums))
        return tuple(found)


def _garbage(table: Array, clock_ms: int) -> Array:
    """Granules of dead and expired items, as far as each head knows: the core's page_garbage."""
    tail = table["tail"].astype(np.int64)
    found = table["dead"].astype(np.int64)
    opened = table["opened_ms"].astype(np.float64)
    for place in range(table["expiry"].shape[1]):
        passed = opened + EXPIRY_MS * 4**place <= clock_ms
        count = table["expiry"][:, place].astype(np.int64)
        found += np.where(passed, np.where(count == EXPIRY_MANY, tail, count), 0)
    half = tail // 2 + 1
    return np.where((table["suspect"] != 0) & (found < half), half, found)


def _cells(kinds: Array, shares: Array, per_cell: int) -> tuple[Cell, ...]:
    """Each cell by the kind that most of its pages are, and the live share of those."""
    if not len(kinds):
        return ()
    starts = np.arange(0, len(kinds), per_cell)
    counts = np.zeros((KINDS, len(starts)), np.int64)
    lives = np.zeros((KINDS, len(starts)))
    for kind in np.unique(kinds):
        of_kind = kinds == kind
        counts[kind] = np.add.reduceat(of_kind, starts, dtype=np.int64)
        lives[kind] = np.add.reduceat(np.where(of_kind, shares, 0.0), starts)
    most = counts.argmax(axis=0)
    at = np.arange(len(starts))
    share = lives[most, at] / counts[most, at]
    level = np.clip((share * LEVELS).astype(np.int64), 0, LEVELS - 1)
    return tuple(Cell(int(kind), int(step)) for kind, step in zip(most, level, strict=True))
