"""Histories: what workers write down of each operation, and what those records mean.

Owns: the log of one slot, in an anonymous shared mapping, so that a killed worker's last words
remain; the conversion of all logs into steps of each key (linear_check.py).

    {kind | key << 8 | DEAD:8, new:8, old:8, start:8, answer:8, end:8} = 48 B

A record is counted after it was filled and before the operation is asked for; `end` is stored last.
A record without an end is of a worker that was killed: whoever has seen it dead stores the time and
DEAD. Times are CLOCK_MONOTONIC ns, one clock for all processes: `start` is read last before the
operation, `end` first after it.
"""

from __future__ import annotations

import mmap
import time

import numpy as np

from tests.stress.linear_check import COUNT, FROM, IS, LEAVE, NOBODY, NOT, Step

GET, SET, DELETE, ADD, REPLACE, POP, INCR, CAS, TOUCH = range(9)
KINDS = ("get", "set", "delete", "add", "replace", "pop", "incr", "cas", "touch")
NOTHING = -2  # answer: refused, nothing was done
DEAD = 1 << 32
_WIDTH = 6
_KIND, _NEW, _OLD, _START, _ANSWER, _END = range(_WIDTH)
_LOOKS = (GET, TOUCH)


class Log:
    """What the workers of one slot did, in order."""

    def __init__(self, slot: int, room: int) -> None:
        self.slot = slot
        self.room = room
        self._memory = mmap.mmap(-1, (1 + _WIDTH * room) * 8)
        self._words = memoryview(self._memory).cast("q")

    def __len__(self) -> int:
        return self._words[0]

    def begin(self, kind: int, key: int, new: int, old: int = 0) -> int:
        """Write down what is asked for; where that stands."""
        words = self._words
        count = words[0]
        at = 1 + _WIDTH * count
        words[at] = kind | key << 8
        words[at + _NEW] = new
        words[at + _OLD] = old
        words[at + _END] = 0
        words[at + _START] = time.monotonic_ns()
        words[0] = count + 1
        return at

    def done(self, at: int, answer: int, end: int) -> None:
        """It has returned at `end`."""
        self._words[at + _ANSWER] = answer
        self._words[at + _END] = end

    def died(self) -> None:
        """Its worker is dead."""
        words, at = self._words, 1 + _WIDTH * (self._words[0] - 1)
        if words[0] and not words[at + _END]:
            words[at] |= DEAD
            words[at + _END] = time.monotonic_ns()

    def records(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """All of them, a row each: a copy."""
        flat = np.frombuffer(self._memory, np.int64, 1 + _WIDTH * len(self))
        return flat[1:].reshape(-1, _WIDTH).copy()

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        self._memory.close()


Rows = np.ndarray[tuple[int, int], np.dtype[np.int64]]


def steps_by_key(rows: Rows) -> dict[int, list[Step]]:
    """The history of each key, in the order of the starts."""
    kind, dead = rows[:, _KIND] & 0xFF, rows[:, _KIND] & DEAD != 0
    silent = (dead & np.isin(kind, _LOOKS)) | (~dead & (rows[:, _ANSWER] == NOTHING))
    rows = rows[~silent]
    rows = rows[np.argsort(rows[:, _START], kind="stable")]
    keys = rows[:, _KIND] >> 8 & 0xFFFFFF
    return {int(key): _steps(rows[keys == key]) for key in np.unique(keys)}


def _steps(rows: Rows) -> list[Step]:
    kind, dead = rows[:, _KIND] & 0xFF, rows[:, _KIND] & DEAD != 0
    new, old, answer = rows[:, _NEW], rows[:, _OLD], rows[:, _ANSWER]
    yes, zero = answer != 0, np.zeros_like(new)

    def when(*kinds: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.isin(kind, kinds)

    cases = [
        (when(GET), IS, answer, zero),
        (when(SET), LEAVE, zero + NOBODY, new),
        (when(DELETE, POP) & dead, LEAVE, zero, zero),
        (when(DELETE) & yes, LEAVE, zero, zero),
        (when(POP) & yes, FROM, answer, zero),
        (when(DELETE, POP), IS, zero, zero),
        (when(ADD) & (yes | dead), FROM, zero, new),
        (when(ADD), NOT, zero, zero),
        (when(REPLACE) & (yes | dead), LEAVE, zero, new),
        (when(REPLACE), IS, zero, zero),
        (when(INCR) & dead, COUNT, zero, new + 1),
        (when(INCR), FROM, np.where(answer == new + 1, 0, answer - 1), answer),
        (when(CAS) & (yes | dead), FROM, old, new),
        (when(CAS), NOT, old, zero),
        (when(TOUCH) & yes, NOT, zero, zero),
        (when(TOUCH), IS, zero, zero),
    ]
    masks = [case[0] for case in cases]
    form = np.select(masks, [zero + case[1] for case in cases])
    a, b = np.select(masks, [case[2] for case in cases]), np.select(masks, [c[3] for c in cases])
    columns = (rows[:, _START], rows[:, _END], form, a, b, ~dead)
    return list(zip(*(column.tolist() for column in columns), strict=True))
