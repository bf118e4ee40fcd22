"""How long a single `set` takes where each makes an item leave: p50, p99, p99.9, p99.99, longest.

Owns the sampling of single calls and the rule by which time that the machine took is told from time
that the store took. Promises that nothing is left out: every sample is printed raw, and judged is
the same set of samples with only that time subtracted in which this thread provably did not run.

The rule. Calls are taken in blocks of 16; around a block the clock of the thread's CPU time, the
monotonic clock and the kernel's counts of context switches are read. A block is *disturbed* if it
was preempted (involuntary switches) or if the monotonic clock went on by more than 5 us more than
the CPU time (a hypervisor that gave the CPU to others, interrupts; as far as the kernel keeps them
out of the thread's time). The difference is subtracted from the longest call of the block, if
that call was at least so long; else from none. A block in which the thread went to sleep by itself
(voluntary switches: a wait for a lock) is never corrected. Nearly all errors go against the store:
what the kernel does not tell apart, several absences in a block, caches emptied meanwhile. The one
that flatters it: an absence in the instants between two calls, in a block with a slow call that is
even longer. The cost of reading the clock, measured, is taken off every sample; else it would
flatter the ratio.

The control. The same sampling around a call that does nothing, on the same CPU, as long as the
turn of the store before it: what it shows above 5 us is the machine's. Its judged line says how
much of that the rule recognises. It takes turns because a process that spins on the same CPU at
the same time would be the very disturbance, and on another one would tell about that one.

Beside a daemon the same is done once more, if the package has one. Does not judge rates.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import shmkv
from tests.bench.fresh import FRESH, Fresh, turned_over
from tests.bench.report import Figure, Table, at_most
from tests.bench.rivals import MIB, new_store
from tests.bench.timing import collector_off, own_code

BLOCK = 16  # calls between two looks at the thread's clock
GAP_NS = 5_000  # a call that does nothing and takes longer was disturbed
TURN = 16_000  # sets before the control has its turn
SIZES = (16 * MIB, 64 * MIB)
BAR = 50  # p99.9 in multiples of p50
DAEMON_SECONDS = 60.0  # a daemon that is not there after so long is a failure

Call = Callable[[bytes, bytes], Any]


# ---- samples ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """What the clocks said around a block of calls."""

    lasted: Sequence[int]  # ns of each call
    wall: int
    cpu: int
    forced: int  # involuntary switches
    slept: int  # voluntary ones

    def judged(self) -> list[int]:
        """The calls without the time the thread was kept from running."""
        calls, away = list(self.lasted), self.wall - self.cpu
        disturbed = away > 0 and (self.forced > 0 or away > GAP_NS)
        longest = max(calls)
        if self.slept == 0 and disturbed and longest >= away:
            calls[calls.index(longest)] = max(longest - away, int(statistics.median(calls)))
        return calls


@dataclass
class Samples:
    """Calls of one kind, all rounds together."""

    raw: array[int] = field(default_factory=lambda: array("q"))
    judged: array[int] = field(default_factory=lambda: array("q"))
    seconds: float = 0.0

    def add(self, block: Block, clock: int) -> None:
        """Take a block in; `clock` is what reading the clock costs."""
        self.raw.extend(max(0, ns - clock) for ns in block.lasted)
        self.judged.extend(max(0, ns - clock) for ns in block.judged())
        self.seconds += block.wall / 1e9


@dataclass(frozen=True)
class Spread:
    """Percentiles in ns, and how many calls a second took longer than GAP_NS."""

    p50: float
    p99: float
    p999: float
    p9999: float
    longest: float
    gaps: float

    @classmethod
    def of(cls, samples: Sequence[int], seconds: float) -> Spread:
        """Nearest rank, from all samples."""
        ranked = sorted(samples)
        p50, p99, p999, p9999 = (ranked[int(len(ranked) * p)] for p in (0.5, 0.99, 0.999, 0.9999))
        gaps = sum(ns > GAP_NS for ns in ranked) / seconds
        return cls(p50, p99, p999, p9999, ranked[-1], gaps)

    def line(self, name: str) -> str:
        """One row, in microseconds."""
        values = (self.p50, self.p99, self.p999, self.p9999, self.longest)
        shown = "".join(f"{ns / 1e3:10.2f}" for ns in values)
        return f"{name:<20}{shown}{self.gaps:10.0f}"


HEAD = f"{'us':<20}{'p50':>10}{'p99':>10}{'p99.9':>10}{'p99.99':>10}{'max':>10}{'>5us /s':>10}"


def sampled(call: Call, keys: Sequence[bytes]) -> Block:
    """Time each of a few calls."""
    now, cpu, usage = time.perf_counter_ns, time.thread_time_ns, resource.getrusage
    lasted: list[int] = []
    note = lasted.append
    before = usage(resource.RUSAGE_THREAD)
    cpu_from = cpu()  # around the wall: an absence is never made larger by reading the clocks
    wall_from = now()
    for key in keys:
        start = now()
        call(key, FRESH)
        note(now() - start)
    wall_to = now()
    cpu_to = cpu()
    after = usage(resource.RUSAGE_THREAD)
    forced, slept = after.ru_nivcsw - before.ru_nivcsw, after.ru_nvcsw - before.ru_nvcsw
    return Block(lasted, wall_to - wall_from, cpu_to - cpu_from, forced, slept)


def nothing(key: bytes, value: bytes) -> None:
    """What the control calls."""


def clock_cost() -> int:
    """Nanoseconds between two readings of the clock with nothing between them."""
    now = time.perf_counter_ns
    return int(statistics.median([-(now() - now()) for _ in range(10_000)]))


# ---- turns --------------------------------------------------------------------------------------


@contextmanager
def pinned() -> Iterator[Callable[[int], None]]:
    """Gives what moves this thread to one CPU, chosen by a number; afterwards it is free again."""
    allowed = os.sched_getaffinity(0)
    cpus = sorted(allowed)
    try:
        yield lambda number: os.sched_setaffinity(0, {cpus[number % len(cpus)]})
    finally:
        os.sched_setaffinity(0, allowed)


def taken(store: shmkv.Store, fresh: Fresh, turns: int) -> tuple[Samples, Samples]:
    """The store's calls and the control's, turn by turn, one CPU after the other."""
    ours, control, clock = Samples(), Samples(), clock_cost()
    set_sampled, idle_sampled = own_code(sampled), own_code(sampled)
    idle_keys = [b""] * BLOCK
    with pinned() as move:
        for turn in range(turns):
            move(turn)
            keys = fresh.batch(TURN)
            blocks = [keys[i : i + BLOCK] for i in range(0, TURN, BLOCK)]
            with collector_off():
                for block in blocks[: len(blocks) // 8]:  # not counted: caches, specialization
                    set_sampled(store.set, block)
                began = time.perf_counter()
                for block in blocks[len(blocks) // 8 :]:
                    ours.add(set_sampled(store.set, block), clock)
                lasted = time.perf_counter() - began
                end = time.perf_counter() + lasted
                while True:  # once at least, whoever had the CPU meanwhile
                    control.add(idle_sampled(nothing, idle_keys), clock)
                    if time.perf_counter() >= end:
                        break
    return ours, control


# ---- a daemon -----------------------------------------------------------------------------------


@contextmanager
def daemon_beside(store: shmkv.Store) -> Iterator[None]:
    """A daemon for the store, there when the block begins and gone after it."""
    command = [sys.executable, "-m", "shmkv", "daemon", store.name]
    command += ["--foreground", "--log", os.devnull]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + DAEMON_SECONDS
        while not store._daemon(False):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{' '.join(command)}: no daemon; exit {process.returncode}")
            time.sleep(0.01)  # bounded by DAEMON_SECONDS
        yield
        if process.poll() is not None:
            raise RuntimeError(f"the daemon ended by itself with {process.returncode}")
    finally:
        process.terminate()
        try:
            process.wait(DAEMON_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# ---- tables -------------------------------------------------------------------------------------


def one_size(size: int, turns: int, daemon: bool) -> Table:
    """One store, with or without a daemon."""
    beside = "beside a daemon" if daemon else "without a daemon"
    what = f"set, {size // MIB} MiB, {beside}"
    table, fresh = Table(f"single calls of {what}, each evicting"), Fresh()
    with new_store(size) as store:
        turned_over(store, fresh)
        with daemon_beside(store) if daemon else nullcontext():
            evicted = store.stats().evictions
            ours, control = taken(store, fresh, turns)
            evicted = store.stats().evictions - evicted
    if evicted < 0.8 * turns * TURN:
        raise RuntimeError(f"{evicted} items left for {turns * TURN} new ones")
    judged = Spread.of(ours.judged, ours.seconds)
    raw = Spread.of(ours.raw, ours.seconds)
    table.notes += [HEAD, raw.line("set, raw"), judged.line("set, judged")]
    table.notes.append(Spread.of(control.raw, control.seconds).line("control, raw"))
    table.notes.append(Spread.of(control.judged, control.seconds).line("control, judged"))
    table.figures = [
        Figure(f"{what}: p50", judged.p50, unit="ns"),
        Figure(f"{what}: p99.9 / p50, raw", raw.p999 / raw.p50),
        Figure(f"{what}: p99.9 / p50", judged.p999 / judged.p50, bar=at_most(BAR)),
    ]
    return table


def pauses(quick: bool) -> Iterator[Table]:
    """Both sizes, without and beside a daemon."""
    turns = 12 if quick else 60
    for daemon in (False, True):
        for size in SIZES:
            yield one_size(size, turns, daemon)
