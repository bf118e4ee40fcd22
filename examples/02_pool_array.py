"""A pool computes on one array that nobody copies: the parent stores it, the workers view it.

Passing the array with each job would pickle, send and rebuild it each time; here a job is two
numbers. A view is numpy's own array over the store's memory, read-only; what it shows stays as it
is until its `with` ends, also when somebody replaces the value meanwhile.
"""

import multiprocessing
import os

import shmkv

try:
    import numpy as np
except ImportError:
    print("This example needs numpy: pip install numpy.")
    raise SystemExit(0) from None

NAME = f"array-{os.getpid()}"
ROWS, COLUMNS, JOBS = 8_000, 64, 16

store: shmkv.Store  # of this process


def start(opened: shmkv.Store) -> None:
    """Once for each worker: a store travels as its name and arrives as another handle of it."""
    global store
    store = opened


def total(rows: tuple[int, int]) -> tuple[int, int]:
    """The sum over some rows, and who computed it."""
    with store.view("samples") as samples:
        assert not samples.flags.writeable
        assert not samples.flags.owndata  # no copy: the memory belongs to the store
        return int(samples[slice(*rows)].sum()), os.getpid()


def main() -> None:
    with shmkv.open(NAME, size="48MiB") as shared:
        samples = np.arange(ROWS * COLUMNS, dtype=np.int64).reshape(ROWS, COLUMNS)
        shared["samples"] = samples  # one copy, into the store
        print(f"stored {samples.nbytes / 1e6:.1f} MB as {shared.info('samples').type}")

        step = ROWS // JOBS
        jobs = [(first, first + step) for first in range(0, ROWS, step)]
        with multiprocessing.Pool(2, start, (shared,)) as pool:
            parts = pool.map_async(total, jobs, chunksize=1).get(timeout=60)
        sums, workers = zip(*parts, strict=True)
        print(f"{len(parts)} jobs by {len(set(workers))} workers: {sum(sums)}")

        copy = shared["samples"]  # without `view`: a copy, which may be changed
        copy += 1

        assert sum(sums) == int(samples.sum()) == int(shared["samples"].sum())
        assert os.getpid() not in workers


if __name__ == "__main__":
    try:
        main()
    finally:
        shmkv.unlink(NAME, missing_ok=True)
