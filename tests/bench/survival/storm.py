"""The storm over one store: six workers, one killed every few milliseconds and replaced at once.

Owns: who dies and when, the watch over progress, the parts of a life: a moment of calm, the kills,
a moment of calm, then one process looks at every key. Two workers are never killed. The others are
killed inside an operation where that can be aimed at: the killer waits a moment for the victim to
begin one, then for a random part of the time that the victim's last one took. Who is in an
operation for more than 250 ms is let live, so that it can tell how long it took; and nobody is
killed before somebody has succeeded in an operation since the last kill.

A store has stopped when no operation of anybody succeeded for `hang_s`, though each worker could
have had a processor for a good part of that time: `broken` if operations raised meanwhile, else
`hang`.

Promises: bounded in time; all processes are gone afterwards. Does not: retry or repair.
"""

import gc
import mmap
import os
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.bench.peers.peer import new_room
from tests.bench.peers.team import Failed
from tests.bench.survival.crew import BEHIND, END_S, Crew, Death, Member
from tests.bench.survival.look import look, prepare
from tests.bench.survival.outcome import AFTER, BROKEN, CALM, HANG, LAST, STORM, Outcome
from tests.bench.survival.peer import Store
from tests.bench.survival.values import (
    ASKED,
    CLEARED,
    DONE,
    FAILED,
    FLYING,
    LIFE,
    LONGEST,
    OWN,
    SLOTS,
    TOOK,
    UNREAD,
    WHAT,
    WORST,
    Event,
    Table,
)
from tests.stress.support import Child, until

IMMUNE = 2
PAUSE_S = 0.002  # at most between a kill and the search for the next victim
AIM_NS = 1_000_000  # at most for the victim to begin an operation
LET_LIVE_NS = 250_000_000
ANYONE = 1 / 8  # of the victims need not have done anything yet: they may be just attaching
SUSPECT_S = 0.5  # without progress: nobody is killed, and processors are watched
OWN_S = 0.5  # of the time without progress, not spent waiting for a processor
STARVED_S = 30.0  # without progress: it is no matter of processors any more
AFTER_S = 1.0
CALM_S, CALM_PART = 1.5, 10  # before the first kill; not more than this part of the seconds


class Stopped(Exception):
    """The store does nothing for anybody any more."""


