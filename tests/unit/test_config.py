"""Options of `shmkv.open` as far as they can be judged before a segment exists, and sizes.

Owns: which sizes, names, limits and words are taken, and with which exception the others are
refused. A refused option must leave nothing behind. What the options do to a store stands in
`test_store_open_close.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from tests.conftest import MIB, segment_path

GIB = 1 << 30
PAGE = 64 * 1024

GOOD_SIZES = [
    (2 * MIB, 2 * MIB),
    (3 * MIB, 3 * MIB),
    ("2MiB", 2 * MIB),
    ("2mib", 2 * MIB),
    ("2m", 2 * MIB),
    ("2M", 2 * MIB),
    ("2048KiB", 2 * MIB),
    ("2048k", 2 * MIB),
    ("256MiB", 256 * MIB),
    ("1g", GIB),
    ("1G", GIB),
    ("1GiB", GIB),
]
BAD_SIZES = [
    0,
    -1,
    -2 * MIB,
    2 * MIB - 1,
    64 * GIB + 1,
    1 << 80,
    "0",
    "0MiB",
    "-4MiB",
    "1MiB",
    "2047KiB",
    "65g",
    "64.1GiB",
    "99999999999999999999g",
    "",
    " ",
    "MiB",
    "g",
    "four",
    "4 apples",
    "4MiBs",
    "4MiB4",
    "0x400000",
    "nan",
    "inf",
    "1e9",
    "\u0664MiB",
]
WRONG_TYPES: list[Any] = [4.0 * MIB, b"4MiB", [4 * MIB], {}, object(), True, math.inf]
BAD_NAMES = [
    "",
    ".",
    "..",
    "a/b",
    "/a",
    "a b",
    "a\0b",
    "a\n",
    "caf\u00e9",
    "x" * 101,
    "a*",
    "a:b",
    "\ud800",
]


@pytest.mark.parametrize(("size", "expected"), GOOD_SIZES)
def test_sizes(store_name: str, size: int | str, expected: int) -> None:
    with shmkv.open(store_name, size=size) as store:
        assert store.size == expected


@pytest.mark.parametrize(("size", "expected"), GOOD_SIZES)
def test_max_sizes(store_name: str, size: int | str, expected: int) -> None:
    first = max(2 * MIB, expected // 8)
    with shmkv.open(store_name, size=first, max_size=size) as store:
        assert store.size == first
        assert store.max_size == expected


def test_a_max_size_that_size_has_no_room_to_prepare_for(store_name: str) -> None:
    """The page table for `max_size` is part of `size`: far apart, they cannot both be had."""
    with pytest.raises(ValueError, match=f"{store_name}.*max_size"):
        shmkv.open(store_name, size="2MiB", max_size="64GiB")
    assert store_name not in shmkv.names()


@pytest.mark.parametrize("size", BAD_SIZES)
@pytest.mark.parametrize("option", ["size", "max_size"])
def test_bad_sizes(store_name: str, option: str, size: int | str) -> None:
    options: dict[str, Any] = {option: size}
    with pytest.raises(ValueError, match="size"):
        shmkv.open(store_name, **options)
    assert not segment_path(store_name).exists()


@pytest.mark.parametrize("size", WRONG_TYPES, ids=repr)
@pytest.mark.parametrize("option", ["size", "max_size"])
def test_sizes_of_wrong_type(store_name: str, option: str, size: Any) -> None:
    options: dict[str, Any] = {option: size}
    with pytest.raises(TypeError, match="size"):
        shmkv.open(store_name, **options)
    assert not segment_path(store_name).exists()


def test_default_size_is_64_mib(store_name: str) -> None:
    with shmkv.open(store_name) as store:
        assert store.size == 64 * MIB
        assert store.max_size == 256 * MIB


def test_default_max_size_is_four_times_the_size(store_name: str) -> None:
    with shmkv.open(store_name, size=5 * MIB) as store:
        assert store.max_size == 20 * MIB


def test_odd_sizes_are_taken_and_mean_the_same_again(store_name: str) -> None:
    odd = 3 * MIB + 12_345
    with shmkv.open(store_name, size=odd) as store:
        assert abs(store.size - odd) <= PAGE
        with shmkv.open(store_name, size=odd) as again:
            assert again.size == store.size


def test_the_largest_size_is_64_gib(store_name: str) -> None:
    with shmkv.open(store_name, size="64GiB") as store:
        assert store.size == store.max_size == 64 * GIB
        store.set("k", b"v")
        assert store.get("k") == b"v"


def test_default_max_size_is_cut_at_the_limit(store_name: str) -> None:
    with shmkv.open(store_name, size="20GiB") as store:
        assert store.max_size == 64 * GIB


def test_max_size_below_size(store_name: str) -> None:
    with pytest.raises(ValueError, match="max_size"):
        shmkv.open(store_name, size="8MiB", max_size="4MiB")
    assert not segment_path(store_name).exists()


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_bad_names(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        shmkv.open(name, size="2MiB")
    with pytest.raises(ValueError, match="name"):
        shmkv.unlink(name)
    with pytest.raises(ValueError, match="name"):
        shmkv.unlink(name, missing_ok=True)


@pytest.mark.parametrize("name", [None, 5, b"web", ["web"], object()], ids=repr)
def test_names_of_wrong_type(name: Any) -> None:
    with pytest.raises(TypeError, match="name"):
        shmkv.open(name, size="2MiB")
    with pytest.raises(TypeError, match="name"):
        shmkv.unlink(name)


def test_names_up_to_100_characters(new_name: Callable[[], str]) -> None:
    base = new_name()
    long = base + "x" * (100 - len(base))
    try:
        with shmkv.open(long, size="2MiB") as store:
            assert store.name == long
    finally:
        shmkv.unlink(long, missing_ok=True)


@pytest.mark.parametrize("tail", ["A.z", "_", "-", "0.9", ".."])
def test_all_characters_that_names_may_have(new_name: Callable[[], str], tail: str) -> None:
    name = new_name() + tail
    try:
        with shmkv.open(name, size="2MiB") as store:
            assert store.name == name
            assert name in shmkv.names()
    finally:
        shmkv.unlink(name, missing_ok=True)


BAD_VALUES = [
    ("create", "maybe"),
    ("create", "NEW"),
    ("on_mismatch", "ignore"),
    ("on_mismatch", ""),
    ("on_corrupt", "ignore"),
    ("codec", "nonsense"),
    ("mode", -1),
    ("mode", 0o10000),
    ("owner", -5),
    ("lock_timeout", -0.1),
    ("lock_timeout", math.nan),
]
BAD_TYPES = [
    ("create", 5),
    ("create", None),
    ("mode", "600"),
    ("mode", 384.0),
    ("owner", 1.5),
    ("owner", [0]),
    ("readonly", "yes"),
    ("evict", "yes"),
    ("on_mismatch", 1),
    ("on_corrupt", None),
    ("codec", 5),
    ("lock_timeout", "5"),
    ("lock_timeout", True),
]


@pytest.mark.parametrize(("option", "value"), BAD_VALUES, ids=repr)
def test_values_out_of_range(store_name: str, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        shmkv.open(store_name, size="2MiB", **{option: value})
    assert not segment_path(store_name).exists()


@pytest.mark.parametrize(("option", "value"), BAD_TYPES, ids=repr)
def test_values_of_wrong_type(store_name: str, option: str, value: Any) -> None:
    with pytest.raises(TypeError, match=option):
        shmkv.open(store_name, size="2MiB", **{option: value})
    assert not segment_path(store_name).exists()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"journal": "always"}, ValueError, "needs a directory: add path="),
        ({"journal": "sometimes", "path": "d"}, ValueError, "journal='sometimes' is not one of"),
        ({"journal": 1, "path": "d"}, TypeError, "journal must be a str"),
        ({"path": ""}, ValueError, "names no directory"),
        ({"path": "a\0b"}, ValueError, "names no directory"),
        ({"path": 3}, TypeError, "path must be a str"),
        ({"path": b"d"}, TypeError, "path must be a str"),
        ({"path": "d", "journal": "always", "readonly": True}, ValueError, "writes no journal"),
    ],
)
def test_directories_and_journals(
    store_name: str, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        shmkv.open(store_name, **options)
    assert not segment_path(store_name).exists()


def test_unknown_options(store_name: str) -> None:
    options: dict[str, Any] = {"sise": "2MiB"}
    with pytest.raises(TypeError, match="sise"):
        shmkv.open(store_name, **options)
    assert not segment_path(store_name).exists()


def test_options_are_keywords(store_name: str) -> None:
    opener: Callable[..., shmkv.Store] = shmkv.open
    with pytest.raises(TypeError):
        opener(store_name, 2 * MIB)
    assert not segment_path(store_name).exists()
