"""Memory limits: eviction, `evict=False`, `Full`, `TooLarge`, and the size that is honoured.

Promises tested: with eviction a value that may fit is always stored; without it nothing is ever
lost; the memory taken from the system stays at the size asked for; garbage is used again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import shmkv
from tests.conftest import MIB, Clock, segment_path

Opener = Callable[..., shmkv.Store]


def value_of(number: int, size: int) -> bytes:
    return (b"%d." % number * (size // 2 + 1))[:size]


def fill(store: shmkv.Store, size: int) -> int:
    """Set keys k0, k1, ... until the store is full; how many went in?"""
    limit = 2 * store.size // size
    for number in range(limit):
        try:
            store.set(f"k{number}", value_of(number, size))
        except shmkv.Full:
            return number
    pytest.fail(f"{limit} values of {size} bytes went into {store.size} bytes")


@pytest.mark.parametrize("evict", [True, False])
@pytest.mark.parametrize("megabytes", [2, 8, 32])
def test_a_value_above_an_eighth_is_too_large(
    open_store: Opener, evict: bool, megabytes: int
) -> None:
    store = open_store(size=megabytes * MIB, evict=evict)
    store.set("k", b"old")
    huge = b"v" * (megabytes * MIB // 8 + 1)
    for write in (store.set, store.add, store.replace, store.setdefault):
        for key in ("k", "new"):
            if (write, key) in ((store.add, "k"), (store.setdefault, "k")):
                continue
            if (write, key) == (store.replace, "new"):
                continue
            with pytest.raises(shmkv.TooLarge):
                write(key, huge)
    with pytest.raises(shmkv.TooLarge):
        store.set("text", huge.decode())
    with pytest.raises(shmkv.TooLarge):
        store.cas("k", huge, store.gets("k")[1])
    with pytest.raises(shmkv.TooLarge):
        store.update_with("k", lambda _: huge)
    with pytest.raises(shmkv.TooLarge):
        store.append("k", huge)
    assert dict(store.items()) == {"k": b"old"}
    assert store.stats().evictions == 0


@pytest.mark.parametrize("megabytes", [2, 3, 8, 32])
def test_large_values_always_fit_while_the_store_may_evict(
    open_store: Opener, megabytes: int
) -> None:
    store = open_store(size=megabytes * MIB)
    size = megabytes * MIB // 10
    for number in range(100):
        store.set(f"small{number}", value_of(number, 100))
    for number in range(60):
        store.set(f"large{number}", value_of(number, size))
        assert store[f"large{number}"] == value_of(number, size)
    for number in range(60):
        assert store.get(f"large{number}") in (None, value_of(number, size))
    assert store.stats().evictions > 0
    assert store.check().ok


def test_eviction_never_shows_a_wrong_value(open_store: Opener) -> None:
    store = open_store(size=4 * MIB)
    rng = random.Random(7)
    seeds: dict[str, tuple[int, int]] = {}
    for turn in range(30_000):
        key = f"k{rng.randrange(20_000)}"
        if rng.random() < 0.5:
            size = rng.choice((10, 100, 500, 1500, 9000))
            store.set(key, value_of(turn, size))
            seeds[key] = (turn, size)
        else:
            value = store.get(key)
            assert value is None or value == value_of(*seeds[key])
    assert store.stats().evictions > 0
    assert store.check().ok


def test_what_was_just_written_is_there(open_store: Opener) -> None:
    store = open_store(size=2 * MIB)
    for number in range(20_000):
        store.set(f"k{number}", value_of(number, 300))
        assert store.get(f"k{number}") == value_of(number, 300)


def test_hot_keys_survive_a_stream_of_cold_ones(open_store: Opener) -> None:
    store = open_store(size=4 * MIB)
    hot = {f"hot{n}": value_of(n, 500) for n in range(500)}
    store.set_many(hot)
    for number in range(40_000):
        key = f"hot{number % 500}"
        if store.get(key) is None:
            store.set(key, hot[key])
        store.set(f"cold{number}", value_of(number, 500))
    assert sum(key in store for key in hot) >= 475


def test_the_size_is_honoured(open_store: Opener) -> None:
    store = open_store(size=16 * MIB)
    for number in range(60_000):
        store.set(f"k{number}", value_of(number, 1000))
    backed = segment_path(store.name).stat().st_blocks * 512
    assert backed <= 16 * MIB * 9 // 8
    assert store.size == 16 * MIB


def test_most_of_the_size_holds_items(open_store: Opener) -> None:
    store = open_store(size=16 * MIB)
    for number in range(60_000):
        store.set(f"k{number}", value_of(number, 1000))
    assert len(store) * 1000 >= 16 * MIB * 3 // 4


def test_overwriting_alone_never_evicts(open_store: Opener) -> None:
    store = open_store(size=4 * MIB)
    keep = {f"keep{n}": value_of(n, 1000) for n in range(1000)}
    store.set_many(keep)
    for turn in range(50_000):
        store.set("hot", value_of(turn, 1000))
    assert store.get_many(keep) == keep
    assert store.stats().evictions == 0


def test_churn_below_the_size_never_evicts(open_store: Opener) -> None:
    store = open_store(size=8 * MIB)
    rng = random.Random(11)
    model: dict[str, bytes] = {}
    for turn in range(40_000):
        key = f"k{rng.randrange(1000)}"
        if rng.random() < 0.3:
            assert store.delete(key) is (model.pop(key, None) is not None)
        else:
            model[key] = value_of(turn, rng.randrange(1, 6000))
            store.set(key, model[key])
    assert dict(store.items()) == model
    assert store.stats().evictions == 0


# --- evict=False ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 100, 1000, 10_000, 100_000])
def test_full_loses_nothing(open_store: Opener, size: int) -> None:
    store = open_store(size=4 * MIB, evict=False)
    count = fill(store, size)
    assert len(store) == count
    for number in range(count):
        assert store[f"k{number}"] == value_of(number, size)
    assert f"k{count}" not in store
    assert store.stats().evictions == 0
    assert store.check().ok


@pytest.mark.parametrize(("size", "share"), [(100, 0.45), (1000, 0.75), (10_000, 0.7)])
def test_full_is_not_half_empty(open_store: Opener, size: int, share: float) -> None:
    store = open_store(size=16 * MIB, evict=False)
    assert fill(store, size) * size >= share * 16 * MIB


def test_a_refused_value_leaves_the_old_one(open_store: Opener) -> None:
    store = open_store(size=2 * MIB, evict=False)
    store.set("k", b"old", ttl=1000)
    fill(store, 100)
    with pytest.raises(shmkv.Full):
        store.set("k", value_of(1, 100_000))
    assert store["k"] == b"old"
    assert 900 < (store.ttl("k") or 0) <= 1000
    assert store["k0"] == value_of(0, 100)


def test_every_writer_says_full(open_store: Opener) -> None:
    store = open_store(size=2 * MIB, evict=False)
    store.set("k", b"old")
    count = fill(store, 1000)
    big = b"v" * 100_000
    for write in (store.set, store.add, store.setdefault):
        with pytest.raises(shmkv.Full):
            write("new", big)
    with pytest.raises(shmkv.Full):
        store.replace("k", big)
    with pytest.raises(shmkv.Full):
        store.cas("k", big, store.gets("k")[1])
    with pytest.raises(shmkv.Full):
        store.update_with("k", lambda _: big)
    with pytest.raises(shmkv.Full):
        store.append("k", big)
    with pytest.raises(shmkv.Full):
        store.set_many({"new": big})
    assert store["k"] == b"old"
    assert len(store) == count + 1


def test_a_full_store_still_counts_and_deletes(open_store: Opener) -> None:
    store = open_store(size=2 * MIB, evict=False)
    store.set("n", 41)
    fill(store, 1000)
    assert store.incr("n") == 42
    assert store.touch("n", None)
    assert store.delete("k0")
    assert store.get("k1") == value_of(1, 1000)


@pytest.mark.parametrize("stride", [2, 3, 10])
def test_freed_memory_is_used_again_however_scattered(open_store: Opener, stride: int) -> None:
    store = open_store(size=8 * MIB, evict=False)
    count = fill(store, 1000)
    freed = [number for number in range(count) if number % stride]
    assert store.delete_many(f"k{number}" for number in freed) == len(freed)
    for number in freed[: len(freed) * 9 // 10]:
        store.set(f"again{number}", value_of(number, 1000))
    for number in range(0, count, stride):
        assert store[f"k{number}"] == value_of(number, 1000)
    for number in freed[: len(freed) * 9 // 10]:
        assert store[f"again{number}"] == value_of(number, 1000)
    assert store.check().ok


def test_small_items_give_way_to_large_ones(open_store: Opener) -> None:
    store = open_store(size=16 * MIB, evict=False)
    for size in (100, 10_000, 1_000_000, 1000, 300_000):
        count = fill(store, size)
        assert count * size >= 0.4 * 16 * MIB, size
        assert all(store[f"k{n}"] == value_of(n, size) for n in range(0, count, 1 + count // 50))
        store.clear()
        assert len(store) == 0
    assert store.check().ok


def test_expired_items_make_room_without_eviction(open_store: Opener, clock: Clock) -> None:
    store = open_store(size=2 * MIB, evict=False)
    for number in range(800):
        store.set(f"k{number}", value_of(number, 1000), ttl=10)
    clock.advance(11)
    for number in range(1700):  # more than there is room for beside what has expired
        store.set(f"l{number}", value_of(number, 1000))
    assert len(list(store)) == 1700
