"""The life of a daemon: wait for the turn, work in small steps, sleep as long as there is nothing.

Owns: `serve`, the rhythm of work, what is done about errors, and when the daemon ends.

Promises: a step takes about 10 ms and waits for nobody without limit; told to stop, it ends within
a second. Its death at any moment costs nobody anything, for every step is one that a writer would
do. It looks at the store every quarter of a second at least, so what a dead process held is given
back within a second, and ends when the name no longer means this store.

Does not: know pages (`_csrc/work.c`), signals (`stop`), or where messages go (`notify`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from typing import NamedTuple

from shmkv.daemon.health import Health
from shmkv.daemon.notify import Told
from shmkv.daemon.stop import Stop
from shmkv.daemon.turn import Held, Task, take
from shmkv.daemon.watcher import Watcher
from shmkv.errors import Busy, Corrupt, Error, NotFound, PersistError
from shmkv.store import Store

STEP_MS = 10
PAUSE_MIN, PAUSE_MAX = 0.001, 0.25  # seconds
TURN_S = 0.2  # between looks whether it is one's turn
LOOK_S = 1.0  # between looks at the name and the totals
FAULTS_MOST = 5  # in a row, then it gives up
FAULT_PAUSE = 0.2  # seconds, times their number

log = logging.getLogger("shmkv.daemon")


class End(Enum):
    """Why a daemon ended."""

    STOPPED = "told to stop"
    TAKEN = "there is a daemon already"
    REMOVED = "the store was removed"
    FAILED = "the store or the system refused"


class Result(NamedTuple):
    """How `serve` ended, in a word and in words."""

    end: End
    text: str


def serve(
    task: Task,
    stop: Stop,
    told: Told,
    *,
    beside: Callable[[Store], AbstractContextManager[object]] = contextlib.nullcontext,
) -> Result:
    """Be the daemon of a store until told to stop, or the store is removed, or all fails.

    Without `task.standby` it ends at once where there is a daemon, and raises NotFound where there
    is no store. `beside(store)` makes what is there while this process is the daemon: it is entered
    before the first step and left before the store is let go; what it raises comes through.
    """
    held = _turn(task, stop, told)
    if isinstance(held, Result):
        return held
    try:
        with beside(held.store):
            now = time.monotonic()
            health = Health(held.store, now, summary_s=task.summary_s)
            log.info("daemon of store %r: %s", task.name, health.line())
            told.ready(f"daemon of store {task.name!r}")
            result = _work(task, held, health, stop, told)
    finally:
        told.stopping()
        held.store.close()
    level = logging.ERROR if result.end is End.FAILED else logging.INFO
    log.log(level, "%s; %d pages freed", result.text, health.freed)
    return result


# ---- the turn -----------------------------------------------------------------------------------


def _turn(task: Task, stop: Stop, told: Told) -> Held | Result:
    """The store, when it is this process's turn."""
    faults, waits_for = 0, ""
    while not stop.is_set():
        try:
            held = take(task)
            if held is not None:
                return held
            why = f"store {task.name!r} has a daemon"
            if not task.standby:
                return Result(End.TAKEN, f"{why} already")
            faults = 0
        except (NotFound, Busy) as error:
            if not task.standby:
                raise
            why = str(error)
        except (Corrupt, OSError, MemoryError) as error:
            faults += 1
            if not task.standby or faults > FAULTS_MOST:
                raise
            why = str(error)
        if why != waits_for:
            waits_for = why
            log.info("standing by: %s", why)
            told.ready(f"standing by: {why}")
        told.alive(time.monotonic())
        stop.wait(TURN_S)
    told.stopping()
    return Result(End.STOPPED, "stopped while standing by")


# ---- the work -----------------------------------------------------------------------------------


def next_pause(pause: float, freed: int, more: bool) -> float:
    """Seconds to sleep after a step: shorter while there is something to do, longer when not."""
    if more:
        return 0.0 if freed else PAUSE_MIN
    if freed:
        return max(pause / 4, PAUSE_MIN)
    return min(max(2 * pause, PAUSE_MIN), PAUSE_MAX)


class _Rounds:
    """The journal's rounds, of a store that has one and a daemon that knows its directory."""

    def __init__(self, task: Task, held: Held) -> None:
        self.leads = task.folder is not None and held.store._journal_state() is not None
        self._store = held.store
        self._said = ""

    def lead(self) -> None:
        """What was written since the last one goes to disk."""
        if not self.leads:
            return
        said = ""
        try:
            self._store._journal_round()
        except PersistError as error:  # writers are told as well; the disk may come back
            said = str(error)
        if said != self._said:
            self._said = said
            log.log(logging.ERROR if said else logging.INFO, said or "the journal is written again")

    def finish(self) -> None:
        """What was written is on disk before the daemon goes: perhaps nobody else syncs it."""
        if not self.leads:
            return
        try:
            self._store._journal_sync()
        except (Error, OSError) as error:  # others lead, or find it as a dead daemon leaves it
            log.error("the last round is not on disk: %s", error)

    def sleep(self, stop: Stop, seconds: float) -> None:
        """Until there is something to do: somebody may wait for a round."""
        if self.leads and seconds > 0:
            self._store._journal_listen(round(seconds * 1000))
        else:
            stop.wait(seconds)


def _work(task: Task, held: Held, health: Health, stop: Stop, told: Told) -> Result:
    pause, faults, look_at = 0.0, 0, 0.0
    rounds = _Rounds(task, held)
    watcher = Watcher(held.store) if task.history else None
    while not stop.is_set():
        told.alive(time.monotonic())
        try:
            folded, freed, more = held.store._work(STEP_MS)
            health.worked(folded, freed)
            rounds.lead()
            now = time.monotonic()
            if watcher is not None:
                watcher.turn(now=time.time(), clock=now)
            if now >= look_at:
                look_at = now + LOOK_S
                if not held.named():
                    rounds.finish()
                    return Result(End.REMOVED, f"store {task.name!r} was removed")
                health.look(now)
                told.status(health.line())
            faults = 0
        except Busy:
            freed, more = 0, False  # a living process is stopped: others have work, too
        except (Error, OSError, MemoryError) as error:
            faults += 1
            log.error("%s: %s", type(error).__name__, error)
            if faults > FAULTS_MOST:
                return Result(End.FAILED, f"given up: {error}")
            stop.wait(FAULT_PAUSE * faults)
            continue
        pause = next_pause(pause, freed, more)
        rounds.sleep(stop, pause)
    if watcher is not None:
        watcher.close(now=time.time(), clock=time.monotonic())
    rounds.finish()
    return Result(End.STOPPED, "stopped")
