"""What the black box costs a write: python -m tests.bench.notes [--quick] [--json].

One process writes to a store, in batches of 500 of one operation, by turns with notes and without
(`store._noting`); which goes first changes from pair to pair. The figure of an operation is the
ratio of the lower quartiles of its batches in a block of pairs, of which the median over all blocks
counts: a disturbance only slows, and one that lasts hits both sides of a block. A read does nothing
for the black box: `get` shows how exact the method is.

Prints a table, or with --json one line of JSON: {name, bar, load, ratios, quartiles, reached}. Does
not fail if the bar is missed: a busy machine misses it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import shmkv
from tests.bench.report import Figure, Table, at_most
from tests.bench.timing import best_quartile, collector_off

MIB = 1 << 20
BATCH = 500
BLOCK = 20  # pairs of batches, of which quartiles are compared
BLOCKS, QUICK_BLOCKS = 60, 10
BAR = 1.05
VALUE = bytes(100)
WRITES = ("set", "incr", "set + delete", "delete of nothing")

Act = Callable[[], None]


def acts(store: shmkv.Store) -> dict[str, Act]:
    """A batch of each operation; each has bytecode of its own."""
    keys = [f"key:{i:08d}" for i in range(BATCH)]
    missing = [f"nil:{i:08d}" for i in range(BATCH)]
    counters = [f"n:{i:08d}" for i in range(BATCH)]
    setter, adder, deleter, getter = store.set, store.incr, store.delete, store.get

    def sets() -> None:
        for key in keys:
            setter(key, VALUE)

    def incrs() -> None:
        for key in counters:
            adder(key)

    def both() -> None:
        for key in keys:
            setter(key, VALUE)
            deleter(key)

    def misses() -> None:
        for key in missing:
            deleter(key)

    def gets() -> None:
        for key in counters:
            getter(key)

    return dict(zip((*WRITES, "get"), (sets, incrs, both, misses, gets), strict=True))


def timed(store: shmkv.Store, act: Act, on: bool) -> int:
    """Nanoseconds of CPU time of a batch."""
    store._noting(on)
    act()  # the caches hold what this side uses
    began = time.process_time_ns()
    act()
    return time.process_time_ns() - began


def block(store: shmkv.Store, act: Act) -> float:
    """With notes over without, by the lower quartiles of the batches."""
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(BLOCK):
        for on in (True, False) if number % 2 else (False, True):
            took[on].append(timed(store, act, on))
    return best_quartile(took[True]) / best_quartile(took[False])


def measured(blocks: int) -> dict[str, list[float]]:
    """Ratios of all blocks by operation; operations take turns, too."""
    name = f"notes-{os.getpid()}"
    ratios: dict[str, list[float]] = {}
    with shmkv.open(name, size=64 * MIB, create="new") as store:
        try:
            todo = acts(store)
            with collector_off():
                for _ in range(blocks):
                    for what, act in todo.items():
                        ratios.setdefault(what, []).append(block(store, act))
        finally:
            store._noting(True)
            shmkv.unlink(name)
    return ratios


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.notes")
    parser.add_argument("--quick", action="store_true", help="fewer blocks")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    ratios = measured(QUICK_BLOCKS if args.quick else BLOCKS)
    median = {what: statistics.median(found) for what, found in ratios.items()}
    if args.json:
        quarters = {what: statistics.quantiles(found, n=4) for what, found in ratios.items()}
        form = {
            "name": "notes",
            "bar": BAR,
            "load": round(load, 2),
            "ratios": {what: round(ratio, 3) for what, ratio in median.items()},
            "quartiles": {what: [round(q[0], 3), round(q[2], 3)] for what, q in quarters.items()},
            "reached": all(median[what] <= BAR for what in WRITES),
        }
        print(json.dumps(form))
        return
    table = Table(f"with notes / without, CPU time, load {load:.1f}")
    table.figures = [
        Figure(what, ratio, bar=at_most(BAR) if what in WRITES else None)
        for what, ratio in median.items()
    ]
    print(table.text())


if __name__ == "__main__":
    main()
