"""Saving in the background: by a schedule, on request, and before the journal grows too long.

Owns: `Rule`, `Saver` and its thread, the lock of the store's directory for the life of the daemon.

Promises: the loop never waits for a save, and told to stop a save that is under way is given up
within a moment: what was there before is as it was. What fails is logged and tried again, with
pauses that grow; a request is fulfilled in the end. A rule counts what was changed since the last
save though another daemon saw it: where daemons come and go the store is saved as well. A journal
is never longer than twice the snapshot it goes on after, or 64 MiB, for longer than a save takes.

Does not: write files (`persist`), or hear signals: `ask` may be called by their handlers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from shmkv import persist
from shmkv.config import show_size
from shmkv.errors import Error
from shmkv.persist.directory import Directory, journal_name, snapshot_name
from shmkv.store import Store
from shmkv.thread import Thread

LOOK_S = 0.25
LOCK_S = 5.0  # who restores from the directory may still be about to let go
JOURNAL_LEAST = 64 << 20  # bytes of journals that are no reason to save
JOURNAL_GROWTH = 2  # times the last snapshot, that are
RETRY_S, RETRY_MOST = 5.0, 300.0

log = logging.getLogger("shmkv.daemon")


class Rule(NamedTuple):
    """Save after so many seconds if so much was changed since the last save."""

    seconds: float
    changes: int

    @classmethod
    def parse(cls, text: str) -> Rule:
        """From "300 100"; ValueError."""
        words = text.split()
        if len(words) != 2 or not all(word.isascii() and word.isdecimal() for word in words):
            raise ValueError(f'{text!r:.60} is no rule: write "SECONDS CHANGES", as in "300 100"')
        rule = cls(float(words[0]), int(words[1]))
        if rule.seconds < 1 or rule.changes < 1:
            raise ValueError(f"{text!r:.60}: both numbers must be at least 1")
        return rule


USUAL = (Rule(3600, 1), Rule(300, 100), Rule(60, 10_000))


class _Stopped(Exception):
    """The daemon ends."""


class Saver:
    """The saves of one store into its directory.

    What was changed before this daemon began counts as not saved: nobody knows how much of it the
    last snapshot holds.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        rules: tuple[Rule, ...] = USUAL,
        *,
        keep: int = 2,
        compression: str | None = None,
        owner: int | None = None,
        mode: int = 0o600,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._folder = folder
        self._rules = rules
        self._keep = keep
        self._compression = compression
        self._owner = owner
        self._others = mode if mode & 0o022 else 0
        self._clock = clock
        self._asked = self._heard = self._answered = 0  # requests: made, tried, fulfilled
        self._stop = threading.Event()
        stats = store.stats()
        unsaved_s = time.time() - max(stats.snapshot_time or 0.0, stats.created)
        self._saved_at = clock() - max(unsaved_s, 0)
        self._saved_changes = 0
        self._wanted = ""  # why the save that failed was begun
        self._faults = 0
        self._not_before = 0.0

    def ask(self) -> None:
        """Save as soon as possible. Takes no lock: for handlers of signals."""
        self._asked += 1

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Save while the block runs. Raises Busy where another process has the directory."""
        with (
            Directory(self._folder, owner=self._owner, mode=self._others) as directory,
            directory.locked(LOCK_S),
        ):
            for name in directory.sweep():
                log.info("removed %s, which a dead process had begun", name)
            thread = Thread(lambda: self._run(directory))
            if not thread.start():
                raise MemoryError("no memory for the thread that saves")
            try:
                yield
            finally:
                self._stop.set()
                thread.ended.wait()

    def look(self, directory: Directory) -> None:
        """Save if there is a reason; what fails is logged, and tried again after a pause.

        Who asks does not wait for the end of the pause: the disk may have room again.
        """
        now, asked = self._clock(), self._asked
        if now < self._not_before and asked == self._heard:
            return
        self._heard = asked
        try:
            why = self._reason(now, directory)
            if why:
                self._wanted = why
                self._save(now, directory, why)
                self._wanted, self._answered = "", asked
            self._faults = 0
        except _Stopped:
            pass
        except (Error, OSError, MemoryError) as error:
            self._faults += 1
            pause = min(RETRY_S * 2 ** (self._faults - 1), RETRY_MOST)
            self._not_before = self._clock() + pause
            log.error("not saved, tried again in %.0f s: %s", pause, error)

    # ---- the thread -----------------------------------------------------------------------------

    def _run(self, directory: Directory) -> None:
        while not self._stop.wait(LOOK_S):
            self.look(directory)

    def _changes(self) -> int:
        totals = self._store._stats()
        return int(totals["sets"] + totals["deletes"])

    def _reason(self, now: float, directory: Directory) -> str:
        """Why it is to be saved now; empty: it is not."""
        if self._asked != self._answered:
            return "on request"
        if self._wanted:
            return self._wanted
        changes = self._changes() - self._saved_changes
        for rule in self._rules:
            if changes >= rule.changes and now >= self._saved_at + rule.seconds:
                return f"{changes} changes in {now - self._saved_at:.0f} s"
        state = self._store._journal_state()
        if state is None:
            return ""
        if state["broken"] or state["unsaved"]:
            return "the journal is broken"
        length, last = _journal_bytes(directory)
        if length > max(JOURNAL_LEAST, JOURNAL_GROWTH * last):
            return f"{show_size(length)} of journal"
        return ""

    def _save(self, now: float, directory: Directory, why: str) -> None:
        changes = self._changes()
        path = persist.save(
            self._store,
            directory,
            compression=self._compression,
            keep=self._keep,
            progress=self._look_up,
        )
        self._saved_at, self._saved_changes = now, changes
        seconds, size = self._clock() - now, path.stat().st_size
        log.info("saved %s: %d bytes in %.1f s (%s)", path, size, seconds, why)

    def _look_up(self, _done: int, _total: int) -> None:
        if self._stop.is_set():
            raise _Stopped


def _journal_bytes(directory: Directory) -> tuple[int, int]:
    """Bytes of the journals since the last snapshot, and of that snapshot."""
    files = directory.files()
    last = files.snapshots[-1] if files.snapshots else 0
    size = _size(directory, snapshot_name(last)) if last else 0
    since = [number for number in files.journals if number >= last]
    return sum(_size(directory, journal_name(number)) for number in since), size


def _size(directory: Directory, name: str) -> int:
    try:
        return os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0
