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
             disk     where files are written, the longest single fdatasync of a control process
             death    the longest time from a SIGKILL inside an operation to the end of that
                      process: until then it is not dead, and to end it needs a processor

of the last four only what falls into the operation. All the rest is charged to the store, so also
several owners one after the other. Stolen time may be part of `own`, too: then it is forgiven
twice, which is why reports name the wall time of the slowest beside this figure.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.stress.support import Child

PULSE_S = 0.003
DISK_PULSE_S = 0.05
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
                self._enter(before, now, late, most)
            before, stolen = now, steal

    def _enter(self, *entry: int) -> None:
        at = 2 + 4 * (self._words[0] % _ENTRIES)
        for i, word in enumerate(entry):
            self._words[at + i] = word
        self._words[0] += 1

    def pulse_of_disk(self, folder: Path) -> None:
        """Another control process: it asks the disk for nothing but one block, again and again."""
        words = self._words
        with tempfile.TemporaryFile(dir=folder) as file:
            while not words[1]:
                before = time.monotonic_ns()
                os.pwrite(file.fileno(), bytes(512), 0)
                os.fdatasync(file.fileno())
                now = time.monotonic_ns()
                if now - before > NOTED_NS:
                    self._enter(before, now, now - before, 0)
                time.sleep(DISK_PULSE_S)  # its pace

    def stop(self) -> None:
        """Let the pulse end."""
        self._words[1] = 1

    def note(self, start: int, end: int, late: int, steal: int = 0) -> None:
        """One more entry: so long was somebody kept from a processor between start and end."""
        self._more.append((start, end, late, steal))

    def add(self, other: Weather) -> None:
        """What another control process has noted, which has ended."""
        self._more += other._entries()

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


@contextlib.contextmanager
def watched(disk: Path | None = None) -> Iterator[Weather]:
    """The weather while the block lasts, to be asked after it; of the disk of a folder, too."""
    weather, of_disk = Weather(), Weather()
    pulses = [Child(lambda: weather.pulse(0))]
    try:
        if disk is not None:
            pulses.append(Child(lambda: of_disk.pulse_of_disk(disk)))
        yield weather
        weather.stop()
        of_disk.stop()
        for pulse in pulses:
            pulse.good()
        weather.add(of_disk)
    finally:
        for pulse in pulses:
            pulse.end()
