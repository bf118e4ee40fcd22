"""Time: deadlines, what counts as a ttl, touch, ttl, expire_at; and who keeps a deadline.

Time is moved by the clock of the tests; nothing sleeps. A deadline is exact to 5 ms: the tests
look 6 ms before and after it, with the clock held still where the machine could be slow.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from tests.conftest import Clock

TEN_YEARS = 10 * 365.25 * 86_400
LIMIT = (1 << 48) / 1000

BAD_VALUES = [
    0,
    -1,
    0.0,
    -0.0,
    -1e-9,
    math.nan,
    math.inf,
    -math.inf,
    LIMIT,
    LIMIT * 2,
    1e300,
    10**400,
    -(10**400),
    1 << 63,
    1 << 64,
    dt.timedelta(0),
    dt.timedelta(seconds=-1),
    dt.timedelta.max,
    dt.timedelta.min,
]
BAD_TYPES: list[Any] = [True, False, "5", b"5", [5], (5,), {}, object(), 1j, dt.date(2030, 1, 1)]
TAKERS: dict[str, Callable[[shmkv.Store, Any], Any]] = {
    "set": lambda s, ttl: s.set("k", 2, ttl=ttl),
    "add": lambda s, ttl: s.add("new", 2, ttl=ttl),
    "add to what is there": lambda s, ttl: s.add("k", 2, ttl=ttl),
    "replace": lambda s, ttl: s.replace("k", 2, ttl=ttl),
    "replace of a missing key": lambda s, ttl: s.replace("new", 2, ttl=ttl),
    "incr": lambda s, ttl: s.incr("new", ttl=ttl),
    "incr of what is there": lambda s, ttl: s.incr("k", ttl=ttl),
    "decr": lambda s, ttl: s.decr("new", ttl=ttl),
    "touch": lambda s, ttl: s.touch("k", ttl),
    "touch of a missing key": lambda s, ttl: s.touch("new", ttl),
    "cas": lambda s, ttl: s.cas("k", 2, s.gets("k")[1], ttl=ttl),
    "update_with": lambda s, ttl: s.update_with("k", lambda _: 2, ttl=ttl),
    "set_many": lambda s, ttl: s.set_many({"k": 2, "new": 2}, ttl=ttl),
}


def left(store: shmkv.Store, key: str = "k") -> float:
    seconds = store.ttl(key)
    assert type(seconds) is float
    return seconds


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("ttl", BAD_VALUES, ids=lambda ttl: repr(ttl)[:30])
def test_ttls_out_of_range(store: shmkv.Store, taker: str, ttl: Any) -> None:
    store.set("k", 1)
    with pytest.raises(ValueError, match="ttl"):
        TAKERS[taker](store, ttl)
    assert dict(store.items()) == {"k": 1}
    assert store.ttl("k") is None


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("ttl", BAD_TYPES, ids=repr)
def test_ttls_of_wrong_type(store: shmkv.Store, taker: str, ttl: Any) -> None:
    store.set("k", 1)
    with pytest.raises(TypeError, match="ttl"):
        TAKERS[taker](store, ttl)
    assert dict(store.items()) == {"k": 1}
    assert store.ttl("k") is None


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        (5, 5),
        (2.5, 2.5),
        (dt.timedelta(minutes=1, milliseconds=500), 60.5),
        (dt.timedelta(days=400), 400 * 86_400),
        (TEN_YEARS, TEN_YEARS),
        (49.8 * 86_400, 49.8 * 86_400),
    ],
    ids=repr,
)
def test_ttl_is_seconds_or_timedelta(store: shmkv.Store, ttl: Any, seconds: float) -> None:
    before = time.monotonic()
    store.set("k", 1, ttl=ttl)
    remaining = left(store)
    took = time.monotonic() - before
    assert seconds - took - 0.005 <= remaining <= seconds + 0.005


@pytest.mark.parametrize("value", [b"bytes", "str", 7, 1.5, None, True, b"v" * 300_000])
def test_an_item_is_gone_at_its_deadline(store: shmkv.Store, clock: Clock, value: Any) -> None:
    store.set("k", value, ttl=100)
    clock.advance(99)
    assert store["k"] == value
    clock.advance(1.006)
    assert store.get("k", b"gone") == b"gone"
    assert "k" not in store
    assert list(store) == []
    assert store.delete("k") is False


def test_the_deadline_is_exact_to_five_milliseconds(store: shmkv.Store, clock: Clock) -> None:
    store.set("late", 1, ttl=10.0)
    clock.advance(10.006)
    assert "late" not in store
    for _ in range(20):
        start = clock.now_ms()
        store.set("early", 1, ttl=1000.0)
        clock.advance(999.994)
        seen = "early" in store
        if clock.now_ms() <= start + 999_995:
            assert seen
            return
    pytest.fail("this machine is too slow to look at a deadline in time")


def test_expiry_needs_nobody_to_free_the_item(store: shmkv.Store, clock: Clock) -> None:
    for number in range(2000):
        store.set(f"k{number}", b"v" * 100, ttl=10 if number % 2 else 1000)
    clock.advance(11)
    assert sum(1 for _ in store) == 1000
    assert sum(f"k{number}" in store for number in range(2000)) == 1000
    assert len(store.get_many(f"k{number}" for number in range(2000))) == 1000


def test_a_very_short_ttl_is_short(store: shmkv.Store, clock: Clock) -> None:
    for ttl in (5e-324, 1e-9, 0.0001, 0.001):
        store.set("k", 1, ttl=ttl)
        clock.advance(0.007)
        assert "k" not in store


def test_ten_years_last_ten_years(store: shmkv.Store, clock: Clock) -> None:
    store.set("k", 1, ttl=TEN_YEARS)
    clock.advance(TEN_YEARS - 10)
    assert "k" in store
    clock.advance(11)
    assert "k" not in store


def test_no_wrap_after_49_days(store: shmkv.Store, clock: Clock) -> None:
    store.set("short", 1, ttl=10)
    store.set("long", 1, ttl=100 * 86_400)
    clock.advance(2**32 / 1000)
    assert "short" not in store
    assert "long" in store


def test_everyone_sees_the_deadline(open_store: Callable[..., shmkv.Store], clock: Clock) -> None:
    one, two, reader = open_store(), open_store(), open_store(readonly=True)
    one.set("k", 1, ttl=100)
    assert 99 < left(two) <= 100
    assert 99 < left(reader) <= 100
    clock.advance(101)
    assert [h.get("k") for h in (one, two, reader)] == [None, None, None]


def test_without_ttl_an_item_stays(store: shmkv.Store, clock: Clock) -> None:
    store.set("k", 1)
    assert store.ttl("k") is None
    clock.advance(50 * TEN_YEARS)
    assert store["k"] == 1


def test_set_replaces_the_deadline(store: shmkv.Store) -> None:
    store.set("k", 1, ttl=100)
    store.set("k", 2, ttl=1000)
    assert 900 < left(store) <= 1000
    store.set("k", 3)
    assert store.ttl("k") is None
    store.set("k", 4, ttl=100)
    store.set("k", 5, ttl=None)
    assert store.ttl("k") is None


@pytest.mark.parametrize("writer", ["replace", "cas", "update_with", "set_many", "item"])
def test_writers_of_new_values_replace_the_deadline(store: shmkv.Store, writer: str) -> None:
    def write(ttl: float | None) -> None:
        if writer == "replace":
            assert store.replace("k", 2, ttl=ttl)
        elif writer == "cas":
            assert store.cas("k", 2, store.gets("k")[1], ttl=ttl)
        elif writer == "update_with":
            assert store.update_with("k", lambda _: 2, ttl=ttl) == 2
        elif writer == "set_many":
            store.set_many({"k": 2}, ttl=ttl)
        elif ttl is None:
            store["k"] = 2

    store.set("k", 1, ttl=100)
    write(1000)
    if writer != "item":
        assert 900 < left(store) <= 1000
    write(None)
    assert store.ttl("k") is None


def test_add_to_an_expired_key(store: shmkv.Store, clock: Clock) -> None:
    store.set("k", 1, ttl=10)
    assert not store.add("k", 2, ttl=1000)
    assert left(store) <= 10
    clock.advance(11)
    assert not store.replace("k", 2)
    assert store.add("k", 2, ttl=1000)
    assert store["k"] == 2
    assert 900 < left(store) <= 1000


def test_an_expired_key_is_missing_for_every_method(store: shmkv.Store, clock: Clock) -> None:
    store.set("k", 5, ttl=10)
    token = store.gets("k")[1]
    clock.advance(11)
    for call in (store.ttl, store.gets, store.info, store.pop):
        with pytest.raises(KeyError):
            call("k")
    with pytest.raises(KeyError):
        store.rename("k", "new")
    with pytest.raises(KeyError), store.view("k"):
        pass
    with pytest.raises(KeyError):
        store.update_with("k", lambda v: v)
    with pytest.raises(KeyError):
        store.incr("k", default=None)
    assert not store.cas("k", 6, token)
    assert not store.touch("k", 100)
    assert not store.expire_at("k", time.time() + 100)
    assert store.delete_many(["k"]) == 0
    assert list(store.scan(prefix="k")) == []
    assert store.incr("k") == 1
    assert store.ttl("k") is None


def test_append_to_an_expired_key_begins_anew(store: shmkv.Store, clock: Clock) -> None:
    store.set("k", b"old", ttl=10)
    clock.advance(11)
    assert store.append("k", b"new") == 3
    assert store["k"] == b"new"
    assert store.ttl("k") is None


def test_incr_append_and_rename_keep_the_deadline(store: shmkv.Store, clock: Clock) -> None:
    store.set("n", 1, ttl=100)
    store.set("s", b"1", ttl=100)
    clock.advance(50)
    store.incr("n", ttl=1000)
    store.decr("n", ttl=1000)
    store.append("s", b"2")
    store.append("s", b"3" * 70_000)
    store.rename("s", "t")
    for key in ("n", "t"):
        assert 45 < left(store, key) <= 50
    clock.advance(51)
    assert list(store) == []


def test_rename_replaces_the_deadline_of_its_target(store: shmkv.Store) -> None:
    store.set("old", 1)
    store.set("new", 2, ttl=10)
    store.rename("old", "new")
    assert store.ttl("new") is None


def test_incr_gives_a_deadline_only_to_what_it_creates(store: shmkv.Store) -> None:
    assert store.incr("n", ttl=100) == 1
    assert 90 < left(store, "n") <= 100
    store.set("m", 1)
    assert store.incr("m", ttl=100) == 2
    assert store.ttl("m") is None


@pytest.mark.parametrize("value", [5, b"v", "s" * 40_000, None])
def test_touch(store: shmkv.Store, clock: Clock, value: Any) -> None:
    store.set("k", value)
    assert store.touch("k", 100) is True
    assert 99 < left(store) <= 100
    assert store.touch("k", dt.timedelta(seconds=50)) is True
    assert 49 < left(store) <= 50
    clock.advance(20)
    assert store.touch("k", 1000) is True
    clock.advance(100)
    assert store["k"] == value
    assert store.touch("k", None) is True
    assert store.ttl("k") is None
    clock.advance(TEN_YEARS)
    assert store["k"] == value
    assert store.touch("nowhere", 5) is False
    assert store.touch("nowhere", None) is False


def test_ttl_of_a_missing_key(store: shmkv.Store) -> None:
    with pytest.raises(KeyError) as caught:
        store.ttl("nowhere")
    assert caught.value.args == ("nowhere",)


def test_expire_at_takes_unix_time_and_aware_datetimes(store: shmkv.Store) -> None:
    now = time.time()
    east = dt.timezone(dt.timedelta(hours=9))
    whens: list[Any] = [
        now + 1000,
        int(now) + 1000,
        dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1000),
        dt.datetime.now(east) + dt.timedelta(seconds=1000),
    ]
    for when in whens:
        store.set("k", 1)
        assert store.expire_at("k", when) is True
        assert 990 < left(store) <= 1000.005


def test_expire_at_counts(store: shmkv.Store, clock: Clock) -> None:
    store.set("k", 1)
    store.expire_at("k", time.time() + 100)
    clock.advance(98)
    assert "k" in store
    clock.advance(3)
    assert "k" not in store


@pytest.mark.parametrize("when", [0, -1.0, 1.0, 1e9, dt.datetime(1999, 1, 1, tzinfo=dt.UTC)])
def test_expire_at_in_the_past_removes_at_once(store: shmkv.Store, when: Any) -> None:
    store.set("k", 1)
    assert store.expire_at("k", when) is True
    assert "k" not in store
    assert store.expire_at("k", when) is False


def test_expire_at_of_a_missing_key(store: shmkv.Store) -> None:
    assert store.expire_at("nowhere", time.time() + 5) is False


@pytest.mark.parametrize("when", [math.nan, math.inf, -math.inf, 1e300, 10**400, LIMIT * 4])
def test_expire_at_out_of_range(store: shmkv.Store, when: Any) -> None:
    store.set("k", 1)
    with pytest.raises(ValueError, match="when"):
        store.expire_at("k", when)
    assert store.ttl("k") is None


def test_expire_at_needs_an_aware_datetime(store: shmkv.Store) -> None:
    store.set("k", 1)
    with pytest.raises(ValueError, match="aware"):
        store.expire_at("k", dt.datetime(2100, 1, 1))
    assert store.ttl("k") is None


@pytest.mark.parametrize("when", [None, True, "2030-01-01", b"5", dt.timedelta(5)], ids=repr)
def test_expire_at_of_wrong_type(store: shmkv.Store, when: Any) -> None:
    store.set("k", 1)
    with pytest.raises(TypeError, match="when"):
        store.expire_at("k", when)
    assert store.ttl("k") is None
