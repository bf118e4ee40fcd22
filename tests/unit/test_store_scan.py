"""scan: the keys with a prefix, or that match a pattern, without reading values.

Patterns are those of `fnmatch`, case-sensitive, over the characters of a `str`; bytes keys are
taken as UTF-8, with what is no UTF-8 matched by `?` and `*` only.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any

import pytest

import shmkv
from tests.conftest import Clock

KEYS: list[str | bytes] = [
    "user:1",
    "user:2",
    "user:10",
    b"user:3",
    "User:1",
    "users",
    "session:1",
    "caf\u00e9",
    "caf\u00e9s",
    "a\nb",
    "a*b",
    "a?b",
    "a[b",
    b"\xff\xfe",
    b"\xffuser",
    "\U0001f40d",
]


@pytest.fixture
def full(store: shmkv.Store) -> shmkv.Store:
    for key in KEYS:
        store.set(key, 1)
    return store


def texts(keys: Iterator[str | bytes]) -> list[str]:
    return sorted(k if isinstance(k, str) else k.decode(errors="surrogateescape") for k in keys)


def expected(match: str) -> list[str]:
    return [text for text in texts(iter(KEYS)) if fnmatch.fnmatchcase(text, match)]


def test_scan_without_arguments_gives_all(full: shmkv.Store) -> None:
    assert set(full.scan()) == set(KEYS)
    assert isinstance(full.scan(), Iterator)


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("user:", {"user:1", "user:2", "user:10", b"user:3"}),
        (b"user:", {"user:1", "user:2", "user:10", b"user:3"}),
        ("User", {"User:1"}),
        ("user:1", {"user:1", "user:10"}),
        ("user:10", {"user:10"}),
        ("user:100", set()),
        ("caf\u00e9", {"caf\u00e9", "caf\u00e9s"}),
        (b"caf\xc3", {"caf\u00e9", "caf\u00e9s"}),
        (b"\xff", {b"\xff\xfe", b"\xffuser"}),
        ("nothing", set()),
        ("x" * 70_000, set()),
        ("a*", {"a*b"}),
    ],
)
def test_prefixes(full: shmkv.Store, prefix: str | bytes, found: set[str | bytes]) -> None:
    keys = list(full.scan(prefix=prefix))
    assert len(keys) == len(found)
    assert set(keys) == found


@pytest.mark.parametrize("prefix", ["", b""])
def test_an_empty_prefix_gives_all(full: shmkv.Store, prefix: str | bytes) -> None:
    assert set(full.scan(prefix=prefix)) == set(KEYS)


@pytest.mark.parametrize(
    "match",
    [
        "*",
        "user:*",
        "user:?",
        "user:??",
        "[uU]ser:1",
        "[!u]*",
        "user:[0-9]",
        "*:1",
        "*s*",
        "",
        "user:1",
        "USER:*",
        "a?b",
        "a*b",
        "a[*]b",
        "a[[]b",
        "caf?",
        "caf??",
        "?",
        "??",
        "*\u00e9*",
        "**",
        "[",
        "[a",
    ],
)
def test_patterns(full: shmkv.Store, match: str) -> None:
    assert texts(full.scan(match=match)) == expected(match)


def test_prefix_and_pattern_together(full: shmkv.Store) -> None:
    assert set(full.scan(prefix="user:", match="*1*")) == {"user:1", "user:10"}
    assert set(full.scan(prefix="user:", match="session*")) == set()


@pytest.mark.parametrize("value", [5, True, ["a"], object()], ids=repr)
@pytest.mark.parametrize("option", ["prefix", "match"])
def test_arguments_of_wrong_type(full: shmkv.Store, option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(TypeError, match=option):
        list(full.scan(**options))


def test_arguments_are_keywords(full: shmkv.Store) -> None:
    scan: Any = full.scan
    with pytest.raises(TypeError):
        list(scan("user:"))


def test_scan_skips_expired_items(store: shmkv.Store, clock: Clock) -> None:
    store.set("a1", 1, ttl=10)
    store.set("a2", 1, ttl=1000)
    clock.advance(11)
    assert list(store.scan(prefix="a")) == ["a2"]
    assert list(store.scan(match="a?")) == ["a2"]


def test_scan_is_lazy_and_may_be_left(store: shmkv.Store) -> None:
    store.set_many({f"k{n}": n for n in range(1000)})
    keys = store.scan(prefix="k")
    next(keys)
    del keys
    store.set("k1000", 1)
    assert len(list(store.scan(prefix="k"))) == 1001


def test_scan_sees_all_that_stays_while_it_deletes(store: shmkv.Store) -> None:
    store.set_many({f"a{n}": n for n in range(2000)})
    store.set_many({f"b{n}": n for n in range(2000)})
    for key in store.scan(prefix="a"):
        store.delete(key)
    assert sorted(store) == sorted(f"b{n}" for n in range(2000))


def test_scan_of_a_reader(full: shmkv.Store) -> None:
    with shmkv.open(full.name, create=False, readonly=True) as reader:
        assert set(reader.scan(prefix="user:")) == set(full.scan(prefix="user:"))
        assert set(reader) == set(KEYS)
