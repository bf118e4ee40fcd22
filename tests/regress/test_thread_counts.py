"""Threads that had released the GIL lost counts: two of them added to a row's counter at once.

A row has one owner, but the owner may be several threads; `Stats` calls its counts exact.
"""

from __future__ import annotations

from functools import partial

import shmkv
from tests.stress.test_threads import Crew


def test_counts_of_threads_without_the_gil_are_exact(store: shmkv.Store) -> None:
    """Values that are copied without the GIL are counted all the same."""
    value, turns = b"v" * 70_000, 1000

    def body(number: int) -> None:
        for _ in range(turns):
            store.set(f"k{number}", value)
            assert store.get(f"k{number}") == value

    Crew([partial(body, n) for n in range(8)]).join()
    stats = store.stats()
    assert (stats.sets, stats.hits, stats.misses) == (8 * turns, 8 * turns, 0)
