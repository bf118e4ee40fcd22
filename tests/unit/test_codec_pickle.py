"""Pickle is for those who asked for it: codec="pickle", store by store.

The promise above all: a store that was not opened with codec="pickle" never unpickles, whoever
wrote the item and however it is read; and what cannot be decoded is not lost.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmkv
from tests.unit.codec_values import READS, Own

Opener = Callable[..., shmkv.Store]


pytestmark = pytest.mark.usefixtures("registry")


class Trap:
    """Whoever unpickles it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


CHANGES: dict[str, Callable[[shmkv.Store], Any]] = {
    "incr": lambda s: s.incr("k"),
    "append": lambda s: s.append("k", b"x"),
    "append str": lambda s: s.append("k", "x"),
    "view": lambda s: s.view("k").__enter__(),
}


@pytest.fixture
def trap(store: shmkv.Store, open_store: Opener, tmp_path: Path) -> Iterator[Path]:
    """A file that a pickled item under "k" makes when it is unpickled."""
    file = tmp_path / "sprung"
    writer = open_store(codec="pickle")
    writer.set("k", [Trap(file)])
    payload = store._get_encoded("k")
    yield file
    assert not file.exists()
    assert store._get_encoded("k") == payload  # nothing was lost
    writer.get("k")
    assert file.exists()  # it would have


@pytest.mark.parametrize("read", READS)
def test_the_safe_codec_never_unpickles(store: shmkv.Store, trap: Path, read: str) -> None:
    with pytest.raises(shmkv.CodecError, match="pickle") as raised:
        READS[read](store)
    assert store.name in str(raised.value)
    assert 'codec="pickle"' in str(raised.value)


@pytest.mark.parametrize("read", READS)
def test_nor_does_a_store_with_another_codec(
    open_store: Opener, own: Own, trap: Path, read: str
) -> None:
    with pytest.raises(shmkv.CodecError, match="pickle"):
        READS[read](open_store(codec=own.name))


@pytest.mark.parametrize("change", CHANGES)
def test_nor_do_changes(store: shmkv.Store, trap: Path, change: str) -> None:
    with pytest.raises(TypeError, match=r"another type|encoded"):
        CHANGES[change](store)


def test_what_needs_no_value_works(store: shmkv.Store, trap: Path) -> None:
    assert "k" in store
    assert list(store) == ["k"]
    assert store.info("k").type == "encoded"
    assert store.touch("k", 1000)
    store.rename("k", "other")
    store._compact()
    store.rename("other", "k")
    assert store.check().ok
    assert not store.cas("k", 1, 12345)
    assert not store.add("k", 1)


def test_an_item_that_claims_to_be_pickle_is_not_unpickled_either(
    store: shmkv.Store, tmp_path: Path
) -> None:
    file = tmp_path / "sprung"
    store.set("k", shmkv.Encoded("pickle", pickle.dumps(Trap(file))))
    with pytest.raises(shmkv.CodecError, match="pickle"):
        store.get("k")
    shmkv.register_codec(Own("pickle2"))
    store.set("k", shmkv.Encoded("pickle2", pickle.dumps(Trap(file))))
    with pytest.raises(shmkv.CodecError):
        store.get("k")
    assert not file.exists()


class Anything:
    """What only pickle stores."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anything) and self.inner == other.inner

    __hash__ = None  # type: ignore[assignment]


def test_pickle_by_opt_in(open_store: Opener) -> None:
    store = open_store(codec="pickle")
    ring: list[Any] = []
    ring.append(ring)
    for value in (Anything([1]), [Anything(2)], 1j, {Anything: 1}, range(3)):
        store.set("k", value)
        assert store["k"] == value
    store.set("k", ring)
    assert store["k"][0][0] is not ring
    for plain in (1, "s", b"b", 2.5, None, True, 1 << 80):
        store.set("k", plain)
        assert open_store()["k"] == plain  # plain values are plain, whatever the codec
    store.set("n", 1)
    assert store.incr("n") == 2


def test_pickle_refuses_what_it_cannot(open_store: Opener) -> None:
    store = open_store(codec="pickle")
    store.set("k", b"stays")
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        store.set("k", [lambda: 1])
    assert store["k"] == b"stays"


def test_a_store_with_pickle_reads_what_the_safe_codec_wrote(
    store: shmkv.Store, open_store: Opener
) -> None:
    store.set("k", [(1, {2})])
    assert open_store(codec="pickle")["k"] == [(1, {2})]
