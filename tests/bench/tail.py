"""How long the slowest writes take, with a daemon and without: python -m tests.bench.tail [rounds].

Prints percentiles of `set` in a full store of 64 MiB: at full speed, where daemon and writer race
for every page, and at a steady rate, where the daemon has the time to be ahead. Rounds alternate;
a figure is the median of its rounds.

Does not: judge, or take part in the tests. What it prints holds for the machine it ran on.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
from collections import defaultdict

import shmkv
from shmkv.daemon import Stop, Task, Told, serve
from tests.stress.support import Child, until

MIB = 1 << 20
WRITES = 200_000
VALUE = bytes(300)
RATES = (None, 50_000)  # writes a second
SHARES = (0.5, 0.99, 0.999, 0.9999)


def writes(store: shmkv.Store, rate: int | None) -> list[int]:
    """Nanoseconds of each, sorted."""
    numbers, took = random.Random(3), []
    clock = time.perf_counter_ns
    due = clock()
    for n in range(WRITES):
        key = f"{numbers.randrange(1 << 40)}"
        began = clock()
        store.set(key, VALUE)
        took.append(clock() - began)
        if rate is not None and n % 10 == 0:
            due += 10_000_000_000 // rate
            time.sleep(max(due - clock(), 0) / 1e9)  # its rate is what was asked for
    return sorted(took)


def one_round(rate: int | None, daemon: bool) -> list[int]:
    """The percentiles of a store of its own."""
    name = f"tail-{os.getpid()}"
    with shmkv.open(name, size=64 * MIB) as store:
        helper = None
        try:
            for n in range(300_000):
                store.set(f"{n}", VALUE)
            if daemon:
                helper = Child(lambda: serve(Task(name), Stop(), Told({})))
                until(lambda: store._daemon(False), "a daemon works")
            took = writes(store, rate)
        finally:
            if helper is not None:
                helper.send(signal.SIGKILL)
                helper.wait()
            shmkv.unlink(name)
    return [took[int(share * len(took))] for share in SHARES]


def main(rounds: int) -> None:
    """Print a table."""
    found = defaultdict(list)
    for _ in range(rounds):
        for rate in RATES:
            for daemon in (False, True):
                found[rate, daemon].append(one_round(rate, daemon))
    print("| set, 300 B | " + " | ".join(f"{share:.2%}" for share in SHARES) + " |")
    for (rate, daemon), rows in found.items():
        what = (
            f"{'at full speed' if rate is None else f'{rate}/s'}, {'a' if daemon else 'no'} daemon"
        )
        figures = [statistics.median(column) / 1000 for column in zip(*rows, strict=True)]
        print(f"| {what} | " + " | ".join(f"{one:.1f} us" for one in figures) + " |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
