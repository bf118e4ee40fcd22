"""The store under the standard library's own tests of mappings, those that dict and UserDict pass.

Owns: what of `test.mapping_tests` holds for a store, and at each override why the original cannot.
What never can hold for a mapping of str or bytes keys that processes share:

* keys of other types: TypeError. The originals that count with int keys stand here with str keys;
* `==` between stores, or with a dict: a handle equals itself only, so that it can be hashed (in a
  WeakSet, as an argument of a function under `lru_cache`) and no comparison reads the store;
  `assertEqual` compares contents instead;
* identity of values: what comes back is a copy; changing it changes nothing in the store;
* order: none, and not the same in two stores;
* errors for changes while iterating: other processes change the store at any time.

Does not: repeat what `test_store_mapping.py` says about iteration, expiry and pop.
"""

from __future__ import annotations

import functools
import weakref
from collections import ChainMap
from collections.abc import Iterator
from typing import Any

import pytest

import shmkv
from tests.conftest import unique_name

mapping_tests = pytest.importorskip(
    "test.mapping_tests",
    reason="CPython's own tests are not installed (Debian: libpython3-testsuite)",
)


class Boom(Exception):
    """What the objects below raise when they are hashed or compared."""


class BadHash:
    """A key that cannot be hashed; the store must refuse it before it tries."""

    def __hash__(self) -> int:
        raise Boom


class BadEq:
    """A value that cannot be compared."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise Boom


def contents(thing: Any) -> Any:
    """A store as a dict; anything else as it is."""
    return dict(thing) if isinstance(thing, shmkv.Store) else thing


class StoreFactory:
    """What the tests below make their mappings with: a store of its own each, closed and unlinked.

    Stands before `unittest.TestCase` in the bases.
    """

    def type2test(self: Any, *pairs: Any, **named: Any) -> shmkv.Store:
        """As `dict(...)`, but a fresh store."""
        name = unique_name()
        self.addCleanup(shmkv.unlink, name, missing_ok=True)
        store = shmkv.open(name, size="2MiB", evict=False, create="new")
        self.addCleanup(store.close)
        store.update(*pairs, **named)
        return store

    def assertEqual(self, first: Any, second: Any, msg: Any = None) -> None:  # noqa: N802
        """Stores are equal to themselves only: their contents are compared."""
        compare = super().assertEqual  # type: ignore[misc]
        compare(contents(first), contents(second), msg)


class TestBasic(StoreFactory, mapping_tests.BasicTestMappingProtocol):  # type: ignore
    """The basic protocol: all of it, nothing overridden."""


class TestBasicWithBytes(TestBasic):
    """The same with bytes for keys, and values of other types."""

    def _reference(self) -> dict[bytes, Any]:
        return {b"1": 2, b"key1": b"value1", b"\xff\0": ("nested", (1, 2.5, None))}

    def test_update(self) -> None:
        """The original mixes its own str keys in; here only what it says about the reference."""
        store = self.type2test(self.reference)
        store.update(self.other)
        store.update(iter(self.inmapping.items()))
        assert dict(store) == {**self.reference, **self.other}
        with pytest.raises(ValueError, match="unpack"):
            store.update([(b"one", 2, 3)])


class TestFull(StoreFactory, mapping_tests.TestHashMappingProtocol):  # type: ignore
    """The whole protocol. Each override says why its original cannot hold."""

    def test_values(self) -> None:
        """Original: {1: 2}, an int as key."""
        mapping_tests.BasicTestMappingProtocol.test_values(self)
        assert list(self._full_mapping({"1": 2}).values()) == [2]

    def test_items(self) -> None:
        """Original: {1: 2}, an int as key."""
        mapping_tests.BasicTestMappingProtocol.test_items(self)
        assert list(self._full_mapping({"1": 2}).items()) == [("1", 2)]

    def test_clear(self) -> None:
        """Original: ints as keys."""
        d = self._full_mapping({"1": 1, "2": 2, "3": 3})
        d.clear()
        assert dict(d) == {}
        with pytest.raises(TypeError):
            d.clear(None)

    def test_update(self) -> None:
        """Original: ints as keys in most of its parts; these are the same parts."""
        mapping_tests.BasicTestMappingProtocol.test_update(self)
        d = self._empty_mapping()
        d.update({"1": 100})
        d.update({"2": 20})
        d.update({"1": 1, "2": 2, "3": 3})
        d.update()
        assert dict(d) == {"1": 1, "2": 2, "3": 3}
        d = self._empty_mapping()
        d.update(x=100)
        d.update([("x", 1), ("y", 20)], y=2, z=3)
        assert dict(d) == {"x": 1, "y": 2, "z": 3}
        d = self._full_mapping({"1": 3, "2": 4})
        d.update(self._full_mapping({"1": 2, "3": 4, "5": 6}).items())
        assert dict(d) == {"1": 2, "2": 4, "3": 4, "5": 6}

        class OnlyKeys:
            def keys(self) -> list[str]:
                return ["1", "2"]

            def __getitem__(self, key: str) -> int:
                return int(key)

        d.clear()
        d.update(OnlyKeys())
        assert dict(d) == {"1": 1, "2": 2}

    def test_fromkeys(self) -> None:
        """There is none: a new store needs a name. `update` does it to a store that is there."""
        assert not hasattr(shmkv.Store, "fromkeys")
        d = self._empty_mapping()
        d.update(dict.fromkeys("abc"))
        assert dict(d) == {"a": None, "b": None, "c": None}

    def test_copy(self) -> None:
        """There is no `copy` method: `copy.copy` gives another handle, `dict()` the contents."""
        assert not hasattr(shmkv.Store, "copy")
        d = self._full_mapping({"1": 1, "2": 2})
        contents = dict(d)
        d["3"] = 3
        assert contents == {"1": 1, "2": 2}

    def test_setdefault(self) -> None:
        """Original: appends to the list that setdefault returned and finds it in the mapping; and
        an object that cannot be hashed as key. Values are copies, such keys are refused."""
        mapping_tests.BasicTestMappingProtocol.test_setdefault(self)
        d = self._empty_mapping()
        assert d.setdefault("key0") is None
        d.setdefault("key0", [])
        assert d.setdefault("key0") is None
        d.setdefault("key", []).append(3)
        assert d["key"] == []
        d["key"] = [*d["key"], 3]
        assert d.setdefault("key", []) == [3]
        with pytest.raises(TypeError):
            d.setdefault(BadHash(), [])

    def test_popitem(self) -> None:
        """Original: two mappings filled alike give their items in the same order, and `copy`."""
        mapping_tests.BasicTestMappingProtocol.test_popitem(self)
        for log2size in range(12):
            size = 2**log2size
            d = self._full_mapping({repr(i): i for i in range(size)})
            popped = [d.popitem() for _ in range(size)]
            assert dict(popped) == {repr(i): i for i in range(size)}
            assert not d

    def test_getitem(self) -> None:
        """Original: objects as keys whose comparison or hash fails; here they are no keys."""
        mapping_tests.TestMappingProtocol.test_getitem(self)
        d = self._empty_mapping()
        for key in (23, BadEq(), BadHash(), None, ("a",)):
            with pytest.raises(TypeError):
                d.__getitem__(key)
            with pytest.raises(TypeError):
                d.__setitem__(key, 42)
            with pytest.raises(TypeError):
                d.__delitem__(key)

    def test_pop(self) -> None:
        """Original: an object that cannot be hashed as key."""
        mapping_tests.TestMappingProtocol.test_pop(self)
        with pytest.raises(TypeError):
            self._empty_mapping().pop(BadHash())
        with pytest.raises(TypeError):
            self._empty_mapping().pop(BadHash(), None)

    def test_mutatingiteration(self) -> None:
        """Original: a key set while iterating raises. Other processes do that all the time: here it
        is allowed, what was there throughout is seen, and it ends when the writing ends."""
        d = self._full_mapping({"1": 1, "2": 2})
        seen = []
        for key in d:
            seen.append(key)
            if len(seen) < 100:
                d[f"new{len(seen)}"] = 1
        assert {"1", "2"} <= set(seen)

    def test_repr(self) -> None:
        """Original: shows the contents. Those are many, and other people's data in log files."""
        d = self._full_mapping({"secret key": "secret value"})
        assert "secret" not in repr(d)
        assert d.name in repr(d)

    def test_repr_deep(self) -> None:
        """Original: mappings in mappings. A store cannot be a value, so the repr cannot recurse."""
        d = self._empty_mapping()
        with pytest.raises(shmkv.CodecError):
            d.__setitem__("d", d)
        with pytest.raises(shmkv.CodecError):
            d.__setitem__("d", BadEq())

    def test_eq(self) -> None:
        """Original: `==` by contents. A handle equals itself, does not read to compare, and can be
        hashed."""
        one, two = self._full_mapping({"1": 2}), self._full_mapping({"1": 2})
        assert (one == two) is False
        assert one != two
        assert (one == {"1": 2}) is False
        assert (one == BadEq()) is False
        assert dict(one) == dict(two)
        assert len({one, two, one}) == 2
        assert one in weakref.WeakSet([one])


