"""Every cut and every turned bit of a file of about 8 KB: told, or harmless, and never a crash.

The files lie in memory, so that all of it takes seconds. What a store makes of such a file is
tried with a sample: it refuses a snapshot, and comes back from the longest prefix of a journal.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmkv
from shmkv.disk import format, items, verify
from shmkv.disk.blocks import Reader
from shmkv.disk.verify import File, verify_file
from tests.unit.disk.byhand import Hand, begin, journal, key_class, number, snapshot, state
from tests.unit.disk.conftest import Opener

ITEMS = {f"key-{i:04d}": i for i in range(200)}
ROUNDS = [{f"key-{i:04d}": 1000 * r + i for i in range(r, 200, 13)} for r in range(4)]
LONG = items.pack_item("long", 1, random.Random(3).randbytes(6500))


class InMemory:
    """A file of which single bytes are changed, and changed back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fd = os.memfd_create("damage", os.MFD_CLOEXEC)
        os.write(self.fd, data)

    def verdict(self) -> File:
        """What verifying says."""
        return verify_file(os.dup(self.fd), "in-memory")

    def turned(self, at: int) -> File:
        """The same with one bit of this byte turned."""
        os.pwrite(self.fd, bytes([self.data[at] ^ 1 << at % 8]), at)
        try:
            return self.verdict()
        finally:
            os.pwrite(self.fd, self.data[at : at + 1], at)

    def cut(self, length: int) -> File:
        """The same, cut; longer cuts must come first."""
        os.ftruncate(self.fd, length)
        return self.verdict()


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[InMemory]:
    """A snapshot in three blocks."""
    packed = [number(key, value) for key, value in ITEMS.items()][:30]
    path = snapshot(tmp_path / "s", begin(1), [packed[:20], [LONG], packed[20:]])
    file = InMemory(path.read_bytes())
    assert 7000 < len(file.data) < 9000
    yield file
    os.close(file.fd)


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[tuple[InMemory, list[int]]]:
    """A journal, and where its rounds end."""
    packed = [[state(key, value) for key, value in one.items()][:8] for one in ROUNDS]
    packed[2].append(items.pack_entry(key_class("long"), [LONG]))
    ends = journal(tmp_path / "j", begin(1), packed)
    file = InMemory((tmp_path / "j").read_bytes())
    assert 7000 < len(file.data) < 9500
    yield file, ends
    os.close(file.fd)


def test_every_cut_of_a_snapshot(saved: InMemory) -> None:
    assert not saved.verdict().problems
    for length in range(len(saved.data) - 1, -1, -1):
        assert saved.cut(length).problems, length


def test_a_turned_bit_in_every_byte_of_a_snapshot(saved: InMemory) -> None:
    for at in range(len(saved.data)):
        found = saved.turned(at)
        assert found.problems, at
        assert found.whole <= at or found.what == "unknown"
    assert not saved.verdict().problems


def accepted(data: bytearray, start: int, end: int, number: int, what: format.What) -> bool:
    """Is this block, or header of a file, taken for good?"""
    try:
        if start == 0:
            return format.parse_file(data[:end]).id == number
        block = format.parse_block(data[start : start + 32], what, start)
    except format.FormatError:
        return False
    sealed = format.seal(data[start : start + 32], data[start + 32 : end], number)
    return block.stored == end - start - 32 and block.sum == sealed


