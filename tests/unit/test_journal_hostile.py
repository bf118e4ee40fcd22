"""The journal where the world is unkind: signals, taken descriptors, wrong directories, odd values.

Owns: what must hold of the core's rounds and records when a handler closes the store it interrupts,
a save is left in the middle, files are cut or belong to another store, or values lie at the edges
of the format.

Does not: kill anybody (tests/crash), read files block by block, know shmkv.open(path=).
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shmkv
from shmkv import _core
from tests.conftest import MIB, Clock, segment_path

EVICT, JOURNAL, ALWAYS = 1, 2, 4
LOCK_WORD = 192
Make = Callable[..., shmkv.Store]


@pytest.fixture
def make(new_name: Callable[[], str]) -> Iterator[Make]:
    """A handle with options of the core; `of`: one more of that store."""
    handles: list[shmkv.Store] = []

    def attach(
        options: int = 0, *, size: int = 8 * MIB, hold: bool = False, of: shmkv.Store | None = None
    ) -> shmkv.Store:
        name = new_name() if of is None else of.name
        path = segment_path(name)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        config = (size, size, 12345 + len(handles), options) if of is None else None
        made = _core.attach(shmkv.Store, name, fd, f"/{path.name}", config, False, 2.0, hold)
        assert isinstance(made, shmkv.Store), made
        handles.append(made)
        return made

    yield attach
    for handle in handles:
        handle.close()


def begin(store: shmkv.Store, directory: Path) -> None:
    """Let this handle lead, from the first generation on."""
    join(store, directory)
    store._journal_begin(1, 0)


def join(store: shmkv.Store, directory: Path) -> None:
    """Let this handle lead."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        store._journal_open(fd)
    finally:
        os.close(fd)


