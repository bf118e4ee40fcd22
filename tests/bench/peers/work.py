"""What every peer is asked to do, and the loops that time it.

Owns: keys and draws, the mixes, the throughput loop and the latency loop of one worker, and how the
answers of several workers become figures. All of it is made before anything is timed, from fixed
seeds, the same for every peer.

Knows the standard library only: one peer runs this file inside a host of its own. Knows no peer: a
worker is given an `Access`, the operations as the peer's own client offers them.
"""

import itertools
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.keys import Zipf
from tests.bench.timing import own_code

KEYS = 10_000
DRAWS = 1 << 16  # accesses of one worker before they repeat
COUNTER = b"counter"
# Share of writes; None: every access is an increment of the one counter.
MIXES: dict[str, float | None] = {"read": 0.0, "90/10": 0.1, "write": 1.0, "incr": None}
WARM_SECONDS = 0.03
CHUNK_SECONDS = 0.001  # between two looks at the clock of the throughput loop
CHUNK_MOST = 1024
SAMPLES_MOST = 200_000  # of the latency loop
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

Pairs = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Access:
    """A peer's operations in one process, the client's own bound methods where it can be."""

    get: Callable[[bytes], Any]
    set: Callable[[bytes, bytes], Any]
    fill: Callable[[Pairs], Any]
    incr: Callable[[bytes], Any] | None = None
    count: Callable[[], int] | None = None  # what the counter says; None: it is not shared
    close: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Plan:
    """What a turn does: for each mix a throughput loop, then a latency loop."""

    mixes: tuple[str, ...]
    seconds: float
    latency_seconds: float

    def limit(self) -> float:
        """Seconds after which a turn has failed; generous for slow peers and busy machines."""
        return 15 + 4 * len(self.mixes) * (WARM_SECONDS + self.seconds + self.latency_seconds)


@dataclass(frozen=True)
class Answer:
    """What one worker did in one mix; moments are those of the monotonic clock, in seconds."""

    mix: str
    operations: int
    start: float
    stop: float
    cpu: float
    ticks: dict[int, int] = field(default_factory=dict)  # nanoseconds of an operation -> how often
    calls: int = 0  # increments, warming up included
    moved: int | None = None  # how far the counter went meanwhile, told by worker 0


def make_keys(count: int) -> list[bytes]:
    """Distinct keys of 13 B."""
    return [b"user:%08d" % i for i in range(count)]


def make_pairs(count: int, size: int) -> Pairs:
    """The keys, each with a value of its own of `size` bytes."""
    tail = random.Random(size).randbytes(size - 8)
    return ((key, i.to_bytes(8, "little") + tail) for i, key in enumerate(make_keys(count)))


def written_value(size: int) -> bytes:
    """What every write stores: as long as what was filled in, and with the same tail."""
    return bytes(8) + random.Random(size).randbytes(size - 8)


@dataclass(frozen=True)
class Draws:
    """The accesses of one worker: which key, and whether the 90/10 mix writes it."""

    keys: list[bytes]
    writes: list[bool]


def make_draws(workers: int, count: int) -> list[Draws]:
    """The draws of all workers, over the same key objects."""
    zipf, keys, made = Zipf(count), make_keys(count), []
    share = MIXES["90/10"]
    assert share is not None
    for worker in range(workers):
        rnd = random.Random(77 + worker).random
        chosen = [keys[i] for i in zipf.draws(DRAWS, worker)]
        made.append(Draws(chosen, [rnd() < share for _ in range(DRAWS)]))
    return made


# ---- loops --------------------------------------------------------------------------------------

Run = Callable[[int, int], None]  # do so many operations, beginning at this draw


def one_kind(call: Callable[[bytes], Any], keys: Sequence[bytes]) -> Run:
    """Only reads, or only increments."""

    def run(at: int, count: int) -> None:
        for key in keys[at : at + count]:
            call(key)

    return own_code(run)


def only_writes(set_: Callable[[bytes, bytes], Any], keys: Sequence[bytes], value: bytes) -> Run:
    """A set for each draw."""

    def run(at: int, count: int) -> None:
        for key in keys[at : at + count]:
            set_(key, value)

    return run


def both_kinds(access: Access, draws: Draws, value: bytes) -> Run:
    """Reads, and here and there a write."""
    get, set_, keys, writes = access.get, access.set, draws.keys, draws.writes

    def run(at: int, count: int) -> None:
        for key, write in zip(keys[at : at + count], writes[at : at + count], strict=True):
            if write:
                set_(key, value)
            else:
                get(key)

    return run


