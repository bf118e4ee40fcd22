"""Replaying: a trace against a real store, and beside it against the reference.

Owns: `StoreCache` (the loop over a store), `Sampler` (how full of payload it is), `replay` and its
`Result`.

Promises: a read that misses is followed by a write of that size, as a program with a cache behaves.
The store is one of its own: it has no name any more when the first request comes, so nothing stays
behind however the process ends. Time per operation is that of the store's calls and their loop
alone: chunks are prepared before the clock starts. An operation is a call of get, set or delete.

Does not: read files, print, or draw.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import shmkv
from shmkv import _core
from shmkv.errors import Error, TooLarge
from shmkv.replay.reference import Count, Lru
from shmkv.replay.requests import GET, SET, Chunk, Trace

SAMPLES = 16  # kept of the payload; when there are more, every other one is given up
Progress = Callable[[int], None]


@contextlib.contextmanager
def own_store(size: int | str, **options: Any) -> Iterator[shmkv.Store]:
    """A store that is gone with this process."""
    name = f"replay-{os.getpid()}-{secrets.token_hex(4)}"
    with shmkv.open(name, size=size, create="new", **options) as store:
        shmkv.unlink(name)
        yield store


class StoreCache:
    """A store under replay."""

    def __init__(self, store: shmkv.Store) -> None:
        self.store = store
        self.count = Count()
        self.calls = 0
        self.nanoseconds = 0
        self._source = memoryview(b"")

    def run(self, chunk: Chunk) -> None:
        """Take the requests of a chunk."""
        largest = max(chunk.sizes, default=0)
        if largest > len(self._source):
            self._source = memoryview(secrets.token_bytes(min(largest, 1 << 20)) + bytes(largest))
        if chunk.ops is None and chunk.ttls is None:
            self._reads(chunk.keys, chunk.sizes)
        else:
            self._mixed(chunk)

    def _reads(self, keys: list[bytes], sizes: list[int]) -> None:
        get, put, source = self.store.get, self.store.set, self._source
        missed = []
        began = time.perf_counter_ns()
        for key, size in zip(keys, sizes, strict=True):
            if get(key) is None:
                missed.append(size)
                try:
                    put(key, source[:size])
                except Error as error:
                    self._refused(error)
        self.nanoseconds += time.perf_counter_ns() - began
        self._add(len(keys), sum(sizes), missed, len(missed), 0)

    def _mixed(self, chunk: Chunk) -> None:
        store, source = self.store, self._source
        get, put = store.get, store.set
        ops = chunk.ops if chunk.ops is not None else [GET] * len(chunk.keys)
        ttls = chunk.ttls if chunk.ttls is not None else [None] * len(chunk.keys)
        reads = read_bytes = sets = deletes = 0
        missed = []
        began = time.perf_counter_ns()
        for key, size, op, ttl in zip(chunk.keys, chunk.sizes, ops, ttls, strict=True):
            if op == GET:
                reads += 1
                read_bytes += size
                if get(key) is not None:
                    continue
                missed.append(size)
            elif op != SET:
                deletes += 1
                store.delete(key)
                continue
            sets += 1
            try:
                if ttl is None:
                    put(key, source[:size])
                else:
                    put(key, source[:size], ttl=ttl)
            except Error as error:
                self._refused(error)
        self.nanoseconds += time.perf_counter_ns() - began
        self._add(reads, read_bytes, missed, sets, deletes)

    def _refused(self, error: Error) -> None:
        count, kind = self.count, type(error).__name__
        count.errors[kind] = count.errors.get(kind, 0) + 1
        if isinstance(error, TooLarge):
            count.too_large += 1
        else:
            count.failed += 1

    def _add(self, reads: int, read_bytes: int, missed: list[int], sets: int, other: int) -> None:
        self.count.reads += reads
        self.count.read_bytes += read_bytes
        self.count.misses += len(missed)
        self.count.missed_bytes += sum(missed)
        self.count.sets += sets
        self.calls += reads + sets + other


def payload(store: shmkv.Store) -> int:
    """Bytes of all keys and values that are there."""
    total = 0
    look = store._info
    for key in store:
        with contextlib.suppress(KeyError):  # it expired meanwhile
            total += len(key) + look(key)[1]
    return total


class Sampler:
    """How much of the store is payload, looked at again and again, ever more rarely."""

    def __init__(self, store: shmkv.Store) -> None:
        self.store = store
        self.seen: list[float] = []
        self._every, self._chunks = 1, 0
        self._sizes: set[tuple[int, int]] = set()

    def after(self, chunk: Chunk) -> None:
        """Look, if it is time."""
        if len(self._sizes) < 2:
            lengths = np.fromiter(map(len, chunk.keys), int, len(chunk.keys))
            sizes = np.array(chunk.sizes)
            for column in (lengths.argmin(), lengths.argmax(), sizes.argmin(), sizes.argmax()):
                self._sizes.add((int(lengths[column]), int(sizes[column])))
        self._chunks += 1
        if self._chunks % self._every == 0:
            self.seen.append(self.now())
            if len(self.seen) > SAMPLES:
                self.seen = self.seen[1::2]
                self._every *= 2

    def now(self) -> float:
        """The share of the whole segment."""
        if len(self._sizes) == 1:  # all items are alike: no need to walk
            ((key_bytes, value_bytes),) = self._sizes
            held = len(self.store) * (key_bytes + value_bytes)
        else:
            held = payload(self.store)
        return held / self.store.size

    def mean(self) -> float:
        """Of the second half."""
        later = self.seen[len(self.seen) // 2 :] or [self.now()]
        return sum(later) / len(later)


@dataclass(frozen=True, slots=True)
class Result:
    """What a replay found. The requests of the warm-up are in none of the figures."""

    trace: str
    size: int
    requests: int
    store: Count
    lru: Count | None
    """The reference's, if it was asked for."""
    utilisation: float
    """Keys and values as a share of the whole segment, mean of the second half."""
    items: int
    index_bytes: float
    """Bytes of index for an item, at the end."""
    copied: float
    """Bytes moved by cleaning for each byte written."""
    ns_per_operation: float

    @property
    def misses_to_lru(self) -> float | None:
        """Misses as a multiple of the reference's."""
        return ratio(self.store.misses, self.lru.misses) if self.lru else None

    @property
    def byte_misses_to_lru(self) -> float | None:
        """Bytes missed as a multiple of the reference's."""
        return ratio(self.store.missed_bytes, self.lru.missed_bytes) if self.lru else None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, ratios included."""
        counts = {"store": self.store, "lru": self.lru}
        more = {
            f"{who}_{what}": getattr(count, what)
            for who, count in counts.items()
            if count is not None
            for what in ("hit_ratio", "byte_hit_ratio")
        }
        more["misses_to_lru"] = self.misses_to_lru
        more["byte_misses_to_lru"] = self.byte_misses_to_lru
        return asdict(self) | more


def ratio(part: float, whole: float) -> float | None:
    """None where there is nothing to compare with."""
    return part / whole if whole else None


def replay(
    trace: Trace,
    size: int,
    *,
    compare: bool = True,
    warmup: int = 0,
    rate: float | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Replay a trace against a store of `size` bytes.

    compare: against the reference, too.
    warmup: so many requests (rounded to chunks) are replayed but not counted.
    rate: requests a second, by which the store's clock is moved from chunk to chunk, so that a ttl
        means what it did when the trace was made. Without it time is what the replay takes.
    progress: is told the position in the trace after every chunk.
    options: of `shmkv.open`.
    """
    with own_store(size, **options) as store, _clock() as move:
        ours = StoreCache(store)
        lru = Lru(store.size) if compare else None
        sampler = Sampler(store)
        requests = counted = 0
        before = store.stats()
        for chunk in trace.chunks():
            if requests and requests - len(chunk.keys) < warmup <= requests:
                ours.count, ours.calls, ours.nanoseconds, counted = Count(), 0, 0, 0
                before = store.stats()
                if lru is not None:
                    lru.count = Count()
            now = requests / rate if rate else 0.0
            move(now)
            ours.run(chunk)
            if lru is not None:
                lru.run(chunk, now)
            sampler.after(chunk)
            requests += len(chunk.keys)
            counted += len(chunk.keys)
            if progress is not None:
                progress(chunk.position)
        after = store.stats()
        written = after.bytes_written - before.bytes_written
        return Result(
            trace=trace.name,
            size=store.size,
            requests=counted,
            store=ours.count,
            lru=lru.count if lru is not None else None,
            utilisation=sampler.mean(),
            items=after.items,
            index_bytes=after.bytes_index / max(after.items, 1),
            copied=(after.bytes_copied - before.bytes_copied) / max(written, 1),
            ns_per_operation=ours.nanoseconds / max(ours.calls, 1),
        )


@contextlib.contextmanager
def _clock() -> Iterator[Callable[[float], None]]:
    """A clock of this process that is moved, and shows real time again in the end."""
    began = time.monotonic()

    def move(seconds: float) -> None:
        if seconds:
            _core.set_clock_offset(max(0, round((seconds - (time.monotonic() - began)) * 1000)))

    try:
        yield move
    finally:
        _core.set_clock_offset(0)
