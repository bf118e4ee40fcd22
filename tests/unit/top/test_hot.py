"""Hot keys: what counters tell, that looking leaves them alone, that counting puts them back."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event

import pytest

import shmkv
from shmkv.inspect import decode
from shmkv.inspect.parts import Item
from shmkv.top.hot import counted, ranked
from tests.conftest import segment_path

Open = Callable[..., shmkv.Store]


def counters(store: shmkv.Store) -> dict[bytes, int]:
    """The access counter of each key, by the decoder."""
    segment = decode(segment_path(store.name).read_bytes())
    return {slot.item.key: slot.counter for slot in segment.slots() if isinstance(slot.item, Item)}


@pytest.fixture
def warm(store: shmkv.Store) -> shmkv.Store:
    """Keys read 0 to 5 times."""
    for times in range(6):
        for i in range(20):
            store.set(f"{times}:{i}", b"v")
            for _ in range(times):
                store.get(f"{times}:{i}")
    return store


def test_counters_are_what_was_read(warm: shmkv.Store, open_store: Open) -> None:
    before = counters(warm)
    heat = ranked(open_store(readonly=True), 1000)
    assert {str(one.key).encode(): one.counter for one in heat.hottest} == before
    assert heat.items == (20, 20, 20, 60)
    assert [one.counter for one in heat.hottest] == [3] * 60 + [2] * 20 + [1] * 20 + [0] * 20
    assert all(one.rate is None for one in heat.hottest)
    assert counters(warm) == before


def test_the_hottest_and_a_prefix(warm: shmkv.Store) -> None:
    assert {one.counter for one in ranked(warm, 60).hottest} == {3}
    heat = ranked(warm, 5, prefix=b"2:")
    assert len(heat.hottest) == 5
    assert heat.items == (0, 0, 20, 0)
    assert all(str(one.key).startswith("2:") for one in heat.hottest)
    assert ranked(warm, 5, prefix=b"nothing").hottest == ()


def test_more_items_than_are_kept(store: shmkv.Store) -> None:
    for i in range(5000):
        store.set(b"%d" % i, 1)
    for i in (17, 4711):
        store.get(b"%d" % i)
    assert {one.key for one in ranked(store, 2).hottest} == {b"17", b"4711"}


def test_arguments(store: shmkv.Store, open_store: Open) -> None:
    for most in (0, -1, 1 << 30):
        with pytest.raises(ValueError, match="most="):
            store._heat(None, most)
    with pytest.raises(shmkv.ReadOnly):
        open_store(readonly=True)._count(["a"], 1, 1, 1)
    with pytest.raises(TypeError):
        store._count([1], 1, 1, 1)  # type: ignore[list-item]
    assert store._count(["missing"], 1, 1, 1)[1] == [None]
    assert store._count([], 1, 1, 1)[1] == []


def test_counting_puts_counters_back(warm: shmkv.Store) -> None:
    before = counters(warm)
    keys: list[shmkv.types.Key] = [key.decode() for key in before]
    exposed, found = warm._count(keys, 3, 1000, 0)
    assert exposed >= 3000
    assert found == [(3, 3, 0)] * len(keys)
    assert counters(warm) == before


def read_on(name: str, stop: Event, reading: Event) -> None:
    """Another process: read one key until told to stop, or for as long as a test may take."""
    with shmkv.open(name, create=False) as store:
        end = time.monotonic() + 120
        while not stop.is_set() and time.monotonic() < end:
            for _ in range(1000):
                store.get("5:7")
            reading.set()


def test_counting_finds_what_is_read(warm: shmkv.Store) -> None:
    """Sixty items stand at three; one of them is being read.

    A reader that waits for a processor reads nothing meanwhile: count until it did, and find no
    other key ever.
    """
    context = multiprocessing.get_context("spawn")
    stop, reading = context.Event(), context.Event()
    other = context.Process(target=read_on, args=(warm.name, stop, reading))
    other.start()
    try:
        assert reading.wait(60)
        end, rate = time.monotonic() + 60, 0.0
        while rate <= 1000 and time.monotonic() < end:
            heat = counted(warm, 5, seconds=0.3)
            assert heat.items == (20, 20, 20, 60)
            assert {one.key for one in heat.hottest} <= {"5:7"}
            rate = max((one.rate or 0.0 for one in heat.hottest), default=0.0)
    finally:
        stop.set()
        other.join(60)
        other.kill()
    assert rate > 1000


def test_nothing_is_read(store: shmkv.Store) -> None:
    assert counted(store, 5, seconds=0.01).hottest == ()
    store.set("cold", 1)
    assert counted(store, 5, seconds=0.01).hottest == ()
    store.get("cold")
    assert counted(store, 5, seconds=0.01).hottest == ()  # it was read, but not meanwhile
