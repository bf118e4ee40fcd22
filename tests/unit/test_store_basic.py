"""Set, get, add, replace, delete, append, rename, clear: one key, one handle.

Owns the plain life of an item: results, what is replaced, what stays after a refusal. Types of
values, keys, time, counters and cas have files of their own.
"""

from __future__ import annotations

from typing import Any

import pytest

import shmkv


def test_a_new_store_is_empty(store: shmkv.Store) -> None:
    assert len(store) == 0
    assert list(store) == []
    assert list(store.scan()) == []
    assert "k" not in store
    assert store.get("k") is None


def test_set_then_get(store: shmkv.Store) -> None:
    store.set("k", b"value")
    assert store.get("k") == b"value"
    assert store["k"] == b"value"
    assert "k" in store
    assert len(store) == 1


def test_set_replaces(store: shmkv.Store) -> None:
    store.set("k", b"a long first value" * 100)
    store.set("k", b"2")
    assert store.get("k") == b"2"
    assert len(store) == 1


def test_every_length_of_value_replaces_every_other(store: shmkv.Store) -> None:
    sizes = [0, 1, 15, 16, 17, 255, 4096, 65_536, 300_000, 3, 70_000, 0]
    for number, size in enumerate(sizes):
        value = bytes([number]) * size
        store.set("k", value)
        assert store.get("k") == value
    assert len(store) == 1


def test_get_of_a_missing_key_gives_the_default_itself(store: shmkv.Store) -> None:
    default = object()
    assert store.get("k", default) is default
    assert store.get("k", default=default) is default
    assert store.get("k") is None


def test_a_stored_none_is_not_a_miss(store: shmkv.Store) -> None:
    store.set("k", None)
    assert store.get("k", 5) is None
    assert store["k"] is None
    assert "k" in store
    assert not store.add("k", 1)


def test_item_syntax(store: shmkv.Store) -> None:
    store["k"] = 5
    assert store["k"] == 5
    del store["k"]
    assert "k" not in store


def test_missing_keys_raise_key_error_with_the_key(store: shmkv.Store) -> None:
    with pytest.raises(KeyError) as caught:
        store["nowhere"]
    assert caught.value.args == ("nowhere",)
    with pytest.raises(KeyError) as caught:
        del store[b"nowhere"]
    assert caught.value.args == (b"nowhere",)


def test_delete(store: shmkv.Store) -> None:
    store.set("k", 1)
    assert store.delete("k") is True
    assert store.delete("k") is False
    assert store.get("k") is None
    assert len(store) == 0


def test_a_deleted_key_can_come_back(store: shmkv.Store) -> None:
    for turn in range(100):
        store.set("k", turn)
        assert store.get("k") == turn
        assert store.delete("k")
    assert len(store) == 0


def test_add_only_where_nothing_is(store: shmkv.Store) -> None:
    assert store.add("k", b"first") is True
    assert store.add("k", b"second") is False
    assert store.get("k") == b"first"
    store.delete("k")
    assert store.add("k", b"third") is True


def test_replace_only_where_something_is(store: shmkv.Store) -> None:
    assert store.replace("k", b"first") is False
    assert "k" not in store
    store.set("k", b"second")
    assert store.replace("k", b"third") is True
    assert store.get("k") == b"third"


def test_mutators_without_a_result_return_none(store: shmkv.Store) -> None:
    def result_of(call: Any, *args: Any) -> Any:
        return call(*args)

    assert result_of(store.set, "k", 1) is None
    assert result_of(store.set_many, {"k": 1}) is None
    assert result_of(store.rename, "k", "l") is None
    assert result_of(store.clear) is None


def test_append_creates_and_lengthens_bytes(store: shmkv.Store) -> None:
    assert store.append("log", b"abc") == 3
    assert store.append("log", b"") == 3
    assert store.append("log", b"defg") == 7
    assert store.get("log") == b"abcdefg"


def test_append_counts_a_str_in_utf8_bytes(store: shmkv.Store) -> None:
    assert store.append("log", "caf\u00e9") == 5
    assert store.append("log", "\u20ac") == 8
    assert store.get("log") == "caf\u00e9\u20ac"


def test_append_creates_from_an_empty_tail(store: shmkv.Store) -> None:
    assert store.append("a", b"") == 0
    assert store.append("b", "") == 0
    assert (store["a"], store["b"]) == (b"", "")


