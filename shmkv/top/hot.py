"""Which keys are read most: by access counters as they stand, or counted for a moment.

Reads leave two bits at an item: 0 to 3, saturated at 3; a rewrite of the key keeps them, only the
choice of who leaves lowers them. `ranked` looks at them and changes nothing: it costs readers and
eviction nothing and tells warm from cold; but of all the items at 3 it cannot tell which is read
most. Those are shown first whose page is the youngest, and that is all their order means.

`counted` can tell: as an attachment that writes it sets the counters of warm items to zero, looks
after a moment how far they rose, and raises them again. Readers of these keys pay a store more
meanwhile; an item that is judged just then may leave though it was read.

Owns: both orders and what their figures mean. Does not: print.
"""

from __future__ import annotations

import heapq
import time
from typing import NamedTuple

from shmkv.store import Store
from shmkv.types import Key

CANDIDATES = 65_536  # warm items that are counted, the warmest first
GROUP = 4096  # of them at a time
FINALISTS = 4  # times as many as are asked for
FIRST = (2, 1_000_000, 200_000)  # looks, waiting before each, rest before the next; nanoseconds
KEPT = 4  # one of so many of each group stays in: a pause of the workers hits a group alike
TURNS = 3  # of the last group
GAPS_NS = (1_000_000, 100_000, 10_000, 2_000)  # the hotter, the shorter
REST_NS = 500_000
SATURATED = 1.6  # reads in looks that saw any, on average: more, and too many went unseen


class Hot(NamedTuple):
    """An item that is read."""

    key: Key
    counter: int
    """0 to 3; 3 means three reads or more."""
    age: float
    """Seconds since its page was opened: at least the time since it was written or moved."""
    size: int
    """Bytes in the segment."""
    rate: float | None = None
    """Reads a second, if they were counted."""
    beyond: bool = False
    """There were more reads than could be counted."""


class Heat(NamedTuple):
    """What a look at the access counters gives."""

    items: tuple[int, int, int, int]
    """Items by their counter."""
    hottest: tuple[Hot, ...]
    seconds: float
    """How long the look took."""


def ranked(store: Store, n: int, *, prefix: bytes | None = None) -> Heat:
    """The hottest by counters as they stand. Only reads."""
    began = time.monotonic()
    items, found = store._heat(prefix, n)
    hottest = tuple(Hot(key, counter, age / 1000, size) for key, counter, age, size in found)
    return Heat(items, hottest, time.monotonic() - began)


def counted(
    store: Store,
    n: int,
    *,
    prefix: bytes | None = None,
    seconds: float = 1.0,
) -> Heat:
    """The hottest by counting reads for a moment. The store must be open for writing."""
    warm = ranked(store, CANDIDATES, prefix=prefix)
    began = time.monotonic()
    by_key = {one.key: one for one in warm.hottest if one.counter > 0}
    finalists = _finalists(store, list(by_key), FINALISTS * n)
    best = {key: by_key[key]._replace(rate=0.0) for key in finalists}
    left = max(seconds - (time.monotonic() - began), 0.0)
    for gap in GAPS_NS if finalists else ():
        part = left * 1e9 / len(GAPS_NS)
        looks = max(int(part / (gap + REST_NS)), 8)
        exposed, seen = store._count(finalists, looks, gap, REST_NS)
        again = []
        for key, found in zip(finalists, seen, strict=True):
            if found is not None:
                best[key] = _rated(best[key], exposed, *found)
                again += [key] if best[key].beyond else []
        finalists = again
        if not finalists:
            break
    hottest = heapq.nlargest(n, best.values(), key=lambda one: one.rate or 0.0)
    return Heat(warm.items, tuple(hottest), warm.seconds + time.monotonic() - began)


def _finalists(store: Store, keys: list[Key], most: int) -> list[Key]:
    """Those that were read most in first short counts, fewer and fewer of them."""
    while len(keys) > GROUP:
        many = -(-len(keys) // GROUP)
        groups = (keys[at::many] for at in range(many))
        keys = [key for group in groups for key, _ in _best(store, group, len(group) // KEPT, 1)]
    return [key for key, reads in _best(store, keys, most, TURNS) if reads]


def _best(store: Store, group: list[Key], most: int, turns: int) -> list[tuple[Key, int]]:
    """The keys of a group that were read most, and how often that was seen."""
    reads = [0] * len(group)
    for _ in range(turns):
        _, seen = store._count(group, *FIRST)
        for i, found in enumerate(seen):
            reads[i] += found[2] if found is not None else 0
    return heapq.nlargest(most, zip(group, reads, strict=True), key=lambda pair: pair[1])


def _rated(one: Hot, exposed_ns: int, looks: int, idle: int, least: int) -> Hot:
    """What one kind of looks says of an item.

    Looks that saw no read do not count against saturation: workers that wait for a processor read
    nothing meanwhile.
    """
    beyond = least > SATURATED * (looks - idle)
    return one._replace(rate=max(one.rate or 0.0, least / (exposed_ns / 1e9)), beyond=beyond)
