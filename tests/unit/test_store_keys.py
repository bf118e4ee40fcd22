"""Keys: their types, their length in bytes, one item for a `str` and its UTF-8 bytes.

Every method that takes a key must refuse the same keys with the same exceptions, and must not
touch what is stored; the table `CALLS` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import shmkv

LONGEST = 65_535


def _enter_view(store: shmkv.Store, key: Any) -> None:
    with store.view(key):
        pass


CALLS: dict[str, Callable[[shmkv.Store, Any], Any]] = {
    "set": lambda s, k: s.set(k, 1),
    "get": lambda s, k: s.get(k),
    "setitem": lambda s, k: s.__setitem__(k, 1),
    "getitem": lambda s, k: s[k],
    "delitem": lambda s, k: s.__delitem__(k),
    "contains": lambda s, k: k in s,
    "add": lambda s, k: s.add(k, 1),
    "replace": lambda s, k: s.replace(k, 1),
    "delete": lambda s, k: s.delete(k),
    "incr": lambda s, k: s.incr(k),
    "decr": lambda s, k: s.decr(k),
    "touch": lambda s, k: s.touch(k, 5),
    "ttl": lambda s, k: s.ttl(k),
    "expire_at": lambda s, k: s.expire_at(k, 4e9),
    "gets": lambda s, k: s.gets(k),
    "cas": lambda s, k: s.cas(k, 1, 5),
    "update_with": lambda s, k: s.update_with(k, lambda v: v, default=1),
    "get_many": lambda s, k: s.get_many(["fine", k]),
    "set_many": lambda s, k: s.set_many({k: 1}),
    "delete_many": lambda s, k: s.delete_many([k]),
    "pop": lambda s, k: s.pop(k, None),
    "setdefault": lambda s, k: s.setdefault(k, 1),
    "update": lambda s, k: s.update({k: 1}),
    "append": lambda s, k: s.append(k, b"t"),
    "rename old": lambda s, k: s.rename(k, "new"),
    "rename new": lambda s, k: s.rename("old", k),
    "info": lambda s, k: s.info(k),
    "view": _enter_view,
}
TOO_LONG = [
    "k" * (LONGEST + 1),
    b"k" * (LONGEST + 1),
    "\u00e9" * (LONGEST // 2 + 1),
    "\u20ac" * (LONGEST // 3 + 1),
    "k" * 1_000_000,
]


class _Str(str):
    __slots__ = ()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("key", ["", b""], ids=repr)
def test_empty_keys(store: shmkv.Store, call: str, key: str | bytes) -> None:
    store.set("old", b"stays")
    with pytest.raises(ValueError, match="key"):
        CALLS[call](store, key)
    assert dict(store.items()) == {"old": b"stays"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("key", TOO_LONG, ids=lambda k: f"{type(k).__name__}-{len(k)}")
def test_long_keys(store: shmkv.Store, call: str, key: str | bytes) -> None:
    store.set("old", b"stays")
    with pytest.raises(ValueError, match="key"):
        CALLS[call](store, key)
    assert dict(store.items()) == {"old": b"stays"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("key", [5, None, 1.5, True, ("k",), object()], ids=repr)
def test_keys_of_other_types(store: shmkv.Store, call: str, key: Any) -> None:
    store.set("old", b"stays")
    with pytest.raises(TypeError, match="key"):
        CALLS[call](store, key)
    assert dict(store.items()) == {"old": b"stays"}


@pytest.mark.parametrize("call", sorted(CALLS.keys() - {"set_many", "update"}))
@pytest.mark.parametrize("key", [bytearray(b"k"), ["k"]], ids=repr)
def test_unhashable_keys(store: shmkv.Store, call: str, key: Any) -> None:
    store.set("old", b"stays")
    with pytest.raises(TypeError):
        CALLS[call](store, key)
    assert dict(store.items()) == {"old": b"stays"}


@pytest.mark.parametrize("call", CALLS)
def test_memoryview_keys(store: shmkv.Store, call: str) -> None:
    store.set("old", b"stays")
    with pytest.raises(TypeError, match="key"):
        CALLS[call](store, memoryview(b"k"))
    assert dict(store.items()) == {"old": b"stays"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("key", ["\ud800", "a\udcffb", "ok\udfff"], ids=ascii)
def test_lone_surrogates(store: shmkv.Store, call: str, key: str) -> None:
    store.set("old", b"stays")
    with pytest.raises(ValueError, match=r"(?i)surrogate|utf-8"):
        CALLS[call](store, key)
    assert dict(store.items()) == {"old": b"stays"}


@pytest.mark.parametrize(
    "key",
    [
        "k",
        b"k",
        "\0",
        b"\0",
        "a\0b",
        b"\xff\xfe",
        "caf\u00e9",
        "\U0001f40d",
        "k" * LONGEST,
        b"\x80" * LONGEST,
        "\u00e9" * (LONGEST // 2),
        "\u20ac" * (LONGEST // 3),
    ],
    ids=lambda k: ascii(k[:6]),
)
def test_good_keys(store: shmkv.Store, key: str | bytes) -> None:
    store.set(key, b"value")
    assert store[key] == b"value"
    assert key in store
    again = next(iter(store))
    assert type(again) is type(key)
    assert again == key
    assert store.delete(key)
    assert len(store) == 0


@pytest.mark.parametrize("length", [*range(1, 70), 255, 256, 257, 4095, 4096, 32_768, 65_534])
def test_keys_of_many_lengths(store: shmkv.Store, length: int) -> None:
    keys = [b"%c" % letter * length for letter in b"ab"]
    for key in keys:
        store.set(key, key[::-1])
    assert {key: store[key] for key in keys} == {key: key[::-1] for key in keys}
    assert sorted(store) == keys


def test_a_str_and_its_bytes_name_one_item(store: shmkv.Store) -> None:
    store.set("caf\u00e9", 1)
    assert store["caf\u00e9".encode()] == 1
    assert "caf\u00e9".encode() in store
    assert store.incr("caf\u00e9".encode()) == 2
    assert store["caf\u00e9"] == 2
    assert len(store) == 1
    assert store.delete("caf\u00e9".encode())
    assert "caf\u00e9" not in store


def test_latin1_bytes_are_another_key(store: shmkv.Store) -> None:
    store.set("caf\u00e9", 1)
    assert "caf\u00e9".encode("latin-1") not in store


def test_unicode_forms_are_not_merged(store: shmkv.Store) -> None:
    store.set("\u00e9", "composed")
    store.set("e\u0301", "two signs")
    assert len(store) == 2


def test_set_decides_the_type_that_iteration_shows(store: shmkv.Store) -> None:
    store.set("k", 1)
    assert list(store) == ["k"]
    store.set(b"k", 2)
    assert list(store) == [b"k"]
    store.set("k", 3)
    assert list(store) == ["k"]


def test_keys_that_differ_in_their_last_byte(store: shmkv.Store) -> None:
    keys = [b"prefix" * 50 + bytes([last]) for last in range(256)]
    for number, key in enumerate(keys):
        store.set(key, number)
    assert [store[key] for key in keys] == list(range(256))


def test_keys_that_are_prefixes_of_one_another(store: shmkv.Store) -> None:
    keys = [b"\0" * length for length in range(1, 300)]
    for key in keys:
        store.set(key, len(key))
    assert [store[key] for key in keys] == [len(key) for key in keys]


def test_str_subclasses_as_keys_are_their_text_or_refused(store: shmkv.Store) -> None:
    store.set("k", 1)
    try:
        value = store.get(_Str("k"))
    except TypeError:
        return
    assert value == 1
    store.set(_Str("k"), 2)
    assert [type(key) for key in store] == [str]
