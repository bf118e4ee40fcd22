"""What a store is compared with: entry-wise LRU with the same memory and a perfect allocator.

Owns: what an item costs, `Count` (the figures every replayed cache has) and `Lru`.

Promises: exact. An item costs what it costs in the store: header and words, rounded up to granules,
and the least share of the index that a store has when it is full. The reference has all of the
memory, nothing for pages, rows or reserves, and it frees an expired item the moment it expires.
Where the store refuses a value as too large, the reference does not take it either. An overwrite
happens in place and counts as an access.

Does not: know a store or files.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shmkv.replay.requests import Chunk

GET, SET = 0, 1
HEADER, DEADLINE = 12, 12  # bytes before the key; more of them when there is a deadline
GRANULE = 16
INDEX = 7  # bytes of index for an item: buckets of 64 B with 12 slots, 0.76 of them filled
LARGEST = 8  # a value may be this part of the store


def cost(key_bytes: int, value_bytes: int, deadline: bool = False) -> int:
    """Bytes that an item takes of the store, its index included."""
    item = HEADER + (DEADLINE if deadline else 0) + key_bytes + value_bytes
    return -(-item // GRANULE) * GRANULE + INDEX


@dataclass(slots=True)
class Count:
    """What happened to the requests. Only reads hit or miss."""

    reads: int = 0
    misses: int = 0
    read_bytes: int = 0
    """Bytes of the values that were asked for."""
    missed_bytes: int = 0
    sets: int = 0
    """Values written: after misses, and because the trace says so."""
    too_large: int = 0
    """Of these: refused because they are larger than the store takes."""
    failed: int = 0
    """Of these: failed for another reason."""
    errors: dict[str, int] = field(default_factory=dict)
    """What was raised, by class."""

    @property
    def hit_ratio(self) -> float:
        """Of the reads."""
        return 1 - self.misses / self.reads if self.reads else 0.0

    @property
    def byte_hit_ratio(self) -> float:
        """Of the bytes asked for."""
        return 1 - self.missed_bytes / self.read_bytes if self.read_bytes else 0.0


class Lru:
    """Least recently used leaves first, by the item, in bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self.count = Count()
        self._items: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # cost, serial
        self._deadlines: list[tuple[float, int, bytes]] = []
        self._serials = itertools.count(1)

    def __contains__(self, key: bytes) -> bool:
        return key in self._items

    def __len__(self) -> int:
        return len(self._items)

    def run(self, chunk: Chunk, now: float = 0.0) -> None:
        """Take the requests of a chunk, all at the moment `now` (seconds)."""
        self._expire(now)
        count, items, touch = self.count, self._items, self._items.move_to_end
        ops, ttls = chunk.ops, chunk.ttls
        reads = misses = read_bytes = missed_bytes = 0
        for at, (key, size) in enumerate(zip(chunk.keys, chunk.sizes, strict=True)):
            op = GET if ops is None else ops[at]
            if op == GET:
                reads += 1
                read_bytes += size
                if key in items:
                    touch(key)
                    continue
                misses += 1
                missed_bytes += size
            elif op != SET:
                self._drop(key)
                continue
            self._put(key, size, None if ttls is None else ttls[at], now)
        count.reads += reads
        count.misses += misses
        count.read_bytes += read_bytes
        count.missed_bytes += missed_bytes

    def _put(self, key: bytes, size: int, ttl: float | None, now: float) -> None:
        self.count.sets += 1
        price = cost(len(key), size, ttl is not None)
        if price * LARGEST > self.size:
            self.count.too_large += 1
            return
        serial = next(self._serials)
        old = self._items.pop(key, None)
        self._items[key] = (price, serial)
        self.used += price - (old[0] if old else 0)
        if ttl is not None:
            heapq.heappush(self._deadlines, (now + ttl, serial, key))
        while self.used > self.size:
            _, (freed, _) = self._items.popitem(last=False)
            self.used -= freed

    def _drop(self, key: bytes) -> None:
        old = self._items.pop(key, None)
        if old is not None:
            self.used -= old[0]

    def _expire(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            _, serial, key = heapq.heappop(self._deadlines)
            if self._items.get(key, (0, 0))[1] == serial:
                self._drop(key)
