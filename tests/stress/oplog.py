"""What a worker says about its operations, in memory that outlives its death.

Each operation is a record in an anonymous shared mapping made before the fork: written down before
it begins (status FLYING), completed when it has returned. A process killed in between leaves the
record FLYING: its effect may be there or not. Times are CLOCK_MONOTONIC seconds, one clock for all
processes.

    {kind:1, status:1, key:2, seq:4, seen writer:4, seen seq:4, start:8, end:8} = 32 B
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

_RECORD = struct.Struct("<BBHIIIdd")
_START = 8
_ROOM = 400_000


class Kind(IntEnum):
    """What was asked."""

    SET = 1
    ADD = 2
    REPLACE = 3
    CAS = 4
    DELETE = 5
    POP = 6
    GET = 7
    TOUCH = 8
    INCR = 9
    BUMP = 10
    APPEND = 11


class Status(IntEnum):
    """How it ended."""

    FLYING = 0  # it did not: killed
    DONE = 1  # it took effect, or a value was seen
    NOTHING = 2  # no effect: a condition did not hold, or a miss
    PERHAPS = 3  # part of a many-operation that failed


class Record(NamedTuple):
    """One operation of one worker; `writer` is that worker."""

    kind: Kind
    status: Status
    key: int
    seq: int
    seen: tuple[int, int]
    start: float
    end: float
    writer: int


class OpLog:
    """The records of one worker, in order."""

    def __init__(self, writer: int) -> None:
        self.writer = writer
        self.ended = float("inf")  # when the worker was seen dead
        self._memory = mmap.mmap(-1, _START + _ROOM * _RECORD.size)
        # One aligned store: struct clears the place first, and a death then would lose the log.
        self._total = memoryview(self._memory)[:_START].cast("Q")
        self._count = 0

    @property
    def full(self) -> bool:
        """No room for what one more round of work may write."""
        return self._count + 64 > _ROOM

    def begin(self, kind: Kind, key: int, seq: int = 0) -> int:
        """Write down what is about to be done; its number."""
        number = self._count
        record = (kind, Status.FLYING, key, seq, 0, 0, time.monotonic(), 0.0)
        _RECORD.pack_into(self._memory, _START + number * _RECORD.size, *record)
        self._count = number + 1
        self._total[0] = self._count
        return number

    def done(self, number: int, status: Status, seen: tuple[int, int] = (0, 0)) -> None:
        """It has returned. The status is stored last."""
        at = _START + number * _RECORD.size
        struct.pack_into("<II", self._memory, at + 8, *seen)
        struct.pack_into("<d", self._memory, at + 24, time.monotonic())
        self._memory[at + 1] = status

    def records(self) -> Iterator[Record]:
        """All of them; only when the worker has ended."""
        for number in range(self._total[0]):
            kind, status, key, seq, by, his, start, end = _RECORD.unpack_from(
                self._memory, _START + number * _RECORD.size
            )
            end = self.ended if status == Status.FLYING else end
            yield Record(Kind(kind), Status(status), key, seq, (by, his), start, end, self.writer)

    def close(self) -> None:
        """Give the memory back."""
        self._total.release()
        self._memory.close()
