"""Looks at real stores: they agree with the decoder, change nothing, and know whose name it is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

import shmkv
from shmkv.inspect import decode
from shmkv.inspect.layout import State
from shmkv.top import Meter
from shmkv.top.sample import fate, take
from tests.conftest import MIB, segment_path

Open = Callable[..., shmkv.Store]


@pytest.fixture
def full(open_store: Open) -> shmkv.Store:
    """A store that evicts, with log pages, extents, garbage and read items."""
    store = open_store()
    for i in range(60_000):
        store.set(f"k{i}", b"x" * 100)
        if i % 3 == 0:
            store.get(f"k{i // 2}")
    store.set("large", bytes(300_000))
    for i in range(0, 60_000, 7):
        store.delete(f"k{i}")
    return store


def test_memory_is_what_the_decoder_sees(full: shmkv.Store, open_store: Open) -> None:
    found = {(p.queue, p.state): p for p in take(open_store(readonly=True)).memory}
    pages = decode(segment_path(full.name).read_bytes()).pages
    base = 1 << full._geometry()["base_shift"]
    expected: dict[tuple[int, str], list[int]] = {}
    for page in pages:
        held = page.state in (State.OPEN, State.CLOSED, State.CLEANING)
        name = State(page.state).name.lower()
        one = expected.setdefault((page.queue if held else 0, name), [0, 0])
        one[0] += page.run * base
        one[1] += page.tail * 16 if held else 0
    assert {place: [p.bytes, p.filled] for place, p in found.items()} == expected
    assert len(expected) > 4
    garbage = sum(p.garbage for p in found.values())
    assert garbage == full.stats().bytes_garbage > 0


def test_attachments(store: shmkv.Store, open_store: Open) -> None:
    other = open_store(create=False)
    for _ in range(5):
        other.get("nothing")
    store.set("a", 1)
    reader = open_store(readonly=True)
    first, second = take(reader).attachments
    assert (first.pid, second.pid) == (os.getpid(), os.getpid())
    assert first.number == store._number()
    assert second.totals["misses"] == 5
    assert first.totals["sets"] == 1
    assert first.alive
    assert not first.is_daemon
    assert first.program
    assert abs(first.since - time.time()) < 60
    other.close()
    assert len(take(reader).attachments) == 1


def test_the_dead_and_the_daemon_are_told(store: shmkv.Store, open_store: Open) -> None:
    helper = open_store(create=False)
    assert helper._daemon(True)
    dead = open_store(create=False)
    number = dead._number()
    dead._abandon()
    found = {one.number: one for one in take(open_store(readonly=True)).attachments}
    assert found[helper._number()].is_daemon
    assert not found[store._number()].is_daemon
    assert not found[number].alive
    assert found[number].program == ""
    assert take(store).has_daemon


def test_looking_changes_nothing(full: shmkv.Store, open_store: Open) -> None:
    meter = Meter(open_store(readonly=True))
    before = segment_path(full.name).read_bytes()
    meter.look()
    meter.look()
    assert segment_path(full.name).read_bytes() == before


def test_a_meter_keeps_histories(store: shmkv.Store) -> None:
    meter = Meter(store)
    assert meter.look().seconds == 0
    assert not meter.histories["reads"].values
    store.get("a")
    frame = meter.look()
    assert frame.rates["misses"] > 0
    assert frame.hit_ratio == 0.0
    assert list(meter.histories["reads"].values) == [frame.reads]
    assert list(meter.histories["hit_ratio"].values) == [0.0]


def test_fate(store: shmkv.Store, open_store: Open) -> None:
    uid = os.geteuid()
    reader = open_store(readonly=True)
    assert fate(reader, uid) is None
    shmkv.unlink(store.name)
    assert fate(reader, uid) == "removed"
    open_store(size=2 * MIB)
    assert fate(reader, uid) == "remade"
    shmkv.unlink(store.name)
    segment_path(store.name).touch()
    assert fate(reader, uid) == "remade"
