"""The core's private methods that savers, the daemon and `shmkv top` call: what they refuse.

Wrong arguments, stores without a journal, closed and read-only ones, directories that are none:
each gets an error that says what, and the store is as it was. What they do when they may is tested
where it is used.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmkv

Opener = Callable[..., shmkv.Store]
Act = Callable[[Any], Any]

JOURNAL: list[Act] = [
    lambda s: s._journal_open(0),
    lambda s: s._journal_begin(1, 0),
    lambda s: s._journal_next(),
    lambda s: s._journal_round(),
    lambda s: s._journal_sync(),
    lambda s: s._journal_listen(0),
]
WRITING: list[Act] = [
    *JOURNAL,
    lambda s: s._load(b""),
    lambda s: s._replay(b""),
    lambda s: s._saved(1, 1),
    lambda s: s._sampling(0),
    lambda s: s._samples(),
    lambda s: s._board_write(b"x"),
    lambda s: s._count([], 1, 0, 0),
    lambda s: s._noting(True),
]
READING: list[Act] = [
    lambda s: s._publish(),
    lambda s: s._dump(),
    lambda s: s._journal_state(),
    lambda s: s._rows(),
    lambda s: s._memory(),
    lambda s: s._board_room(),
    lambda s: s._board_read(),
    lambda s: s._state("key"),
    lambda s: s._heat(None, 1),
    lambda s: s._daemon(False),
]


def test_closed(open_store: Opener) -> None:
    store = open_store(size="2m")
    store.close()
    for act in [*WRITING, *READING]:
        with pytest.raises(shmkv.Closed):
            act(store)


def test_read_only(open_store: Opener, store_name: str) -> None:
    open_store(size="2m")["key"] = 1
    with shmkv.open(store_name, readonly=True) as reader:
        for act in WRITING:
            with pytest.raises(shmkv.ReadOnly):
                act(reader)
        for act in READING:
            act(reader)
        assert reader._daemon(True) is False


def test_without_a_journal(open_store: Opener) -> None:
    store = open_store(size="2m")
    assert store._journal_state() is None
    for act in JOURNAL:
        with pytest.raises(ValueError, match="has no journal: it is chosen at creation"):
            act(store)
    store._publish()  # it is no creator's any more
    assert len(store) == 0


@pytest.mark.parametrize(
    ("act", "error", "said"),
    [
        (lambda s: s._journal_open("x"), TypeError, "integer"),
        (lambda s: s._journal_begin("x", 0), TypeError, "int"),
        (lambda s: s._journal_listen("x"), TypeError, "integer"),
        (lambda s: s._saved("x", 0), TypeError, "int"),
        (lambda s: s._load("text"), TypeError, "bytes-like"),
        (lambda s: s._replay("text"), TypeError, "bytes-like"),
        (lambda s: s._load(b"nonsense"), ValueError, "at byte 0 is no record"),
        (lambda s: s._replay(b"nonsense"), ValueError, "at byte 0 is no record"),
        (lambda s: s._dump().fill(b"x" * (2 << 20)), BufferError, "writable"),
        (lambda s: s._dump().fill(bytearray(10)), ValueError, "shorter than 1.25 MiB"),
        (lambda s: s._sampling(-1), ValueError, "below=-1 is not between"),
        (lambda s: s._sampling(1 << 40), ValueError, "below=1099511627776 is not between"),
        (lambda s: s._sampling("x"), TypeError, "int"),
        (lambda s: s._board_write(b""), ValueError, "0 bytes: the board has room for 1 to"),
        (lambda s: s._board_write(bytes(1 << 20)), ValueError, "the board has room for 1 to"),
        (lambda s: s._board_write("x"), TypeError, "bytes-like"),
        (lambda s: s._heat(None, 0), ValueError, "most=0 is not between"),
        (lambda s: s._heat(None, (1 << 24) + 1), ValueError, "most=16777217 is not between"),
        (lambda s: s._heat(1, 1), TypeError, "bytes-like"),
        (lambda s: s._count("keys", 1, 0, 0), TypeError, "list"),
        (lambda s: s._count([object()], 1, 0, 0), TypeError, "key"),
        (lambda s: s._state(object()), TypeError, "key"),
        (lambda s: s._work("x"), TypeError, "integer"),
    ],
)  # fmt: skip
def test_arguments(
    open_store: Opener, folder: Path, act: Act, error: type[Exception], said: str
) -> None:
    store = open_store(size="2m", path=folder, journal="everysec")
    store["key"] = 1
    with pytest.raises(error, match=said):
        act(store)
    assert dict(store.items()) == {"key": 1}


def test_directories(open_store: Opener, reborn: Opener, folder: Path) -> None:
    store = open_store(size="2m", path=folder, journal="everysec")
    directory = os.open(folder, os.O_RDONLY)
    try:
        with pytest.raises(ValueError, match="knows its directory already"):
            store._journal_open(directory)
    finally:
        os.close(directory)
    with pytest.raises(shmkv.PersistError, match="Nothing was changed"):
        store._journal_begin(1 << 24, 0)  # no number is left for its file
    store["key"] = 1
    store._journal_sync()
    assert dict(reborn(store, path=folder)) == {"key": 1}


def test_who_knows_no_directory(open_store: Opener, folder: Path) -> None:
    store = open_store(size="2m", path=folder, journal="always")
    name = store.name
    store.close()
    store = open_store(name, create=False, lock_timeout=0.05)
    with pytest.raises(shmkv.PersistError):
        store._journal_open(-1)
    with pytest.raises(shmkv.PersistError, match="The change is in memory, not on disk"):
        store["key"] = 1
    with pytest.raises(shmkv.PersistError, match="The change is in memory, not on disk"):
        store.set_many({"key": 2, "other": 3})
    assert dict(store.items()) == {"key": 2, "other": 3}


def test_one_daemon(open_store: Opener, store_name: str) -> None:
    store = open_store(size="2m")
    other = open_store(store_name, create=False)
    assert store._daemon(False) is False
    assert store._daemon(True) is True
    assert store._daemon(True) is True
    assert other._daemon(True) is False
    assert other._daemon(False) is True
    assert store._daemon(False) is True


def test_whether_notes_are_written(open_store: Opener) -> None:
    store = open_store(size="2m")
    store._noting(False)
    store["key"] = 1
    store._noting(True)
    store["key"] = 2
    assert store["key"] == 2


def test_rows_of_the_dead(open_store: Opener) -> None:
    store = open_store(size="2m")
    store["key"] = 1
    child = os.fork()
    if child == 0:
        store["key"] = 2
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert sorted((pid, alive) for _, _, pid, _, _, _, alive, _ in store._rows()) == sorted(
        [
            (os.getpid(), True),
            (child, False),
        ]
    )
