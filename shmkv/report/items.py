"""A sample of a store's items: how large they are, how old, when they expire, how they are called.

Owns: `Items` and what it is made of, the bounds of the sample, and the rule for prefixes.

Promises: at most `MOST` items and `SECONDS` are taken, whatever the store holds. Keys are scanned
in the order of their hashes, whose seed is the store's own, so that the first ones are a random
sample. An item is asked for its header, not for its value: no counter changes. Damage ends the
sample, and is told.

Does not: format.
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from shmkv.errors import Busy, Corrupt
from shmkv.store import Store
from shmkv.types import Key

MOST = 50_000
SECONDS = 1.5
LARGEST = 8  # items that are named
PREFIXES = 12
SHARE_LEAST = 0.002  # of a prefix that is named
DIVIDED = 0.4  # a prefix of more items than this share is looked into, as deep as
DEPTH = 4
PART = re.compile(rb"[^:/|#._\-]{0,40}[:/|#._\-]+")
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

SIZES = tuple(1 << bits for bits in (5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 24))
TIMES = (1.0, 10.0, MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY)


class One(NamedTuple):
    """An item of the sample."""

    key: Key
    type: str
    bytes: int
    """Of key and value."""
    ttl: float | None
    age: float


class Bin(NamedTuple):
    """Items between two bounds; None: there is none."""

    above: float | None
    up_to: float | None
    items: int
    bytes: int


class Prefix(NamedTuple):
    """Items whose keys begin so."""

    begin: bytes | None
    """None: all others."""
    items: int
    bytes: int
    never: int
    """Of these: without a deadline."""


class Items(NamedTuple):
    """What the sample says."""

    total: int
    """Items of the store then; some of them may have expired."""
    seen: int
    whole: bool
    """All there were."""
    bytes: int
    sizes: tuple[Bin, ...]
    ages: tuple[Bin, ...]
    deadlines: tuple[Bin, ...]
    never: Bin
    """Items without a deadline."""
    prefixes: tuple[Prefix, ...]
    """Those of most items first; what is left comes last."""
    largest: tuple[One, ...]
    trouble: str = ""


def sample(
    store: Store, *, clock: Callable[[], float], most: int = MOST, seconds: float = SECONDS
) -> Items:
    """Look at so many items, for so long at most."""
    found: list[One] = []
    total, whole, trouble, end = len(store), True, "", clock() + seconds
    try:
        for number, key in enumerate(store):
            if len(found) >= most or (number % 256 == 255 and clock() > end):
                whole = False
                break
            try:
                kind, size, ttl, age = store.info(key)
            except KeyError:  # it went meanwhile
                continue
            length = len(key if isinstance(key, bytes) else key.encode())
            found.append(One(key, kind, length + size, ttl, age))
    except (Corrupt, Busy) as error:
        whole, trouble = False, str(error)
    return summed(found, total=total, whole=whole, trouble=trouble)


def summed(found: Sequence[One], *, total: int, whole: bool, trouble: str = "") -> Items:
    """What a sample says."""
    never = [one for one in found if one.ttl is None]
    return Items(
        total=total,
        seen=len(found),
        whole=whole,
        bytes=sum(one.bytes for one in found),
        sizes=_bins(((one.bytes, one.bytes) for one in found), SIZES),
        ages=_bins(((one.age, one.bytes) for one in found), TIMES),
        deadlines=_bins(((one.ttl, one.bytes) for one in found if one.ttl is not None), TIMES),
        never=Bin(None, None, len(never), sum(one.bytes for one in never)),
        prefixes=_prefixes(found),
        largest=tuple(heapq.nlargest(LARGEST, found, key=lambda one: one.bytes)),
        trouble=trouble,
    )


def _bins(pairs: Iterable[tuple[float, int]], bounds: Sequence[float]) -> tuple[Bin, ...]:
    """Counts and bytes between the bounds, from the first that has any to the last."""
    counts, sums = [0] * (len(bounds) + 1), [0] * (len(bounds) + 1)
    for value, size in pairs:
        at = bisect_left(bounds, value)
        counts[at] += 1
        sums[at] += size
    used = [at for at, count in enumerate(counts) if count]
    edges: list[float | None] = [None, *bounds, None]
    return tuple(
        Bin(edges[at], edges[at + 1], counts[at], sums[at])
        for at in range(used[0] if used else 0, used[-1] + 1 if used else 0)
    )


# ---- prefixes -----------------------------------------------------------------------------------


def _prefixes(found: Sequence[One]) -> tuple[Prefix, ...]:
    """The prefixes of most items; large ones are divided at the next separator of their keys."""
    keyed = [(one.key if isinstance(one.key, bytes) else one.key.encode(), one) for one in found]
    groups = _divided(b"", keyed, len(keyed), DEPTH)
    named = [(begin, ones) for begin, ones in groups if begin is not None]
    named.sort(key=lambda group: (-len(group[1]), group[0]))
    shown = [
        _prefix(begin, ones)
        for begin, ones in named[:PREFIXES]
        if len(ones) >= max(SHARE_LEAST * len(keyed), 2)
    ]
    taken = {one.begin for one in shown}
    rest = [one for begin, ones in groups if begin is None or begin not in taken for one in ones]
    return (*shown, *([_prefix(None, rest)] if rest else []))


Keyed = tuple[bytes, One]


def _divided(
    begin: bytes, keyed: Sequence[Keyed], whole: int, depth: int
) -> list[tuple[bytes | None, list[One]]]:
    """Groups of keys that go on alike after `begin`; None: they have no separator there."""
    found: dict[bytes | None, list[Keyed]] = defaultdict(list)
    for pair in keyed:
        match = PART.match(pair[0], len(begin))
        found[match and pair[0][: match.end()]].append(pair)
    groups: list[tuple[bytes | None, list[One]]] = []
    for more, pairs in found.items():
        if more is not None and depth > 1 and len(pairs) > DIVIDED * whole:
            parts = _divided(more, pairs, whole, depth - 1)
            worth = [ones for name, ones in parts if name and len(ones) >= 0.05 * whole]
            if sum(map(len, worth)) > 0.5 * len(pairs):
                groups += [(more if name is None else name, ones) for name, ones in parts]
                continue
        groups.append((more, [one for _, one in pairs]))
    return groups


def _prefix(begin: bytes | None, ones: Sequence[One]) -> Prefix:
    never = sum(one.ttl is None for one in ones)
    return Prefix(begin, len(ones), sum(one.bytes for one in ones), never)