def test_a_cached_function_may_take_a_store(store: shmkv.Store) -> None:
    calls: list[str] = []

    @functools.lru_cache
    def prefix_of(of: shmkv.Store) -> str:
        calls.append(of.name)
        return f"{of.name}:"

    assert prefix_of(store) == prefix_of(store) == f"{store.name}:"
    assert calls == [store.name]


def test_views_are_sets(store: shmkv.Store) -> None:
    """The set operations of keys() and items() work as those of a dict's views."""
    store.update(a=1, b=2)
    assert store.keys() == {"a", "b"}
    assert store.keys() & {"b", "c"} == {"b"}
    assert store.keys() | {"c"} == {"a", "b", "c"}
    assert store.keys() - {"a"} == {"b"}
    assert store.items() == {("a", 1), ("b", 2)}
    assert store.items() ^ {("a", 1), ("c", 3)} == {("b", 2), ("c", 3)}
    assert store.keys().isdisjoint({"c"})
    assert ("a", 2) not in store.items()


def test_structural_use(store: shmkv.Store) -> None:
    """Where Python takes any mapping: ** of a call, patterns, dict(), ChainMap, reading only."""
    store.update(a=1, b=[1, 2])
    assert dict(**store) == {"a": 1, "b": [1, 2]}
    assert {**store, "b": 3} == {"a": 1, "b": 3}
    assert ChainMap[Any, Any]({"a": 2}, store)["b"] == [1, 2]
    assert "{a} {b}".format_map(store) == "1 [1, 2]"
    match store:
        case {"a": 1, "b": [first, *_]}:
            assert first == 1
        case _:
            pytest.fail("a mapping pattern did not match")
    with pytest.raises(TypeError):
        reversed(store)  # type: ignore[call-overload]


def test_iterators_of_views_are_iterators(store: shmkv.Store) -> None:
    store.update(a=1)
    for view in (store.keys(), store.values(), store.items()):
        assert isinstance(iter(view), Iterator)
        assert len(view) == 1
