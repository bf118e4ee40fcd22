"""The saver, look by look: rules, requests, journals that are broken or long, disks that refuse.

Owns: what is true of `Saver` with a clock that tests move. Whole daemons: `test_saving.py`.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv.daemon import saver as room
from shmkv.daemon.saver import USUAL, Rule, Saver
from shmkv.persist import verify
from shmkv.persist.blocks import Writer
from shmkv.persist.directory import Directory, part_name
from tests.unit.daemon.saving import break_journal, generations
from tests.unit.persist.conftest import Opener, folder, reborn, started

__all__ = ["folder", "reborn", "started"]  # no daemon is started by open(journal=...)
RULES = (Rule(1000, 3), Rule(100, 50))


class Looks:
    """A saver whose clock stands still but for `after`."""

    def __init__(self, store: shmkv.Store, folder: Path, *rules: Rule, **how: Any) -> None:
        self.now = 5000.0
        self.folder = folder
        self.saver = Saver(store, str(folder), rules, clock=lambda: self.now, **how)

    def after(self, seconds: float) -> int:
        """Look so much later; how many snapshots there are."""
        self.now += seconds
        with Directory(str(self.folder)) as directory:
            self.saver.look(directory)
        return len(generations(self.folder))


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged since last asked."""
    caplog.set_level(logging.INFO, "shmkv.daemon")

    def new() -> list[str]:
        found = [one.getMessage() for one in caplog.records]
        caplog.clear()
        return found

    return new


def change(store: shmkv.Store, times: int) -> None:
    for n in range(times):
        store["k"] = n


# ---- rules --------------------------------------------------------------------------------------


def test_rules_are_two_numbers() -> None:
    assert Rule.parse("300 100") == Rule(300.0, 100)
    assert Rule.parse("  1   1 ") == Rule(1.0, 1)
    assert [Rule.parse(f"{rule.seconds:.0f} {rule.changes}") for rule in USUAL] == list(USUAL)


@pytest.mark.parametrize(
    "text", ["", "x", "never", "300", "300 100 1", "-1 3", "1 -3", "1.5 2", "1e3 2", "\u0663 1"]
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match='is no rule: write "SECONDS CHANGES"'):
        Rule.parse(text)


@pytest.mark.parametrize("text", ["0 1", "1 0"])
def test_a_rule_of_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        Rule.parse(text)


