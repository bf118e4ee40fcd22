"""view: a read-only memoryview of a stored value, no copy, valid while its `with` lasts.

Owns: what can be viewed, that its bytes never change beneath the reader, and how a view ends. How
`close()` treats open views stands in `test_store_open_close.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

import shmkv
from tests.conftest import STORE_SIZE, Clock

SIZES = [0, 1, 100, 4096, 32_767, 32_768, 32_769, 65_536, 262_144, 500_000]


def pattern(size: int, seed: int = 0) -> bytes:
    return bytes((seed + i * i // 7) % 251 for i in range(1009)) * (size // 1009 + 1)


@pytest.mark.parametrize("size", SIZES)
def test_view_of_bytes(store: shmkv.Store, size: int) -> None:
    value = pattern(size)[:size]
    store.set("k", value)
    with store.view("k") as view:
        assert type(view) is memoryview
        assert view.readonly
        assert (view.format, view.itemsize, view.ndim, view.nbytes) == ("B", 1, 1, size)
        assert view.c_contiguous
        assert view == value
        assert bytes(view) == value


@pytest.mark.parametrize("text", ["", "a", "caf\u00e9", "\U0001f40d" * 20_000])
def test_view_of_a_str_is_its_utf8(store: shmkv.Store, text: str) -> None:
    store.set("k", text)
    with store.view("k") as view:
        assert bytes(view) == text.encode()


def test_view_cannot_be_written(store: shmkv.Store) -> None:
    store.set("k", b"value")
    with store.view("k") as view, pytest.raises(TypeError):
        view[0] = 1
    assert store["k"] == b"value"


def test_view_of_a_missing_key(store: shmkv.Store) -> None:
    with pytest.raises(KeyError) as caught, store.view("nowhere"):
        pass
    assert caught.value.args == ("nowhere",)


@pytest.mark.parametrize("value", [5, 1 << 80, 1.5, True, None], ids=repr)
def test_view_of_other_types(store: shmkv.Store, value: Any) -> None:
    store.set("k", value)
    with pytest.raises(TypeError, match=type(value).__name__), store.view("k"):
        pass
    assert store["k"] == value


def test_a_view_ends_with_its_block(store: shmkv.Store) -> None:
    store.set("k", b"value" * 10_000)
    with store.view("k") as view:
        assert view[0] == ord("v")
    with pytest.raises(ValueError, match="released"):
        view[0]


def test_a_view_ends_when_its_block_raises(store: shmkv.Store) -> None:
    store.set("k", b"value" * 10_000)
    with pytest.raises(LookupError), store.view("k") as view:
        raise LookupError
    with pytest.raises(ValueError, match="released"):
        view[0]
    store.close()
    assert store.closed


def test_a_view_does_not_outlive_its_block_in_a_slice(store: shmkv.Store) -> None:
    value = pattern(40_000)[:40_000]
    store.set("k", value)
    with store.view("k") as view:
        part = view[100:200]
    for turn in range(300):
        store.set("k", bytes([turn % 251]) * 40_000)
    try:
        content = bytes(part)
    except ValueError:
        content = value[100:200]
    assert content == value[100:200]
    part.release()


@pytest.mark.parametrize("size", [100, 40_000, 300_000])
@pytest.mark.parametrize("change", ["overwrite", "delete", "rename", "clear", "expire", "append"])
def test_the_bytes_stay_whatever_happens_to_the_key(
    store: shmkv.Store, clock: Clock, change: str, size: int
) -> None:
    value = pattern(size)[:size]
    store.set("k", value, ttl=100)
    with store.view("k") as view:
        if change == "overwrite":
            store.set("k", b"other" * (size // 5))
        elif change == "delete":
            store.delete("k")
        elif change == "rename":
            store.rename("k", "l")
        elif change == "clear":
            store.clear()
        elif change == "expire":
            clock.advance(101)
        else:
            store.append("k", b"tail")
        for turn in range(3 * STORE_SIZE // 50_000):
            store.set(f"churn{turn % 100}", bytes([turn % 251]) * 50_000)
        assert view == value
    assert store.check().ok


def test_many_views_at_once(store: shmkv.Store) -> None:
    store.set_many({f"k{n}": pattern(50_000, n)[:50_000] for n in range(10)})
    blocks = [store.view(f"k{n}") for n in range(10)]
    views = [block.__enter__() for block in blocks]
    for turn in range(500):
        store.set(f"churn{turn}", b"c" * 50_000)
    for number, view in enumerate(views):
        assert view == pattern(50_000, number)[:50_000]
    for block in reversed(blocks):
        block.__exit__(None, None, None)
    store.close()


def test_more_views_of_one_key_than_a_row_has_pins(store: shmkv.Store) -> None:
    value = pattern(100_000)[:100_000]
    store.set("k", value)
    blocks = [store.view("k") for _ in range(200)]
    views = [block.__enter__() for block in blocks]
    assert all(view == value for view in views)
    for block in blocks:
        block.__exit__(None, None, None)
    with store.view("k") as again:
        assert again == value


def test_views_leave_no_pins(store: shmkv.Store) -> None:
    store.set("k", b"v" * 100_000)
    for _ in range(5000):
        with store.view("k") as view:
            assert view.nbytes == 100_000
    for turn in range(500):
        store.set(f"churn{turn}", b"c" * 50_000)
    store.close()
    assert store.closed


def test_a_view_that_is_never_entered_holds_nothing(store: shmkv.Store) -> None:
    store.set("k", b"v" * 100_000)
    blocks = [store.view("k") for _ in range(50)]
    store.close()
    assert store.closed
    del blocks


def test_a_reader_views_a_copy(store: shmkv.Store) -> None:
    value = pattern(100_000)[:100_000]
    store.set("k", value)
    with shmkv.open(store.name, create=False, readonly=True) as reader, reader.view("k") as view:
        store.set("k", b"other")
        for turn in range(500):
            store.set(f"churn{turn}", b"c" * 50_000)
        assert view.readonly
        assert view == value


def test_a_view_counts_as_a_read(store: shmkv.Store) -> None:
    store.set("k", b"v")
    before = store.stats()
    with store.view("k"):
        pass
    with pytest.raises(KeyError), store.view("nowhere"):
        pass
    after = store.stats()
    assert (after.hits - before.hits, after.misses - before.misses) == (1, 1)
