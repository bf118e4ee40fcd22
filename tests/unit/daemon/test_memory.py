"""What a daemon is for: memory ahead of need, and what has expired."""

from __future__ import annotations

import bisect
import math
import random
import time
from collections.abc import Callable

import pytest

import shmkv
from tests.conftest import MIB, Clock
from tests.stress.support import until
from tests.unit.daemon.conftest import Working

Open = Callable[..., shmkv.Store]
ITEMS = 100_000
WORK_S = 60.0  # for a machine that does much else
MOMENTS_S = (1, 3, 10, 60, 300, 1200, 3600)


def test_expired_items_become_free_memory(open_store: Open, clock: Clock, working: Working) -> None:
    """Of mixed deadlines, 0.1 s to an hour, nine tenths of what has expired can be used again."""
    store = open_store(size=64 * MIB)
    seed = random.randrange(1 << 32)
    numbers, deadlines = random.Random(seed), []
    for n in range(ITEMS):
        ttl = math.exp(numbers.uniform(math.log(0.1), math.log(3600)))
        store.set(b"%016d" % n, bytes(100), ttl=ttl)
        deadlines.append(clock.now_ms() + ttl * 1000)
    deadlines.sort()
    working(store.name)
    passed = 0

    def reusable() -> float:
        """All items have one size: what is left in pages beyond the living is not free."""
        expired = bisect.bisect(deadlines, clock.now_ms())
        garbage = store.check().items_parsed - (ITEMS - expired)
        return 1 - garbage / max(expired, 1)

    for moment in MOMENTS_S:
        clock.advance(moment - passed)
        passed, began = moment, time.monotonic()
        while (share := reusable()) < 0.9 and time.monotonic() < began + WORK_S:
            time.sleep(0.01)  # the daemon works meanwhile, for WORK_S at most
        print(f"seed {seed}, {moment} s: {share:.3f} in {time.monotonic() - began:.2f} s")
        assert share >= 0.9
    assert store.check()


def test_an_expired_item_is_a_miss_before_and_after(
    open_store: Open, clock: Clock, working: Working
) -> None:
    store = open_store()
    for n in range(20_000):
        store.set(str(n), b"x" * 100, ttl=60)
    store.set("stays", "here")
    clock.advance(61)
    assert store.get("7") is None
    before = store.stats()
    assert before.items > 1
    working(store.name)
    until(lambda: store.stats().expired - before.expired > 15_000, "they are freed")
    assert store["stays"] == "here"
    assert store.check()


def test_writers_find_free_pages(open_store: Open, working: Working) -> None:
    """In a store that is full and written to, a hundredth is free again before it is needed."""
    store = open_store(size=32 * MIB)
    working(store.name)
    n = 0
    for _ in range(5):
        end = n + 60_000
        while n < end:
            store[f"{n}"] = b"v" * 500
            n += 1
        until(lambda: store.stats().bytes_free >= store.size // 100, "a hundredth is free")
    assert store.stats().evictions > 0
    assert store.check()


def test_without_eviction_nothing_is_lost(open_store: Open, working: Working) -> None:
    store = open_store(evict=False)
    working(store.name)
    kept = {}
    with pytest.raises(shmkv.Full):  # noqa: PT012 - until it is full, and something must leave
        for n in range(100_000):
            store[f"{n}"] = b"%d" % n * 30
            kept[f"{n}"] = b"%d" % n * 30
    for n in range(0, len(kept), 2):
        del store[f"{n}"]
        del kept[f"{n}"]
    until(lambda: store.stats().bytes_free >= store.size // 100, "a hundredth is free")
    for n in range(0, len(kept), 2):  # and more when it is needed
        store[f"{n}"] = kept[f"{n}"] = b"%d" % n * 30
    assert dict(store.items()) == kept
    assert store.check()
