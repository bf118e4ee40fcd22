"""A soak: processes come and go, memory turns over, and nothing may grow.

    python -m tests.stress.soak --seconds 15 [--seed S]
    SHMKV_TORTURE=1 python -m tests.stress.soak            an hour

Owns: who comes, who is killed, and when; the samples; the judgement. A resident (soak_work) works
the whole time in a store of 4 MiB that evicts, with deadlines, views, big and small values; three
visitors at a time attach, work some milliseconds, and leave or are killed.

Sampled of the resident: memory that is its own (resident, without the segment), descriptors,
threads, mappings; of the segment: how far it is backed, index pages, pages held, pages that no kind
accounts for, rows in use. The first sample waits until the store is full and evicts, and each until
the resident has gone a round further, so that a slow machine samples later and not less. After a
warm-up of a quarter, the medians of the first and the last third are compared: what has risen by
more than its `ALLOWED` is a leak. The allowances do not grow with the time, so a longer run finds a
smaller leak. What the store has taken in all, the ghost included, which doubles when more items
live than ever before, stays within the size at every sample. At the end nothing is left.

Prints a line of JSON {name, seed, n, violations, worst_ms} (n: visitors; worst_ms: the resident's
slowest operation, not judged here) and before it each series' first, last and allowed.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import shmkv
from tests.conftest import MIB
from tests.stress.soak_work import Planted, Resident, visit
from tests.stress.support import Child, report, seed, settle, until

SIZE = 4 * MIB
VISITORS = 3
QUICK_S, FULL_S = 15.0, 3600.0
SAMPLE_S = 0.2
LEAST_SAMPLES = 24
HANG_S = 30.0
LATE_S = 60.0  # for samples that a busy machine did not give in time
KILLED = 0.4  # of the visitors
# What a median may rise by, for reasons that end: allocator, caches of the interpreter, chance.
ALLOWED: Mapping[str, float] = {
    "memory": 900_000,
    "descriptors": 1.5,
    "threads": 0.5,
    "mappings": 3,
    "backed": 0,
    "index": 65_536,
    "held": 2,
    "lost": 0,
    "rows": 2.5,
}
Sample = dict[str, float]


# ---- looking ------------------------------------------------------------------------------------


def of_process(pid: int) -> Sample:
    """What a process has; pages of the segment are not its own."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    own = int(status["RssAnon"].split()[0]) + int(status["RssFile"].split()[0])
    return {
        "memory": own * 1024,
        "threads": int(status["Threads"]),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "mappings": Path(f"/proc/{pid}/maps").read_text().count("\n"),
    }


def of_segment(store: shmkv.Store) -> tuple[Sample, list[str]]:
    """What the segment has, and what is wrong with it."""
    stats, checked = store.stats(), store.check().as_dict()
    kinds = ("pages_free", "pages_index", "pages_log", "pages_extent", "pages_held")
    found: Sample = {
        # Not 0 when a run was formed behind the check's back.
        "lost": checked["pages"] - sum(checked[kind] for kind in kinds),
        "backed": store._geometry()["watermark"],
        "index": stats.bytes_index,
        "held": checked["pages_held"],
        "rows": stats.attached + checked["dead_rows"],
    }
    wrong = list(checked["problems"])
    if stats.bytes_backed > stats.size:
        wrong.append(f"{stats.bytes_backed:,} bytes are taken, the size is {stats.size:,}")
    return found, wrong


# ---- judging ------------------------------------------------------------------------------------


