"""Keys that were never stored before, and stores brought into their steady state with them.

Owns what the parts about eviction share. A key is never given out twice: a store that remembers
who left a short while ago would take it for one that came back. Does not measure.
"""

import random

import shmkv
from tests.bench.keys import VALUE_BYTES

FRESH = random.Random(3).randbytes(VALUE_BYTES)  # what `set` stores
HEADER_BYTES, GRANULE_BYTES = 12, 16
BATCH = 10_000


def item_bytes(key: int, value: int) -> int:
    """Bytes of an item in the segment."""
    return -(-(HEADER_BYTES + key + value) // GRANULE_BYTES) * GRANULE_BYTES


ITEM_BYTES = item_bytes(16, VALUE_BYTES)


class Fresh:
    """An endless supply of keys of 16 B, each of them new."""

    def __init__(self) -> None:
        self._next = 0

    def batch(self, count: int) -> list[bytes]:
        """The next so many."""
        first = self._next
        self._next += count
        return [b"new:%012d" % i for i in range(first, first + count)]


def turned_over(store: shmkv.Store, fresh: Fresh, times: float = 2) -> None:
    """Write a store over with new keys; it is full afterwards, and evicts."""
    set_, left = store.set, int(times * store.size / ITEM_BYTES)
    while left > 0:
        for key in fresh.batch(BATCH):
            set_(key, FRESH)
        left -= BATCH
    if not store.stats().evictions:
        raise RuntimeError(f"nobody left a store of {store.size} bytes that was written over")
