"""What a trace is made of: chunks of requests, and the rules that complete what a trace leaves out.

Owns: `Chunk` (requests in columns), the protocol `Trace`, keys and sizes for traces that only
number their objects, overwrites, and the survey of a whole trace.

Promises: everything is a function of the trace and of named seeds: the same requests in every run.
One chunk is in memory at a time; only the survey keeps something (eight bytes of hash) per key.

Does not: read files (`traces`), or know a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from shmkv.replay.reference import cost

GET, SET, DELETE = 0, 1, 2
CHUNK = 8192  # requests
KEY_BYTES = 16  # of a numbered object

Numbers: TypeAlias = NDArray[np.uint64]
Sizes: TypeAlias = NDArray[np.int64]
Sizing: TypeAlias = Callable[[Numbers], Sizes]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some requests in their order, in columns of equal length."""

    keys: list[bytes]
    sizes: list[int]
    """Bytes of the value, of what is written and of what a miss would fetch."""
    ops: list[int] | None = None
    """GET, SET or DELETE; None: all are GET."""
    ttls: list[float | None] | None = None
    """Seconds a written value lives; None, also for one value: without deadline."""
    position: int = 0
    """Bytes of the trace's file that have been read: for progress."""


class Trace(Protocol):
    """Something that yields its requests, from the beginning each time it is asked."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def length(self) -> int:
        """What `Chunk.position` ends at; 0: unknown."""

    def chunks(self) -> Iterator[Chunk]:
        """All requests."""


@dataclass(frozen=True, slots=True)
class MadeTrace:
    """A trace that a function makes."""

    name: str
    make: Callable[[], Iterator[Chunk]]
    length: int = 0

    def chunks(self) -> Iterator[Chunk]:
        """All requests."""
        return self.make()


# ---- what a trace leaves out --------------------------------------------------------------------

_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
_SHIFTS = np.arange(60, -1, -4, dtype=np.uint64)


def keys_of(numbers: Numbers) -> list[bytes]:
    """A key of sixteen hexadecimal digits for each number."""
    nibbles = (numbers[:, None] >> _SHIFTS[None, :]) & np.uint64(15)
    keys: list[bytes] = _DIGITS[nibbles].view("S16").ravel().tolist()
    return keys


def mixed(numbers: Numbers, seed: int) -> Numbers:
    """64 random-looking bits for each number (splitmix64)."""
    with np.errstate(over="ignore"):
        x = numbers + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % (1 << 64))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def uniform(numbers: Numbers, seed: int) -> NDArray[np.float64]:
    """A number in (0, 1) for each number."""
    return ((mixed(numbers, seed) >> np.uint64(11)).astype(np.float64) + 0.5) / float(1 << 53)


@dataclass(frozen=True, slots=True)
class Fixed:
    """All values have one size."""

    size: int

    def __call__(self, numbers: Numbers) -> Sizes:
        return np.full(len(numbers), self.size, np.int64)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Each key has a size of its own, lognormal, cut at both ends."""

    median: float = 400
    sigma: float = 1.6
    least: int = 20
    most: int = 100_000
    seed: int = 1

    def __call__(self, numbers: Numbers) -> Sizes:
        radius = np.sqrt(-2 * np.log(uniform(numbers, 2 * self.seed)))
        normal = radius * np.cos(2 * np.pi * uniform(numbers, 2 * self.seed + 1))
        drawn = self.median * np.exp(self.sigma * normal)
        return cast(Sizes, np.rint(np.clip(drawn, self.least, self.most)).astype(np.int64))


def numbered(
    batches: Iterable[tuple[Numbers, int]], sizing: Sizing, *, expand: int = 1
) -> Iterator[Chunk]:
    """Chunks for batches of (numbers, position). `expand`: each object becomes so many, requested
    one after the other, so that a small trace fills a large store."""
    for numbers, position in batches:
        step = max(1, CHUNK // expand)
        for start in range(0, len(numbers), step):
            part = numbers[start : start + step]
            if expand > 1:
                many = part[:, None] * np.uint64(expand) + np.arange(expand, dtype=np.uint64)
                part = cast(Numbers, many.ravel())
            yield Chunk(keys_of(part), sizing(part).tolist(), position=position)


def overwriting(chunks: Iterable[Chunk], percent: float, seed: int = 1) -> Iterator[Chunk]:
    """Turn so many of a hundred reads into writes of the same key and size."""
    rng = np.random.default_rng(seed)
    for chunk in chunks:
        drawn = rng.random(len(chunk.keys)) * 100 < percent
        before = np.array(chunk.ops) if chunk.ops is not None else np.zeros(len(drawn), int)
        yield replace(chunk, ops=np.where(drawn & (before == GET), SET, before).tolist())


def cut(chunks: Iterable[Chunk], most: int) -> Iterator[Chunk]:
    """The first `most` requests."""
    left = most
    for chunk in chunks:
        count = len(chunk.keys)
        if count >= left:
            ops = None if chunk.ops is None else chunk.ops[:left]
            ttls = None if chunk.ttls is None else chunk.ttls[:left]
            yield Chunk(chunk.keys[:left], chunk.sizes[:left], ops, ttls, chunk.position)
            return
        left -= count
        yield chunk


# ---- the whole ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Survey:
    """What a trace holds in all."""

    requests: int
    keys: int
    """Different keys."""
    footprint: int
    """Bytes that a cache of everything would need, overheads included; sizes as first seen."""
    payload: int
    """Of these: keys and values."""


def survey(chunks: Iterable[Chunk]) -> Survey:
    """Go through a trace once."""
    seen: set[int] = set()
    requests = footprint = payload = 0
    hashed = xxhash.xxh3_64_intdigest
    for chunk in chunks:
        requests += len(chunk.keys)
        for key, size in zip(chunk.keys, chunk.sizes, strict=True):
            name = hashed(key)
            if name not in seen:
                seen.add(name)
                footprint += cost(len(key), size)
                payload += len(key) + size
    return Survey(requests, len(seen), footprint, payload)
