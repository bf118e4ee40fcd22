"""info, stats and check: what a store tells about an item, about itself, and about its health."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from tests.conftest import MIB, STORE_SIZE, Clock

COUNTERS = ("hits", "misses", "sets", "deletes", "expired", "evictions", "lock_recoveries")
GAUGES = ("items", "size", "max_size", "bytes_live", "attached")


@pytest.mark.parametrize(
    ("value", "kind", "size"),
    [
        (b"bytes", "bytes", 5),
        (b"", "bytes", 0),
        (b"v" * 300_000, "bytes", 300_000),
        ("caf\u00e9", "str", 5),
        (True, "bool", None),
        (1.5, "float", None),
        (5, "int", None),
        (1 << 70, "int", None),
    ],
)
def test_info(store: shmkv.Store, value: Any, kind: str, size: int | None) -> None:
    store.set("k", value)
    info = store.info("k")
    assert isinstance(info, shmkv.Info)
    assert info.type == kind
    assert type(info.size) is int
    assert info.size >= 0
    if size is not None:
        assert info.size == size
    assert info.ttl is None


def test_info_of_none(store: shmkv.Store) -> None:
    store.set("k", None)
    assert store.info("k").type.lower() in {"none", "nonetype"}


def test_info_is_a_named_tuple(store: shmkv.Store) -> None:
    store.set("k", b"v")
    info = store.info("k")
    assert isinstance(info, tuple)
    assert info._fields == ("type", "size", "ttl", "age")
    kind, size, ttl, age = info
    assert (kind, size, ttl, age) == (info.type, info.size, info.ttl, info.age)


def test_info_shows_the_time_left(store: shmkv.Store, clock: Clock) -> None:
    store.set("k", b"v", ttl=100)
    clock.advance(50)
    ttl = store.info("k").ttl
    assert ttl is not None
    assert 49 < ttl <= 50


def test_info_shows_an_age_that_grows(store: shmkv.Store, clock: Clock) -> None:
    store.set("k", b"v")
    young = store.info("k").age
    clock.advance(100)
    old = store.info("k").age
    if young is None:
        assert old is None
    else:
        assert young >= 0
        assert old is not None
        assert 99.9 <= old - young <= 110


def test_info_of_a_missing_key(store: shmkv.Store) -> None:
    with pytest.raises(KeyError) as caught:
        store.info("nowhere")
    assert caught.value.args == ("nowhere",)


def test_stats_of_a_new_store(store: shmkv.Store) -> None:
    stats = store.stats()
    assert isinstance(stats, shmkv.Stats)
    for name in (*COUNTERS, *GAUGES):
        assert type(getattr(stats, name)) is int, name
        assert getattr(stats, name) >= 0
    assert (stats.items, stats.size, stats.max_size) == (0, STORE_SIZE, 4 * STORE_SIZE)
    assert (store.size, store.max_size) == (stats.size, stats.max_size)
    assert [getattr(stats, name) for name in COUNTERS] == [0] * len(COUNTERS)
    assert stats.attached == 1


def test_stats_are_frozen_and_become_a_dict(store: shmkv.Store) -> None:
    stats = store.stats()
    assert dataclasses.is_dataclass(shmkv.Stats)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.hits = 5  # type: ignore[misc]
    as_dict = stats.as_dict()
    assert type(as_dict) is dict
    assert set(as_dict) == {field.name for field in dataclasses.fields(stats)}
    assert as_dict["size"] == stats.size
    assert json.loads(json.dumps(as_dict))["size"] == stats.size


def test_stats_count_what_is_done(store: shmkv.Store) -> None:
    store.set("a", 1)
    store.set("a", 2)
    assert store.add("b", 1)
    store.set("c", 1)
    for _ in range(5):
        store.get("a")
    store.get("nowhere")
    assert store["b"] == 1
    with pytest.raises(KeyError):
        store["nowhere"]
    assert store.delete("c")
    assert not store.delete("nowhere")
    stats = store.stats()
    assert (stats.sets, stats.hits, stats.misses, stats.deletes) == (4, 6, 2, 1)
    assert (stats.items, stats.evictions, stats.lock_recoveries) == (2, 0, 0)


def test_get_many_counts_each_key(store: shmkv.Store) -> None:
    store.set_many({"a": 1, "b": 2})
    store.get_many(["a", "b", "c", "d", "e"])
    stats = store.stats()
    assert (stats.sets, stats.hits, stats.misses) == (2, 2, 3)


def test_an_expired_item_is_a_miss(store: shmkv.Store, clock: Clock) -> None:
    store.set("k", 1, ttl=10)
    clock.advance(11)
    store.get("k")
    stats = store.stats()
    assert (stats.hits, stats.misses) == (0, 1)


def test_expired_items_are_counted_when_they_are_freed(open_store: Any, clock: Clock) -> None:
    store = open_store(size=4 * MIB)
    for number in range(2000):
        store.set(f"k{number}", b"v" * 1000, ttl=10)
    clock.advance(11)
    for number in range(2500):
        store.set(f"l{number}", b"w" * 1000)
    stats = store.stats()
    assert stats.expired > 500
    assert stats.evictions == 0
    assert stats.items == len(store) == 2500 + 2000 - stats.expired


def test_live_bytes_follow_the_items(store: shmkv.Store) -> None:
    empty = store.stats().bytes_live
    store.set("k", b"v" * 500_000)
    full = store.stats().bytes_live
    assert 500_000 <= full - empty <= 500_000 * 1.2
    store.set("k", b"v")
    assert store.stats().bytes_live - empty < 10_000
    store.delete("k")
    assert store.stats().bytes_live <= empty + 100


def test_stats_are_those_of_all_handles(open_store: Callable[..., shmkv.Store]) -> None:
    one, two = open_store(), open_store()
    one.set("k", 1)
    two.get("k")
    two.get("nowhere")
    seen = [handle.stats().as_dict() for handle in (one, two)]
    for stats in seen:
        del stats["ages"]  # they grow between the two looks
    assert seen[0] == seen[1]
    assert (one.stats().hits, one.stats().misses, one.stats().sets) == (1, 1, 1)
    assert one.stats().attached == 2


def test_counts_outlive_the_handle_that_made_them(open_store: Callable[..., shmkv.Store]) -> None:
    keeper = open_store()
    for turn in range(1, 20):
        with open_store(size=STORE_SIZE) as handle:
            handle.set("k", turn)
            handle.get("k")
        stats = keeper.stats()
        assert (stats.sets, stats.hits, stats.attached) == (turn, turn, 1)


def test_evictions_are_counted(open_store: Callable[..., shmkv.Store]) -> None:
    store = open_store(size=2 * MIB)
    for number in range(10_000):
        store.set(f"k{number}", b"v" * 1000)
    stats = store.stats()
    assert stats.items == len(store) == sum(1 for _ in store)
    assert stats.evictions == 10_000 - stats.items
    assert stats.bytes_live <= 2 * MIB


def test_check_of_a_sound_store(store: shmkv.Store) -> None:
    for number in range(5000):
        store.set(f"k{number % 1500}", b"v" * (number % 3000))
        if number % 7 == 0:
            store.delete(f"k{(number * 31) % 1500}")
    report = store.check()
    assert isinstance(report, shmkv.Report)
    assert report.ok is True
    assert bool(report)
    assert len(report.problems) == 0
    as_dict = report.as_dict()
    assert as_dict["ok"] is True
    assert list(as_dict["problems"]) == []
    json.dumps(as_dict)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.ok = False  # type: ignore[misc]


def test_a_report_is_true_when_it_is_ok() -> None:
    fields = {field.name: field for field in dataclasses.fields(shmkv.Report)}
    assert {"ok", "problems"} <= set(fields)
    extra: dict[str, Any] = {
        name: 0
        for name, field in fields.items()
        if name not in {"ok", "problems"}
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    }
    assert bool(shmkv.Report(ok=True, problems=(), **extra)) is True
    assert bool(shmkv.Report(ok=False, problems=("damaged page",), **extra)) is False


def test_check_changes_nothing(store: shmkv.Store) -> None:
    store.set("k", b"v", ttl=100)
    before = store.stats()
    token = store.gets("k")[1]
    assert store.check()
    assert store.gets("k") == (b"v", token)
    after = store.stats()
    assert (after.items, after.sets, after.deletes) == (before.items, before.sets, before.deletes)
