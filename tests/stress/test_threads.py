"""Sixteen threads on one handle, handles closed under them, interpreters that end around them, and
code of the user that comes back into the store from inside an operation.

What must hold: no crash and no hang; every value whole; an operation on a handle that is being
closed completes or raises Closed; whatever ended how, the store is whole and nobody is attached
afterwards. Scenes that may end an interpreter stand in thread_scenes.py.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import shmkv
from tests.conftest import MIB
from tests.stress import values
from tests.stress.fork_scenes import spin
from tests.stress.oplog import OpLog
from tests.stress.storm_weather import watched
from tests.stress.support import (
    GENEROUS_MS,
    PATIENT_S,
    report,
    run_module,
    seconds,
    seed,
    settle,
    until,
)
from tests.stress.verdict import judge
from tests.stress.workers import Worker, prepare

# The control process of the weather is forked where other tests may have left threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

THREADS = 16
QUICK_S = 3.0
CLOSES = 60


@pytest.fixture(autouse=True)
def eager_switches() -> Iterator[None]:
    """Threads change places often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


class Crew:
    """Threads that start together; `join` raises what one of them raised."""

    def __init__(self, bodies: list[Callable[[], object]]) -> None:
        self._start = threading.Barrier(len(bodies))
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(body,), daemon=True) for body in bodies
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, body: Callable[[], object]) -> None:
        try:
            self._start.wait(30)
            body()
        except BaseException as error:  # noqa: BLE001 - join() raises it
            self._errors.append(error)

    def join(self, limit_s: float = 60) -> None:
        """All must end in time."""
        end = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        assert not any(thread.is_alive() for thread in self._threads), "a thread hangs"
        if self._errors:
            raise self._errors[0]


@pytest.mark.parametrize("evict", [True, False], ids=["evict", "full"])
def test_all_operations(open_store: Callable[..., shmkv.Store], evict: bool) -> None:
    """Judged like many processes: nothing torn, lost or out of order."""
    store = open_store(size=(8 if evict else 32) * MIB, evict=evict, lock_timeout=PATIENT_S)
    prepare(store)
    start_seed = seed()
    logs = [OpLog(writer) for writer in range(1, THREADS + 1)]
    workers = [Worker(store, log, start_seed + log.writer, evict) for log in logs]
    with watched() as weather:
        end = time.monotonic() + seconds(QUICK_S)
        Crew([partial(worker.work, end) for worker in workers]).join(60 + seconds(QUICK_S))
    wrong, n, worst = judge(store, logs, evict, weather)
    wrong += settle(store)
    if worst > GENEROUS_MS:
        wrong.append(f"one operation took {worst:.0f} ms")
    for log in logs:
        log.close()
    report(f"threads[{'evict' if evict else 'full'}]", start_seed, n, wrong, worst)


def test_close_while_others_are_inside(open_store: Callable[..., shmkv.Store]) -> None:
    """Operations of every length run while the handle is closed, at another moment each time."""
    keeper = open_store(size=16 * MIB)
    for turn in range(CLOSES):
        store = shmkv.open(keeper.name, create=False)
        ended: list[int] = []

        def work(number: int, store: shmkv.Store = store, ended: list[int] = ended) -> None:
            try:
                while True:
                    spin(store, number, 2)
                    list(store.scan())
                    if number == 0:
                        store.check()
            except shmkv.Closed:
                ended.append(number)

        crew = Crew([partial(work, n) for n in range(6)])
        time.sleep(turn % 12 / 1000)  # another moment of their work each time
        until(partial(_closed, store), "views end and the store closes")
        crew.join()
        assert sorted(ended) == list(range(6))
        assert keeper.stats().attached == 1
    assert settle(keeper) == []


def _closed(store: shmkv.Store) -> bool:
    """Close waits for views up to lock_timeout; threads take new ones all the time."""
    try:
        store.close()
    except shmkv.Busy:
        return False
    return True


def test_many_threads_close_at_once(open_store: Callable[..., shmkv.Store]) -> None:
    keeper = open_store(size=16 * MIB)
    for _ in range(CLOSES):
        store = shmkv.open(keeper.name, create=False)

        def work(number: int, store: shmkv.Store = store) -> None:
            try:
                for turn in range(50):
                    store.set(f"k{number}", b"v" * 60_000)
                    store.get(f"k{number}")
                    if turn == number * 5:
                        store.close()
            except shmkv.Closed:
                store.close()

        Crew([partial(work, n) for n in range(8)]).join()
        assert store.closed
    assert keeper.stats().attached == 1
    assert settle(keeper) == []


def test_a_closed_store_can_be_opened_while_it_is_closing(
    open_store: Callable[..., shmkv.Store],
) -> None:
    """Handles come and go in all threads; nobody's close disturbs another's handle."""
    keeper = open_store(size=16 * MIB)

    def work(number: int) -> None:
        for turn in range(40):
            with shmkv.open(keeper.name, create=False) as store:
                spin(store, number * 1000 + turn, 2)

    Crew([partial(work, n) for n in range(8)]).join()
    assert keeper.stats().attached == 1
    assert settle(keeper) == []


def test_a_scan_shared_by_threads(store: shmkv.Store) -> None:
    """One iterator in several hands: each key once, or a ValueError, never a crash."""
    names = {f"k{n}" for n in range(3000)}
    store.set_many(dict.fromkeys(names, 1))
    for _ in range(10):
        keys = store.scan()
        seen: list[str | bytes] = []

        def work(keys: Iterator[str | bytes] = keys, seen: list[str | bytes] = seen) -> None:
            while True:
                try:
                    seen.append(next(keys))
                except StopIteration:
                    return
                except ValueError:
                    continue

        Crew([work] * 4).join()
        assert sorted(seen) == sorted(names)


@pytest.mark.parametrize("scene", ["exits", "dropped", "views_outlive", "reentrant", "collected"])
def test_scene(
    open_store: Callable[..., shmkv.Store], scene: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(size=16 * MIB)
    store.set("k", values.make(values.Stamp(0, 0, 0), 10))
    store.delete("k")
    name = store.name
    store.close()
    result = run_module("tests.stress.thread_scenes", scene, name)
    with capsys.disabled():
        print(f" {scene}: {result}", end="")
    with shmkv.open(name, create=False) as after:
        assert settle(after) == []
