"""How much of what has expired can be used again, and what is copied for it.

Owns: the promise that nine tenths of the expired bytes are free after a daemon's work, at every
moment of a mix's life, and its limits: nothing is copied for what was only overwritten, and not
while writers are busy.

A daemon's steps are taken here, one after the other, and the clock is moved between them.
"""

from __future__ import annotations

import bisect
import math
import random
import time
from collections.abc import Callable

import pytest

import shmkv
from tests.conftest import Clock

Open = Callable[..., shmkv.Store]
ITEMS = 30_000
ITEM_BYTES = 144  # in its page: header and deadline, 16 B of key, 100 B of value
WORK_S = 60.0  # it ends by itself, long before
SHORT_S, LONG_S = 0.1, 3600.0


def work(store: shmkv.Store) -> None:
    """All that a daemon would find to do now."""
    began = time.monotonic()
    freed, more = 1, True
    while freed or more:
        assert time.monotonic() < began + WORK_S, "there is always more to do"
        _, freed, more = store._work(10)


def used(store: shmkv.Store) -> int:
    """Bytes of all pages of items."""
    stats = store.stats()
    return stats.size - stats.bytes_free - stats.bytes_index


def by_logarithm(numbers: random.Random) -> float:
    return math.exp(numbers.uniform(math.log(SHORT_S), math.log(LONG_S)))


def evenly(numbers: random.Random) -> float:
    return numbers.uniform(SHORT_S, LONG_S)


EARLY = [1.3**n for n in range(17)]  # to a minute; a fortieth expires in each step
LATE = [120.0, 300.0, 600.0, 1200.0, 2400.0, 3600.0]
STEADY = [LONG_S * part / 100 for part in (12, 16, 20, 24, 29, 35, 42, 50, 60, 75, 100)]


@pytest.mark.parametrize(("ttl", "moments"), [(by_logarithm, EARLY + LATE), (evenly, STEADY)])
def test_nine_tenths_of_what_expired_are_free_at_every_moment(
    open_store: Open,
    clock: Clock,
    ttl: Callable[[random.Random], float],
    moments: list[float],
) -> None:
    store = open_store()
    seed = random.randrange(1 << 32)
    numbers, deadlines = random.Random(seed), []
    for n in range(ITEMS):
        lives = ttl(numbers)
        store.set(b"%016d" % n, bytes(100), ttl=lives)
        deadlines.append(clock.now_ms() + lives * 1000)
    deadlines.sort()
    filled, passed = used(store), 0.0
    for moment in moments:
        clock.advance(moment - passed)
        passed = moment
        work(store)
        expired = bisect.bisect(deadlines, clock.now_ms()) * ITEM_BYTES
        share = (filled - used(store)) / expired
        print(f"seed {seed}, {moment:.1f} s: {share:.3f} of {expired}")
        assert share >= 0.9
    stats = store.stats()
    assert stats.bytes_copied < 40 * ITEMS * ITEM_BYTES
    assert stats.evictions == 0
    assert store.check()


def fill(store: shmkv.Store) -> None:
    """One item of forty lives for ten seconds, the others for an hour."""
    for n in range(ITEMS):
        store.set(b"%016d" % n, bytes(100), ttl=LONG_S if n % 40 else 10)


def test_nothing_is_copied_for_what_was_overwritten_before_it_expired(
    store: shmkv.Store, clock: Clock
) -> None:
    fill(store)
    for n in range(0, ITEMS, 40):
        store.set(b"%016d" % n, bytes(100), ttl=LONG_S)
    clock.advance(60)
    work(store)
    assert store.stats().bytes_copied == 0


def test_little_that_expired_waits_while_writers_are_busy(store: shmkv.Store, clock: Clock) -> None:
    work(store)  # the first look at what is written
    fill(store)
    clock.advance(10.1)  # at this rate the store would be written over in less than a minute
    work(store)
    assert store.stats().expired == 0
    clock.advance(1)
    work(store)
    assert store.stats().expired >= ITEMS / 40 * 0.9
