"""Linearizability: histories of eight processes on few hot keys, some killed, judged key by key.

    python -m tests.stress.linear --operations 1000000 [--seed S]

Owns the rounds: a new store, eight workers at work on it, a kill every few milliseconds, one more
read of every key at the end, then the verdict over all records of the round. Without eviction: a
value that was written is there until somebody takes it away. A violation is told with what stood
around it.

Prints one line of JSON: {name, seed, n, violations, worst_ms}, n being operations judged and
worst_ms the longest of them on the wall. The seed repeats victims, pauses and moves, not the
interleaving. What workers do stands in linear_worker.py, what a record means in linear_record.py,
what is right in linear_check.py.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import mmap
import os
import random
import signal
import sys
import time
from itertools import accumulate
from typing import Any

import numpy as np

import shmkv
from tests.stress.linear_check import COUNT, FROM, IS, NOBODY, NOT, Broken, Step, TooMany, judge
from tests.stress.linear_record import NOTHING, Log, Rows, steps_by_key
from tests.stress.linear_worker import KEYS, Move, Worker, name, plan
from tests.stress.support import PATIENT_S, Child, brood, report, seed

MIB = 1 << 20
SIZE = 4 * MIB
WORKERS = 8
QUICK, FULL = 1_000_000, 100_000_000  # operations
ROUND = 500_000
PAUSE_S = (0.0, 0.01)  # between kills
VICTIMS = 3  # at a time, at most
BEHIND = 5  # workers are nicer than the process that kills and replaces them
ROUND_S = 300.0
HANG_S = 30.0
AROUND = 8  # operations shown before and after one that is wrong


class Round:
    """One store and the history of it."""

    def __init__(self, store: shmkv.Store, moves: list[Move], rng: random.Random) -> None:
        self.store = store
        self.rng = rng
        self.kills = 0
        self._moves = moves
        self._logs = [Log(slot, ROUND) for slot in range(WORKERS)]
        self._stop = mmap.mmap(-1, 1)

    def _start(self, slot: int) -> Worker:
        return Worker(self.store, self._logs[slot], self._moves, self.rng.getrandbits(32))

    def record(self, operations: int) -> Rows:
        """Let them work until so many operations are written down."""
        end = time.monotonic() + ROUND_S
        with brood() as make:

            def child(slot: int) -> Child:
                worker = self._start(slot)

                def body() -> None:
                    os.nice(BEHIND)
                    worker.live(lambda: self._stop[0] != 0)

                return make(body)

            crew = [child(slot) for slot in range(WORKERS)]
            while sum(map(len, self._logs)) < operations and time.monotonic() < end:
                time.sleep(self.rng.uniform(*PAUSE_S))  # the moment of death is the test
                victims = self.rng.sample(range(WORKERS), self.rng.randrange(1, VICTIMS + 1))
                for slot in victims:
                    crew[slot].send(signal.SIGKILL)
                for slot in victims:
                    code = crew[slot].wait(HANG_S)
                    assert code == -signal.SIGKILL, f"slot {slot}: {crew[slot].text or code}"
                    self._logs[slot].died()
                    self.kills += 1
                    crew[slot] = child(slot)
            self._stop[0] = 1
            for one in crew:
                one.good(HANG_S)
        worker = self._start(0)
        for key in range(KEYS):
            worker.get(key)
        return np.concatenate([log.records() for log in self._logs])

    def close(self) -> None:
        """Give the memory back."""
        for log in self._logs:
            log.close()
        self._stop.close()


def describe(step: Step) -> str:
    """One operation in words."""
    start, end, form, a, b, sure = step
    state = "absent" if a == 0 else f"{a:#x}"
    value = "absent" if b == 0 else f"{b:#x}"
    what = f"saw {state}"
    if form == NOT:
        what = f"saw something else than {state}"
    elif form == FROM:
        what = f"{state} -> {value}"
    elif form == COUNT:
        what = f"one more, or {value}"
    elif form != IS:
        what = f"set {value}" if a == NOBODY else f"something -> {value}"
    return f"[{start} .. {end}] {what}{'' if sure else ' (killed)'}"


def wrong_with(key: int, steps: list[Step]) -> list[str]:
    """The verdict over one key's history."""
    try:
        judge(steps, {0})
    except TooMany as many:
        return [f"{name(key)}: {many}: no verdict"]
    except Broken as broken:
        i = broken.index
        around = steps[max(0, i - AROUND) : i + AROUND]
        lines = [f"{name(key)}: no order of {len(steps)} operations, seen at {describe(steps[i])}"]
        lines.append(f"  states: {[hex(state) for state in broken.states]}")
        lines += [f"  pending {describe(steps[n])}" for n in broken.pending]
        lines += [f"  {describe(step)}" for step in around]
        return ["\n".join(lines)]
    return []


class Harness:
    """All rounds, and what they yielded."""

    def __init__(self, start_seed: int) -> None:
        self.rng = random.Random(start_seed)
        self.moves = plan(self.rng)
        self.operations = self.kills = self.refused = self.overlapping = 0
        self.worst_ms = self.recording_s = self.judging_s = 0.0
        self.violations: list[str] = []

    def play(self, store_name: str, operations: int) -> None:
        """One round."""
        begin = time.monotonic()
        options: dict[str, Any] = {"create": "new", "evict": False, "lock_timeout": PATIENT_S}
        store = shmkv.open(store_name, size=SIZE, max_size=SIZE, **options)
        try:
            with contextlib.closing(Round(store, self.moves, self.rng)) as game:
                rows = game.record(operations)
                self.kills += game.kills
            checked = store.check()
            self.violations += [f"check: {problem}" for problem in checked.problems]
        finally:
            store.close()
            shmkv.unlink(store_name, missing_ok=True)
        middle = time.monotonic()
        self._judge(rows)
        self.recording_s += middle - begin
        self.judging_s += time.monotonic() - middle

    def _judge(self, rows: Rows) -> None:
        self.operations += len(rows)
        self.refused += int((rows[:, 4] == NOTHING).sum())
        self.worst_ms = max(self.worst_ms, float((rows[:, 5] - rows[:, 3]).max()) / 1e6)
        for key, steps in steps_by_key(rows).items():
            ends = accumulate((step[1] for step in steps), max)
            self.overlapping += sum(b[0] <= end for end, b in zip(ends, steps[1:], strict=False))
            self.violations += wrong_with(key, steps)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.linear")
    parser.add_argument("--operations", type=int, default=QUICK)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--name", default=f"t{os.getpid()}-linear", help="of the store")
    chosen = parser.parse_args()
    start_seed = seed() if chosen.seed is None else chosen.seed
    harness = Harness(start_seed)
    gc.freeze()
    while harness.operations < chosen.operations and not harness.violations:
        left = chosen.operations - harness.operations
        harness.play(chosen.name, min(left, ROUND))
    print(
        f"linear: {harness.recording_s:.1f} s of work, {harness.judging_s:.1f} s of judging, "
        f"{harness.kills} kills, {harness.overlapping} operations begun while another ran on their "
        f"key, {harness.refused} refused",
        flush=True,
    )
    n = harness.operations
    report("linear", start_seed, n, harness.violations, harness.worst_ms)
    return 0


if __name__ == "__main__":
    sys.exit(main())
