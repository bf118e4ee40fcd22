"""Many processes change about a thousand keys at once; some are killed at random moments.

Four variants: with and without eviction, with and without SIGKILL. What the workers do stands in
workers.py, what must hold in verdict.py. SHMKV_SEED repeats the operations (not their timing),
SHMKV_STRESS_SECONDS is the length of one variant, cut into rounds with a store each. The last line
of a variant is JSON: {name, seed, n, violations, worst_ms}.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from itertools import count

import pytest

import shmkv
from tests.conftest import MIB
from tests.stress.oplog import OpLog
from tests.stress.storm_weather import watched
from tests.stress.support import (
    GENEROUS_MS,
    PATIENT_S,
    Child,
    brood,
    report,
    seconds,
    seed,
    settle,
)
from tests.stress.verdict import judge
from tests.stress.workers import Worker, prepare

QUICK_S = 4.0
ROUND_S = 8.0
SIZES = {True: 8 * MIB, False: 32 * MIB}


class Round:
    """One store, its workers, and the hand that kills them."""

    def __init__(self, store: shmkv.Store, rng: random.Random, length_s: float) -> None:
        self.store = store
        self.rng = rng
        self.end = time.monotonic() + length_s
        self.logs: list[OpLog] = []
        self.deaths = 0
        self._writers = count(1)

    def _start(self, make: Callable[[Callable[[], object]], Child]) -> tuple[Child, OpLog]:
        log = OpLog(next(self._writers))
        worker_seed = self.rng.getrandbits(32)
        self.logs.append(log)

        def body() -> None:
            Worker(self.store, log, worker_seed, self.store.evict).work(self.end)

        return make(body), log

    def run(self, workers: int, kill: bool) -> None:
        """Until the time is over and everybody has left."""
        with brood() as make:
            crew = [self._start(make) for _ in range(workers)]
            while kill and time.monotonic() < self.end - 0.2:
                time.sleep(self.rng.uniform(0.005, 0.06))  # the moment of death is the test
                victim = self.rng.randrange(workers)
                child, log = crew[victim]
                child.end()
                log.ended = time.monotonic()
                self.deaths += 1
                crew[victim] = self._start(make)
            for child, _ in crew:
                child.good(ROUND_S * 6)
        codes = {child.wait() for child, _ in crew}
        assert codes == {0}

    def close(self) -> None:
        """Give the logs' memory back."""
        for log in self.logs:
            log.close()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kill", [False, True], ids=["alive", "killed"])
@pytest.mark.parametrize("evict", [True, False], ids=["evict", "full"])
def test_many_processes(
    open_store: Callable[..., shmkv.Store], new_name: Callable[[], str], evict: bool, kill: bool
) -> None:
    title = f"many_processes[{'evict' if evict else 'full'}-{'killed' if kill else 'alive'}]"
    start_seed, left = seed(), seconds(QUICK_S)
    rng = random.Random(f"{start_seed}{title}")
    violations: list[str] = []
    operations, worst = 0, 0.0
    while left > 0 and not violations:
        length, left = min(left, ROUND_S), left - ROUND_S
        store = open_store(new_name(), size=SIZES[evict], evict=evict, lock_timeout=PATIENT_S)
        prepare(store)
        game = Round(store, rng, length)
        with watched() as weather:
            game.run(rng.randrange(4, 9), kill)
        wrong, n, ms = judge(store, game.logs, evict, weather)
        violations += wrong + settle(store)
        operations, worst = operations + n, max(worst, ms)
        game.close()
        store.close()
        shmkv.unlink(store.name)
    if worst > GENEROUS_MS:
        violations.append(f"one operation took {worst:.0f} ms")
    report(title, start_seed, operations, violations, worst)
    assert os.environ.get("SHMKV_STRESS_SECONDS") or operations > 1000
