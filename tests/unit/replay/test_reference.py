"""The reference is exact: hand-made traces, a naive model, and costs beside a real store."""

import random

import pytest

import shmkv
from shmkv.replay import Chunk, Lru, cost
from shmkv.replay.reference import INDEX
from shmkv.replay.requests import DELETE, GET, SET

ONE = cost(1, 1000)  # what an item of these tests costs
ROOM = 10  # items that fit: a value may be an eighth of the memory, so at least eight


def reads(keys: str, size: int = 1000) -> Chunk:
    """A read of each letter."""
    return Chunk([bytes([ord(key)]) for key in keys], [size] * len(keys))


def test_cost_is_header_key_and_value_in_granules_and_a_share_of_the_index() -> None:
    assert cost(16, 100) == 128 + INDEX
    assert cost(16, 101) == 144 + INDEX
    assert cost(16, 100, deadline=True) == 144 + INDEX


@pytest.mark.parametrize("ttl", [None, 60.0])
def test_cost_is_that_of_the_store(store: shmkv.Store, ttl: float | None) -> None:
    expected = 0
    for size in (0, 1, 99, 100, 101, 4096, 100_000):
        store.set(b"%08d" % size, bytes(size), ttl=ttl)
        expected += cost(8, size, ttl is not None) - INDEX
    assert store.stats().bytes_live == expected


def test_index_share_is_no_more_than_that_of_a_full_store(store: shmkv.Store) -> None:
    """The reference must not be charged more than the store pays.

    On the way there the index grows by whole pages: it may be fuller before it does.
    """
    shares = []
    for number in range(250_000):
        store.set(b"%016d" % number, b"x" * 20)
        if number % 1000 == 999 and (stats := store.stats()).evictions > 0:
            shares.append(stats.bytes_index / stats.items)
    assert len(shares) > 50
    assert min(shares) >= INDEX


def test_the_least_recently_used_leaves() -> None:
    lru = Lru(ROOM * ONE)
    lru.run(reads("abcdefghij"))
    assert (len(lru), lru.used, lru.count.misses) == (10, ROOM * ONE, 10)
    lru.run(reads("ak"))  # a is used, so that b leaves
    assert lru.count.misses == 11
    assert b"a" in lru
    assert b"b" not in lru
    lru.run(reads("b"))  # and c
    assert b"c" not in lru
    assert lru.count.reads == 13
    assert lru.count.missed_bytes == 12 * 1000
    assert lru.count.read_bytes == 13 * 1000


def test_one_byte_less_room_is_one_item_less() -> None:
    lru = Lru(ROOM * ONE - 1)
    lru.run(reads("abcdefghij"))
    assert len(lru) == 9
    assert b"a" not in lru


def test_an_overwrite_is_an_access_in_place_and_no_read() -> None:
    lru = Lru(ROOM * ONE)
    lru.run(reads("abcdefghij"))
    lru.run(Chunk([b"a"], [1000], ops=[SET]))
    assert lru.used == ROOM * ONE
    lru.run(reads("k"))
    assert b"a" in lru
    assert b"b" not in lru
    assert (lru.count.reads, lru.count.sets) == (11, 12)


def test_an_overwrite_of_another_size_changes_what_is_used() -> None:
    lru = Lru(ROOM * ONE)
    lru.run(reads("abcdefgh"))
    lru.run(Chunk([b"a"], [1200], ops=[SET]))
    assert lru.used == 7 * ONE + cost(1, 1200)
    lru.run(Chunk([b"a"], [0], ops=[SET]))
    assert lru.used == 7 * ONE + cost(1, 0)


def test_deletes_give_room_and_missing_keys_are_no_matter() -> None:
    lru = Lru(ROOM * ONE)
    lru.run(reads("ab"))
    lru.run(Chunk([b"a", b"x"], [0, 0], ops=[DELETE, DELETE]))
    assert (len(lru), lru.used) == (1, ONE)


def test_what_is_larger_than_an_eighth_is_refused_and_pushes_nobody_out() -> None:
    lru = Lru(8 * ONE)
    lru.run(reads("abcdefgh"))
    lru.run(reads("x", size=1016))  # a granule more than an eighth
    assert len(lru) == 8
    assert b"x" not in lru
    assert lru.count.too_large == 1
    lru.run(Chunk([b"a"], [1016], ops=[SET]))  # the old value stays, as in the store
    assert b"a" in lru


def test_deadlines() -> None:
    lru = Lru(ROOM * cost(1, 1000, True))
    lru.run(Chunk([b"a", b"b"], [1000, 1000], ops=[SET, SET], ttls=[10.0, 20.0]), now=5)
    lru.run(reads("ab"), now=14.9)
    assert lru.count.misses == 0
    lru.run(Chunk([b"b"], [1000], ops=[SET], ttls=[None]), now=14.9)  # the deadline goes
    lru.run(Chunk([b"a"], [1000], ttls=[10.0]), now=15)
    assert lru.count.misses == 1
    lru.run(reads("b"), now=1000)
    assert lru.count.misses == 1
    assert len(lru) == 1
    assert lru.used == cost(1, 1000)


@pytest.mark.parametrize("seed", range(5))
def test_a_naive_model_agrees(seed: int) -> None:
    rng = random.Random(seed)
    size = 3000
    lru = Lru(size)
    held: list[tuple[int, int]] = []  # number, cost; the oldest first
    misses = 0
    for _ in range(2000):
        number, op = rng.randrange(40), rng.choice([GET, GET, GET, SET, DELETE])
        length = 17 * (number % 18)
        lru.run(Chunk([b"%02d" % number], [length], ops=[op]))
        there = [entry for entry in held if entry[0] == number]
        held = [entry for entry in held if entry[0] != number]
        if op == DELETE:
            continue
        if op == GET:
            misses += not there
        held.append((number, cost(2, length)))
        while sum(price for _, price in held) > size:
            held.pop(0)
    assert lru.count.misses == misses
    assert len(lru) == len(held)
    assert lru.used == sum(price for _, price in held)
    assert all(b"%02d" % number in lru for number, _ in held)
