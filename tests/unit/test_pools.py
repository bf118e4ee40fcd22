"""Pools of processes: multiprocessing.Pool and ProcessPoolExecutor, with each start method.

Owns: the ways a worker comes to a store (argument, initializer, global, inherited by fork), exact
results of concurrent jobs, workers that come and go, a worker killed while it writes, and what a
parent's close or unlink means to its workers. Every wait has a limit.

Does not: kill at chosen steps (`crash/`) or run long (`stress/`). Single processes and the pickle
itself stand in `test_store_pickle.py`.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import pytest

import shmkv
from tests.stress.support import until
from tests.unit import pool_jobs

# Pools have threads of their own and fork beside them: newer Pythons warn of that. The store takes
# a fork at any moment, and the jobs use no other locks.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

LIMIT_S = 60.0
WORKERS = 3
JOBS = 12
METHODS = ["fork", "spawn", "forkserver"]
KINDS = ["Pool", "Executor"]

Map = Callable[[Callable[[Any], Any], list[Any]], list[Any]]


@contextmanager
def executor(
    method: str,
    workers: int,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Iterator[ProcessPoolExecutor]:
    """An executor that waits for its workers as all do, but kills them when a test fails."""
    context: Any = multiprocessing.get_context(method)
    with ProcessPoolExecutor(workers, context, initializer, initargs) as made:
        try:
            yield made
        except BaseException:
            for child in multiprocessing.active_children():
                child.kill()
            raise


@contextmanager
def pool(
    kind: str,
    method: str,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Iterator[Map]:
    """A pool of either kind as a `map` that gives up after a time; its workers are gone after."""
    context: Any = multiprocessing.get_context(method)
    if kind == "Pool":
        with context.Pool(WORKERS, initializer, initargs) as workers:
            yield lambda job, tasks: workers.map_async(job, tasks, 1).get(LIMIT_S)
            workers.close()
            workers.join()
    else:
        with executor(method, WORKERS, initializer, initargs) as workers:
            yield lambda job, tasks: list(workers.map(job, tasks, timeout=LIMIT_S))


def judge(store: shmkv.Store, results: list[tuple[int, int]]) -> None:
    """Every job was done once, by another process, and nothing of it is lost or mixed."""
    assert [job for _, job in results] == list(range(JOBS))
    pids = {pid for pid, _ in results}
    assert os.getpid() not in pids
    assert store["count"] == JOBS * 100
    assert store["sum"] == sum(range(JOBS)) * 100
    assert {store[f"done{job}"] for job in range(JOBS)} == pids
    assert all(pool_jobs.is_whole(store[f"shared{n}"]) for n in range(pool_jobs.KEYS))
    assert store.check().ok
    assert store.stats().attached == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_as_an_argument(store: shmkv.Store, kind: str, method: str) -> None:
    with pool(kind, method) as run:
        results = run(pool_jobs.work_argument, [(store, job) for job in range(JOBS)])
    judge(store, results)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_through_the_initializer(store: shmkv.Store, kind: str, method: str) -> None:
    with pool(kind, method, pool_jobs.initialize, (store,)) as run:
        results = run(pool_jobs.work_initialized, list(range(JOBS)))
    judge(store, results)


# A forkserver keeps the environment it was started with, so a name cannot travel this way.
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("kind", KINDS)
def test_as_a_global_opened_by_name(
    store: shmkv.Store, kind: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pool_jobs.NAME_VARIABLE, store.name)
    with pool(kind, method) as run:
        results = run(pool_jobs.work_global, list(range(JOBS)))
    judge(store, results)
    assert pool_jobs.global_store.cache_info().currsize == 0  # only workers asked


@pytest.mark.parametrize("kind", KINDS)
def test_inherited_by_fork(store: shmkv.Store, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_jobs, "_store", store)
    with pool(kind, "fork") as run:
        results = run(pool_jobs.work_initialized, list(range(JOBS)))
    judge(store, results)


def test_parent_and_workers_at_once(store: shmkv.Store) -> None:
    """The parent is one of those who write, with the handle it has always had."""
    context = multiprocessing.get_context("fork")
    with context.Pool(WORKERS, pool_jobs.initialize, (store,)) as workers:
        pending = workers.map_async(pool_jobs.work_initialized, range(1, JOBS), 1)
        mine = pool_jobs.work(store, 0)
        results = pending.get(LIMIT_S)
        workers.close()
        workers.join()
    assert mine == (os.getpid(), 0)
    assert len(results) == JOBS - 1
    assert store["count"] == JOBS * 100
    assert store["sum"] == sum(range(JOBS)) * 100


def test_more_workers_in_turn_than_there_are_rows(store: shmkv.Store) -> None:
    """Workers that do one job and go leave nothing that would have to be cleaned up."""
    jobs = 150
    context = multiprocessing.get_context("fork")
    with context.Pool(2, pool_jobs.initialize, (store,), maxtasksperchild=1) as workers:
        counts = workers.map_async(pool_jobs.one, range(jobs), 1).get(LIMIT_S)
        workers.close()
        workers.join()
    assert sorted(counts) == list(range(1, jobs + 1))
    assert store.stats().attached == 1
    assert store.check().ok


# ---- death --------------------------------------------------------------------------------------


def killed(store: shmkv.Store, worker: int) -> None:
    """Wait until the worker is in the middle of its writing, and kill it."""
    turns = f"turns{worker}"
    until(lambda: store.get(turns, 0) > 30, f"worker {worker} writes", LIMIT_S)
    os.kill(store[f"pid{worker}"], signal.SIGKILL)


def others_go_on(store: shmkv.Store) -> None:
    """After a death nothing is torn, locked or lost, and every key can be written."""
    for n in range(pool_jobs.KEYS):
        value = store.get(f"shared{n}")
        assert value is None or pool_jobs.is_whole(value)
        store.set(f"shared{n}", pool_jobs.make(0, n))
        assert store[f"shared{n}"] == pool_jobs.make(0, n)
    tail = store.get("tail", b"")
    assert tail == b"t" * len(tail)
    assert store.check().ok


@pytest.mark.parametrize("round_", range(3))
def test_a_worker_of_a_pool_is_killed_while_it_writes(store: shmkv.Store, round_: int) -> None:
    """The job is lost, as Pool has it; the pool makes another worker; the store does not care."""
    context: Any = multiprocessing.get_context("fork")
    with context.Pool(2) as workers:
        lost = workers.apply_async(pool_jobs.write_for_ever, (store, 1))
        killed(store, 1)
        done = workers.map_async(pool_jobs.work_argument, [(store, n) for n in range(4)], 1)
        assert [job for _, job in done.get(LIMIT_S)] == list(range(4))
        assert not lost.ready()
        assert store["count"] == 400
        others_go_on(store)
    assert store["turns1"] > 30


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_of_an_executor_is_killed_while_it_writes(store: shmkv.Store, method: str) -> None:
    """The executor is broken, as it has it; the store is not, and the next executor works."""
    with executor(method, 2) as workers:
        futures: list[Future[Any]] = [
            workers.submit(pool_jobs.write_for_ever, store, worker) for worker in (1, 2)
        ]
        until(lambda: store.get("turns2", 0) > 30, "the other worker writes", LIMIT_S)
        until(lambda: store.get("turns1", 0) > 30, "the worker writes", LIMIT_S)
        # The executor watches the workers it had when it was last woken: this wakes it once more,
        # now that all are there. Else it may miss the death of the one that it started last.
        futures.append(workers.submit(pool_jobs.read, store, "never"))
        killed(store, 1)
        for future in futures:
            with pytest.raises(BrokenProcessPool):
                future.result(LIMIT_S)
    others_go_on(store)
    with executor(method, WORKERS) as workers:
        tasks = [(store, job) for job in range(JOBS)]
        results = list(workers.map(pool_jobs.work_argument, tasks, timeout=LIMIT_S))
    judge(store, results)


# ---- close and unlink in the parent -------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_parent_closes_and_its_workers_go_on(
    open_store: Callable[..., shmkv.Store], method: str
) -> None:
    store = open_store()
    with pool("Executor", method, pool_jobs.initialize, (store,)) as run:
        run(pool_jobs.one, list(range(WORKERS)))
        store.close()
        results = run(pool_jobs.one, list(range(20)))
    assert sorted(results) == list(range(WORKERS + 1, WORKERS + 21))
    assert open_store(create=False)["count"] == WORKERS + 20


@pytest.mark.parametrize("method", METHODS)
def test_a_closed_store_travels_and_arrives_open(
    open_store: Callable[..., shmkv.Store], method: str
) -> None:
    """A handle pickles as the way to open the store, whatever has become of the handle."""
    store = open_store()
    store["k"] = "v"
    store.close()
    with executor(method, 1) as workers:
        assert workers.submit(pool_jobs.read, store, "k").result(LIMIT_S) == "v"
    assert store.closed


def test_a_closed_store_is_inherited_closed(
    store: shmkv.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store["k"] = "v"
    store.close()
    monkeypatch.setattr(pool_jobs, "_store", store)
    with executor("fork", 1) as workers:
        future = workers.submit(pool_jobs.read_inherited, "k")
        with pytest.raises(shmkv.Closed, match=store.name):
            future.result(LIMIT_S)


def test_the_parent_unlinks_and_its_workers_go_on(store: shmkv.Store) -> None:
    with executor("spawn", 1, pool_jobs.initialize, (store,)) as workers:
        assert workers.submit(pool_jobs.one, 0).result(LIMIT_S) == 1
        shmkv.unlink(store.name)
        assert list(workers.map(pool_jobs.one, range(20), timeout=LIMIT_S)) == list(range(2, 22))
    assert store["count"] == 21


def test_a_store_that_must_exist_is_not_made_by_its_arrival(
    open_store: Callable[..., shmkv.Store],
) -> None:
    open_store()["k"] = "v"
    store = open_store(create=False)
    shmkv.unlink(store.name)
    with executor("fork", 1) as workers:
        future = workers.submit(pool_jobs.read, store, "k")
        with pytest.raises((shmkv.NotFound, BrokenProcessPool)):
            future.result(LIMIT_S)
    with pytest.raises(shmkv.NotFound, match=store.name):
        pickle.loads(pickle.dumps(store))
    assert store.name not in shmkv.names()


def test_errors_of_a_worker_arrive_whole(store: shmkv.Store) -> None:
    """What a job raises is pickled on its way back: class, message and arguments are the same."""
    with executor("spawn", 1) as workers:
        future = workers.submit(pool_jobs.read, store, "nowhere")
        with pytest.raises(KeyError) as caught:
            future.result(LIMIT_S)
    assert caught.value.args == ("nowhere",)