def dumped(store: shmkv.Store) -> bytes:
    """The records of a small store."""
    dump, room = store._dump(), bytearray(2 * MIB)
    _, used, _, _ = dump.fill(room)
    dump.close()
    return bytes(room[:used])


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Run something in a signal handler, a hundred times a second from now on."""
    before = signal.getsignal(signal.SIGALRM)

    def start(what: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: what())
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_handler_may_close_its_store(make: Make, alarm: Callable[..., None]) -> None:
    store = make(JOURNAL | ALWAYS)
    alarm(store.close)
    with pytest.raises(shmkv.Closed):
        store["key"] = 1


def test_signals_do_not_begin_the_waiting_anew(
    make: Make, alarm: Callable[..., None], tmp_path: Path
) -> None:
    leader = make(JOURNAL | ALWAYS)
    begin(leader, tmp_path)
    writer = make(of=leader)
    rounds: list[object] = []
    alarm(lambda: rounds.append(leader._journal_round()))
    writer["key"] = 1
    assert rounds


def test_what_is_restored_is_not_waited_for(make: Make) -> None:
    source, target = make(), make(JOURNAL | ALWAYS, hold=True)
    source.set_many({f"key {i}": i for i in range(1000)})
    assert target._load(dumped(source)) == (1000, 0)
    assert target._journal_state()["dirty"] == 0


@pytest.mark.parametrize("years", [10, 8800])
def test_a_deadline_far_away_can_be_read_again(make: Make, years: int) -> None:
    source, target = make(), make()
    source.set("key", 1, ttl=years * 365.25 * 86400)
    assert target._load(dumped(source)) == (1, 0)
    assert target.ttl("key") > 0.99 * min(years, 8700) * 365 * 86400


def pins(store: shmkv.Store) -> int:
    """Pin words that are set, in rows with or without an owner."""
    g = store._geometry()
    with store._raw() as raw:
        rows = [raw[g["off_rows"] + r * 1024 :][128:256] for r in range(g["rows"])]
        return sum(any(row) for row in rows)


def test_a_save_left_in_the_middle_leaves_no_pin(make: Make) -> None:
    store = make(size=64 * MIB)
    other = make(of=store)
    store["long"] = bytes(4 * MIB)
    dump = store._dump()
    dump.fill(bytearray(2 * MIB))
    assert pins(other) == 1
    store.close()
    assert pins(other) == 0


def test_a_save_does_not_go_on_in_a_fork_child(make: Make) -> None:
    store = make(size=64 * MIB)
    store["long"] = bytes(4 * MIB)
    dump, room = store._dump(), bytearray(2 * MIB)
    dump.fill(room)
    child = os.fork()
    if child == 0:
        try:
            dump.fill(room)
        except ValueError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert dump.fill(room)[1] == MIB
    dump.close()


def test_another_stores_directory_is_refused(make: Make, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.mkdir()
    wrong.mkdir()
    mine, theirs = make(JOURNAL), make(JOURNAL)
    begin(mine, right)
    begin(theirs, wrong)
    theirs["key"] = 1
    theirs._journal_sync()
    before = {p.name: p.read_bytes() for p in wrong.iterdir()}
    stranger = make(of=mine)
    join(stranger, wrong)
    with pytest.raises(shmkv.PersistError, match="Invalid"):
        stranger._journal_round()
    assert {p.name: p.read_bytes() for p in wrong.iterdir()} == before
    mine._journal_round()


def test_a_journal_that_was_cut_is_broken_until_the_next(make: Make, tmp_path: Path) -> None:
    store = make(JOURNAL)
    begin(store, tmp_path)
    store["key"] = 1
    store._journal_sync()
    (file,) = tmp_path.iterdir()
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(shmkv.PersistError, match="cut"):
        store._journal_round()
    assert store._journal_state()["broken"] == 1
    assert store._journal_next() == 2
    assert store._journal_state()["broken"] == 0
    store._journal_round()


def test_descriptors_that_became_others_are_left_alone(make: Make, tmp_path: Path) -> None:
    journal, other = tmp_path / "journal", tmp_path / "other"
    journal.mkdir()
    other.write_bytes(b"mine")
    store = make(JOURNAL)
    begin(store, journal)
    fd = os.open(other, os.O_RDWR)
    taken = [
        int(p.name)
        for p in Path("/proc/self/fd").iterdir()
        if p.is_symlink() and os.path.realpath(p).startswith(str(journal))
    ]
    assert len(taken) == 2
    for old in taken:
        os.dup2(fd, old)
    store["key"] = 1
    with pytest.raises(shmkv.PersistError, match="descriptor"):
        store._journal_round()
    store.close()
    for still in (fd, *taken):
        os.close(still)
    assert other.read_bytes() == b"mine"


def test_a_dead_leader_is_noticed_by_who_is_overdue(
    make: Make, clock: Clock, tmp_path: Path
) -> None:
    store = make(JOURNAL)
    begin(store, tmp_path)
    store._journal_round()
    dead = make(of=store)
    number = dead._number()
    dead._abandon()
    with segment_path(store.name).open("r+b") as file:
        file.seek(LOCK_WORD)
        file.write(struct.pack("<I", number))
    rounds = store._journal_state()["done"]
    clock.advance(5)
    store["first"] = 1
    store["second"] = 2
    assert store._journal_state()["done"] == rounds + 1


def colliding(bits: int) -> list[bytes]:
    """2 ** bits keys of 64 * bits bytes, many of which XXH64 cannot tell apart, whatever its seed.

    A difference of the highest bit in a lane is, after the rotation, one of bit 30 up or down; a
    difference in the next block takes it back in every second case.
    """
    p1, p2, word = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 1 << 64
    back = pow(p2, -1, word)
    keys = [b""]
    for i in range(bits):
        first, second = (0x1111 * (i + 1) * p1) % word, (0x3333 * (i + 7) * p2) % word
        pairs = [
            (first, second),
            ((first + (1 << 63) * back) % word, (second - (1 << 30) * p1 * back) % word),
        ]
        blocks = [struct.pack("<8Q", a, 0, 0, 0, b, 0, 0, 0) for a, b in pairs]
        keys = [key + block for key in keys for block in blocks]
    return keys


def test_keys_of_one_hash_do_not_stop_the_journal(make: Make, tmp_path: Path) -> None:
    store = make(JOURNAL)
    begin(store, tmp_path)
    by_hash: dict[int, list[bytes]] = {}
    for key in colliding(8):
        by_hash.setdefault(_core.hash(key, store._geometry()["seed"]), []).append(key)
    same = max(by_hash.values(), key=len)
    assert len(same) > 8
    for key in same:
        store[key] = 1
    entries, _ = store._journal_sync()
    assert entries == 1


@pytest.mark.parametrize(("options", "entries"), [(JOURNAL | EVICT, 1), (JOURNAL, 0)])
def test_deleting_what_was_evicted_is_logged(
    make: Make, tmp_path: Path, options: int, entries: int
) -> None:
    store = make(options)
    begin(store, tmp_path)
    store._journal_sync()
    assert not store.delete("gone from memory, perhaps not from disk")
    assert store._journal_sync()[0] == entries
