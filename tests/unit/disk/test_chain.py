"""Which files of a directory make up a store, with directories made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from shmkv.disk import chain
from shmkv.disk.chain import Plan
from shmkv.disk.directory import Directory
from shmkv.errors import PersistError
from tests.unit.disk.byhand import ALONE, Hand

JOURNALED = 3


def planned(hand: Hand, *bad: int, name: str | None = None) -> Plan:
    """The plan; nothing may be changed by making it."""
    before = hand.seen()
    try:
        with Directory(str(hand.path)) as folder:
            return chain.plan(folder, bad, name)
    finally:
        assert hand.seen() == before


@pytest.fixture
def web(tmp_path: Path) -> Hand:
    """A directory of the store "web"."""
    return Hand(tmp_path / "store")


def steps(plan: Plan) -> list[tuple[int, int | None]]:
    """What is replayed."""
    return [(one.generation, one.counted) for one in plan.steps]


def test_nothing(web: Hand) -> None:
    plan = planned(web)
    assert (plan.snapshot, plan.begin, plan.steps, plan.last) == (None, None, (), 0)


def test_other_files_are_left_alone(web: Hand) -> None:
    (web.path / "notes.txt").write_text("mine")
    (web.path / "snapshot-1.shmkv").write_text("no such number")
    (web.path / "journal-0000000001.part").write_text("no such thing")
    assert planned(web).begin is None


def test_the_newest_snapshot(web: Hand) -> None:
    web.snapshot(1, {"a": 1})
    web.snapshot(3, {"a": 3})
    plan = planned(web)
    assert (plan.snapshot, plan.steps, plan.journaled) == (3, (), False)
    assert planned(web, 3).snapshot == 1
    assert "snapshot-0000000003.shmkv is damaged" in planned(web, 3).notes[0]


def test_journals_from_the_beginning(web: Hand) -> None:
    web.journal(1, [{"a": 1}])
    web.journal(2, [{"a": 2}], after=1)
    web.journal(3, [{"a": 3}], after=2)
    plan = planned(web)
    assert plan.snapshot is None
    assert steps(plan) == [(1, web.ends[1][-1]), (2, web.ends[2][-1]), (3, None)]


def test_a_snapshot_and_what_came_after(web: Hand) -> None:
    web.journal(1, [{"a": 1}])
    web.journal(2, [{"a": 2}], after=1)
    web.snapshot(2, {"a": 1}, options=JOURNALED)
    web.journal(3, [{"a": 3}], after=2)
    plan = planned(web)
    assert (plan.snapshot, steps(plan)) == (2, [(2, web.ends[2][-1]), (3, None)])
    assert steps(planned(web, 2)) == [(1, web.ends[1][-1]), (2, web.ends[2][-1]), (3, None)]


def test_files_that_somebody_begun_who_died(web: Hand) -> None:
    web.journal(1, [{"a": 1}])
    web.journal(2, [], after=1)  # never named by the segment
    web.journal_path(3).write_bytes(b"")  # not even begun
    web.ends[1].append(web.ends[1][-1])
    web.journal(4, [{"a": 4}], after=1)
    web.journal(5, [], after=4)
    web.journal_path(6).write_bytes(b"\0" * 50)
    plan = planned(web)
    assert (steps(plan), plan.last) == ([(1, web.ends[1][-1]), (4, None)], 6)


def test_who_died_while_the_other_went_on(web: Hand) -> None:
    web.journal(1, [{"a": 1}])
    web.journal(2, [], after=1)
    web.journal(1, [{"a": 1}, {"a": 2}])  # the segment still named the first one
    assert steps(planned(web)) == [(1, None)]


def test_a_torn_round_is_no_round(web: Hand) -> None:
    web.journal(1, [{"a": 1}, {"a": 2}])
    torn = web.journal(2, [{"a": 3}], after=1)
    torn.write_bytes(torn.read_bytes()[:-1])
    assert steps(planned(web)) == [(1, None)]


def test_a_missing_journal(web: Hand) -> None:
    web.journal(1, [{"a": 1}])
    web.journal(2, [{"a": 2}], after=1)
    web.journal(3, [{"a": 3}], after=2)
    web.journal_path(2).unlink()
    with pytest.raises(PersistError, match=r"journal-0000000002.shmkv is missing"):
        planned(web)


def test_the_missing_journal_of_a_snapshot(web: Hand) -> None:
    web.snapshot(2, {"a": 1}, options=JOURNALED)
    with pytest.raises(PersistError, match=r"journal-0000000002.shmkv is missing"):
        planned(web)
    web.journal(1, [])
    web.journal(3, [{"a": 3}], after=1)
    with pytest.raises(PersistError, match=r"journal-0000000002.shmkv is missing"):
        planned(web)


def test_a_missing_snapshot(web: Hand) -> None:
    web.journal(2, [{"a": 1}], previous=ALONE)
    with pytest.raises(PersistError, match=r"snapshot-0000000002.shmkv is missing"):
        planned(web)


def test_journals_whose_beginning_went_with_a_snapshot(web: Hand) -> None:
    web.journal(4, [{"a": 1}])
    web.journal(5, [{"a": 2}], after=4)
    web.journal_path(4).unlink()
    path = web.snapshot(5, {"a": 1}, options=JOURNALED)
    good = path.read_bytes()
    assert planned(web).snapshot == 5
    path.write_bytes(good[:-1])
    with pytest.raises(PersistError, match=r"snapshot-0000000005.shmkv is damaged"):
        planned(web)
    path.write_bytes(good)
    with pytest.raises(PersistError, match="none of its snapshots is whole"):
        planned(web, 5)


def test_a_gap(web: Hand) -> None:
    web.snapshot(1, {"a": 1}, options=JOURNALED)
    web.journal(1, [{"a": 2}], previous=ALONE)
    web.journal(2, [{"a": 4}], previous=ALONE)  # 3 was never written
    web.journal(3, [{"a": 5}], after=2)
    plan = planned(web)
    assert (plan.gap, steps(plan)) == (2, [(1, None)])
    assert "the store comes back as it was before" in plan.notes[0]
    web.snapshot(2, {"a": 3}, options=JOURNALED)
    plan = planned(web)
    assert (plan.gap, steps(plan)) == (None, [(2, web.ends[2][-1]), (3, None)])


def test_a_gap_that_nobody_wrote_after(web: Hand) -> None:
    web.snapshot(1, {"a": 1}, options=JOURNALED)
    web.journal(1, [{"a": 2}], previous=ALONE)
    web.journal(2, [], previous=ALONE)
    assert (planned(web).gap, steps(planned(web))) == (None, [(1, None)])


def test_a_journal_shorter_than_its_successor_says(web: Hand) -> None:
    path = web.journal(1, [{"a": 1}, {"a": 2}])
    web.journal(2, [{"a": 3}], after=1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PersistError, match="bytes of it should count"):
        planned(web)


@pytest.mark.parametrize("previous", [2 << 40 | 200, 3 << 40 | 200])
def test_a_journal_that_goes_on_after_itself(web: Hand, previous: int) -> None:
    web.journal(1, [{"a": 1}])
    web.journal(2, [{"a": 3}], previous=previous)
    with pytest.raises(PersistError, match="goes on after generation"):
        planned(web)


def test_a_journal_that_begins_anew(web: Hand) -> None:
    web.snapshot(1, {"a": 1}, options=JOURNALED)
    web.journal(1, [], previous=ALONE)
    web.journal(2, [{"a": 3}])
    with pytest.raises(PersistError, match="begins a store anew"):
        planned(web)


def test_files_of_two_stores(web: Hand) -> None:
    web.snapshot(1, {"a": 1}, options=JOURNALED)
    web.name = "other"
    web.journal(1, [{"a": 2}], previous=ALONE)
    with pytest.raises(PersistError, match=r"files of two stores: 'web' and 'other'"):
        planned(web)


def test_another_store(web: Hand) -> None:
    web.snapshot(1, {"a": 1})
    assert planned(web, name="web").snapshot == 1
    with pytest.raises(PersistError, match="belongs to the store 'web', not to 'shop'"):
        planned(web, name="shop")


def test_renamed_files(web: Hand) -> None:
    web.snapshot(1, {"a": 1}).rename(web.snapshot_path(2))
    with pytest.raises(PersistError, match=r"call it snapshot-0000000001.shmkv"):
        planned(web)


def test_a_newer_version_is_not_passed_over(web: Hand) -> None:
    web.snapshot(1, {"a": 1})
    path = web.snapshot(2, {"a": 2})
    import struct

    import xxhash

    head = path.read_bytes()
    newer = head[:8] + b"\2\0" + head[10:24]
    path.write_bytes(newer + struct.pack("<Q", xxhash.xxh64_intdigest(newer)) + head[32:])
    with pytest.raises(PersistError, match="has version 2 of the format"):
        planned(web)