@pytest.mark.parametrize("kind", ["saved", "logged"])
def test_every_turned_bit_is_seen(kind: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(kind)
    file: InMemory = made if kind == "saved" else made[0]
    with Reader(os.dup(file.fd), "in-memory") as reader:
        edges = [0, 32, reader.begin_end, *(part.end for part in reader.parts())]
        number, what = reader.file.id, reader.file.what
    assert edges[-1] == len(file.data)
    data = bytearray(file.data)
    for start, end in itertools.pairwise(edges):
        assert accepted(data, start, end, number, what)
        for at in range(start, end):
            for bit in range(8):
                data[at] ^= 1 << bit
                assert not accepted(data, start, end, number, what), (at, bit)
                data[at] ^= 1 << bit


def test_every_cut_of_a_journal(logged: tuple[InMemory, list[int]]) -> None:
    file, ends = logged
    assert file.verdict().rounds == len(ROUNDS)
    for length in range(len(file.data) - 1, -1, -1):
        found = file.cut(length)
        whole = [end for end in ends if end <= length]
        if whole:
            assert (found.rounds, found.whole) == (len(whole) - 1, whole[-1]), length
            assert found.torn == length - whole[-1]
            assert not found.problems
        else:
            assert found.problems


def test_a_turned_bit_in_every_byte_of_a_journal(logged: tuple[InMemory, list[int]]) -> None:
    file, ends = logged
    for at in range(len(file.data)):
        whole = [end for end in ends if end <= at]
        found = file.turned(at)
        if whole:
            assert (found.rounds, found.whole) == (len(whole) - 1, whole[-1]), at
            assert found.torn == len(file.data) - whole[-1]
        else:
            assert found.problems, at


def test_bytes_after_the_end(saved: InMemory) -> None:
    os.pwrite(saved.fd, b"\0", len(saved.data))
    assert "follows after END" in saved.verdict().problems[0]


def test_random_files_never_crash() -> None:
    chance = random.Random(7)
    heads = [format.pack_file(format.File(what, 5)) for what in format.What]
    for n in range(2000):
        file = InMemory(heads[n % 2] * (n % 3 > 0) + chance.randbytes(chance.randrange(300)))
        assert file.verdict().problems
        os.close(file.fd)


# ---- what a store makes of it -------------------------------------------------------------------


def test_a_damaged_snapshot_is_never_loaded(hand: Hand, reborn: Opener, store_name: str) -> None:
    path = hand.snapshot(1, ITEMS)
    good, chance = path.read_bytes(), random.Random(1)
    for at in [*range(0, 200, 7), *chance.sample(range(200, len(good)), 60)]:
        for bad in (
            good[:at],
            good[:at] + bytes([good[at] ^ 1 << chance.randrange(8)]) + good[at + 1 :],
        ):
            path.write_bytes(bad)
            with pytest.raises(shmkv.PersistError, match=r"damaged|cannot be read"):
                reborn(path=hand.path)
            assert store_name not in shmkv.names()
            assert path.read_bytes() == bad
    path.write_bytes(good)
    assert dict(reborn(path=hand.path)) == ITEMS


def test_a_torn_journal_counts_to_its_last_whole_round(hand: Hand, reborn: Opener) -> None:
    hand.snapshot(1, ITEMS, options=3)
    path = hand.journal(1, ROUNDS, previous=(1 << 64) - 1)
    good, ends, chance = path.read_bytes(), hand.ends[1], random.Random(2)
    for at in chance.sample(range(ends[0], len(good)), 40):
        wanted: dict[str, int | None] = dict(ITEMS)
        for done in ROUNDS[: sum(end <= at for end in ends) - 1]:
            wanted.update(done)
        turned = good[:at] + bytes([good[at] ^ 1 << chance.randrange(8)]) + good[at + 1 :]
        for bad in (good[:at], turned):
            path.write_bytes(bad)
            store = reborn(path=hand.path)
            assert dict(store) == wanted
            store.close()
            hand.journal_path(2).unlink()


@pytest.mark.parametrize("kind", ["snapshot", "journal"])
def test_records_that_are_wrong_under_a_good_sum(
    hand: Hand, reborn: Opener, store_name: str, kind: str
) -> None:
    bad = number("a", 1)[:-1] + b""
    if kind == "snapshot":
        path = snapshot(hand.snapshot_path(1), begin(1, name=store_name), [[number("x", 1), bad]])
    else:
        path = hand.journal_path(1)
        journal(path, begin(1, 0, store_name, 3), [[state("x", 1)], [state("a", 1)[:-1]]])
    assert not verify(str(path))
    with pytest.raises(shmkv.PersistError, match="is damaged at byte"):
        reborn(path=hand.path)
    assert store_name not in shmkv.names()
