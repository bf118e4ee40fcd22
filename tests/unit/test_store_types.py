"""Values: what comes back must be equal and of the same type; what cannot is refused.

Owns bytes, str, int, float, bool and None with their edges, bytes-likes, and what every way to
write refuses. A refused value must leave the old one and must be named by its type. Structured
values are in test_codec.py.
"""

from __future__ import annotations

import array
import collections
import enum
import gc
import math
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import shmkv

BYTES_SIZES = [0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 99, 100, 101, 115, 116, 127, 128, 129, 255, 256]
EDGES = [1 << power for power in range(9, 20)] + [250_000, 262_144, 270_000]
BIG_SIZES = [edge + off for edge in EDGES for off in (-1, 0, 1)]
INTS = sorted(
    {
        sign * ((1 << bits) + off)
        for bits in (0, 1, 7, 8, 15, 16, 31, 32, 53, 62, 63, 64, 65, 127, 128, 1000, 4096)
        for off in (-1, 0, 1)
        for sign in (1, -1)
    }
)
FLOATS = [
    0.0,
    -0.0,
    1.5,
    -1e-300,
    math.pi,
    math.inf,
    -math.inf,
    math.nan,
    sys.float_info.max,
    sys.float_info.min,
    5e-324,
    1.0,
    float(1 << 60),
]
STRINGS = [
    "",
    "a",
    "caf\u00e9",
    "\u20ac\U0001f40d",
    "a\0b",
    "\0",
    "line\nline\r\n",
    "\u00e9" * 20_000,
    "\U0001f40d" * 70_000,
    "\ufeffbom",
    "\uffff",
    "e\u0301",
]


