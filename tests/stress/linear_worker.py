"""What the workers of the linearizability harness do: every operation on a few hot keys.

Owns the kinds of hot keys and the operations on them, and the ballast: keys of no interest that are
set and deleted between, so that index segments split and pages are cleaned while hot items live in
them. Every value is written by one operation only: its number is made of slot and record. A value
of bytes carries its number at both ends; a counter that begins at number n is n + increments.

Does not: judge, except that bytes are whole.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import shmkv
from tests.stress.linear_record import (
    ADD,
    CAS,
    DELETE,
    GET,
    INCR,
    NOTHING,
    POP,
    REPLACE,
    SET,
    TOUCH,
    Log,
)

WORDS, LARGE, COUNTERS = 8, 2, 6  # how many of each kind; the large are kept in extents
KEYS = WORDS + LARGE + COUNTERS
FIRST_COUNTER = WORDS + LARGE
BALLAST = 4000
FAR_S = 1_000_000.0
PLAN = 1 << 13
_FILLER = random.Random(20261122).randbytes(1 << 16)
_COUNT_BITS = 20


class Torn(Exception):
    """Bytes that nobody wrote."""


def name(key: int) -> str:
    """The key with this number."""
    return f"{'wlc'[(key >= WORDS) + (key >= FIRST_COUNTER)]}{key:02d}"


def _length(key: int, number: int) -> int:
    mix = (number >> _COUNT_BITS) * 2654435761 >> 7
    return 24_000 + mix % 20_000 if key >= WORDS else 8 + mix % 180


def encode(key: int, number: int) -> Any:
    """The value with this number."""
    if key >= FIRST_COUNTER:
        return number
    word = number.to_bytes(8, "little")
    return word + _FILLER[: _length(key, number)] + word


def decode(key: int, value: Any) -> int:
    """The number of a value that was read; 0: there was none."""
    if value is None:
        return 0
    if key >= FIRST_COUNTER:
        if type(value) is not int:
            raise Torn(f"{name(key)} holds {value!r}")
        return value
    number = int.from_bytes(value[:8], "little")
    if value[-8:] != value[:8] or len(value) != 16 + _length(key, number):
        raise Torn(f"{name(key)}: {len(value)} bytes: {bytes(value[:16])!r} {bytes(value[-8:])!r}")
    return number


Move = tuple[str, int]


def plan(rng: random.Random) -> list[Move]:
    """The moves of all workers: each begins somewhere in it. Small keys of a kind come oftener.

    Even keys are changed by cas, odd ones touched: a touch may be a change to who holds a token, or
    not, if the item had room for the deadline; so none of these keys would have one right answer.
    """
    words = {"get": 32, "set": 14, "delete": 8, "add": 10, "replace": 4, "pop": 3, "cas": 16,
             "view": 5, "ballast": 5}  # fmt: skip
    counts = {"get": 18, "incr": 46, "set": 3, "delete": 4, "add": 3, "cas": 18, "ballast": 5}
    moves: list[Move] = []
    for _ in range(PLAN):
        pick = rng.random()
        if pick < 0.55:
            key, weights = int(WORDS * rng.random() ** 3), words
        elif pick < 0.58:
            key, weights = WORDS + rng.randrange(LARGE), words
        else:
            key, weights = FIRST_COUNTER + int(COUNTERS * rng.random() ** 3), counts
        move = rng.choices(list(weights), list(weights.values()))[0]
        moves.append(("touch" if move == "cas" and key % 2 else move, key))
    return moves


class Worker:
    """One life in one slot."""

    def __init__(self, store: shmkv.Store, log: Log, moves: list[Move], seed: int) -> None:
        self.store = store
        self.log = log
        self.rng = random.Random(seed)
        self._names = [name(key) for key in range(KEYS)]
        first = self.rng.randrange(len(moves))
        self._moves = moves[first:] + moves[:first]

    def live(self, stopped: Callable[[], bool]) -> None:
        """Until it is told to stop, or the log is full."""
        moves = [(getattr(self, move), key) for move, key in self._moves]
        while not stopped() and len(self.log) + 2 * PLAN < self.log.room:
            for move, key in moves:
                move(key)
                if stopped():
                    return

    def _number(self) -> int:
        """Of a value that only the next record writes."""
        return ((self.log.slot + 1) << 32 | len(self.log) + 1) << _COUNT_BITS

    def get(self, key: int) -> None:
        at = self.log.begin(GET, key, 0)
        value = self.store.get(self._names[key])
        end = time.monotonic_ns()
        self.log.done(at, decode(key, value), end)

    def view(self, key: int) -> None:
        """A read without a copy: the bytes are as they were when it began."""
        at, number = self.log.begin(GET, key, 0), 0
        try:
            with self.store.view(self._names[key]) as seen:
                end = time.monotonic_ns()
                number = decode(key, seen)
        except KeyError:
            end = time.monotonic_ns()
        self.log.done(at, number, end)

    def _write(self, kind: int, key: int, call: Callable[[str, Any], bool | None]) -> None:
        number = self._number()
        value = encode(key, number)
        at = self.log.begin(kind, key, number)
        try:
            answer = int(call(self._names[key], value) is not False)
        except shmkv.Full:
            answer = NOTHING
        end = time.monotonic_ns()
        self.log.done(at, answer, end)

    def set(self, key: int) -> None:
        self._write(SET, key, self.store.set)

    def add(self, key: int) -> None:
        self._write(ADD, key, self.store.add)

    def replace(self, key: int) -> None:
        self._write(REPLACE, key, self.store.replace)

    def cas(self, key: int) -> None:
        """Two operations: gets, and cas with its token."""
        at = self.log.begin(GET, key, 0)
        try:
            value, token = self.store.gets(self._names[key])
        except KeyError:
            end = time.monotonic_ns()
            self.log.done(at, 0, end)
            return
        end = time.monotonic_ns()
        old = decode(key, value)
        self.log.done(at, old, end)
        number = self._number()
        value = encode(key, number)
        at = self.log.begin(CAS, key, number, old)
        try:
            answer = int(self.store.cas(self._names[key], value, token))
        except shmkv.Full:
            answer = NOTHING
        end = time.monotonic_ns()
        self.log.done(at, answer, end)

    def delete(self, key: int) -> None:
        at = self.log.begin(DELETE, key, 0)
        did = self.store.delete(self._names[key])
        end = time.monotonic_ns()
        self.log.done(at, int(did), end)

    def pop(self, key: int) -> None:
        at = self.log.begin(POP, key, 0)
        value = self.store.pop(self._names[key], None)
        end = time.monotonic_ns()
        self.log.done(at, decode(key, value), end)

    def incr(self, key: int) -> None:
        number = self._number()
        at = self.log.begin(INCR, key, number)
        try:
            answer = self.store.incr(self._names[key], default=number)
        except shmkv.Full:
            answer = NOTHING
        end = time.monotonic_ns()
        self.log.done(at, answer, end)

    def touch(self, key: int) -> None:
        """A deadline that is never reached: the item is written again, or changed in place."""
        at = self.log.begin(TOUCH, key, 0)
        try:
            answer = int(self.store.touch(self._names[key], FAR_S))
        except shmkv.Full:
            answer = NOTHING
        end = time.monotonic_ns()
        self.log.done(at, answer, end)

    def ballast(self, key: int) -> None:
        """Work beside: not recorded."""
        other = f"b{self.rng.randrange(BALLAST):06d}"
        if self.rng.random() < 0.6:
            self.store.set(other, b"ballast " * 3)
        else:
            self.store.delete(other)