def test_append_grows_through_all_item_sizes(store: shmkv.Store) -> None:
    tail = bytes(range(251)) * 40
    for turn in range(1, 41):
        assert store.append("log", tail) == turn * len(tail)
    assert store.get("log") == tail * 40


@pytest.mark.parametrize(
    ("value", "tail"), [(b"v", "t"), ("v", b"t"), (5, b"t"), (None, "t"), (1.5, b"t"), (True, "t")]
)
def test_append_to_another_type(store: shmkv.Store, value: Any, tail: Any) -> None:
    store.set("k", value)
    with pytest.raises(TypeError):
        store.append("k", tail)
    assert store["k"] == value
    assert type(store["k"]) is type(value)


@pytest.mark.parametrize("tail", [5, None, 1.5, [b"t"], object()], ids=repr)
def test_append_of_what_is_no_string(store: shmkv.Store, tail: Any) -> None:
    with pytest.raises(TypeError):
        store.append("k", tail)
    assert "k" not in store


def test_rename_moves_the_value(store: shmkv.Store) -> None:
    store.set("old", b"value")
    store.rename("old", "new")
    assert "old" not in store
    assert store["new"] == b"value"
    assert len(store) == 1


def test_rename_replaces(store: shmkv.Store) -> None:
    store.set("old", b"value")
    store.set("new", b"away")
    store.rename("old", "new")
    assert dict(store.items()) == {"new": b"value"}


def test_rename_of_a_missing_key(store: shmkv.Store) -> None:
    store.set("new", b"stays")
    with pytest.raises(KeyError) as caught:
        store.rename("old", "new")
    assert caught.value.args == ("old",)
    assert store["new"] == b"stays"


def test_rename_to_itself(store: shmkv.Store) -> None:
    store.set("k", b"value")
    store.rename("k", "k")
    store.rename("k", b"k")
    assert store["k"] == b"value"
    assert len(store) == 1
    with pytest.raises(KeyError):
        store.rename("l", "l")


@pytest.mark.parametrize("value", [b"", b"v" * 40_000, "\u20ac" * 90_000, 7, -0.5, True, None])
def test_rename_keeps_every_type(store: shmkv.Store, value: Any) -> None:
    store.set("old", value)
    store.rename("old", "new")
    assert store["new"] == value
    assert type(store["new"]) is type(value)


def test_renamed_counters_count_on(store: shmkv.Store) -> None:
    store.incr("old", 41)
    store.rename("old", "new")
    assert store.incr("new") == 42
    assert store.incr("old") == 1


def test_clear(store: shmkv.Store) -> None:
    for number in range(1000):
        store.set(f"k{number}", number)
    store.clear()
    assert len(store) == 0
    assert list(store) == []
    assert all(store.get(f"k{number}") is None for number in range(1000))
    store.set("k1", b"new")
    assert dict(store.items()) == {"k1": b"new"}


def test_many_keys_keep_their_values(store: shmkv.Store) -> None:
    values = {f"key-{number}": b"%d" % number * (number % 7) for number in range(20_000)}
    for key, value in values.items():
        store.set(key, value)
    assert len(store) == len(values)
    for key, value in values.items():
        assert store.get(key) == value
    for key in list(values)[::2]:
        assert store.delete(key)
        del values[key]
    assert len(store) == len(values)
    assert dict(store.items()) == values
    assert store.check().ok


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("set", ("k",)),
        ("set", ("k", 1, 2)),
        ("get", ()),
        ("get", ("k", 1, 2)),
        ("add", ("k", 1, 2)),
        ("replace", ("k", 1, 2)),
        ("delete", ()),
        ("delete", ("k", 1)),
        ("append", ("k",)),
        ("rename", ("k",)),
        ("clear", (1,)),
    ],
)
def test_wrong_number_of_arguments(store: shmkv.Store, method: str, args: tuple[Any]) -> None:
    store.set("k", b"stays")
    with pytest.raises(TypeError):
        getattr(store, method)(*args)
    assert dict(store.items()) == {"k": b"stays"}


@pytest.mark.parametrize("method", ["set", "add", "replace"])
def test_unknown_keywords(store: shmkv.Store, method: str) -> None:
    with pytest.raises(TypeError, match="tttl"):
        getattr(store, method)("k", 1, tttl=5)
    assert "k" not in store
