"""One key watched: each kind of change, and why an item went."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import shmkv
from shmkv.top.watch import Change, Watch
from shmkv.types import MISSING
from tests.conftest import MIB, Clock

Open = Callable[..., shmkv.Store]


@pytest.fixture
def watch(store: shmkv.Store, open_store: Open) -> Watch:
    """A watch of the key `k`, from a read-only handle."""
    return Watch(open_store(readonly=True), "k")


def test_a_life(store: shmkv.Store, watch: Watch) -> None:
    assert watch.look() == Change("missing", MISSING, MISSING, None)
    assert watch.look() is None
    store["k"] = 1
    assert watch.look() == Change("set", MISSING, 1, None)
    assert watch.look() is None
    store.incr("k")
    assert watch.look() == Change("changed", 1, 2, None)
    store["k"] = "two"
    store["k"] = {"three": 3}
    assert watch.look() == Change("changed", 2, {"three": 3}, None)
    del store["k"]
    assert watch.look() == Change("deleted", {"three": 3}, MISSING, None)
    assert watch.look() is None


def test_what_is_there_is_told_first(store: shmkv.Store, open_store: Open) -> None:
    store.set("k", b"v", ttl=100)
    change = Watch(store, "k").look()
    assert change is not None
    assert change[:3] == ("found", MISSING, b"v")
    assert change.ttl is not None
    assert 40 < change.ttl <= 100


def test_deadlines(store: shmkv.Store, watch: Watch, clock: Clock) -> None:
    store["k"] = 1
    watch.look()
    store.touch("k", 50)
    change = watch.look()
    assert change is not None
    assert change[:3] == ("deadline", 1, 1)
    assert 10 < change.ttl <= 50
    store.touch("k", None)
    assert watch.look() == Change("deadline", 1, 1, None)
    store.touch("k", 5)
    watch.look()
    clock.advance(6)
    assert watch.look() == Change("expired", 1, MISSING, None)


def test_the_same_value_again_is_a_change(store: shmkv.Store, watch: Watch) -> None:
    store["k"] = "v"
    watch.look()
    store["k"] = "v"
    assert watch.look() == Change("changed", "v", "v", None)


def test_why_it_went(open_store: Open) -> None:
    store = open_store(size=2 * MIB)
    store["k"] = "v"
    watch = Watch(open_store(readonly=True), "k")
    watch.look()
    i = 0
    while "k" in store:
        store.set(f"f{i}", b"x" * 1000)
        i += 1
    assert watch.look() == Change("evicted", "v", MISSING, None)
    store["k"] = "w"
    watch.look()
    before = store.stats().evictions
    while store.stats().evictions == before:
        store.set(f"f{i}", b"x" * 1000)
        i += 1
    store.delete("k")
    assert watch.look() == Change("gone", "w", MISSING, None)


def test_values_of_unknown_codecs_are_not_decoded(store: shmkv.Store, open_store: Open) -> None:
    with shmkv.open(store.name, create=False, codec="pickle") as pickles:
        pickles["k"] = complex(1, 2)
    change = Watch(store, "k").look()
    assert change is not None
    assert "pickle" in repr(change.new)


def test_a_value_is_read_only_when_it_changed(store: shmkv.Store, watch: Watch) -> None:
    store["k"] = 1
    watch.look()
    before = watch._store._state("k")
    assert before is not None
    store.touch("k", 9)
    after = watch._store._state("k")
    assert after is not None
    assert before[:2] == after[:2]
    assert before[2] == 0 < after[2]
    assert watch._store._state("other") is None
