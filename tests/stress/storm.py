"""SIGKILL storm: eight processes at work, one killed every few milliseconds and replaced at once.

    python -m tests.stress.storm --kills 2000 [--seed S] [--policy evict|keep]

Owns: who lives, who dies and when; the pool of forked processes that wait for a slot; the limits of
time. Two workers are never killed: their operations are seen to the end. The others are killed
wherever they are, 0 to 2 ms after the kill before; what a dead worker had begun, its successor in
the slot decides. Meanwhile the store is checked from time to time. What workers do and find wrong
by themselves stands in storm_worker.py, the last look in storm_verdict.py.

Prints a line of JSON for each policy: {name, seed, n, violations, worst_ms}, n being kills and
worst_ms what the store answers for (storm_weather.py); and before it a line about the run. The seed
repeats victims, pauses and operations, not the interleaving.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import random
import signal
import sys
import time
from collections.abc import Iterator

import shmkv
from tests.stress.storm_values import FLYING, OPS, SLOTS, Table
from tests.stress.storm_verdict import judge
from tests.stress.storm_weather import Slow, Weather
from tests.stress.storm_worker import NOTED_NS, Worker, prepare
from tests.stress.support import Child, report, seed, until

MIB = 1 << 20
SIZES = {"evict": 2 * MIB, "keep": 16 * MIB}
WORKERS, IMMUNE, POOL = 8, 2, 3
BEHIND = 5  # workers are nicer than the process that kills and replaces them
QUICK, FULL = 1000, 100_000  # kills of each policy
LIMIT_MS = 250.0
LATE_NS = 10_000_000  # a death that took longer is noted
HANG_S = 30.0
CHECK_EVERY = 250  # kills
LOCK_TIMEOUT_S = 10.0


class Standby:
    """A process that waits to be given a slot."""

    def __init__(self, store: shmkv.Store, table: Table, life_seed: int) -> None:
        order, self._order = os.pipe()

        def body() -> None:
            slot = os.read(order, 1)
            os.nice(BEHIND)
            if slot:
                Worker(store, table, slot[0], life_seed).live()

        self.child = Child(body)
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


class Game:
    """One storm over one store."""

    def __init__(self, store: shmkv.Store, rng: random.Random) -> None:
        self.store = store
        self.rng = rng
        self.table = Table()
        self.weather = Weather()
        self.violations: list[str] = []
        self.deaths = self.in_flight = 0
        self.slow: list[Slow] = []
        self._pool: list[Standby] = []
        self._alive: list[tuple[Child, int]] = []
        self._dying: list[tuple[Child, int, int]] = []  # when, if inside an operation
        self._told = [0] * SLOTS  # slow operations of each slot that are in `slow`
        self._free = list(range(SLOTS))
        prepare(store, self.table)

    def play(self, kills: int) -> None:
        """Until so many were killed, or something is wrong."""
        self._pulse = Child(lambda: self.weather.pulse(BEHIND))
        try:
            self._fill()
            for _ in range(WORKERS):
                self._replace()
            while self.deaths < kills and not self.violations:
                time.sleep(self.rng.uniform(0, 0.002))  # the moment of death is the test
                self._kill()
            self._finish()
        finally:
            self._end()

    def _fill(self) -> None:
        while len(self._pool) < POOL:
            self._pool.append(Standby(self.store, self.table, self.rng.getrandbits(32)))

    def _replace(self) -> None:
        slot = self._free.pop(0)
        self._alive.append((self._pool.pop(0).start(slot), slot))
        self._fill()

    def _kill(self) -> None:
        now, at = time.monotonic_ns(), self.rng.randrange(IMMUNE, WORKERS)
        child, slot = self._alive[at]
        since = self.table.desks[slot].misc[FLYING]
        if since and now - since > LIMIT_MS * 1e6:
            self._look()  # its operation is evidence: it is let live to say how long it took
            return
        child.send(signal.SIGKILL)
        self.deaths += 1
        inside = self.table.desks[slot].misc[FLYING] != 0
        self.in_flight += inside
        self._dying.append((child, slot, now if inside else 0))
        del self._alive[at]
        self._reap()
        self._collect()
        if not self._free:
            until(self._reap, "a killed process ends", HANG_S)
        self._replace()
        if self.deaths % CHECK_EVERY == 0:
            checked = self.store.check()
            self.violations += [f"check, meanwhile: {text}" for text in checked.problems]

    def _reap(self) -> bool:
        """Bury who has ended; is there a slot?"""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        for one in list(self._dying):
            child, slot, killed = one
            if os.waitid(os.P_PID, child.pid, flags) is None:
                continue
            now = time.monotonic_ns()
            if killed and now - killed > LATE_NS:
                self.weather.note(killed, now, now - killed)
            if child.wait() != -signal.SIGKILL:  # it had ended by itself, of what it found
                self.violations.append(f"slot {slot}: {child.text or child.wait()}")
            self._dying.remove(one)
            self._free.append(slot)
        return bool(self._free)

    def _look(self) -> None:
        """Does anybody hang?"""
        now = time.monotonic_ns()
        for child, slot in self._alive:
            since = self.table.desks[slot].misc[FLYING]
            if since and now - since > HANG_S * 1e9:
                self.violations.append(f"process {child.pid} hangs in slot {slot}")

    def _finish(self) -> None:
        self.table.stop[0] = 1
        for child, slot in self._alive:
            try:
                code = child.wait(HANG_S)
            except AssertionError as hang:
                self.violations.append(f"slot {slot}: {hang}")
                continue
            if code != 0:
                self.violations.append(f"slot {slot}: {child.text or code}")
        until(lambda: self._reap() and not self._dying, "the killed end", HANG_S)
        self.weather.stop()
        self._pulse.good()
        self._collect()

    def _collect(self) -> None:
        """What the workers have noted since."""
        for slot in range(SLOTS):
            for noted in self.table.slow(slot, self._told[slot]):
                self.slow.append(Slow(*noted))
                self._told[slot] += 1

    def _end(self) -> None:
        for child, _ in self._alive:
            child.end()
        for child, _, _ in self._dying:
            child.end()
        for standby in self._pool:
            standby.end()
        self._pulse.end()

    def worst(self) -> tuple[float, float]:
        """(what the store answers for, wall) of the slowest operations, in ms; judges them."""
        for slow in self.slow:
            self.weather.note(*slow)
        most = 0.0
        for slow in sorted(self.slow, key=lambda one: -one.wall_ms):
            if slow.wall_ms <= most:
                break
            ms = self.weather.store_ms(slow)
            most = max(most, ms)
            if ms > LIMIT_MS:
                self.violations.append(
                    f"an operation took {slow.wall_ms:.0f} ms, {slow.own / 1e6:.0f} of them "
                    f"runnable, {ms:.0f} are not explained by the machine"
                )
        return most, max((slow.wall_ms for slow in self.slow), default=NOTED_NS / 1e6)


@contextlib.contextmanager
def fresh(name: str, policy: str) -> Iterator[shmkv.Store]:
    """A new store, gone afterwards."""
    size = SIZES[policy]
    store = shmkv.open(
        name, size=size, max_size=size, create="new", evict=policy == "evict",
        lock_timeout=LOCK_TIMEOUT_S,
    )  # fmt: skip
    try:
        yield store
    finally:
        store.close()
        shmkv.unlink(name, missing_ok=True)


def storm(name: str, policy: str, kills: int, start_seed: int) -> None:
    """One policy, judged and reported."""
    start = time.monotonic()
    with fresh(name, policy) as store:
        game = Game(store, random.Random(f"{start_seed}{policy}"))
        game.play(kills)
        took = time.monotonic() - start
        worst, wall = game.worst()
        stats, table = store.stats(), game.table
        print(
            f"storm[{policy}]: {took:.1f} s, {game.deaths} kills, {game.in_flight} of them inside "
            f"an operation, {table.total(OPS)} operations, {stats.lock_recoveries} locks taken "
            f"over, {stats.folds} folds, {stats.evictions} evictions, slowest {wall:.0f} ms on the "
            f"wall of {len(game.slow)} above {NOTED_NS // 1_000_000}",
            flush=True,
        )
        violations = game.violations or judge(store, table, game.deaths)
    report(f"storm[{policy}]", start_seed, game.deaths, violations, worst)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.storm")
    parser.add_argument("--kills", type=int, default=QUICK, help="of each policy")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--policy", choices=list(SIZES), help="only this one")
    parser.add_argument("--name", default=f"t{os.getpid()}-storm", help="of the store")
    chosen = parser.parse_args()
    start_seed = seed() if chosen.seed is None else chosen.seed
    gc.freeze()
    for policy in [chosen.policy] if chosen.policy else list(SIZES):
        storm(chosen.name, policy, chosen.kills, start_seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
