"""The processes of a storm: those at work, those that were killed and are not dead yet, and a few
that wait for a slot, so that a killed one is replaced at once.

Owns: forking, killing, burying. Whether a dead worker was inside an operation is read from its desk
when it is dead. Promises: everybody is gone after `end`, and with the process that made the crew;
nobody is ended but by its own id. Does not: decide who dies.
"""

import os
import random
import signal
from dataclasses import dataclass

from tests.bench.survival.peer import Store
from tests.bench.survival.values import FLYING, LIFE, SLOTS, Table
from tests.bench.survival.worker import Worker, quiet
from tests.stress.support import Child, until

WORKERS, POOL = 6, 3
BEHIND = 5  # workers are nicer than the process that kills and replaces them
END_S = 10.0


def work(store: Store, table: Table, pipe: int, order: int, seed: int) -> None:
    """The life of a process: wait for a slot, then work there."""
    slot = os.read(order, 1)
    os.nice(BEHIND)
    quiet()
    if slot:
        Worker(store.attach, table, slot[0], pipe).live(seed)


class Standby:
    """A process that waits to be given a slot."""

    def __init__(self, store: Store, table: Table, pipe: int, seed: int) -> None:
        order, self._order = os.pipe()
        self.child = Child(lambda: work(store, table, pipe, order, seed))
        os.close(order)

    def start(self, slot: int) -> Child:
        """Let it work there."""
        os.write(self._order, bytes([slot]))
        os.close(self._order)
        return self.child

    def end(self) -> None:
        """It is not needed."""
        os.close(self._order)
        self.child.end()


@dataclass
class Member:
    """One worker."""

    child: Child
    slot: int


@dataclass(frozen=True)
class Death:
    """One that was buried."""

    killed: bool
    inside: bool  # an operation
    by_itself: str  # why, if nobody had killed it; empty for one that was told to end


class Crew:
    """All of them."""

    def __init__(self, store: Store, table: Table, pipe: int, rng: random.Random) -> None:
        self._store, self._table, self._pipe, self._rng = store, table, pipe, rng
        self.workers = WORKERS
        self._pool: list[Standby] = []
        self._free = list(range(SLOTS))
        self.alive: list[Member] = []
        self._dying: list[Member] = []

    def start(self) -> None:
        """Everybody at work."""
        self._fill()
        while len(self.alive) < WORKERS:
            self.replace()

    def _fill(self) -> None:
        while len(self._pool) < POOL:
            seed = self._rng.getrandbits(32)
            self._pool.append(Standby(self._store, self._table, self._pipe, seed))

    def replace(self) -> list[Death]:
        """One more at work; whom it had to wait for."""
        deaths: list[Death] = []

        def room() -> bool:
            if not self._free:
                deaths.extend(self.bury())
            return bool(self._free)

        until(room, "a killed process ends", END_S)
        slot = self._free.pop(0)
        self.alive.append(Member(self._pool.pop(0).start(slot), slot))
        self._fill()
        return deaths

    def kill(self, member: Member) -> None:
        """SIGKILL, wherever it is."""
        member.child.send(signal.SIGKILL)
        self.alive.remove(member)
        self._dying.append(member)

    def bury(self) -> list[Death]:
        """Who has ended, killed or by himself; their slots are free."""
        deaths = []
        for member in [*self._dying, *self.alive]:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, member.child.pid, flags) is None:
                continue
            code, misc = member.child.wait(), self._table.desks[member.slot].misc
            why = ""
            if code not in (0, -signal.SIGKILL):
                said = member.child.text.strip().splitlines()
                why = said[-1] if said else signal.strsignal(-code) or f"signal {-code}"
            deaths.append(Death(member in self._dying, misc[FLYING] != 0, why))
            misc[FLYING] = misc[LIFE] = 0
            (self._dying if member in self._dying else self.alive).remove(member)
            self._free.append(member.slot)
        return deaths

    def gone(self) -> bool:
        """Has everybody been buried?"""
        return not (self.alive or self._dying)

    def end(self) -> None:
        """Whatever they do: they are gone afterwards."""
        for member in [*self.alive, *self._dying]:
            member.child.end()
        for standby in self._pool:
            standby.end()
        self._pool.clear()
        self.alive.clear()
        self._dying.clear()
