"""What a value of an eighth of the arena does to another process that uses the store meanwhile.

Owns one part: a process that gets and sets small items, 90/10, and times each call, while this one
sets the largest value there may be in a store full of small items, so that an eighth of them must
leave. Judged is the other's p99 during these sets, in multiples of its p99 while this process only
moves memory: it copies as many bytes in private memory, over and over, for as long as the set
before took. Both take turns; a slow machine slows both. Promises that each large set finds the
store full again: the large value of the turn before is deleted and the store filled with new keys.

A percentile over calls is blind to one call that lasts as long as all the others: who is kept
waiting calls less. Therefore the rate of the calls and the share of the time that went into calls
above 1 ms stand beside it, unjudged: other processes of a busy machine do the same to both. Does
not judge how long the large set takes; it is printed.
"""

import multiprocessing as mp
import random
import statistics
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import shmkv
from tests.bench.fresh import FRESH, ITEM_BYTES, Fresh, turned_over
from tests.bench.keys import Zipf, make_keys
from tests.bench.pauses import HEAD, Spread
from tests.bench.report import Figure, Table, at_most
from tests.bench.rivals import MIB, new_store
from tests.bench.timing import collector_off, orders

SIZE = 256 * MIB
REPEATS = 10
KEYS = 50_000  # small items that the other process uses
DRAWS = 1 << 15
WRITE_SHARE = 0.1
CHUNK = 64  # calls between two looks at the flag
LARGE = b"large"
MARGIN = 4096  # header and key of the large item, rounded up
BAR = 5
LATE_NS = 1_000_000
LEAST = 1000  # samples from which a p99 is worth saying
ANSWER_SECONDS = 60.0
FORK = mp.get_context("fork")

Times = tuple["array[int]", "array[int]"]  # when calls began and how long they took, ns
Asked = list[tuple[list[bytes], list[bool]]]


# ---- the other process --------------------------------------------------------------------------


def chunks() -> Asked:
    """What it asks for: keys, and which of them are written."""
    keys, rnd = make_keys(KEYS), random.Random(21)
    asked = [keys[i] for i in Zipf(KEYS).draws(DRAWS, seed=21)]
    return [
        (asked[i : i + CHUNK], [rnd.random() < WRITE_SHARE for _ in range(CHUNK)])
        for i in range(0, DRAWS, CHUNK)
    ]


def mixed(store: shmkv.Store, asked: Asked, running: Any, parent: Connection) -> Times:
    """Get and set until told to stop; the parent hears when it is well under way."""
    now, get, set_ = time.monotonic_ns, store.get, store.set
    starts, lasted, number = array("q"), array("q"), 0
    while running.value:
        for key, write in zip(*asked[number % len(asked)], strict=True):
            start = now()
            if write:
                set_(key, FRESH)
            else:
                get(key)
            lasted.append(now() - start)
            starts.append(start)
        number += 1
        if number == 2 * len(asked):  # all that it uses was used before anything counts
            parent.send(None)
    return starts, lasted


def work(name: str, asked: Asked, running: Any, parent: Connection, mine: Connection) -> None:
    """The life of the other process; it ends when it is told so or the parent is gone."""
    mine.close()
    with shmkv.open(name, create=False) as store, collector_off():
        parent.send(None)
        for _ in orders(parent):
            parent.send(mixed(store, asked, running, parent))


class Other:
    """The other process, seen from here."""

    def __init__(self, end: Connection, running: Any) -> None:
        self._end, self._running = end, running

    def answer(self) -> Any:
        """What it says, within a limit."""
        if not self._end.poll(ANSWER_SECONDS):
            raise RuntimeError(f"the other process said nothing for {ANSWER_SECONDS:g} s")
        return self._end.recv()

    def during(self, action: Callable[[], None]) -> tuple[list[int], float]:
        """How long its calls took that began during an action, and how long that took, seconds."""
        self._running.value = 1
        self._end.send("go")
        self.answer()
        start = time.monotonic_ns()
        try:
            action()
        finally:
            stop = time.monotonic_ns()
            self._running.value = 0
        starts, lasted = self.answer()
        pairs = zip(starts, lasted, strict=True)
        return [ns for at, ns in pairs if start <= at < stop], (stop - start) / 1e9


