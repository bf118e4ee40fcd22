"""What the processes of the journal storm do, and the words in which they say what they did.

Owns: `Desk`, the shared words of one slot (they survive their writer); the states that a slot's own
keys go through; `Worker`, who brings them on, and writes to keys that everybody writes to.

A key of a slot goes through states seq = 0, 1, 2 …, of which each follows from (slot, key, seq):
absent, added, set, given a deadline, given another one in place, appended to, a number, the number
plus one, absent again. `begun` is raised before a change is asked for; `acked` when it has returned
or a successor has seen it; `durable` only when it has returned. So in an "always" store the files
hold a state from `durable` to `begun`, and memory holds `acked` or `begun`.

Does not: kill, or judge files (journal_storm.py).
"""

from __future__ import annotations

import contextlib
import mmap
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import shmkv
from tests import journal_files
from tests.stress.storm_weather import Slow

SLOTS, OWN, COUNTERS, NOISE = 6, 40, 8, 300
NOTED_NS, SLOW_MOST = 500_000_000, 1000  # operations that took longer are noted; the last so many
CYCLE = 8
SOON_S, LATE_S = 100_000.0, 900_000.0  # the two deadlines
_BLOCK = random.Random(20261122).randbytes(1 << 19)


class State(NamedTuple):
    """What a key holds; value None: it is absent."""

    value: Any
    ttl: float | None


class Wrong(Exception):
    """A worker found something that nobody wrote."""


class Desk:
    """Words of one slot in shared memory, each stored by its only worker."""

    def __init__(self) -> None:
        words = 3 * OWN + 2 * COUNTERS + 2 + 2 * SLOW_MOST
        self._map = mmap.mmap(-1, 8 * words)
        all_words = memoryview(self._map).cast("Q")
        self.begun, self.acked, self.durable = (
            all_words[i * OWN : (i + 1) * OWN] for i in range(3)
        )
        rest = all_words[3 * OWN :]
        self.adding, self.added = rest[:COUNTERS], rest[COUNTERS : 2 * COUNTERS]
        rest = rest[2 * COUNTERS :]
        self.ops, self._slow, self._times = rest[:1], rest[1:2], rest[2:]

    def note(self, start: int, end: int) -> None:
        """An operation that took long; times in ns."""
        at = 2 * (self._slow[0] % SLOW_MOST)
        self._times[at], self._times[at + 1] = start, end
        self._slow[0] += 1

    def slow(self) -> list[Slow]:
        """The last of them."""
        times = self._times[: 2 * self._slow[0]].tolist()
        return [Slow(start, end, 0) for start, end in zip(times[::2], times[1::2], strict=True)]


def key_of(slot: int, i: int) -> str:
    """A slot's own key."""
    return f"own{slot}-{i:02d}"


def state(slot: int, i: int, seq: int) -> State:
    """What that key holds in that state; a few are longer than a block's piece."""
    life, phase = divmod(seq, CYCLE)
    rng = random.Random(f"{slot}/{i}/{life}")
    large = i == 0
    size = rng.randrange(262_000, 320_000) if large else rng.randrange(1, 3000)
    stamp = b"%s#%d|" % (key_of(slot, i).encode(), life)
    start = rng.randrange(1 << 16)
    first = stamp + _BLOCK[start : start + rng.randrange(1, 800)]
    second = stamp + _BLOCK[start : start + size]
    number = rng.randrange(-(1 << 40), 1 << 40)
    return [
        State(None, None),
        State(first, None),
        State(second, None),
        State(second, SOON_S),
        State(second, LATE_S),
        State(second + stamp, LATE_S),
        State(number, None),
        State(number + 1, None),
    ][phase]


def holds(store: Any, key: str, wanted: State) -> bool:
    """Is the key in this state? Deadlines are told apart, not measured."""
    found = journal_files.held(store, key)
    if found is None or wanted.value is None:
        return found is None and wanted.value is None
    if type(found.value) is not type(wanted.value) or found.value != wanted.value:
        return False
    ttl = store.ttl(key)
    if ttl is None or wanted.ttl is None:
        return ttl is wanted.ttl
    return bool(abs(ttl - wanted.ttl) < SOON_S / 2)


