"""Looks made by hand, for tests of what follows from them. No store is needed for these."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from shmkv.inspect.layout import STATS
from shmkv.top.model import Frame, History
from shmkv.top.sample import Attachment, Part, Sample
from shmkv.types import Stats

MIB = 1 << 20
TOTALS: dict[str, Any] = dict.fromkeys([field.name for field in fields(Stats)], 0) | {
    "size": 64 * MIB,
    "max_size": 256 * MIB,
    "attached": 2,
    "rows": 256,
    "journal": None,
    "snapshot_time": None,
}


def attachment(number: int, *, pid: int = 0, alive: bool = True, **totals: int) -> Attachment:
    """A process, attached a minute before the look."""
    counters = dict.fromkeys(STATS, 0) | totals
    return Attachment(number, pid or number, f"worker{number}", 940.0, alive, False, counters)


def sample(
    at: float, *attachments: Attachment, memory: tuple[Part, ...] = (), **totals: Any
) -> Sample:
    """A look at a moment."""
    return Sample(at, 1000.0 + at, TOTALS | totals, attachments, memory, False)


def busy() -> tuple[Frame, dict[str, History]]:
    """A store with much to see."""
    memory = (
        Part(0, "free", 2 * MIB, 0, 0),
        Part(0, "index", MIB, 0, 0),
        Part(0, "open", MIB, MIB // 2, 0),
        Part(0, "closed", 5 * MIB, 5 * MIB, MIB),
        Part(3, "closed", 55 * MIB, 55 * MIB, 123_456),
        Part(3, "cleaning", MIB, MIB, 0),
    )
    workers = [attachment(n, pid=4_190_000 + n, hits=n * 1000, sets=n) for n in range(1, 16)]
    before = sample(0.0, *(one._replace(totals=dict.fromkeys(STATS, 0)) for one in workers))
    now = sample(
        2.0,
        *workers,
        attachment(99, pid=77, alive=False),
        memory=memory,
        hits=2_469_134,
        misses=100_000,
        sets=12_345,
        evictions=999,
        evictions_small=900,
        evictions_main=99,
        expired=55,
        items=123_456_789,
        damage=1,
    )
    histories = {name: History() for name in ("reads", "writes", "hit_ratio", "evictions")}
    for history in histories.values():
        for value in range(300):
            history.add(None if value % 7 == 0 else value / 300)
    return Frame.of(before, now), histories
