"""Which part of a slow operation the machine caused, and not the store.

An operation's wall time is on the processor, runnable without one, or asleep in a wait of the store
for somebody else. Of each noted operation this is charged to the machine:

  own      how long this very thread was runnable without a processor: the second number of
           /proc/thread-self/schedstat, read before and after
  others   what the owner of a lock, too, may have lost at that moment: the largest of
             stolen   `steal` of /proc/stat, of the processor that lost most
             pulse    the longest single delay of a control process that touches no store and asks
                      for a processor every few milliseconds
             worker   the longest `own` of another worker's noted operation
             death    the longest time from a SIGKILL inside an operation to the end of that
                      process: until then it is not dead, and to end it needs a processor

of the last three only what falls into the operation. All the rest is charged to the store, so also
several owners one after the other. Stolen time may be part of `own`, too: then it is forgiven
twice, which is why reports name the wall time of the slowest beside this figure.
"""

from __future__ import annotations

import mmap
import os
import time
from typing import NamedTuple

PULSE_S = 0.003
NOTED_NS = 10_000_000
_ENTRIES = 200_000
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_STEAL = 8  # column of a cpu line of /proc/stat


class Delay:
    """How long the calling thread was runnable without a processor."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> bytes:
        """The present state; parsed only when it is wanted."""
        return os.pread(self._fd, 64, 0)

    @staticmethod
    def between(before: bytes, after: bytes) -> int:
        """Nanoseconds."""
        return int(after.split()[1]) - int(before.split()[1])


class Slow(NamedTuple):
    """One slow operation; times in ns."""

    start: int
    end: int
    own: int

    @property
    def wall_ms(self) -> float:
        """As a user sees it."""
        return (self.end - self.start) / 1e6


def _steal(fd: int) -> list[int]:
    """Of each processor, in ns."""
    lines = os.pread(fd, 1 << 16, 0).split(b"\n")[1:]
    return [int(line.split()[_STEAL]) * _TICK_NS for line in lines if line.startswith(b"cpu")]


class Weather:
    """The log of a pulse, in memory that parent and pulse share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, (2 + 4 * _ENTRIES) * 8)
        self._words = memoryview(self._memory).cast("q")
        self._more: list[tuple[int, ...]] = []

    def pulse(self, nice: int) -> None:
        """What the control process does until `stop`, as nice as the workers."""
        os.nice(nice)
        fd = os.open("/proc/stat", os.O_RDONLY | os.O_CLOEXEC)
        words, before, stolen = self._words, time.monotonic_ns(), _steal(fd)
        while not words[1]:
            time.sleep(PULSE_S)  # how late it wakes is what is measured
            now, steal = time.monotonic_ns(), _steal(fd)
            late = now - before - int(PULSE_S * 1e9)
            most = max(b - a for a, b in zip(stolen, steal, strict=True))
            if late > NOTED_NS or most > 0:
                at = 2 + 4 * (words[0] % _ENTRIES)
                words[at], words[at + 1], words[at + 2], words[at + 3] = before, now, late, most
                words[0] += 1
            before, stolen = now, steal

    def stop(self) -> None:
        """Let the pulse end."""
        self._words[1] = 1

    def note(self, start: int, end: int, late: int, steal: int = 0) -> None:
        """One more entry: so long was somebody kept from a processor between start and end."""
        self._more.append((start, end, late, steal))

    def _entries(self) -> list[tuple[int, ...]]:
        words = self._words
        count = min(words[0], _ENTRIES)
        return [tuple(words[at : at + 4]) for at in range(2, 2 + 4 * count, 4)] + self._more

    def store_ms(self, slow: Slow) -> float:
        """What is left for the store to answer for."""
        late = stolen = 0
        for start, end, delay, steal in self._entries():
            both = min(end, slow.end) - max(start, slow.start)
            if both > 0 and (start, end) != (slow.start, slow.end):
                late, stolen = max(late, min(delay, both)), stolen + steal
        return max(0.0, (slow.end - slow.start - slow.own - max(stolen, late)) / 1e6)
