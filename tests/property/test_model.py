"""The model itself: an oracle that is wrong proves nothing."""

from __future__ import annotations

import pytest

from tests.model import INT64_MAX, MISSING, Model


def test_a_str_and_its_bytes_are_one_key() -> None:
    model = Model()
    model.set("caf\u00e9", 1)
    assert model["caf\u00e9".encode()] == 1
    assert model.items["caf\u00e9".encode()].spellings == {str}


def test_time() -> None:
    model = Model()
    model.set("k", 1, ttl=10)
    model.set("stays", 1)
    model.advance(9.999)
    assert model.ttl("k") == pytest.approx(0.001)
    model.advance(0.001)
    assert "k" not in model
    assert model.ttl("stays") is None
    assert list(model.len_range()) == [1, 2]
    model.set("k", 2)
    assert list(model.len_range()) == [2]


def test_counters() -> None:
    model = Model()
    assert model.incr("n", 5, default=2) == 7
    model.set("n", INT64_MAX)
    with pytest.raises(OverflowError):
        model.incr("n")
    model.set("n", INT64_MAX + 1)
    with pytest.raises(OverflowError):
        model.decr("n")
    model.set("n", True)
    with pytest.raises(TypeError):
        model.incr("n")
    with pytest.raises(KeyError):
        model.incr("new", default=None)


def test_generations_change_with_values_and_edits_in_place() -> None:
    model = Model()
    model.set("n", 1)
    first = model.items[b"n"].generation
    model.incr("n")
    assert (model.items[b"n"].generation, model.items[b"n"].edits) == (first, 1)
    model.touch("n", 5)
    assert (model.items[b"n"].generation, model.items[b"n"].edits) == (first, 2)
    model.set("n", 2)
    assert model.items[b"n"].generation != first


def test_append_and_rename_keep_the_deadline() -> None:
    model = Model()
    model.set("k", "caf", ttl=10)
    assert model.append("k", "\u00e9") == 5
    model.rename("k", b"l")
    assert model.ttl("l") == 10
    assert model.items[b"l"].spellings == {bytes}
    with pytest.raises(TypeError):
        model.append("l", b"bytes")


def test_missing_is_no_default() -> None:
    model = Model()
    with pytest.raises(KeyError):
        model.pop("k")
    assert model.pop("k", None) is None
    with pytest.raises(KeyError):
        model.update_with("k", lambda v: v)
    assert not MISSING
