"""What the workers of the storm do, and what they know at once to be wrong.

A worker writes the keys of its slot, which nobody else writes, so it knows what each must hold: the
state that was acknowledged last; and after a predecessor's death that one or the one which was
begun. It reads everybody's keys, which must hold a state between the one acknowledged before and
the one begun afterwards. Counters and boards are changed by all. With eviction a value may be
missing: once for each acknowledged write, never to come back; the sum is compared with the store's
count (storm_verdict.py).

Promises: with the same seed the same operations are asked for, as far as answers do not decide.
Anything wrong is raised and ends the worker. Each operation is timed; a slow one is noted with the
time that this thread itself was kept from a processor (storm_weather.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import shmkv
from tests.stress.storm_values import (
    BOARD_FIRST,
    BOARDS,
    BUMPS,
    CYCLE,
    FLYING,
    FULLS,
    INCRS,
    OPS,
    OWN,
    SLOTS,
    SLOW,
    SLOW_MOST,
    VANISHED,
    Stamp,
    Table,
    board_name,
    counter_name,
    make,
    own_name,
    parse,
    present,
)
from tests.stress.storm_weather import Delay

NOTED_NS = 50_000_000  # operations that took longer are noted


class Lost(Exception):
    """A key does not hold what was acknowledged."""


class Worker:
    """One life in one slot."""

    def __init__(self, store: shmkv.Store, table: Table, slot: int, seed: int) -> None:
        self.store = store
        self.table = table
        self.slot = slot
        self.desk = table.desks[slot]
        self.evict = store.evict
        self.rng = random.Random(seed)
        self.delay = Delay()
        self.moves: list[Callable[[], None]] = []
        weights = (
            (self.advance, 40), (self.read_own, 8), (self.read_any, 14), (self.view, 3),
            (self.read_many, 3), (self.write_many, 3), (self.incr, 12), (self.bump, 6),
            (self.post, 8), (self.read_board, 6),
        )  # fmt: skip
        for move, weight in weights:
            self.moves += [move] * weight

    def live(self) -> None:
        """Until it is told to stop, or killed."""
        self.recover()
        turn, scan_at = 0, self.rng.randrange(400, 4000)
        while not self.table.stop[0]:
            self.rng.choice(self.moves)()
            turn += 1
            if turn == scan_at:
                self.scan()

    def _do(self, call: Callable[..., Any], *words: Any) -> Any:
        misc, before = self.desk.misc, self.delay.read()
        misc[FLYING] = start = time.monotonic_ns()
        try:
            return call(*words)
        finally:
            end = time.monotonic_ns()
            misc[FLYING] = 0
            misc[OPS] += 1
            if end - start > NOTED_NS:
                at = 3 * (misc[SLOW] % SLOW_MOST)
                delay = self.delay.between(before, self.delay.read())
                self.desk.slow[at], self.desk.slow[at + 1] = start, end
                self.desk.slow[at + 2] = delay
                misc[SLOW] += 1

    # --- keys of one's own -----------------------------------------------------------------

    def stamp(self, i: int, seq: int) -> Stamp:
        return Stamp(self.slot * OWN + i, self.slot, seq)

    def key(self, i: int) -> str:
        return own_name(self.slot * OWN + i)

    def _missing(self, i: int) -> None:
        """A value that was acknowledged is not there."""
        desk, seq = self.desk, self.desk.acked[i]
        if not self.evict:
            raise Lost(f"{self.key(i)}: {seq} was acknowledged and is gone")
        if desk.gone[i] != seq:
            desk.gone[i] = seq
            desk.misc[VANISHED] += 1

    def found(self, i: int, value: bytes | memoryview | None) -> bool:
        """Judge what a read of one's own settled key brought: is the value there?"""
        seq = self.desk.acked[i]
        if value is None:
            if present(seq):
                self._missing(i)
            return False
        stamp = parse(value, self.slot * OWN + i)
        if stamp.seq != seq or not present(seq) or self.desk.gone[i] == seq:
            gone = self.desk.gone[i]
            raise Lost(f"{self.key(i)}: {stamp}, acknowledged {seq}, evicted {gone}")
        return True

    def recover(self) -> None:
        """What the predecessor had begun has happened or has not."""
        for i in range(OWN):
            if self.desk.begun[i] != self.desk.acked[i]:
                self._decide(i)

    def _decide(self, i: int) -> None:
        desk, acked, begun = self.desk, self.desk.acked[i], self.desk.begun[i]
        value = self._do(self.store.get, self.key(i))
        if value is not None:
            stamp = parse(value, self.slot * OWN + i)
            if stamp.seq not in (acked, begun) or not present(stamp.seq):
                raise Lost(f"{self.key(i)}: {stamp} after a death, {acked} acked, {begun} begun")
            if stamp.seq == acked and desk.gone[i] == acked:
                raise Lost(f"{self.key(i)}: {stamp} came back after it was evicted")
            desk.acked[i] = stamp.seq
            desk.begun[i] = stamp.seq
        elif not present(begun):
            desk.acked[i] = begun
        else:
            desk.begun[i] = acked
            if present(acked):
                self._missing(i)

    def _put(self, i: int, seq: int) -> bool | None:
        """Ask for the value of `seq`; False when the store says that it was not the moment."""
        store, key, value = self.store, self.key(i), make(self.stamp(i, seq))
        pick = self.rng.random()
        if not present(seq - 1) and pick < 0.4:
            did = self._do(store.add, key, value)
            if not did:
                raise Lost(f"{key}: add refused, {seq - 1} was acknowledged and is no value")
            return True
        if not present(seq - 1) or pick < 0.5:
            return self._do(store.set, key, value) is None
        if pick < 0.7:
            return bool(self._do(store.replace, key, value))
        return self._cas(i, value)

    def _cas(self, i: int, value: bytes) -> bool:
        try:
            old, token = self._do(self.store.gets, self.key(i))
        except KeyError:
            return False
        if not self.found(i, old):
            raise Lost(f"{self.key(i)}: gets shows a value that is not there")
        return bool(self._do(self.store.cas, self.key(i), value, token))

    def advance(self) -> None:
        """Bring one's own key to its next state."""
        i, desk = self.rng.randrange(OWN), self.desk
        seq = desk.acked[i] + 1
        desk.begun[i] = seq
        try:
            did = self._put(i, seq) if present(seq) else self._remove(i)
        except shmkv.Full:
            did = None
            desk.misc[FULLS] += 1
            if self.evict:
                raise
        if did:
            desk.acked[i] = seq
            return
        desk.begun[i] = seq - 1
        if did is None:
            return
        if self.found(i, self._do(self.store.get, self.key(i))):
            raise Lost(f"{self.key(i)}: refused, though {seq - 1} is there and nobody else's")
        if not present(seq):  # evicted before it could be removed
            desk.acked[i] = desk.begun[i] = seq

    def _remove(self, i: int) -> bool:
        if self.rng.random() < 0.6:
            return bool(self._do(self.store.delete, self.key(i)))
        return self.found(i, self._do(self.store.pop, self.key(i), None))

    def write_many(self) -> None:
        """Several of one's own keys by one call."""
        desk, chosen = self.desk, self.rng.sample(range(OWN), 5)
        chosen = [i for i in chosen if present(desk.acked[i] + 1)]
        pairs = {}
        for i in chosen:
            desk.begun[i] = seq = desk.acked[i] + 1
            pairs[self.key(i)] = make(self.stamp(i, seq))
        try:
            self._do(self.store.set_many, pairs)
        except shmkv.Full:
            desk.misc[FULLS] += 1
            if self.evict:
                raise
            self.recover()
            return
        for i in chosen:
            desk.acked[i] = desk.begun[i]

    def read_own(self) -> None:
        """Exactly what was acknowledged."""
        i = self.rng.randrange(OWN)
        self.found(i, self._do(self.store.get, self.key(i)))

    # --- keys of all -----------------------------------------------------------------------

    def _between(self, key: int, least: int, most: int, value: bytes | memoryview | None) -> None:
        """`value` was read after `least` had been acknowledged, before `most` was begun."""
        if value is None:
            if not self.evict and most // CYCLE * CYCLE < least:
                raise Lost(f"{own_name(key)}: missing, {least} acknowledged, {most} begun")
            return
        stamp = parse(value, key)
        if not least <= stamp.seq <= most or not present(stamp.seq):
            raise Lost(f"{own_name(key)}: {stamp}, {least} acknowledged, {most} begun")

    def read_any(self) -> None:
        """Somebody's key."""
        key = self.rng.randrange(SLOTS * OWN)
        slot, i = divmod(key, OWN)
        desk = self.table.desks[slot]
        least = desk.acked[i]
        value = self._do(self.store.get, own_name(key))
        self._between(key, least, desk.begun[i], value)

    def read_many(self) -> None:
        """Several by one call."""
        keys = self.rng.sample(range(SLOTS * OWN), 8)
        desks = [(self.table.desks[key // OWN], key % OWN) for key in keys]
        least = [desk.acked[i] for desk, i in desks]
        found = self._do(self.store.get_many, [own_name(key) for key in keys])
        for key, low, (desk, i) in zip(keys, least, desks, strict=True):
            self._between(key, low, desk.begun[i], found.get(own_name(key)))

    def view(self) -> None:
        """Bytes do not change beneath a view, whatever happens meanwhile."""
        key = self.rng.randrange(SLOTS * OWN)
        slot, i = divmod(key, OWN)
        desk = self.table.desks[slot]
        least = desk.acked[i]
        try:
            with self.store.view(own_name(key)) as seen:
                self._between(key, least, desk.begun[i], seen)
                stamp = parse(seen, key)
                self.advance()
                self.post()
                if parse(seen, key) != stamp:
                    raise Lost(f"the view of {own_name(key)} changed")
        except KeyError:
            self._between(key, least, desk.begun[i], None)

    def incr(self) -> None:
        """Count."""
        c = self.rng.randrange(INCRS)
        self.desk.started[c] += 1
        self._do(self.store.incr, counter_name(c))
        self.desk.counted[c] += 1

    def bump(self) -> None:
        """Count by cas: of those who saw a value at most one wins."""
        c = INCRS + self.rng.randrange(BUMPS)
        try:
            value, token = self._do(self.store.gets, counter_name(c))
        except KeyError:
            self._do(self.store.add, counter_name(c), 0)
            return
        self.desk.started[c] += 1
        if self._do(self.store.cas, counter_name(c), value + 1, token):
            self.desk.counted[c] += 1
        else:
            self.desk.started[c] -= 1

    def post(self) -> None:
        """Set a board."""
        b = self.rng.randrange(BOARDS)
        seq = self.desk.posting[b] = self.desk.posting[b] + 1
        value = make(Stamp(BOARD_FIRST + b, self.slot, seq))
        try:
            self._do(self.store.set, board_name(b), value)
        except shmkv.Full:
            self.desk.misc[FULLS] += 1
            if self.evict:
                raise
            return
        self.desk.posted[b] = seq

    def read_board(self) -> None:
        """Somebody's value, but none that its writer had replaced before."""
        b = self.rng.randrange(BOARDS)
        least = [desk.posted[b] for desk in self.table.desks]
        judge_board(self.table, b, least, self._do(self.store.get, board_name(b)), self.evict)

    def scan(self) -> None:
        """Every key that is there throughout is seen."""
        seen = set(self._do(lambda: list(self.store.scan())))
        if self.evict:
            return
        for i in range(OWN):
            if present(self.desk.acked[i]) and self.key(i) not in seen:
                raise Lost(f"{self.key(i)}: a scan does not show it")


def judge_board(table: Table, b: int, least: list[int], value: bytes | None, evict: bool) -> None:
    """A board was read after these posts had been acknowledged."""
    if value is None:
        if not evict:
            raise Lost(f"{board_name(b)} is gone")
        return
    stamp = parse(value, BOARD_FIRST + b)
    most = table.desks[stamp.writer].posting[b]
    if not least[stamp.writer] <= stamp.seq <= most:
        low = least[stamp.writer]
        raise Lost(f"{board_name(b)}: {stamp}, {low} acknowledged, {most} begun")


def prepare(store: shmkv.Store, table: Table) -> None:
    """Counters and boards are there from the beginning."""
    for c in range(INCRS + BUMPS):
        store.set(counter_name(c), 0)
    for b in range(BOARDS):
        table.desks[0].posting[b] = table.desks[0].posted[b] = 1
        store.set(board_name(b), make(Stamp(BOARD_FIRST + b, 0, 1)))
