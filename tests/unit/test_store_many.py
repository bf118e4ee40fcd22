"""get_many, set_many, delete_many: many keys in one call, not one moment.

Owns the results, the iterables that are taken, and what a bad key or value in the middle does:
the call raises, and every item is whole, old or new.
"""

from __future__ import annotations

from typing import Any

import pytest

import shmkv


def test_get_many(store: shmkv.Store) -> None:
    store.set_many({"a": 1, "b": b"2", "c": None})
    assert store.get_many(["a", "c", "nowhere", "b"]) == {"a": 1, "c": None, "b": b"2"}
    assert store.get_many([]) == {}
    assert store.get_many(["nowhere"]) == {}


def test_get_many_keeps_the_order_asked(store: shmkv.Store) -> None:
    keys = [f"k{n}" for n in range(100)]
    store.set_many(dict.fromkeys(keys, 1))
    assert list(store.get_many(reversed(keys))) == keys[::-1]


def test_get_many_uses_the_key_objects_given(store: shmkv.Store) -> None:
    store.set("a", 1)
    store.set(b"b", 2)
    asked: list[str | bytes] = ["a", b"a", "b", b"b"]
    assert store.get_many(asked) == {"a": 1, b"a": 1, "b": 2, b"b": 2}


def test_get_many_of_one_key_twice(store: shmkv.Store) -> None:
    store.set("a", 1)
    assert store.get_many(["a", "a", "a"]) == {"a": 1}


def test_get_many_takes_any_iterable(store: shmkv.Store) -> None:
    store.set_many({"a": 1, "b": 2})
    both = {"a": 1, "b": 2}
    sources: list[Any] = [
        ["a", "b"],
        ("a", "b"),
        {"a", "b"},
        frozenset("ab"),
        {"a": 0, "b": 0},
        both.keys(),
        iter(["a", "b"]),
        (k for k in "ab"),
        store.scan(),
        store,
    ]
    for source in sources:
        result = store.get_many(source)
        assert result == both
        assert type(result) is dict


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 1000, 5000])
def test_get_many_of_many(store: shmkv.Store, count: int) -> None:
    values = {f"k{n}": b"%d" % n for n in range(count)}
    store.set_many(values)
    assert store.get_many(values) == values
    assert store.get_many([*values, *(f"miss{n}" for n in range(count))]) == values


def test_get_many_of_all_types_and_sizes(store: shmkv.Store) -> None:
    values: dict[str, Any] = {
        "int": 1,
        "big": 1 << 90,
        "str": "s" * 40_000,
        "large": b"v" * 300_000,
        "none": None,
        "float": 0.5,
        "empty": b"",
    }
    store.set_many(values)
    assert store.get_many(values) == values


@pytest.mark.parametrize("bad", [5, None, "", b"", "k" * 65_536], ids=lambda b: repr(b)[:9])
def test_get_many_with_a_bad_key(store: shmkv.Store, bad: Any) -> None:
    store.set("a", 1)
    with pytest.raises((TypeError, ValueError), match="key"):
        store.get_many(["a", bad, "a"])


@pytest.mark.parametrize("source", [None, 5, 1.5])
def test_many_need_an_iterable(store: shmkv.Store, source: Any) -> None:
    for method in (store.get_many, store.delete_many):
        with pytest.raises(TypeError):
            method(source)


class _Tired(Exception):
    pass


def _tiring() -> Any:
    yield "a"
    yield "b"
    raise _Tired


def test_what_the_iterable_raises_comes_through(store: shmkv.Store) -> None:
    store.set_many({"a": 1, "b": 2, "c": 3})
    with pytest.raises(_Tired):
        store.get_many(_tiring())
    with pytest.raises(_Tired):
        store.delete_many(_tiring())
    assert store["c"] == 3


def test_the_iterable_may_use_the_store(store: shmkv.Store) -> None:
    store.set_many({"a": 1, "b": 2})

    def reading() -> Any:
        for key in ("a", "b"):
            store.incr("reads")
            yield key

    assert store.get_many(reading()) == {"a": 1, "b": 2}
    assert store.delete_many(reading()) == 2
    assert dict(store.items()) == {"reads": 4}


def test_set_many(store: shmkv.Store) -> None:
    store.set("a", b"old")
    values: dict[str | bytes, Any] = {"a": 1, b"b": "2", "c": None}
    store.set_many(values)
    assert dict(store.items()) == values
    assert store.ttl("a") is None
    store.set_many({})
    assert len(store) == 3


def test_set_many_with_a_ttl(store: shmkv.Store) -> None:
    store.set("a", 1)
    store.set_many({"a": 2, "b": 3}, ttl=100)
    for key in ("a", "b"):
        assert 99 < (store.ttl(key) or 0) <= 100


def test_set_many_last_spelling_wins(store: shmkv.Store) -> None:
    values: dict[str | bytes, int] = {"a": 1, b"a": 2}
    store.set_many(values)
    assert store["a"] == 2
    assert list(store) == [b"a"]


class _Mapping:
    def keys(self) -> list[str]:
        return ["a", "b"]

    def __getitem__(self, key: str) -> str:
        return key.upper()

    def items(self) -> list[tuple[str, str]]:
        return [(key, self[key]) for key in self.keys()]


def test_set_many_takes_mappings(store: shmkv.Store) -> None:
    source: Any = _Mapping()
    store.set_many(source)
    assert dict(store.items()) == {"a": "A", "b": "B"}


@pytest.mark.parametrize("source", [None, 5, ["a", "b"], "ab", {"a", "b"}], ids=repr)
def test_set_many_needs_a_mapping(store: shmkv.Store, source: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        store.set_many(source)
    assert len(store) == 0


def test_set_many_with_a_bad_value_leaves_whole_items(store: shmkv.Store) -> None:
    old: dict[str, Any] = {f"k{n}": b"old" for n in range(20)}
    store.set_many(old)
    new = {**dict.fromkeys(old, b"new"), "k10": object()}
    with pytest.raises(shmkv.CodecError, match="object"):
        store.set_many(new)
    assert store["k10"] == b"old"
    assert set(store.values()) <= {b"old", b"new"}
    assert set(store) == set(old)


@pytest.mark.parametrize("bad", ["", b"", 5, None])
def test_set_many_with_a_bad_key_leaves_whole_items(store: shmkv.Store, bad: Any) -> None:
    store.set_many({"a": b"old", "b": b"old"})
    with pytest.raises((TypeError, ValueError), match="key"):
        store.set_many({"a": b"new", bad: b"new", "b": b"new"})
    assert set(store.values()) <= {b"old", b"new"}
    assert set(store) == {"a", "b"}


def test_delete_many(store: shmkv.Store) -> None:
    store.set_many({f"k{n}": n for n in range(10)})
    assert store.delete_many(["k1", "nowhere", b"k2", "k1", "k3"]) == 3
    assert store.delete_many([]) == 0
    assert store.delete_many(f"k{n}" for n in range(10)) == 7
    assert len(store) == 0


def test_delete_many_from_its_own_keys(store: shmkv.Store) -> None:
    store.set_many({f"k{n}": n for n in range(3000)})
    assert store.delete_many(store.scan(prefix="k1")) == 1111
    assert len(store) == 3000 - 1111