def pattern(size: int) -> bytes:
    """Bytes whose every part tells its place."""
    return (b"".join(struct.pack("<I", i) for i in range(size // 4 + 1)))[:size]


@pytest.mark.parametrize("size", BYTES_SIZES + BIG_SIZES)
def test_bytes_of_all_sizes(store: shmkv.Store, size: int) -> None:
    value = pattern(size)
    store.set("k", value)
    again = store.get("k")
    assert type(again) is bytes
    assert again == value


def test_all_byte_values(store: shmkv.Store) -> None:
    for value in range(256):
        store.set("k", bytes([value]))
        assert store["k"] == bytes([value])


@pytest.mark.parametrize("value", STRINGS, ids=lambda s: ascii(s[:8]))
def test_strings(store: shmkv.Store, value: str) -> None:
    store.set("k", value)
    again = store.get("k")
    assert type(again) is str
    assert again == value


@pytest.mark.parametrize("value", INTS)
def test_ints_of_all_sizes(store: shmkv.Store, value: int) -> None:
    store.set("k", value)
    again = store.get("k")
    assert type(again) is int
    assert again == value


def test_very_large_ints(store: shmkv.Store) -> None:
    for value in (1 << 400_000, -(1 << 400_000), (1 << 400_000) - 1, 7**99_991):
        store.set("k", value)
        assert store.get("k") == value


@pytest.mark.parametrize("value", FLOATS, ids=repr)
def test_floats_bit_for_bit(store: shmkv.Store, value: float) -> None:
    store.set("k", value)
    again = store.get("k")
    assert type(again) is float
    assert struct.pack("<d", again) == struct.pack("<d", value)


@pytest.mark.parametrize("value", [True, False, None])
def test_singletons(store: shmkv.Store, value: bool | None) -> None:
    store.set("k", value)
    assert store.get("k", b"default") is value


def test_types_that_are_equal_stay_apart(store: shmkv.Store) -> None:
    for value in (1, True, 1.0, b"1", "1", 0, False, 0.0, None, b"", ""):
        store.set("k", value)
        assert type(store["k"]) is type(value)
        assert store["k"] == value


@pytest.mark.parametrize("size", [0, 5, 1000, 40_000, 300_000])
@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_likes_come_back_as_bytes(
    store: shmkv.Store, kind: Callable[[bytes], Any], size: int
) -> None:
    store.set("k", kind(pattern(size)))
    assert type(store["k"]) is bytes
    assert store["k"] == pattern(size)


def test_views_of_other_shapes_are_stored_as_their_bytes(store: shmkv.Store) -> None:
    numbers = array.array("i", range(100))
    store.set("wide", memoryview(numbers))
    assert store["wide"] == numbers.tobytes()
    store.set("stride", memoryview(b"abcdefgh")[::2])
    assert store["stride"] == b"aceg"
    store.set("back", memoryview(b"abcdefgh")[::-1])
    assert store["back"] == b"hgfedcba"


def test_a_stored_bytearray_is_a_copy(store: shmkv.Store) -> None:
    source = bytearray(b"first")
    store.set("k", source)
    source[:] = b"later"
    source.extend(b" and longer")
    assert store["k"] == b"first"


def test_a_released_view_is_refused(store: shmkv.Store) -> None:
    view = memoryview(b"gone")
    view.release()
    store.set("k", b"stays")
    with pytest.raises(ValueError, match="released"):
        store.set("k", view)
    assert store["k"] == b"stays"


def test_a_result_is_private(store: shmkv.Store) -> None:
    store.set("k", b"first" * 10_000)
    held = store.get("k")
    store.set("k", b"later" * 10_000)
    store.delete("k")
    assert held == b"first" * 10_000


class _Str(str):
    __slots__ = ()


class _Bytes(bytes):
    __slots__ = ()


class _Int(int):
    pass


class _Float(float):
    pass


class _ByteArray(bytearray):
    pass


class _Number(enum.IntEnum):
    ONE = 1


class _Word(enum.StrEnum):
    ONE = "one"


class _Flag(enum.IntFlag):
    ONE = 1


class _Pair(NamedTuple):
    left: int
    right: int


class _Unfriendly:
    def __repr__(self) -> str:
        raise RuntimeError("repr is not for messages")

    __str__ = __repr__


REFUSED: list[Any] = [
    _Str("s"),
    _Bytes(b"b"),
    _Int(5),
    _Float(1.5),
    _ByteArray(b"b"),
    _Number.ONE,
    _Word.ONE,
    _Flag.ONE,
    _Unfriendly(),
    object(),
    1j,
    ...,
    NotImplemented,
    collections.OrderedDict(a=1),
    collections.deque([1]),
    _Pair(1, 2),
    [object()],
    {"key": _Unfriendly()},
    range(3),
    array.array("i", [1]),
    len,
    int,
    shmkv.MISSING,
]
WRITERS: dict[str, Callable[[shmkv.Store, Any], Any]] = {
    "set": lambda store, value: store.set("k", value),
    "item": lambda store, value: store.__setitem__("k", value),
    "add": lambda store, value: store.add("new", value),
    "replace": lambda store, value: store.replace("k", value),
    "cas": lambda store, value: store.cas("k", value, store.gets("k")[1]),
    "set_many": lambda store, value: store.set_many({"k": value}),
    "update_with": lambda store, value: store.update_with("k", lambda _: value),
    "setdefault": lambda store, value: store.setdefault("new", value),
    "update": lambda store, value: store.update({"k": value}),
}


@pytest.mark.parametrize("value", REFUSED, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("writer", sorted(WRITERS))
def test_other_types_are_refused_by_name(store: shmkv.Store, writer: str, value: Any) -> None:
    store.set("k", b"stays")
    culprit = value[0] if type(value) is list else value
    culprit = value["key"] if type(value) is dict else culprit
    with pytest.raises(shmkv.CodecError, match=type(culprit).__name__):
        WRITERS[writer](store, value)
    assert dict(store.items()) == {"k": b"stays"}


@pytest.mark.parametrize("writer", sorted(WRITERS))
def test_strings_that_are_no_utf8_are_refused(store: shmkv.Store, writer: str) -> None:
    store.set("k", b"stays")
    with pytest.raises(ValueError, match=r"(?i)surrogate|utf-8"):
        WRITERS[writer](store, "half a pair \ud83d")
    assert dict(store.items()) == {"k": b"stays"}


def test_an_appended_string_must_be_utf8(store: shmkv.Store) -> None:
    store.set("k", "stays")
    with pytest.raises(ValueError, match=r"(?i)surrogate|utf-8"):
        store.append("k", "\ud83d")
    assert store["k"] == "stays"


def test_refused_values_keep_the_deadline(store: shmkv.Store) -> None:
    store.set("k", b"stays", ttl=1000)
    with pytest.raises(shmkv.CodecError):
        store.set("k", object())  # type: ignore[arg-type,unused-ignore]
    left = store.ttl("k")
    assert left is not None
    assert 900 < left <= 1000


def test_refused_values_are_not_kept_alive(store: shmkv.Store) -> None:
    value = _Unfriendly()
    before = sys.getrefcount(value)
    gc.disable()  # they must go at once, not when some cycle is found
    try:
        for _ in range(100):
            for refused in (value, [value], {"k": (value,)}, {1: [value]}):
                with pytest.raises(shmkv.CodecError):
                    store.set("k", refused)
        del refused
        assert sys.getrefcount(value) == before
    finally:
        gc.enable()
