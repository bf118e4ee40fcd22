"""The decoder agrees with the core on stores with a random past.

Owns: the agreement in both directions after seeded workloads (all types and sizes, overwrites,
deletes, deadlines, counters, renames, evictions, splits, extents), in stores of several sizes, with
and without eviction; and that a sound segment shows no problem.

Does not: damage anything; see test_damage.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import struct
from collections.abc import Callable

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shmkv
from shmkv import _core
from shmkv.inspect import Page, Segment, problems
from shmkv.inspect.geometry import Hash, queue_of
from shmkv.inspect.layout import LAYOUT_VERSION, State, fingerprint
from shmkv.inspect.survey import survey
from tests.conftest import MIB, SHM, Clock
from tests.layout.workload import (
    HELD,
    Workload,
    compare,
    copy_of,
    garbage_is_never_overstated,
    raw,
    same,
)

Opener = Callable[..., shmkv.Store]


def agree(store: shmkv.Store, workload: Workload, clock: Clock) -> Segment:
    """Everything there is to agree on, after a workload has come to rest."""
    segment = copy_of(store.name)
    assert problems(segment) == []
    assert segment.bases(*HELD) == 0, "pages held by an attachment that does nothing"
    garbage_is_never_overstated(segment)
    compare(store, segment, clock.now_ms())
    for item in segment.items():
        if not item.deadline_ms or item.deadline_ms > clock.now_ms():
            assert same(item.plain(), workload.written[item.key]), item.key[:50]
    report = store.check()
    assert report.ok, report.problems
    return segment


@pytest.mark.parametrize("evict", [True, False], ids=["evict", "keep"])
@pytest.mark.parametrize("size", [2 * MIB, 3 * MIB, 4 * MIB, 15 * MIB, 16 * MIB, 64 * MIB])
def test_the_core_computes_the_same_geometry(open_store: Opener, size: int, evict: bool) -> None:
    store = open_store(size=size, evict=evict)
    segment = copy_of(store.name)
    core = store._geometry()
    for name, value in dataclasses.asdict(segment.geometry).items():
        assert core[name] == value, name
    assert core["layout_version"] == _core.LAYOUT_VERSION == LAYOUT_VERSION
    assert core["fingerprint"] == fingerprint()
    assert core["seed"] == segment.header.config.seed
    assert core["watermark"] == segment.header.watermark


def test_the_core_hashes_the_same() -> None:
    rng = random.Random(4)
    for length in [*range(1, 100), 1000, 65_535]:
        key, seed = rng.randbytes(length), rng.getrandbits(64)
        assert _core.hash(key, seed) == xxhash.xxh64_intdigest(key, seed=seed), length


@pytest.mark.parametrize("evict", [True, False], ids=["evict", "keep"])
@pytest.mark.parametrize("size", [2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB])
def test_agreement(open_store: Opener, clock: Clock, size: int, evict: bool) -> None:
    store = open_store(size=size, evict=evict)
    workload = Workload(store, clock, seed=size + evict, keys=size // 4096 if evict else 150)
    for _ in range(3):
        workload.run(2500)
        agree(store, workload, clock)


def test_turnover_splits_and_evicts(open_store: Opener, clock: Clock) -> None:
    store = open_store(size=2 * MIB)
    workload = Workload(store, clock, seed=3, keys=9000)
    for key in workload.keys:
        store.set(key, 7)
        workload.written[raw(key)] = 7
    workload.run(10_000)
    segment = agree(store, workload, clock)
    totals = copy_of(store.name).totals()
    assert totals["splits"] > 0
    assert totals["evicted"] > 0
    assert totals["evicted_main"] > 0
    assert totals["promoted"] > 0
    assert totals["returned"] > 0
    assert totals["cleaned"] > 0
    assert max(s.depth for stripe in segment.stripes for s in stripe.segments) > 0
    stats = store.stats()
    assert (totals["sets"], totals["hits"]) == (stats.sets, stats.hits)
    assert totals["misses"] == stats.misses


def page_of(segment: Segment, key: bytes) -> Page:
    """The page that holds the living item of a key."""
    ref = next(item.ref for item in segment.items() if item.key == key)
    base = segment.geometry.base_of(ref * 16)
    return next(page for page in segment.pages if page.base <= base < page.base + page.run)


def times_remembered(segment: Segment, key: bytes) -> int:
    """How often the ghost holds the fingerprint of a key."""
    home = Hash.of(key, segment.header.config.seed, segment.geometry)
    line = home.ghost_line & (segment.header.ghost - 1)
    return struct.unpack_from("<32H", segment.ghost, 64 * line).count(home.ghost)


def test_the_ghost_remembers_who_left_unread(open_store: Opener) -> None:
    """Others only by chance, one in 2000: 16 bits, 32 in a line."""
    store = open_store(size=2 * MIB)
    keys = [f"k{i}".encode() for i in range(60_000)]
    for key in keys:
        store.set(key, b"v" * 100)
    segment = copy_of(store.name)
    assert problems(segment) == []
    living = {item.key for item in segment.items()}
    left = [key for key in keys if key not in living]
    totals = segment.totals()
    assert totals["evicted"] + totals["evicted_main"] == len(left)
    assert sum(map(segment.remembers, left[-2000:])) > 1900
    assert sum(map(segment.remembers, living)) < len(living) / 300
    assert totals["returned"] < len(keys) / 300
    (outside,) = survey(SHM, name=store.name)
    assert outside.backed == segment.header.watermark + len(segment.ghost)


def test_who_comes_back_enters_a_main_queue(open_store: Opener) -> None:
    store = open_store(size=2 * MIB)
    for i in range(40_000):
        store.set(f"k{i}", b"v" * 100)
    before = copy_of(store.name)
    known = (f"k{i}".encode() for i in range(40_000))
    key = next(k for k in known if k not in store and times_remembered(before, k) == 1)
    store.set(key, b"v" * 5000)
    after = copy_of(store.name)
    assert problems(after) == []
    assert page_of(after, key).queue == queue_of(5000 + 16 + len(key)) == 4
    assert after.totals()["returned"] == before.totals()["returned"] + 1
    assert not after.remembers(key)


def test_who_is_read_goes_to_the_main_queue_of_its_size(open_store: Opener) -> None:
    store = open_store(size=2 * MIB)
    queues = {1: 1, 500: 2, 3000: 3, 12_000: 4}
    hot = {f"{size} {i}".encode(): size for size in queues for i in range(20)}
    for key, size in hot.items():
        store.set(key, b"v" * size)
    for i in range(30_000):
        store.set(f"k{i}", b"v" * 100)
        if i % 10 == 0:
            store.get(list(hot)[i // 10 % len(hot)])
    segment = copy_of(store.name)
    assert problems(segment) == []
    found = {(size, page_of(segment, key).queue) for key, size in hot.items()}
    assert found >= set(queues.items())
    assert found <= {*queues.items(), *((size, 0) for size in queues)}
    assert segment.totals()["promoted"] > 0


def test_a_store_that_keeps_everything_has_one_queue(open_store: Opener, clock: Clock) -> None:
    store = open_store(size=2 * MIB, evict=False)
    Workload(store, clock, seed=6, keys=100).run(4000)
    segment = copy_of(store.name)
    assert {page.queue for page in segment.pages} == {0}
    assert (segment.header.ghost, len(segment.ghost)) == (0, 0)
    assert not segment.remembers(b"anything")


def test_extents(open_store: Opener, clock: Clock) -> None:
    store = open_store(size=8 * MIB)
    largest = store.size // 9
    for i in range(60):
        store.set(f"k{i % 13}", bytes([i]) * (largest - 5000 * i))
    segment = copy_of(store.name)
    assert problems(segment) == []
    assert segment.bases(*HELD) == 0
    assert compare(store, segment, clock.now_ms()) > 0
    assert any(page.run > segment.geometry.log_run_max for page in segment.pages)


@pytest.mark.parametrize("parts", [12, 16, 24, 32, 48, 64, 96, 128, 192, 256])
def test_values_of_every_share_of_the_arena(open_store: Opener, clock: Clock, parts: int) -> None:
    """Between log items and extents lie values that need several base pages of a log page."""
    store = open_store(size=16 * MIB)
    value = b"v" * (store.size // parts)
    for i in range(3 * parts):
        store.set(f"k{i}", value)
    segment = copy_of(store.name)
    assert problems(segment) == []
    assert segment.bases(*HELD) == 0
    assert compare(store, segment, clock.now_ms()) > parts // 3


def test_an_empty_store(open_store: Opener, clock: Clock) -> None:
    store = open_store(size=2 * MIB)
    segment = copy_of(store.name)
    assert problems(segment) == []
    assert compare(store, segment, clock.now_ms()) == 0
    assert segment.bases(State.INDEX) == -(-segment.geometry.stripes // 4)


def test_cleared_and_filled_again(open_store: Opener, clock: Clock) -> None:
    store = open_store(size=4 * MIB)
    workload = Workload(store, clock, seed=5, keys=2000)
    workload.run(5000)
    store.clear()
    assert list(copy_of(store.name).items()) == []
    agree(store, workload, clock)
    workload.run(5000)
    agree(store, workload, clock)


def test_rows_of_attachments(open_store: Opener, store_name: str) -> None:
    with contextlib.ExitStack() as stack:
        first = open_store(size=2 * MIB)
        for _ in range(3):
            stack.enter_context(shmkv.open(store_name, create=False))
        rows = [row for row in copy_of(store_name).rows if row.number]
        assert len(rows) == first.stats().attached == 4
        assert len({row.number for row in rows}) == 4
    assert sum(row.number != 0 for row in copy_of(store_name).rows) == 1


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 1 << 32), steps=st.integers(1, 2000), keys=st.integers(1, 1500))
def test_agreement_after_any_past(
    open_store: Opener,
    new_name: Callable[[], str],
    clock: Clock,
    seed: int,
    steps: int,
    keys: int,
) -> None:
    with open_store(new_name(), size=2 * MIB) as store:
        workload = Workload(store, clock, seed, keys=keys)
        workload.run(steps)
        agree(store, workload, clock)
    shmkv.unlink(store.name)
