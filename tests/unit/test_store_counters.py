"""Counters: incr and decr, their limits at 64 bits, and what is no counter.

A refused step leaves value, deadline and presence of the key unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import shmkv

MIN, MAX = -(1 << 63), (1 << 63) - 1


def test_counting(store: shmkv.Store) -> None:
    assert store.incr("n") == 1
    assert store.incr("n") == 2
    assert store.incr("n", 40) == 42
    assert store.incr("n", delta=-2) == 40
    assert store.decr("n") == 39
    assert store.decr("n", 9) == 30
    assert store.decr("n", delta=-70) == 100
    assert store["n"] == 100
    assert type(store["n"]) is int


def test_results_are_plain_ints(store: shmkv.Store) -> None:
    for value in (store.incr("n"), store.decr("n"), store.incr("n", MAX), store["n"]):
        assert type(value) is int


def test_a_missing_key_starts_at_the_default(store: shmkv.Store) -> None:
    assert store.incr("a", 5) == 5
    assert store.incr("b", 5, default=100) == 105
    assert store.decr("c", 5, default=100) == 95
    assert store.decr("d") == -1
    assert store.incr("b", 5, default=1000) == 110
    assert {k: store[k] for k in "abcd"} == {"a": 5, "b": 110, "c": 95, "d": -1}


@pytest.mark.parametrize("method", ["incr", "decr"])
def test_no_default_needs_the_key(store: shmkv.Store, method: str) -> None:
    with pytest.raises(KeyError) as caught:
        getattr(store, method)("n", default=None)
    assert caught.value.args == ("n",)
    assert "n" not in store
    store.set("n", 5)
    assert getattr(store, method)("n", 0, default=None) == 5


def test_what_set_wrote_can_be_counted(store: shmkv.Store) -> None:
    for start in (0, 1, -1, 255, 256, 1 << 31, 1 << 32, MAX - 1, MIN, MAX):
        store.set("n", start)
        assert store.incr("n", 0) == start
        assert store.decr("n", 0) == start
        store.set("n", start)
        step = -1 if start > 0 else 1
        assert store.incr("n", step) == start + step
        assert store["n"] == start + step


def test_delta_zero_creates(store: shmkv.Store) -> None:
    assert store.incr("n", 0) == 0
    assert store["n"] == 0


def test_the_whole_range_can_be_crossed(store: shmkv.Store) -> None:
    store.set("n", MIN)
    assert store.incr("n", MAX) == -1
    assert store.incr("n", MAX) == MAX - 1
    assert store.incr("n") == MAX
    assert store.decr("n", MAX) == 0
    assert store.decr("n", MAX) == -MAX
    assert store.decr("n") == MIN


@pytest.mark.parametrize(
    ("start", "method", "delta"),
    [
        (MAX, "incr", 1),
        (MAX, "incr", MAX),
        (MAX, "decr", -1),
        (MAX, "decr", MIN),
        (0, "decr", MIN),
        (MIN, "incr", -1),
        (MIN, "incr", MIN),
        (MIN, "decr", 1),
        (MIN, "decr", MAX),
        (1, "incr", MAX),
        (-2, "incr", MIN),
        (-2, "decr", MAX),
    ],
)
def test_overflow(store: shmkv.Store, start: int, method: str, delta: int) -> None:
    store.set("n", start, ttl=1000)
    with pytest.raises(OverflowError):
        getattr(store, method)("n", delta)
    assert store["n"] == start
    assert (store.ttl("n") or 0) > 900


@pytest.mark.parametrize("delta", [MAX + 1, MIN - 1, 1 << 64, 1 << 200, -(1 << 200)])
@pytest.mark.parametrize("method", ["incr", "decr"])
def test_delta_beyond_64_bits(store: shmkv.Store, method: str, delta: int) -> None:
    store.set("n", 5)
    for key in ("n", "new"):
        with pytest.raises(OverflowError):
            getattr(store, method)(key, delta)
    assert dict(store.items()) == {"n": 5}


def test_the_smallest_delta_never_wraps(store: shmkv.Store) -> None:
    store.set("n", -1)
    assert store.incr("n", MAX) == MAX - 1
    store.set("n", -1)
    try:
        result = store.decr("n", MIN)
    except OverflowError:
        result = -1
    assert result in (-1, MAX)
    assert store["n"] == result


@pytest.mark.parametrize("default", [MAX + 1, MIN - 1, 1 << 100])
def test_default_beyond_64_bits(store: shmkv.Store, default: int) -> None:
    for delta in (1, -1):
        with pytest.raises(OverflowError):
            store.incr("n", delta, default=default)
    assert "n" not in store


def test_default_and_delta_overflow_together(store: shmkv.Store) -> None:
    with pytest.raises(OverflowError):
        store.incr("n", default=MAX)
    with pytest.raises(OverflowError):
        store.decr("n", default=MIN)
    assert "n" not in store


@pytest.mark.parametrize("value", [MAX + 1, MIN - 1, 1 << 64, -(1 << 300)])
@pytest.mark.parametrize("delta", [0, 1, -1, MIN, MAX])
def test_larger_ints_are_values_not_counters(store: shmkv.Store, value: int, delta: int) -> None:
    store.set("n", value)
    with pytest.raises(OverflowError):
        store.incr("n", delta)
    with pytest.raises(OverflowError):
        store.decr("n", delta)
    assert store["n"] == value


@pytest.mark.parametrize("value", [b"5", "5", 5.0, True, False, None, b""], ids=repr)
@pytest.mark.parametrize("method", ["incr", "decr"])
def test_other_types_are_no_counters(store: shmkv.Store, method: str, value: Any) -> None:
    store.set("n", value)
    with pytest.raises(TypeError):
        getattr(store, method)("n")
    assert store["n"] == value
    assert type(store["n"]) is type(value)


@pytest.mark.parametrize("delta", [True, False, 1.0, "1", b"1", None, [1], 1j], ids=repr)
@pytest.mark.parametrize("method", ["incr", "decr"])
def test_delta_of_wrong_type(store: shmkv.Store, method: str, delta: Any) -> None:
    store.set("n", 5)
    for key in ("n", "new"):
        with pytest.raises(TypeError, match="delta"):
            getattr(store, method)(key, delta)
    assert dict(store.items()) == {"n": 5}


@pytest.mark.parametrize("default", [True, 1.0, "1", b"1", [1]], ids=repr)
@pytest.mark.parametrize("method", ["incr", "decr"])
def test_default_of_wrong_type(store: shmkv.Store, method: str, default: Any) -> None:
    with pytest.raises(TypeError, match="default"):
        getattr(store, method)("n", default=default)
    assert "n" not in store


@pytest.mark.parametrize("method", ["incr", "decr"])
def test_default_is_a_keyword(store: shmkv.Store, method: str) -> None:
    with pytest.raises(TypeError):
        getattr(store, method)("n", 1, 5)
    assert "n" not in store


def test_a_counter_survives_overwrites_of_other_types(store: shmkv.Store) -> None:
    for value in (b"bytes" * 100, 41, "str", 41, None, 41):
        store.set("n", value)
    assert store.incr("n") == 42
    store.set("n", b"done")
    assert store["n"] == b"done"


def test_handles_share_a_counter(open_store: Callable[..., shmkv.Store]) -> None:
    one, two, reader = open_store(), open_store(), open_store(readonly=True)
    for turn in range(1, 500, 2):
        assert one.incr("n") == turn
        assert two.incr("n") == turn + 1
        assert reader["n"] == turn + 1


def test_ten_thousand_counters_do_not_touch_each_other(store: shmkv.Store) -> None:
    for number in range(10_000):
        store.incr(f"n{number}", number)
    for number in range(0, 10_000, 3):
        store.decr(f"n{number}", 2 * number)
    for number in range(10_000):
        assert store[f"n{number}"] == (-number if number % 3 == 0 else number)