class Life:
    """One life of one store."""

    def __init__(self, store: Store, out: Outcome, rng: random.Random, hang_s: float) -> None:
        self.store, self.out, self.rng, self.hang_s = store, out, rng, hang_s
        self.table = Table()
        self.kills = self._kills_then = 0  # in all, and at the last progress
        self._part, self._failed = CALM, 0
        self._seen = set[Event]()
        self._ear, self._mouth = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._crew = Crew(store, self.table, self._mouth, rng)
        self._done, self._done_then, self._since = -1, -1, time.monotonic()
        self._waited: dict[int, int] = {}  # by pid, when the present standstill was suspected
        self._suspected, self._failed_then = 0.0, 0

    def play(self, calm_s: float, planned: int, deadline: float) -> None:
        """All of it, until it has stopped, or so many of the row were killed in an operation.

        A life in which nobody is killed proves nothing: the time ends none before its first kill.
        """
        try:
            prepare(self.store, self.table, self._mouth)
            self._crew.start()
            self._pause(calm_s)
            self._begin(STORM)
            while self.out.inside < planned and (not self.kills or time.monotonic() < deadline):
                time.sleep(self.rng.uniform(0, PAUSE_S))  # the moment of death is the test
                self._kill()
                self._watch()
            self._begin(AFTER)
            self._pause(AFTER_S)
            self._finish()
            self._begin(LAST)
            if not look(self.store, self.table, self._mouth, self.out):
                raise Stopped(HANG, "the last look")
        except Stopped as stopped:
            what, where = stopped.args
            self.out.stops.append((what, self._kills_then, where))
        finally:
            self._begin(LAST)
            self._crew.end()
            os.close(self._ear)
            os.close(self._mouth)
            self.out.operations += self.table.total(DONE)
            self.out.cleared += self.table.total(CLEARED)
            longest = max(desk.misc[WORST] for desk in self.table.desks)
            self.out.worst_ms = max(self.out.worst_ms, longest / 1e6)

    def _begin(self, part: str) -> None:
        self._collect()
        self._part = part

    def _pause(self, seconds: float) -> None:
        """Nobody is killed; no standstill is left undecided."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or self._suspected:
            time.sleep(0.005)  # bounded by the line above and `_watch`
            self._watch()

    def _finish(self) -> None:
        self.table.stop[0] = 1

        def ended() -> bool:
            self._note(self._crew.bury())
            return self._crew.gone()

        try:
            until(ended, "the workers end", END_S)
        except AssertionError:
            raise Stopped(HANG, self._where()) from None

    # --- killing ---------------------------------------------------------------------------

    def _victim(self) -> Member | None:
        now, anyone = time.monotonic_ns(), self.rng.random() < ANYONE
        able = []
        for member in self._crew.alive[IMMUNE:]:
            misc = self.table.desks[member.slot].misc
            since = misc[FLYING]
            if (misc[LIFE] or anyone) and not (since and now - since > LET_LIVE_NS):
                able.append(member)
        return self.rng.choice(able) if able else None

    def _kill(self) -> None:
        if self.table.total(DONE) == self._done_then:
            return  # nobody has succeeded since the last kill
        victim = self._victim()
        if victim is None:
            return
        misc, limit = self.table.desks[victim.slot].misc, time.monotonic_ns() + AIM_NS
        while not misc[FLYING] and time.monotonic_ns() < limit:
            pass
        limit = time.monotonic_ns() + int(self.rng.random() * min(misc[TOOK], AIM_NS))
        while time.monotonic_ns() < limit:
            pass
        self._crew.kill(victim)
        self._done_then = self.table.total(DONE)
        self.kills += 1
        self.out.kills += 1
        self._note(self._crew.replace())

    def _note(self, deaths: list[Death]) -> None:
        for death in deaths:
            if death.by_itself:
                self.out.crashes[death.by_itself] += 1
            elif death.killed:
                self.out.inside += death.inside

    # --- watching --------------------------------------------------------------------------

    def _watch(self) -> None:
        """Bury, replace who ended by itself, collect; `Stopped` if nothing moves any more."""
        self._note(self._crew.bury())
        while len(self._crew.alive) < self._crew.workers:
            self._note(self._crew.replace())
        self._collect()
        now, done = time.monotonic(), self.table.total(DONE)
        if done != self._done:
            self._done, self._since, self._suspected = done, now, 0.0
            self._kills_then = self.kills
        elif not self._suspected and now - self._since > SUSPECT_S:
            self._suspected, self._waited = now, self._waiting()
            self._failed_then = self._failures()
        elif self._suspected and now - self._since > self.hang_s:
            if not self._had_processors(now) and now - self._since < STARVED_S:
                return
            kind = BROKEN if self._failures() > self._failed_then else HANG
            raise Stopped(kind, self._where())

    def _failures(self) -> int:
        return self.table.total(FAILED) + self.table.total(UNREAD)

    def _waiting(self) -> dict[int, int]:
        """How long each worker has waited for a processor so far, in ns."""
        found = {}
        for member in self._crew.alive:
            with suppress(OSError):  # it has just ended
                text = Path(f"/proc/{member.child.pid}/schedstat").read_text()
                found[member.child.pid] = int(text.split()[1])
        return found

    def _had_processors(self, now: float) -> bool:
        """Since the suspicion each worker had time of its own: it was not the machine."""
        waited = self._waiting()
        longest = max((waited[pid] - self._waited[pid] for pid in waited & self._waited.keys()),
                      default=0)  # fmt: skip
        return now - self._suspected - longest / 1e9 > OWN_S

    def _where(self) -> str:
        """What the workers are in, in words."""
        found = Counter[str]()
        for member in self._crew.alive:
            misc = self.table.desks[member.slot].misc
            found[ASKED[misc[WHAT]] if misc[FLYING] else "nothing"] += 1
        return ", ".join(f"{n} in {what}" for what, n in found.most_common())

    def _collect(self) -> None:
        """What the workers have noted and told since."""
        for event in self.table.fresh():
            if event not in self._seen:
                self._seen.add(event)
                self.out.wrong[self._part, event.kind] += 1
        failed = self.table.total(FAILED)
        self.out.errors[self._part] += failed - self._failed
        self._failed = failed
        with suppress(BlockingIOError):
            while said := os.read(self._ear, 1 << 16):
                lines = said.decode(errors="replace").splitlines()
                self.out.told.setdefault(self._part, Counter()).update(lines)


class Control:
    """A process that asks for a processor as the workers do, and touches no store."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, 16)).cast("q")
        self._child = Child(self._body)

    def _body(self) -> None:
        os.nice(BEHIND)
        words, last = self._words, time.monotonic_ns()
        while not words[1]:
            now = time.monotonic_ns()
            if now - last > words[0]:
                words[0] = now - last
            last = now

    def end(self) -> float:
        """For how many ms, at the most, it was without one."""
        self._words[1] = 1
        try:
            self._child.good(END_S)
        finally:
            self._child.end()
        return self._words[0] / 1e6


def run(
    store: Store, planned: int, seconds: float, hang_s: float, seed: int, *, once: bool = False
) -> Outcome:
    """One row: lives until the kills are done or the time is over; `once`: one life at most."""
    out = Outcome(store.name, store.options, store.version(), planned)
    rng = random.Random(f"{seed}{store.name}")
    deadline, calm_s = time.monotonic() + seconds, min(CALM_S, seconds / CALM_PART)
    gc.freeze()
    control = Control()
    try:
        while out.inside < planned and time.monotonic() < deadline and not out.failed:
            out.lives += 1
            with new_room(SLOTS * OWN, LONGEST) as room:
                try:
                    store.start(room)
                    life = Life(store, out, rng, hang_s)
                    life.play(calm_s, planned, deadline)
                except (AssertionError, Failed, OSError) as error:
                    out.failed = f"{type(error).__name__}: {error}".strip().splitlines()[-1][:300]
                finally:
                    store.stop()
            calm_s = 0.0
            if once:
                break
    finally:
        out.control_ms = control.end()
    return out