def run_of(mix: str, access: Access, draws: Draws, value: bytes) -> Run:
    """The throughput loop's inside."""
    if mix == "read":
        return one_kind(access.get, draws.keys)
    if mix == "write":
        return only_writes(access.set, draws.keys, value)
    if mix == "incr":
        assert access.incr is not None
        return one_kind(access.incr, [COUNTER] * DRAWS)
    return both_kinds(access, draws, value)


def warm_up(run: Run) -> tuple[int, int]:
    """Run for a moment; returns the operations done, and how many make a chunk from now on."""
    done, chunk, began = 0, 1, time.monotonic()
    while True:
        before = time.monotonic()
        run(done % (DRAWS - CHUNK_MOST), chunk)
        done += chunk
        now = time.monotonic()
        if now - before < CHUNK_SECONDS and chunk < CHUNK_MOST:
            chunk *= 2
        elif now - before > 2 * CHUNK_SECONDS and chunk > 1:
            chunk //= 2
        if now - began >= WARM_SECONDS:
            return done, chunk


def throughput(run: Run, chunk: int, seconds: float) -> tuple[int, float, float, float]:
    """Run for so long; returns operations, first and last moment, CPU seconds."""
    done, cpu, start = 0, time.process_time(), time.monotonic()
    stop, now = start + seconds, start
    while now < stop:
        run(done % (DRAWS - CHUNK_MOST), chunk)
        done += chunk
        now = time.monotonic()
    return done, start, now, time.process_time() - cpu


def latencies(mix: str, access: Access, draws: Draws, value: bytes, seconds: float) -> Counter[int]:
    """Each operation timed on its own, in nanoseconds; the cost of the clock is in it."""
    get, set_, clock = access.get, access.set, time.perf_counter_ns
    endless = itertools.chain.from_iterable
    keys: Iterable[bytes] = endless(itertools.repeat(draws.keys[::-1]))
    writes: Iterable[bool] = itertools.repeat(mix == "write")
    if mix == "90/10":
        writes = endless(itertools.repeat(draws.writes))
    elif mix == "incr":
        assert access.incr is not None
        get, keys = access.incr, itertools.repeat(COUNTER)
    ticks = array("Q")
    add, end = ticks.append, clock() + int(seconds * 1e9)
    for key, write in itertools.islice(zip(keys, writes, strict=False), SAMPLES_MOST):
        if write:
            before = clock()
            set_(key, value)
            after = clock()
        else:
            before = clock()
            get(key)
            after = clock()
        add(after - before)
        if after > end:
            break
    return Counter(ticks)


def clock_nanoseconds() -> int:
    """What two looks at the clock cost: it is in every latency."""
    clock = time.perf_counter_ns
    return sorted(-(clock() - clock()) for _ in range(20_001))[10_000]


# ---- figures ------------------------------------------------------------------------------------


def percentiles(ticks: Counter[int]) -> dict[str, int]:
    """Exact ones, of counted samples."""
    total, figures = ticks.total(), dict[str, int]()
    values = sorted(ticks)
    sums = list(itertools.accumulate(ticks[value] for value in values))
    for name, share in PERCENTILES.items():
        wanted = share * total
        figures[name] = next(v for v, s in zip(values, sums, strict=True) if s >= wanted)
    return {**figures, "max": values[-1]}


def figures_of(answers: Sequence[Answer]) -> dict[str, Any]:
    """One mix of one turn: all operations over the time from the first start to the last end."""
    ticks = Counter[int]()
    for answer in answers:
        ticks.update(answer.ticks)
    operations = sum(a.operations for a in answers)
    seconds = max(a.stop for a in answers) - min(a.start for a in answers)
    told = [a.moved for a in answers if a.moved is not None]
    calls = sum(a.calls for a in answers)
    if told and told[0] != calls:
        raise ValueError(f"{calls} increments moved the counter by {told[0]}")
    return {
        "mix": answers[0].mix,
        "rate": operations / seconds,
        "operations": operations,
        "seconds": seconds,
        "cpu_seconds": sum(a.cpu for a in answers),
        "samples": ticks.total(),
        "exact": bool(told) if answers[0].mix == "incr" else None,
        **percentiles(ticks),
    }