def thirds(series: Sequence[float]) -> tuple[float, float]:
    """Medians of the first and the last third of what follows the warm-up."""
    warm = series[len(series) // 4 :]
    third = max(1, len(warm) // 3)
    return median(warm[:third]), median(warm[-third:])


def slopes(samples: Sequence[Sample]) -> list[str]:
    """What has risen."""
    if len(samples) < LEAST_SAMPLES:
        return [f"only {len(samples)} samples"]
    found = []
    for name, allowed in ALLOWED.items():
        first, last = thirds([sample[name] for sample in samples])
        if last - first > allowed:
            found.append(f"{name} rose from {first:,.0f} to {last:,.0f}")
    return found


# ---- the run ------------------------------------------------------------------------------------


class Soak:
    """One run over one store."""

    def __init__(self, store: shmkv.Store, start_seed: int, planted: Planted) -> None:
        self.store, self.rng = store, random.Random(start_seed)
        self.board = memoryview(mmap.mmap(-1, 32)).cast("Q")  # see Resident
        self.samples: list[Sample] = []
        self.wrong: list[str] = []
        self.visits = 0
        resident = Resident(store, self.board, planted)
        self.resident = Child(lambda: resident.live(start_seed))
        self._visitors: list[tuple[Child, float]] = []  # and when it is killed

    def run(self, seconds: float) -> None:
        """Until the time is over and there are samples enough, or something is wrong."""
        until(lambda: self.store.stats().evictions > 0, "the store is full", HANG_S)
        end, sample, rounds = time.monotonic() + seconds, 0.0, 0
        while not self.wrong:
            now = time.monotonic()
            if now > end and (len(self.samples) >= LEAST_SAMPLES or now > end + LATE_S):
                return
            self._reap(now)
            self._fill(now)
            if now >= sample and self.board[0] > rounds:
                self._sample()
                rounds = self.board[0]
                sample = now + max(min(SAMPLE_S, seconds / 40), seconds / 2000)
            time.sleep(0.001)  # its pace; the loop ends by the clock

    def _sample(self) -> None:
        found, self.wrong = of_segment(self.store)
        self.samples.append({**of_process(self.resident.pid), **found})
        self.board[3] = len(self.samples)

    def _fill(self, now: float) -> None:
        while len(self._visitors) < VISITORS:
            self.visits += 1
            number, its_seed = 10 + self.visits, self.rng.getrandbits(32)
            child = Child(lambda: visit(self.store.name, number, its_seed))  # noqa: B023
            lives = self.rng.uniform(0, 0.05) if self.rng.random() < KILLED else HANG_S
            self._visitors.append((child, now + lives))

    def _reap(self, now: float) -> None:
        for child, dies in list(self._visitors):
            if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                if now >= dies:
                    child.send(signal.SIGKILL)
                if now >= dies + HANG_S:
                    self.wrong.append(f"visitor {child.pid} does not end")
                continue
            if child.wait() not in (0, -signal.SIGKILL):
                self.wrong.append(child.text)
            self._visitors.remove((child, dies))
        if os.waitid(os.P_PID, self.resident.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self.wrong.append(f"the resident has ended: {self.resident.text}")

    def end(self) -> None:
        """All have left afterwards."""
        for child, _ in self._visitors:
            child.end()
        self.board[2] = 1
        try:
            self.resident.good(HANG_S)
        except AssertionError as hang:
            self.wrong.append(str(hang))
        finally:
            self.resident.end()


def soak(
    name: str, seconds: float, start_seed: int, planted: Planted = Planted.NOTHING
) -> tuple[list[str], list[Sample], int, float]:
    """A run in a store of its own: what is wrong, the samples, the visits, the slowest in ms."""
    with shmkv.open(name, size=SIZE, max_size=SIZE, create="new", lock_timeout=HANG_S) as store:
        run = Soak(store, start_seed, planted)
        try:
            run.run(seconds)
        finally:
            run.end()
        wrong = run.wrong + slopes(run.samples)
        until(lambda: store.stats().attached == 1, "all have left", HANG_S)
        return [*wrong, *settle(store)], run.samples, run.visits, run.board[1] / 1e6


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.soak")
    long = os.environ.get("SHMKV_TORTURE") == "1"
    parser.add_argument("--seconds", type=float, default=FULL_S if long else QUICK_S)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--name", default=f"t{os.getpid()}-soak", help="of the store")
    chosen = parser.parse_args()
    start_seed = seed() if chosen.seed is None else chosen.seed
    try:
        wrong, samples, visits, worst = soak(chosen.name, chosen.seconds, start_seed)
    finally:
        shmkv.unlink(chosen.name, missing_ok=True)
    for name, allowed in ALLOWED.items():
        first, last = thirds([sample[name] for sample in samples])
        print(f"{name:12}{first:12,.1f}{last:12,.1f}  allowed + {allowed:,.1f}")
    report("soak", start_seed, visits, wrong, worst)
    return 0


if __name__ == "__main__":
    sys.exit(main())
