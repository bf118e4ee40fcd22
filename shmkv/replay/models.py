"""Traces that are made: popularity by Zipf's law that shifts, with scans; sizes that change.

Owns: the models that stand in where no recorded trace is at hand, and the workloads that ask how
memory is used rather than who stays.

Promises: the same requests in every run. Models draw requests independently of each other, which
flatters policies that count; recorded traces decide.

Does not: imitate any recorded trace.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shmkv.replay.requests import CHUNK, GET, SET, Chunk, Numbers, Sizes, Sizing, keys_of, uniform


@dataclass(frozen=True, slots=True)
class Zipf:
    """Requests for objects whose popularity falls with their rank."""

    requests: int
    objects: int
    exponent: float = 1.0
    shift: float = 0.0
    """Ranks (share of all) that get another object after every `period` requests."""
    period: int = 20_000
    scan: int = 0
    """Objects nobody asks for again, requested in a row after every `period` requests."""
    seed: int = 1

    def batches(self, size: int = CHUNK) -> Iterator[tuple[Numbers, int]]:
        """Numbers of objects, in batches of about `size`."""
        rng = np.random.default_rng(self.seed)
        weights = np.arange(1, self.objects + 1, dtype=np.float64) ** -self.exponent
        upto = np.cumsum(weights)
        names = rng.permutation(self.objects).astype(np.uint64)
        fresh = self.objects
        done = since = 0
        while done < self.requests:
            count = min(size, self.requests - done, self.period - since)
            drawn = np.searchsorted(upto, rng.random(count) * upto[-1])
            yield names[drawn], 0
            done += count
            since += count
            if since == self.period:
                since = 0
                moved = int(self.shift * self.objects)
                ranks = rng.choice(self.objects, moved, replace=False)
                names[ranks] = np.arange(fresh, fresh + moved, dtype=np.uint64)
                fresh += moved
                for begin in range(fresh, fresh + self.scan, size):
                    end = min(begin + size, fresh + self.scan)
                    yield np.arange(begin, end, dtype=np.uint64), 0
                fresh += self.scan
                done += self.scan


@dataclass(frozen=True, slots=True)
class Logarithmic:
    """Each key has a size of its own, every order of magnitude equally often."""

    least: int
    most: int
    seed: int = 1

    def __call__(self, numbers: Numbers) -> Sizes:
        drawn = self.least * (self.most / self.least) ** uniform(numbers, self.seed)
        return np.rint(drawn).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Each key has the size that one of several sizings gives."""

    rest: Sizing
    """For what the shares of the others leave."""
    parts: tuple[tuple[float, Sizing], ...]
    seed: int = 7

    def __call__(self, numbers: Numbers) -> Sizes:
        lot = uniform(numbers, self.seed)
        chosen = self.rest(numbers)
        below = 0.0
        for share, sizing in self.parts:
            here = (lot >= below) & (lot < below + share)
            below += share
            chosen[here] = sizing(numbers[here])
        return chosen


@dataclass(frozen=True, slots=True)
class Phase:
    """Writes of new objects until so many bytes are written, some of the older ones again."""

    name: str
    sizing: Sizing
    volume: int
    """Bytes of values to write."""
    overwrites: float = 0.2
    """Of the writes: to an object written before in this phase."""
    hot: int = 5
    """One of so many objects is read again and again."""
    reads: float = 0.25
    """Reads of hot objects, for each write."""

    def chunks(self, first: int, *, seed: int = 1) -> Iterator[Chunk]:
        """Requests for objects from number `first` on; how far it came is told by their keys."""
        rng = np.random.default_rng(seed)
        typical = int(self.sizing(np.arange(first, first + 20_000, dtype=np.uint64)).mean())
        batch = max(8, min(CHUNK, self.volume // 100 // typical))
        recent = max(batch, self.volume // 2 // typical)
        written = 0
        for begin in itertools.count(first, batch):
            if written >= self.volume:
                return
            new = np.arange(begin, begin + batch, dtype=np.uint64)
            low = max(first, begin - recent)
            again = int(batch * self.overwrites / (1 - self.overwrites))
            old = rng.integers(low, begin + 1, again, dtype=np.uint64)
            read = rng.integers(low // self.hot, begin // self.hot + 1, int(batch * self.reads))
            hot = np.clip(read * self.hot, low, begin).astype(np.uint64)
            numbers = np.concatenate([new, old, hot])
            ops = np.repeat([SET, SET, GET], [len(new), len(old), len(hot)])
            order = rng.permutation(len(numbers))
            sizes = self.sizing(numbers)
            written += int(sizes[: len(new) + len(old)].sum())
            yield Chunk(keys_of(numbers[order]), sizes[order].tolist(), ops=ops[order].tolist())
