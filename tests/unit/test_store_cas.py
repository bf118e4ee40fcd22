"""Compare and set: gets, cas, update_with.

Owns when a token is good. A token is an int that is never reused for its key; one exception is
left open: a counter that was counted back to the same value may, or may not, accept the old token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import shmkv


def token_of(store: shmkv.Store, key: str = "k") -> int:
    token = store.gets(key)[1]
    assert type(token) is int
    return token


@pytest.mark.parametrize("value", [b"v", b"v" * 300_000, "s", 5, 1 << 70, 1.5, True, None])
def test_gets(store: shmkv.Store, value: Any) -> None:
    store.set("k", value)
    result = store.gets("k")
    assert isinstance(result, tuple)
    assert len(result) == 2
    assert result[0] == value
    assert type(result[0]) is type(value)
    assert type(result[1]) is int


def test_gets_of_a_missing_key(store: shmkv.Store) -> None:
    with pytest.raises(KeyError) as caught:
        store.gets("nowhere")
    assert caught.value.args == ("nowhere",)


def test_a_token_is_stable_while_nothing_changes(store: shmkv.Store) -> None:
    store.set("k", 1)
    token = token_of(store)
    store.get("k")
    store.set("other", 2)
    store.add("k", 3)
    store.delete("nowhere")
    assert token_of(store) == token


@pytest.mark.parametrize("value", [b"new", 7, None, b"v" * 300_000])
def test_cas_with_the_right_token(store: shmkv.Store, value: Any) -> None:
    store.set("k", b"old")
    assert store.cas("k", value, token_of(store)) is True
    assert store["k"] == value


def test_cas_with_an_old_token(store: shmkv.Store) -> None:
    store.set("k", b"old")
    token = token_of(store)
    store.set("k", b"newer")
    assert store.cas("k", b"lost", token) is False
    assert store["k"] == b"newer"


def test_a_token_is_good_once(store: shmkv.Store) -> None:
    store.set("k", 1)
    token = token_of(store)
    assert store.cas("k", 2, token) is True
    assert store.cas("k", 3, token) is False
    assert store["k"] == 2


Step = tuple[str, *tuple[Any, ...]]
CHANGES: dict[str, list[Step]] = {
    "set": [("set", "k", 2)],
    "set the same": [("set", "k", 1)],
    "item": [("__setitem__", "k", 1)],
    "replace": [("replace", "k", 1)],
    "incr": [("incr", "k")],
    "decr": [("decr", "k")],
    "update_with": [("update_with", "k", lambda value: value)],
    "set_many": [("set_many", {"k": 1})],
    "delete, set": [("delete", "k"), ("set", "k", 1)],
    "delete, add": [("delete", "k"), ("add", "k", 1)],
    "pop, set": [("pop", "k"), ("set", "k", 1)],
    "delete, incr": [("delete", "k"), ("incr", "k")],
    "clear, set": [("clear",), ("set", "k", 1)],
    "rename onto": [("set", "other", 1), ("rename", "other", "k")],
    "rename away and back": [("rename", "k", "other"), ("rename", "other", "k")],
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_makes_tokens_old(store: shmkv.Store, change: str) -> None:
    store.set("k", 1)
    token = token_of(store)
    for method, *args in CHANGES[change]:
        getattr(store, method)(*args)
    assert token_of(store) != token
    before = store["k"]
    assert store.cas("k", b"lost update", token) is False
    assert store["k"] == before


def test_append_makes_tokens_old(store: shmkv.Store) -> None:
    store.set("k", b"1")
    token = token_of(store)
    store.append("k", b"2")
    assert store.cas("k", b"lost update", token) is False
    assert store["k"] == b"12"


def test_cas_of_a_missing_key(store: shmkv.Store) -> None:
    assert store.cas("k", 1, 5) is False
    assert store.cas("k", 1, 0) is False
    store.set("k", 1)
    token = token_of(store)
    store.delete("k")
    assert store.cas("k", 2, token) is False
    assert "k" not in store


def test_tokens_are_never_reused(store: shmkv.Store) -> None:
    seen = set()
    for turn in range(3000):
        if turn % 3 == 2:
            store.delete("k")
        store.set("k", turn % 2)
        seen.add(token_of(store))
    assert len(seen) == 3000


def test_tokens_differ_while_counting_up(store: shmkv.Store) -> None:
    seen = set()
    for _ in range(1000):
        store.incr("k")
        seen.add(token_of(store))
    assert len(seen) == 1000


@pytest.mark.parametrize("token", [-1, 0, 1 << 63, 1 << 64, 1 << 200, -(1 << 200)])
def test_tokens_nobody_was_given(store: shmkv.Store, token: int) -> None:
    store.set("k", 1)
    assert store.cas("k", 2, token) is False
    assert store["k"] == 1


@pytest.mark.parametrize("token", [None, "5", b"5", 5.0, [5]], ids=repr)
def test_tokens_of_wrong_type(store: shmkv.Store, token: Any) -> None:
    store.set("k", 1)
    with pytest.raises(TypeError, match="token"):
        store.cas("k", 2, token)
    assert store["k"] == 1


def test_a_token_can_be_used_by_another_handle(open_store: Callable[..., shmkv.Store]) -> None:
    one, two = open_store(), open_store()
    reader = open_store(readonly=True)
    one.set("k", 1)
    token = token_of(one)
    assert token_of(two) == token
    assert token_of(reader) == token
    assert two.cas("k", 2, token)
    assert not one.cas("k", 3, token)
    assert reader["k"] == 2


def test_a_str_token_holds_for_the_bytes_key(store: shmkv.Store) -> None:
    store.set("k", 1)
    assert store.cas(b"k", 2, token_of(store)) is True
    assert store["k"] == 2


def test_cas_keeps_other_keys(store: shmkv.Store) -> None:
    store.set_many({f"k{n}": n for n in range(100)})
    for number in range(100):
        value, token = store.gets(f"k{number}")
        assert store.cas(f"k{number}", value * 2, token)
    assert dict(store.items()) == {f"k{n}": n * 2 for n in range(100)}


# --- update_with ----------------------------------------------------------------------------


def test_update_with(store: shmkv.Store) -> None:
    store.set("k", 20)
    assert store.update_with("k", lambda v: v + 1) == 21
    assert store["k"] == 21


def test_update_with_returns_what_it_stored(store: shmkv.Store) -> None:
    store.set("k", b"a")
    assert store.update_with("k", lambda v: v.decode() * 3) == "aaa"
    assert store["k"] == "aaa"


def test_update_with_needs_the_key_or_a_default(store: shmkv.Store) -> None:
    with pytest.raises(KeyError) as caught:
        store.update_with("k", lambda v: v)
    assert caught.value.args == ("k",)
    assert store.update_with("k", lambda v: v + 1, default=10) == 11
    assert store.update_with("k", lambda v: v + 1, default=10) == 12


def test_update_with_default_none_is_a_default(store: shmkv.Store) -> None:
    assert store.update_with("k", lambda v: v is None, default=None) is True
    assert store["k"] is True


def test_update_with_passes_on_what_the_function_raises(store: shmkv.Store) -> None:
    store.set("k", 1)

    def fail(value: Any) -> Any:
        raise LookupError(f"no {value}")

    with pytest.raises(LookupError, match="no 1"):
        store.update_with("k", fail)
    with pytest.raises(LookupError, match="no 2"):
        store.update_with("new", fail, default=2)
    assert dict(store.items()) == {"k": 1}


def test_update_with_needs_a_function(store: shmkv.Store) -> None:
    store.set("k", 1)
    with pytest.raises(TypeError):
        store.update_with("k", 5)  # type: ignore[arg-type]
    assert store["k"] == 1


def test_the_function_may_use_the_store(store: shmkv.Store) -> None:
    store.set("k", 1)

    def busy(value: int) -> int:
        store.set("other", value)
        store.incr("runs")
        assert store["k"] == value
        assert store.update_with("inner", lambda v: v + 1, default=0) >= 1
        return value + 1

    assert store.update_with("k", busy) == 2
    assert dict(store.items()) == {"k": 2, "other": 1, "runs": 1, "inner": 1}


def test_a_change_during_the_function_runs_it_again(store: shmkv.Store) -> None:
    store.set("k", 1)
    seen = []

    def interrupted(value: int) -> int:
        seen.append(value)
        if len(seen) == 1:
            store.set("k", 100)
        return value + 1

    assert store.update_with("k", interrupted) == 101
    assert seen == [1, 100]
    assert store["k"] == 101


def test_a_count_during_the_function_is_not_lost(store: shmkv.Store) -> None:
    store.set("k", 1)
    seen = []

    def interrupted(value: int) -> int:
        seen.append(value)
        if len(seen) <= 2:
            store.incr("k", 10)
        return value + 1

    assert store.update_with("k", interrupted) == 22
    assert seen == [1, 11, 21]


def test_a_key_that_appears_during_the_function(store: shmkv.Store) -> None:
    seen = []

    def interrupted(value: int) -> int:
        seen.append(value)
        store.add("k", 50)
        return value + 1

    assert store.update_with("k", interrupted, default=1) == 51
    assert seen == [1, 50]


def test_a_key_that_goes_during_the_function(store: shmkv.Store) -> None:
    def deletes(value: int) -> int:
        store.delete("k")
        return value + 1

    store.set("k", 1)
    with pytest.raises(KeyError):
        store.update_with("k", deletes)
    assert "k" not in store
    store.set("k", 1)
    assert store.update_with("k", deletes, default=5) == 6
    assert store["k"] == 6


def test_a_touch_is_no_change(store: shmkv.Store) -> None:
    """Whether the item has room for a deadline already or has to be written anew."""
    store["k"] = "old"
    _, token = store.gets("k")
    assert store.touch("k", 100)
    assert store.touch("k", 200)
    assert store.gets("k") == ("old", token)
    assert store.cas("k", "new", token)
    assert not store.cas("k", "newer", token)
    store["n"] = 5
    _, token = store.gets("n")
    assert store.touch("n", 100)
    assert store.cas("n", 6, token)
