"""Arguments of every method, given wrongly in every way: refused by name, and nothing has changed.

Also what few programs do: a view entered twice, more views than there are pins, keys and deadlines
of subclasses, mappings that are none.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

import shmkv

Call = Callable[[Any], object]

# Each takes a key first; the rest is right.
KEYED: dict[str, Callable[[Any, Any], object]] = {
    "get": lambda s, k: s.get(k),
    "[]": lambda s, k: s[k],
    "[]=": lambda s, k: s.__setitem__(k, 1),
    "del": lambda s, k: s.__delitem__(k),
    "set": lambda s, k: s.set(k, 1, ttl=5),
    "add": lambda s, k: s.add(k, 1),
    "replace": lambda s, k: s.replace(k, 1),
    "delete": lambda s, k: s.delete(k),
    "incr": lambda s, k: s.incr(k),
    "decr": lambda s, k: s.decr(k),
    "touch": lambda s, k: s.touch(k, 5),
    "ttl": lambda s, k: s.ttl(k),
    "expire_at": lambda s, k: s.expire_at(k, 5e9),
    "gets": lambda s, k: s.gets(k),
    "cas": lambda s, k: s.cas(k, 1, 5),
    "pop": lambda s, k: s.pop(k, None),
    "append": lambda s, k: s.append(k, b"x"),
    "rename": lambda s, k: s.rename(k, "other"),
    "rename to": lambda s, k: s.rename("k", k),
    "get_many": lambda s, k: s.get_many([k]),
    "set_many": lambda s, k: s.set_many({k: 1}),
    "delete_many": lambda s, k: s.delete_many([k]),
    "view": lambda s, k: s.view(k).__enter__(),
    "info": lambda s, k: s.info(k),
    "_get_encoded": lambda s, k: s._get_encoded(k),
}
KEYLESS: dict[str, Call] = {
    "len": len, "iter": lambda s: list(s), "clear": lambda s: s.clear(),
    "resize": lambda s: s.resize(s.max_size),
    "stats": lambda s: s.stats(), "check": lambda s: s.check(), "scan": lambda s: list(s.scan()),
    "_number": lambda s: s._number(), "_compact": lambda s: s._compact(),
    "_raw": lambda s: s._raw(), "_geometry": lambda s: s._geometry(),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYED)
@pytest.mark.parametrize("key", [5, None, "", b"", "x" * 65_536, "\ud800", bytearray(b"k")])
def test_no_key(store: shmkv.Store, name: str, key: object) -> None:
    store["k"] = b"v"
    with pytest.raises((TypeError, ValueError)):
        KEYED[name](store, key)
    assert dict(store) == {"k": b"v"}


@pytest.mark.parametrize("name", [*KEYED, *KEYLESS])
def test_closed(store: shmkv.Store, name: str) -> None:
    store.close()
    with pytest.raises(shmkv.Closed):
        KEYED[name](store, "k") if name in KEYED else KEYLESS[name](store)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.get(), lambda s: s.get("k", 1, 2), lambda s: s.get("k", 1, default=2),
        lambda s: s.get("k", nonsense=1), lambda s: s.get("k", default=1, nonsense=2),
        lambda s: s.set("k"), lambda s: s.set("k", 1, 5), lambda s: s.set("k", 1, 5, 6),
        lambda s: s.set("k", 1, ttl=1, nonsense=2), lambda s: s.set("k", 1, value=2),
        lambda s: s.cas("k", 1), lambda s: s.cas("k", 1, 2, 3), lambda s: s.cas("k", 1, True),
        lambda s: s.cas("k", 1, "t"), lambda s: s.cas("k", 1, 2.0), lambda s: s.cas("k", 1, None),
        lambda s: s.incr("k", 1, 2), lambda s: s.incr("k", "1"), lambda s: s.incr("k", True),
        lambda s: s.incr("k", 1.0), lambda s: s.incr("k", 1, default="0"),
        lambda s: s.incr("k", 1, ttl="x"), lambda s: s.incr("k", delta=1, nonsense=2),
        lambda s: s.touch("k"), lambda s: s.touch("k", "x"), lambda s: s.touch("k", 1, 2),
        lambda s: s.expire_at("k"), lambda s: s.expire_at("k", "x"),
        lambda s: s.pop("k", 1, 2), lambda s: s.pop(), lambda s: s.append("k"),
        lambda s: s.append("k", 5), lambda s: s.rename("k"), lambda s: s.rename("k", "l", "m"),
        lambda s: s.get_many(5), lambda s: s.get_many("text"[0:0] or None),
        lambda s: s.set_many(5), lambda s: s.set_many({"k": 1}, ttl="x"),
        lambda s: s.set_many({"k": 1}, 5), lambda s: s.set_many({"k": 1}, nonsense=5),
        lambda s: s.set_many(NoPairs()), lambda s: s.set_many(Triples()),
        lambda s: s.delete_many(5), lambda s: s._scan("text"), lambda s: s.scan(prefix=5),
        lambda s: s.set("k", 1, ttl=BadDelta(1)), lambda s: s.expire_at("k", BadMoment.now(dt.UTC)),
    ],
)  # fmt: skip
def test_wrong_arguments(store: shmkv.Store, call: Call) -> None:
    store["k"] = b"v"
    with pytest.raises((TypeError, ValueError)):
        call(store)
    assert dict(store) == {"k": b"v"}


class NoPairs(dict[str, int]):
    """Its items are not pairs."""

    def items(self) -> Any:
        return [5]


class Triples(dict[str, int]):
    """Its items are too long."""

    def items(self) -> Any:
        return [("k", 1, 2)]


class BadDelta(dt.timedelta):
    """It does not know how long it is."""

    def total_seconds(self) -> float:
        raise ValueError("no seconds")


class BadMoment(dt.datetime):
    """It does not know when it is."""

    def timestamp(self) -> float:
        raise ValueError("no timestamp")


def test_subclasses_of_keys_and_deadlines(store: shmkv.Store) -> None:
    class Text(str):
        __slots__ = ()

    class Data(bytes):
        __slots__ = ()

    store.set(Text("k"), b"v", ttl=dt.timedelta(microseconds=1))  # as short as there is: 1 ms
    store.set(Data(b"l"), b"w", ttl=1e-9)
    store[Text("m")] = 5
    assert store[Data(b"m")] == 5
    assert list(store.scan(prefix=Data(b"m"))) == ["m"]


def test_a_view_is_entered_once(store: shmkv.Store) -> None:
    store["k"] = b"v" * 10_000
    view = store.view("k")
    with view as memory:
        with pytest.raises(RuntimeError, match="view"):
            view.__enter__()
        assert memory == b"v" * 10_000
    with view as again:  # left, it may be entered anew
        assert again == b"v" * 10_000


def test_more_views_than_pins(store: shmkv.Store) -> None:
    """64 rows of 32 pins: who wants still more views gets copies."""
    value = b"v" * 10_000
    store["k"] = value
    with ExitStack() as stack:
        views = [stack.enter_context(store.view("k")) for _ in range(64 * 32 + 10)]
        store["k"] = b"w" * 10_000
        assert all(view == value for view in views)
    with store.view("k") as memory:
        assert memory == b"w" * 10_000