@contextmanager
def other_process(store: shmkv.Store) -> Iterator[Other]:
    """Another process on the same store, gone afterwards."""
    running = FORK.RawValue("i", 0)
    mine, theirs = FORK.Pipe()
    process = FORK.Process(
        target=work, args=(store.name, chunks(), running, theirs, mine), daemon=True
    )
    process.start()
    theirs.close()
    try:
        other = Other(mine, running)
        other.answer()
        yield other
    finally:
        running.value = 0
        with suppress(OSError):  # it may be gone already
            mine.send(None)
        mine.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


# ---- this process -------------------------------------------------------------------------------


def largest(store: shmkv.Store) -> int:
    """Bytes of a value of an eighth of the arena."""
    geometry = store._geometry()
    return (geometry["bases"] << geometry["base_shift"]) // 8 - MARGIN


def copier(value: bytes, seconds: float) -> Callable[[], None]:
    """Copies as many bytes in private memory, over and over, for so long."""
    target = bytearray(value)  # touched

    def copy() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            target[:] = value

    return copy


def refilled(store: shmkv.Store, fresh: Fresh) -> None:
    """The large value gone, and small items in its place."""
    store.delete(LARGE)
    turned_over(store, fresh, 1.2 / 8)


@dataclass
class Seen:
    """What the other process saw beside one kind of action."""

    calls: list[int]
    seconds: list[float]

    def add(self, more: tuple[Sequence[int], float]) -> None:
        """One action more."""
        self.calls += more[0]
        self.seconds.append(more[1])

    def spread(self) -> Spread:
        """All of them together."""
        if len(self.calls) < LEAST:
            raise RuntimeError(f"the other process made {len(self.calls)} calls, too few to say")
        return Spread.of(self.calls, sum(self.seconds))

    def rate(self) -> float:
        """Calls a second."""
        return len(self.calls) / sum(self.seconds)

    def late(self) -> float:
        """Share of the time that went into long calls."""
        return sum(ns for ns in self.calls if ns > LATE_NS) / 1e9 / sum(self.seconds)


def measured(repeats: int) -> tuple[Seen, Seen, int]:
    """The large set and the copies in turns; the evictions, too."""
    setting, copying, fresh, evicted = Seen([], []), Seen([], []), Fresh(), 0
    with new_store(SIZE) as store:
        value = random.Random(22).randbytes(largest(store))
        turned_over(store, fresh, 1.1)
        for key in make_keys(KEYS):
            store.set(key, FRESH)
        with other_process(store) as other:
            for _ in range(repeats):
                refilled(store, fresh)
                before = store.stats().evictions
                setting.add(other.during(lambda: store.set(LARGE, value)))
                evicted += store.stats().evictions - before
                copying.add(other.during(copier(value, setting.seconds[-1])))
            if store.get(LARGE) != value:
                raise RuntimeError("the large value is not there")
    if evicted < 0.5 * repeats * len(value) / ITEM_BYTES:
        raise RuntimeError(f"{repeats} values of {len(value)} bytes made {evicted} items leave")
    return setting, copying, evicted


def neighbour(quick: bool) -> list[Table]:
    """The other's p99 during large sets over its p99 beside copies."""
    repeats = REPEATS // 2 if quick else REPEATS
    setting, copying, evicted = measured(repeats)
    beside, control = setting.spread(), copying.spread()
    table = Table("90/10 of small items while another process sets an eighth of 256 MiB")
    ratio = beside.p99 / control.p99
    took = statistics.median(setting.seconds) * 1e3
    table.figures = [
        Figure("a set of an eighth, all included", took, unit="ms"),
        Figure("neighbour: p99 during large sets / copies", ratio, bar=at_most(BAR)),
        Figure("neighbour: its calls a second, the same", setting.rate() / copying.rate()),
    ]
    table.notes = [HEAD, beside.line("during a large set"), control.line("beside copies")]
    late = f"{setting.late():.0%} during large sets, {copying.late():.0%} beside copies"
    table.notes.append(f"time that went into calls above 1 ms: {late}")
    table.notes.append(f"{repeats} large sets; {evicted / repeats:,.0f} items left for each")
    return [table]