def test_a_rule_wants_both_time_and_changes(
    open_store: Opener,
    folder: Path,
    said: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_store(path=folder)
    made = store.stats().created
    monkeypatch.setattr(room.time, "time", lambda: made)  # however long ago that was
    looks = Looks(store, folder, *RULES, keep=9)
    change(store, 2)
    assert looks.after(900) == 0
    assert looks.after(900) == 0, "two changes are too few, whatever the time"
    store.delete("k")
    assert looks.after(0.25) == 1
    assert said()[-1].endswith("(3 changes in 1800 s)")
    change(store, 60)
    assert looks.after(99) == 1, "a hundred seconds since the last save"
    assert looks.after(1) == 2
    assert looks.after(5000) == 2, "nothing was changed"
    change(store, 3)
    assert looks.after(0) == 3


def test_what_another_daemon_saw_counts(open_store: Opener, folder: Path) -> None:
    """Daemons that live shorter than a rule: the store is saved all the same."""
    store = open_store(path=folder)
    change(store, 10)
    for _ in range(3):
        assert Looks(store, folder, *RULES).after(500) == 0
    assert Looks(store, folder, *RULES).after(1000) == 1


def test_the_time_of_the_last_snapshot_counts(
    open_store: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(path=folder)
    change(store, 10)
    ahead = time.time() + 990
    monkeypatch.setattr(room.time, "time", lambda: ahead)
    assert Looks(store, folder, *RULES).after(30) == 1, "1,020 s since the store was made"
    store._saved(round(ahead * 1000), 0)
    assert Looks(store, folder, *RULES).after(30) == 1
    assert Looks(store, folder, *RULES).after(1000) == 2


def test_a_store_that_came_back_knows_when_it_was_saved(
    open_store: Opener, reborn: Opener, folder: Path
) -> None:
    store = open_store(path=folder)
    assert store.stats().snapshot_time is None
    begun = time.time()
    store.snapshot()
    then = store.stats().snapshot_time
    assert then is not None
    assert begun - 0.002 <= then <= time.time()
    back = reborn(store, path=folder).stats().snapshot_time
    assert back is not None
    assert begun - 0.002 <= back <= then


# ---- requests and disks that refuse -------------------------------------------------------------


class Refusing:
    """A disk that refuses as long as `error` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error = errno.ENOSPC
        real = os.fsync

        def fsync(fd: int) -> None:
            if self.error:
                raise OSError(self.error, os.strerror(self.error))
            real(fd)

        monkeypatch.setattr(os, "fsync", fsync)


def test_a_request_is_fulfilled_once(open_store: Opener, folder: Path) -> None:
    looks = Looks(open_store(path=folder), folder, keep=9)
    assert looks.after(1) == 0
    looks.saver.ask()
    looks.saver.ask()
    assert looks.after(0) == 1
    assert looks.after(1) == 1
    looks.saver.ask()
    assert looks.after(0) == 2


def test_a_disk_that_refuses_is_tried_again_with_growing_pauses(
    open_store: Opener,
    folder: Path,
    said: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = Looks(open_store(path=folder), folder)
    disk = Refusing(monkeypatch)
    looks.saver.ask()
    looks.after(0)
    for pause in (5, 10, 20, 40, 80, 160, 300, 300):
        (text,) = said()
        assert text.startswith(f"not saved, tried again in {pause} s: cannot save: {folder}/")
        assert "No space left on device" in text
        assert looks.after(pause - 0.5) == 0
        assert said() == []
        assert looks.after(0.5) == 0
    assert os.listdir(folder) == ["lock"]
    disk.error = 0
    assert looks.after(299) == 0
    assert looks.after(1) == 1, "what was asked for an hour ago"
    said()
    disk.error = errno.EIO
    looks.saver.ask()
    looks.after(0)
    assert said()[0].startswith("not saved, tried again in 5 s")


def test_who_asks_again_need_not_wait(
    open_store: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(open_store(path=folder), folder)
    disk = Refusing(monkeypatch)
    looks.saver.ask()
    assert looks.after(0) == 0
    disk.error = 0
    assert looks.after(1) == 0
    looks.saver.ask()
    assert looks.after(0) == 1


# ---- journals -----------------------------------------------------------------------------------


def test_a_broken_journal_is_mended_by_a_save(
    open_store: Opener, reborn: Opener, folder: Path, said: Callable[[], list[str]]
) -> None:
    store = open_store(path=folder, journal="everysec")
    looks = Looks(store, folder)
    assert looks.after(1) == 0
    break_journal(store.name)
    kept = len(store)
    assert kept == len(dict(store)) > 1000
    assert looks.after(0.25) == 1
    assert said()[-1].endswith("(the journal is broken)")
    assert not store.stats().journal_broken
    assert looks.after(0.25) == 1
    store["after"] = 1
    store._journal_sync()
    back = reborn(store, path=folder)
    assert (len(back), back["after"]) == (kept + 1, 1)


def test_a_saver_that_died_while_it_mended_is_followed_by_a_save(
    open_store: Opener, reborn: Opener, folder: Path, said: Callable[[], list[str]]
) -> None:
    """The journal counts as whole then, and is not without its snapshot."""
    store = open_store(path=folder, journal="everysec")
    break_journal(store.name)
    store._journal_next()
    assert store.stats().journal_broken
    looks = Looks(store, folder)
    assert looks.after(0.25) == 1
    assert said()[-1].endswith("(the journal is broken)")
    assert looks.after(0.25) == 1
    kept = dict(store)
    assert dict(reborn(store, path=folder)) == kept


def test_a_long_journal_is_followed_by_a_save(
    open_store: Opener,
    folder: Path,
    said: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "JOURNAL_LEAST", 20_000)
    store = open_store(path=folder, journal="everysec")
    looks = Looks(store, folder)

    def log(rounds: int) -> None:
        for n in range(rounds):
            store["k"] = bytes([n]) * 5000
            store._journal_round()

    log(3)
    assert looks.after(1) == 0
    log(2)
    assert looks.after(1) == 1
    assert said()[-1].endswith(" bytes of journal)")
    store["large"] = bytes(20_000)
    looks.saver.ask()
    assert looks.after(1) == 2
    newest = generations(folder)[-1]
    log(4)
    looks.after(1)
    assert generations(folder)[-1] == newest, "twice the snapshot is more than the least"
    log(4)
    looks.after(1)
    assert generations(folder)[-1] > newest


# ---- the thread ---------------------------------------------------------------------------------


def test_told_to_stop_a_save_is_given_up(
    open_store: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(path=folder)
    store.update({f"k{n}": bytes(200_000) for n in range(20)})
    store.snapshot()
    with Directory(str(folder)) as directory, directory.locked(0):
        before = {one.name: one.read_bytes() for one in folder.iterdir()}
    saver, begun = Saver(store, str(folder), ()), threading.Event()
    real, blocks = Writer.block, list[bool]()

    def block(writer: Writer, *args: Any, **how: Any) -> None:
        real(writer, *args, **how)
        begun.set()
        blocks.append(saver._stop.wait(30))

    monkeypatch.setattr(Writer, "block", block)
    with saver.running():
        saver.ask()
        assert begun.wait(30)
        assert len(list(folder.glob("*.part"))) == 1
    assert blocks == [True], "the one that was being written is the last"
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == before
    store["still"] = "open"


def test_what_a_dead_saver_left_is_swept(
    open_store: Opener, folder: Path, said: Callable[[], list[str]]
) -> None:
    store = open_store(path=folder)
    whole = store.snapshot().read_bytes()
    for n, content in enumerate((whole[:100], b"", whole)):
        (folder / part_name(7 + n)).write_bytes(content)
    (folder / "notes.part").write_text("mine")
    with Saver(store, str(folder), ()).running():
        assert [one.name for one in folder.glob("*.part")] == ["notes.part"]
    assert [text.split()[1].rstrip(",") for text in said()] == [part_name(n) for n in (7, 8, 9)]
    assert verify(str(folder))


def test_a_directory_has_one_saver(
    open_store: Opener,
    folder: Path,
    new_name: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "LOCK_S", 0.02)
    store, other = open_store(path=folder), open_store(new_name())
    with Saver(store, str(folder), ()).running():
        again = Saver(other, str(folder), ())
        match = rf"{folder} is in use: process {os.getpid()} restores a store from it, or is the"
        with pytest.raises(shmkv.Busy, match=match), again.running():
            pass
    with again.running():
        pass
