"""The store as a MutableMapping: iteration, keys, items, values, pop, popitem, setdefault, update.

Iteration sees every key that is present throughout at least once, also while others come and go;
it skips what has expired. It may repeat a key while the index splits; the tests allow for that
only where they write meanwhile.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Iterator
from typing import Any

import pytest

import shmkv
from tests.conftest import Clock


def test_it_is_a_mutable_mapping(store: shmkv.Store) -> None:
    assert isinstance(store, collections.abc.MutableMapping)
    assert isinstance(store, shmkv.Store)


def test_iteration_gives_keys_as_they_were_stored(store: shmkv.Store) -> None:
    keys: set[Any] = {"text", b"bytes", "caf\u00e9", b"\xff", "\0"}
    for key in keys:
        store.set(key, 1)
    seen = list(store)
    assert len(seen) == 5
    assert set(seen) == keys
    assert {type(key) for key in seen} == {str, bytes}


def test_iterators_are_independent(store: shmkv.Store) -> None:
    store.set_many({f"k{n}": n for n in range(50)})
    one, two = iter(store), iter(store)
    assert isinstance(one, Iterator)
    first = next(one)
    assert next(two) == first
    rest = list(one)
    assert sorted([first, *rest]) == sorted(f"k{n}" for n in range(50))
    assert sorted([first, *two]) == sorted([first, *rest])
    with pytest.raises(StopIteration):
        next(one)


@pytest.mark.parametrize("count", [0, 1, 11, 12, 13, 100, 10_000])
def test_each_key_once_when_nothing_is_written(store: shmkv.Store, count: int) -> None:
    keys = [f"key{n}" for n in range(count)]
    for key in keys:
        store.set(key, b"v")
    assert sorted(store) == sorted(keys)


def test_keys_present_throughout_are_seen_while_others_come_and_go(store: shmkv.Store) -> None:
    stay = {f"stay{n}" for n in range(3000)}
    store.set_many(dict.fromkeys(stay, b"v"))
    store.set_many({f"go{n}": b"v" for n in range(1000)})
    seen = set()
    for turn, key in enumerate(store):
        seen.add(key)
        if turn < 5000:
            store.set(f"come{turn}", b"v" * (turn % 200))
            store.delete(f"go{turn % 1000}")
            store.set(f"stay{turn % 3000}", b"w")
    assert stay <= seen
    assert all(isinstance(key, str) and key[:2] in {"st", "go", "co"} for key in seen)


def test_iteration_while_everything_is_deleted(store: shmkv.Store) -> None:
    store.set_many({f"k{n}": n for n in range(2000)})
    for key in store:
        store.delete(key)
    assert len(store) == 0


def test_iteration_while_the_store_is_cleared(store: shmkv.Store) -> None:
    store.set_many({f"k{n}": n for n in range(2000)})
    keys = iter(store)
    next(keys)
    store.clear()
    store.set("after", 1)
    assert set(keys) <= {f"k{n}" for n in range(2000)} | {"after"}
    assert list(store) == ["after"]


def test_iteration_skips_expired_items(store: shmkv.Store, clock: Clock) -> None:
    store.set_many({f"k{n}": n for n in range(100)}, ttl=10)
    store.set_many({f"l{n}": n for n in range(100)})
    keys = iter(store)
    clock.advance(11)
    assert {key for key in list(keys)[1:] if str(key).startswith("k")} == set()
    assert sorted(store) == sorted(f"l{n}" for n in range(100))
    assert len(list(store.items())) == 100
    assert 100 <= len(store) <= 200


def test_views(store: shmkv.Store) -> None:
    values: dict[str | bytes, Any] = {"a": 1, b"b": "2", "c": None}
    store.set_many(values)
    assert set(store.keys()) == set(values)
    assert dict(store.items()) == values
    assert sorted(map(repr, store.values())) == sorted(map(repr, values.values()))
    assert len(store.keys()) == len(store.items()) == len(store.values()) == 3
    assert "a" in store.keys()  # noqa: SIM118
    assert b"a" in store.keys()  # noqa: SIM118
    assert ("a", 1) in store.items()
    assert ("a", 2) not in store.items()
    assert "2" in store.values()
    assert dict(store) == values


def test_views_are_live(store: shmkv.Store) -> None:
    keys, items = store.keys(), store.items()
    store.set("a", 1)
    assert list(keys) == ["a"]
    assert list(items) == [("a", 1)]


def test_items_leave_out_what_goes_meanwhile(store: shmkv.Store) -> None:
    store.set_many({f"k{n}": n for n in range(500)})
    seen = {}
    for key, value in store.items():
        seen[key] = value
        store.clear()
    assert len(seen) >= 1
    assert all(key == f"k{value}" for key, value in seen.items())


def test_pop(store: shmkv.Store) -> None:
    store.set("k", b"v")
    assert store.pop("k") == b"v"
    assert "k" not in store
    with pytest.raises(KeyError) as caught:
        store.pop("k")
    assert caught.value.args == ("k",)
    assert store.pop("k", None) is None
    default = object()
    assert store.pop("k", default) is default
    store.set("k", None)
    assert store.pop("k", default) is None


def test_pop_of_a_large_value(store: shmkv.Store) -> None:
    store.set("k", b"v" * 500_000)
    assert store.pop("k") == b"v" * 500_000
    assert len(store) == 0


def test_popitem(store: shmkv.Store) -> None:
    values = {f"k{n}": n for n in range(100)}
    store.set_many(values)
    popped = [store.popitem() for _ in range(100)]
    assert dict(popped) == values
    assert len(store) == 0
    with pytest.raises(KeyError):
        store.popitem()


def test_popitem_passes_over_expired_items(store: shmkv.Store, clock: Clock) -> None:
    store.set_many({f"k{n}": n for n in range(100)}, ttl=10)
    store.set(b"last", 1)
    clock.advance(11)
    assert store.popitem() == (b"last", 1)
    with pytest.raises(KeyError):
        store.popitem()


def test_setdefault(store: shmkv.Store) -> None:
    assert store.setdefault("k", 5) == 5
    assert store.setdefault("k", 6) == 5
    assert store.setdefault("n") is None
    assert store.setdefault("n", 7) is None
    assert dict(store.items()) == {"k": 5, "n": None}


def test_setdefault_gives_back_the_stored_form(store: shmkv.Store) -> None:
    assert type(store.setdefault("k", bytearray(b"v"))) is bytes


def test_setdefault_keeps_the_deadline(store: shmkv.Store) -> None:
    store.set("k", 1, ttl=100)
    store.setdefault("k", 2)
    assert 99 < (store.ttl("k") or 0) <= 100


def test_update(store: shmkv.Store) -> None:
    store.update({"a": 1, b"b": 2})
    store.update([("c", 3), ("a", 4)])
    store.update(d=5)
    store.update({"e": 6}, a=7)
    store.update()
    assert dict(store.items()) == {"a": 7, b"b": 2, "c": 3, "d": 5, "e": 6}


def test_update_from_another_store(store: shmkv.Store, new_name: Any) -> None:
    store.set_many({f"k{n}": n for n in range(100)})
    with shmkv.open(new_name(), size="2MiB") as other:
        other.update(store)
        assert dict(other.items()) == dict(store.items())


def test_deletion_of_a_missing_key(store: shmkv.Store) -> None:
    with pytest.raises(KeyError):
        del store["nowhere"]


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_len_and_truth(store: shmkv.Store, count: int) -> None:
    for number in range(count):
        store.set(f"k{number}", 1)
        store.set(f"k{number}", 2)
    assert len(store) == count
    assert bool(store.keys()) is (count > 0)


def test_names_and_repr(store: shmkv.Store, store_name: str) -> None:
    assert store.name == store_name
    assert store_name in repr(store)
    store.set("secret-key", b"secret-value")
    assert "secret" not in repr(store)
