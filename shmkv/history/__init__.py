"""What a store's daemon remembers of the past, for everybody to read: the words of it.

Owns: `Moment`, `Point`, `Curve`, `Remembered`, and `read`. Nobody writes a history yet: what is
read is empty, and whoever shows it says so.

Promises: `read` never raises for what a daemon has written.
"""

from __future__ import annotations

from typing import NamedTuple

from shmkv.store import Store


class Moment(NamedTuple):
    """One interval of the past."""

    start: float
    """Unix time."""
    seconds: float
    hits: int
    misses: int
    sets: int
    deletes: int
    evicted: int
    expired: int
    items: int
    """At its end, as what follows."""
    live_bytes: int
    backed_bytes: int


class Point(NamedTuple):
    """What would be hit in a store of a size."""

    size: int
    hit_ratio: float


class Curve(NamedTuple):
    """What if the store had another size."""

    since: float
    """Unix time."""
    until: float
    rate: float
    """Share of keys sampled."""
    keys: int
    """Sampled, as the requests."""
    requests: int
    size: int
    """Of the store then."""
    measured: float
    """Hit ratio of the store itself over the same requests."""
    points: tuple[Point, ...]
    """Rising sizes, from a quarter of the store's to eight times it."""


class Remembered(NamedTuple):
    """Everything: moments from the oldest on, the newest finer than the oldest."""

    moments: tuple[Moment, ...]
    curve: Curve | None


def read(store: Store) -> Remembered:
    """What the daemon of a store has written; empty if there is nothing."""
    return Remembered((), None)
