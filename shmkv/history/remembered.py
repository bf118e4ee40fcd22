"""What is remembered of a store: moments of its past, and what another size would do.

Owns: the words for it, `Moment`, `Point`, `Curve` and `Remembered`: plain numbers, immutable.

Does not: gather (`moments`, `simulate`), keep (`board`), or show them.
"""

from __future__ import annotations

from typing import NamedTuple


class Moment(NamedTuple):
    """One interval of a store's past."""

    start: float
    """Wall clock, seconds."""
    seconds: float
    """How long it was."""
    hits: int
    """In the interval, as the next ones."""
    misses: int
    sets: int
    deletes: int
    evicted: int
    expired: int
    items: int
    """At its end, as the next ones."""
    live_bytes: int
    backed_bytes: int

    @property
    def end(self) -> float:
        """Wall clock, seconds."""
        return self.start + self.seconds

    @property
    def counts(self) -> tuple[int, ...]:
        """What happened in the interval: of such numbers there are sums."""
        return self[2:8]

    @property
    def gauges(self) -> tuple[int, ...]:
        """What was there at its end."""
        return self[8:]

    @property
    def hit_ratio(self) -> float | None:
        """Of the reads in the interval; None: there were none."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else None


class Point(NamedTuple):
    """A size and the share of reads that would hit."""

    size: int
    hit_ratio: float


class Curve(NamedTuple):
    """What if the store had another size: from a sample of its keys."""

    since: float
    """Wall clock, seconds: older requests have no weight any more."""
    until: float
    rate: float
    """Share of the keys in the sample."""
    keys: int
    """In the sample."""
    requests: int
    """Reads in the sample, by weight."""
    size: int
    """Of the store at that time."""
    measured: float
    """Hit ratio of the store itself over the same time."""
    points: tuple[Point, ...]
    """By rising size; the store's own, half, twice and four times it are among them."""


class Remembered(NamedTuple):
    """All of it."""

    moments: tuple[Moment, ...] = ()
    """Oldest first, without overlap; there may be gaps. The newest are finer than the oldest."""
    curve: Curve | None = None
    """None: not enough was seen yet."""


NOTHING = Remembered()
