"""What is read for a report: exact where it can be, bounded always, and only read.

Owns: the map against the core's own sums, the sample, damaged and foreign segments.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

import shmkv
from shmkv import history
from shmkv.errors import Corrupt
from shmkv.inspect.geometry import Config, geometry_of
from shmkv.inspect.layout import CONFIG, HEADER, PAGE, State
from shmkv.inspect.survey import DAMAGED, OK, Found, survey
from shmkv.report import Seen, gather, render, salvage
from shmkv.report.items import One, sample, summed
from shmkv.report.pages import CELLS, FREE, INDEX, LEVELS, QUEUED, UNTAKEN, Cell, read_map
from shmkv.top.model import queues
from tests.conftest import MIB, SHM, Clock, segment_path
from tests.unit.report import made

Opener = Callable[..., shmkv.Store]


def found(name: str) -> Found:
    """The segment of a store of this user."""
    (one,) = survey(SHM, name=name)
    return one


def seen(store: shmkv.Store, **options: int) -> Seen:
    """A look at a store."""
    return gather(store, found(store.name), when=made.NOW, **options)


def write(name: str, at: int, data: bytes) -> None:
    """Damage a segment."""
    with open(segment_path(name), "r+b") as file:
        file.seek(at)
        file.write(data)


# ---- the map ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["2MiB", "16MiB"])
def test_the_map_has_the_sums_of_the_core(open_store: Opener, size: str) -> None:
    store = open_store(size=size)
    made.fill(store, 40_000)
    store.set("large", b"x" * (store.size // 10))
    chart = seen(store).map
    assert chart is not None
    core = {(queue, state): sizes for queue, state, *sizes in store._memory()}
    mine = {(one.queue, State[one.state.upper()]): list(one[2:]) for one in chart.parts}
    mine.setdefault((0, State.FREE), [0, 0, 0])[0] += chart.untaken * chart.page_bytes
    if mine[0, State.FREE][0] == 0:
        del mine[0, State.FREE]
    assert mine == core
    assert len(queues(chart.parts)) > 3
    assert sum(one[0] for one in core.values()) == chart.pages * chart.page_bytes


def test_the_map_knows_what_expired(open_store: Opener, clock: Clock) -> None:
    store = open_store()
    for i in range(20_000):
        store.set(f"k{i}", b"x" * 100, ttl=30)
    before, clock_then = seen(store).map, {Cell(QUEUED, LEVELS - 1)}
    clock.advance(100_000)
    after = seen(store).map
    assert before is not None
    assert after is not None
    assert clock_then <= set(before.cells)
    assert clock_then.isdisjoint(after.cells)
    garbage = sum(one.garbage for one in after.parts)
    assert garbage == sum(part[4] for part in store._memory()) > 2 * MIB


def test_the_map_of_an_empty_store(open_store: Opener) -> None:
    chart = seen(open_store(size="64MiB")).map
    assert chart is not None
    assert (chart.per_cell, len(chart.cells)) == (1, chart.pages)
    assert {cell.kind for cell in chart.cells} == {UNTAKEN, FREE, INDEX}
    assert chart.cells[-1] == Cell(UNTAKEN, LEVELS - 1)
    assert chart.untaken == sum(cell.kind == UNTAKEN for cell in chart.cells)


def table_of(entries: dict[int, bytes]) -> Callable[[int, int], bytes]:
    """A reader of a page table that has these entries, zero else."""

    def read(at: int, size: int) -> bytes:
        data = bytearray(size)
        for place, entry in entries.items():
            data[place * PAGE.size : (place + 1) * PAGE.size] = entry
        return bytes(data)

    return read


def entry(state: int, *, queue: int = 0, run: int = 1, tail: int = 0, dead: int = 0) -> bytes:
    """A page table entry, opened in the far future."""
    word = state | queue << 4 | run << 8
    values = {"word": word, "tail": tail, "dead": dead, "opened_ms": 1 << 46}
    flat = [values.get(name, 0) for name in PAGE.fields if name != "expiry"]
    return PAGE.struct.pack(*flat, *([0] * 8))


def test_pages_of_the_largest_store_share_cells() -> None:
    size = 64 << 30
    geometry = geometry_of(Config(size, size, 1, 1, 8))
    assert geometry is not None
    pages = geometry.bases_within(size)
    granules = geometry.base_granules
    closed = entry(State.CLOSED, queue=3, tail=granules, dead=granules // 2)
    read = table_of({0: closed, **{2 + i: closed for i in range(200)}})
    taken = geometry.off_arena + (400 << geometry.base_shift)
    chart = read_map(read, geometry, size, taken, 0)
    assert chart.pages == pages > 1_000_000
    assert CELLS * 0.9 < len(chart.cells) <= CELLS
    assert chart.cells[0] == Cell(QUEUED + 3, 2)
    assert chart.cells[1] in (Cell(FREE, 3), Cell(UNTAKEN, 3))
    assert chart.cells[2:] == (Cell(UNTAKEN, 3),) * (len(chart.cells) - 2)
    assert chart.untaken == pages - 400


def test_a_table_of_nonsense_is_not_followed() -> None:
    """Runs beyond the end, inner pages without a head, states that there are none."""
    geometry = geometry_of(Config(2 * MIB, 2 * MIB, 1, 1, 1))
    assert geometry is not None
    read = table_of(
        {
            0: entry(State.INTERIOR),
            1: entry(State.CLOSED, queue=15, run=1 << 23, tail=1 << 31, dead=1 << 31),
            2: entry(13, run=7),
            3: b"\xff" * PAGE.size,
        }
    )
    chart = read_map(read, geometry, 1 << 60, 1 << 62, 1 << 45)
    assert chart.pages == geometry.bases_max
    assert all(0 <= cell.level < LEVELS and cell.kind < QUEUED + 16 for cell in chart.cells)
    assert all(part.bytes >= part.filled >= part.garbage >= 0 for part in chart.parts)


# ---- the sample ---------------------------------------------------------------------------------


def test_items_of_a_small_store_are_all_seen(store: shmkv.Store) -> None:
    for i in range(40):
        store.set(f"user:{i}", b"x" * 93, ttl=3000)
    for i in range(60):
        store.set(b"page/%d" % i, "y" * 1000)
    items = seen(store).items
    assert items is not None
    assert (items.total, items.seen, items.whole) == (100, 100, True)
    sizes = [len(f"user:{i}") + 93 for i in range(40)] + [
        len(b"page/%d" % i) + 1000 for i in range(60)
    ]
    assert items.bytes == sum(sizes)
    assert [(one.up_to, one.items) for one in items.sizes if one.items] == [(128, 40), (1024, 60)]
    assert [(one.up_to, one.items) for one in items.deadlines] == [(3600.0, 40)]
    assert items.never.items == 60
    shown = [(one.begin, one.items, one.never) for one in items.prefixes]
    assert shown == [(b"page/", 60, 60), (b"user:", 40, 0)]
    assert [one.bytes for one in items.largest] == sorted(sizes)[: -len(items.largest) - 1 : -1]


def test_a_sample_is_bounded_and_fair(store: shmkv.Store) -> None:
    for i in range(20_000):
        store.set(f"{'even' if i % 2 else 'odd'}:{i}", b"")
    items = seen(store, most=4000).items
    assert items is not None
    assert (items.seen, items.whole, items.total) == (4000, False, len(store))
    shares = [one.items / 4000 for one in items.prefixes]
    assert len(shares) == 2
    assert all(abs(share - 0.5) < 0.05 for share in shares)


def test_a_sample_ends_in_time(store: shmkv.Store) -> None:
    for i in range(5000):
        store.set(f"k{i}", i)
    ticks = iter(range(1_000_000))
    items = sample(store, clock=lambda: float(next(ticks)), seconds=3)
    assert (items.seen, items.whole) == (1023, False)  # looked at the clock once in 256


def test_prefixes_of_most_keys_are_divided() -> None:
    def ones(begin: str, count: int) -> list[One]:
        return [One(f"{begin}{i}", "int", 20, None, 0.0) for i in range(count)]

    items = summed(
        [*ones("app:user:", 500), *ones("app:page:", 300), *ones("x:", 150), *ones("lone", 50)],
        total=1000,
        whole=True,
    )
    shown = [(one.begin, one.items) for one in items.prefixes]
    assert shown == [(b"app:user:", 500), (b"app:page:", 300), (b"x:", 150), (None, 50)]


def test_a_report_changes_nothing(open_store: Opener) -> None:
    made.fill(open_store(), 5000)
    (name,) = {open_store().name}
    open_store().close()

    def state() -> str:
        return hashlib.sha256(segment_path(name).read_bytes()).hexdigest()

    before = state()
    with shmkv.open(name, readonly=True) as reader:
        assert seen(reader).troubles == ()
    assert state() == before


# ---- damage -------------------------------------------------------------------------------------


def test_damaged_items_are_told_and_the_rest_is_shown(open_store: Opener) -> None:
    store = open_store()
    for i in range(3000):
        store.set(f"k{i}", b"x" * 50)
    geometry = store._geometry()
    head = HEADER.read(memoryview(segment_path(store.name).read_bytes()), 0)
    config = Config(**CONFIG.read(memoryview(head["config"]), 0))
    arena = geometry_of(config)
    assert arena is not None
    assert geometry["size"] == config.size
    write(store.name, arena.off_arena, b"\xff" * (head["watermark"] - arena.off_arena))
    look = seen(store)
    assert len(look.troubles) >= 1
    assert "keys could" in look.troubles[0]
    assert look.map is not None
    assert look.sample is not None
    assert look.items is not None
    assert look.items.seen < 3000


def damaged(name: str) -> Found:
    """A store nobody can attach to."""
    one = found(name)
    assert one.state == DAMAGED
    with pytest.raises(Corrupt):
        shmkv.open(name, readonly=True)
    return one


@pytest.mark.parametrize("field", ["magic", "size", "watermark"])
def test_what_is_left_of_a_store_with_a_damaged_header(
    open_store: Opener, store_name: str, field: str
) -> None:
    with open_store() as store:
        made.fill(store, 5000)
        hits, core = store.stats().hits, seen(store).map
    write(store_name, HEADER.fields[field][0], b"\xf1" * 8)
    one = damaged(store_name)
    look = salvage(one, one.why, when=made.NOW)
    assert look.counts is not None
    assert look.counts["hits"] == hits
    assert core is not None
    assert look.map is not None
    assert set(core.parts) <= set(look.map.parts) | {
        one for one in core.parts if one.state == "free"
    }
    assert one.why in look.troubles[0]


def test_what_is_left_of_a_store_that_was_cut(open_store: Opener, store_name: str) -> None:
    with open_store() as store:
        made.fill(store, 5000)
    os.truncate(segment_path(store_name), 3 * MIB)
    one = damaged(store_name)
    look = salvage(one, one.why, when=made.NOW)
    assert look.map is not None
    assert look.map.pages > look.map.untaken


@pytest.mark.parametrize("length", [100, 2 * MIB])
def test_what_never_was_a_store(store_name: str, length: int) -> None:
    path = Path(segment_path(store_name))
    path.write_bytes(b"\x5a" * length)
    os.chmod(path, 0o600)
    one = damaged(store_name)
    look = salvage(one, one.why, when=made.NOW)
    assert (look.map, look.counts, look.sample, look.items) == (None, None, None, None)
    assert len(look.troubles) == 2


def test_every_part_of_a_look_is_told(store: shmkv.Store) -> None:
    look = seen(store)
    empty = {field.name for field in fields(look) if getattr(look, field.name) in (None, ())}
    assert empty == {"counts", "troubles"}
    assert look.when == made.NOW


def test_what_a_daemon_remembers_is_shown(
    store: shmkv.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = made.remembered(store.size)
    monkeypatch.setattr(history, "read", lambda asked: past if asked is store else None)
    assert seen(store).past == past


@pytest.mark.parametrize("seed", range(2))
def test_random_damage_costs_no_more_than_what_it_hit(
    open_store: Opener, store_name: str, seed: int
) -> None:
    """Whatever stands in the header, the rows and the page table: there is a page, and no crash."""
    with open_store(size="2MiB") as store:
        made.fill(store, 3000)
    whole, rnd = segment_path(store_name).read_bytes(), random.Random(seed)
    salvaged = 0
    for _ in range(12):
        damage = bytearray(whole)
        for _ in range(rnd.randrange(1, 40)):
            at = rnd.randrange(200) if rnd.random() < 0.3 else rnd.randrange(80_000)
            damage[at] = rnd.randrange(256)
        write(store_name, 0, bytes(damage[:80_000]))
        one = found(store_name)
        if one.state != OK:
            salvaged += 1
            assert len(render(salvage(one, one.why, when=made.NOW), zone=dt.UTC)) > 5000
            continue
        with contextlib.suppress(Corrupt), shmkv.open(store_name, readonly=True) as reader:
            assert len(render(gather(reader, one, when=made.NOW), zone=dt.UTC)) > 5000
    assert 0 < salvaged < 12