class Worker:
    """One life in one slot."""

    def __init__(self, store: Any, desk: Desk, slot: int, seed: int) -> None:
        self.store, self.desk, self.slot = store, desk, slot
        self.rng = random.Random(seed)

    def live(self) -> None:
        """Until it is killed."""
        self.recover()
        while True:
            pick = self.rng.random()
            begun = time.monotonic_ns()
            if pick < 0.6:
                self.advance()
            elif pick < 0.75:
                self.count()
            else:
                self.noise()
            ended = time.monotonic_ns()
            self.desk.ops[0] += 1
            if ended - begun > NOTED_NS:
                self.desk.note(begun, ended)

    def recover(self) -> None:
        """What the predecessor had begun has happened or has not."""
        desk = self.desk
        for i in range(OWN):
            if desk.begun[i] == desk.acked[i]:
                continue
            if holds(self.store, key_of(self.slot, i), state(self.slot, i, desk.begun[i])):
                desk.acked[i] = desk.begun[i]
            elif not holds(self.store, key_of(self.slot, i), state(self.slot, i, desk.acked[i])):
                raise Wrong(f"{key_of(self.slot, i)}: neither {desk.acked[i]} nor {desk.begun[i]}")

    def advance(self) -> None:
        """One key of one's own to its next state."""
        desk, rng = self.desk, self.rng
        i = 0 if rng.random() < 0.004 else rng.randrange(1, OWN)
        seq = desk.acked[i] + 1
        desk.begun[i] = seq
        if not self._change(key_of(self.slot, i), state(self.slot, i, seq), seq % CYCLE):
            raise Wrong(f"{key_of(self.slot, i)}: refused to become {seq}")
        desk.acked[i] = seq
        desk.durable[i] = seq

    def _change(self, key: str, to: State, phase: int) -> bool:
        store = self.store
        if phase == 0:
            return bool(store.delete(key))
        if phase == 1:
            return bool(store.add(key, to.value))
        if phase in (3, 4):
            return bool(store.touch(key, to.ttl))
        if phase == 5:
            tail = to.value[: to.value.index(b"|") + 1]
            return bool(store.append(key, tail) == len(to.value))
        if phase == 7:
            return bool(store.incr(key) == to.value)
        return store.set(key, to.value) is None

    def count(self) -> None:
        """A counter that everybody counts."""
        c = self.rng.randrange(COUNTERS)
        self.desk.adding[c] += 1
        self.store.incr(f"count{c}")
        self.desk.added[c] += 1

    def noise(self) -> None:
        """Keys that everybody changes in every way: only what comes back is compared."""
        store, rng = self.store, self.rng
        key, other = (f"noise{rng.randrange(NOISE)}" for _ in range(2))
        value = _BLOCK[: rng.randrange(400)]
        calls: list[Callable[[], object]] = [
            lambda: store.set(key, value, ttl=SOON_S if rng.random() < 0.3 else None),
            lambda: store.set(key, rng.choice(["text", 1.5, None, True, [1, "a"], 1 << 70])),
            lambda: store.set_many({f"noise{rng.randrange(NOISE)}": value for _ in range(6)}),
            lambda: store.delete_many([key, other]),
            lambda: store.rename(key, other),
            lambda: store.pop(key, None),
            lambda: store.replace(key, value),
            lambda: store.touch(key, LATE_S),
        ]
        with contextlib.suppress(KeyError):
            rng.choice(calls)()


def run_worker(name: str, desk: Desk, slot: int, seed: int, folder: Path, timeout: float) -> None:
    """A process in a slot: the first leads rounds and does nothing else, the odd ones may lead."""
    store = shmkv.open(name, create=False, on_mismatch="attach", lock_timeout=timeout)
    if slot % 2 == 1 or slot == 0:
        journal_files.lead(store, folder)
    if slot > 0:
        Worker(store, desk, slot, seed).live()
    while True:
        store._journal_round()
        store._journal_listen(5)
