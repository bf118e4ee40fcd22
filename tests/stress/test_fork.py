"""Fork at any moment, before and after use, out of threads, and by every way Python has.

What must hold: a child works with the inherited handle at once, as an attachment of its own; what
its parent's other threads were doing does not disturb it; a parent's death shows at once though a
child lives on; when all have left, the rows, the locks and the memory are as at the start. Scenes
that need a fresh interpreter stand in fork_scenes.py.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import pytest

import shmkv
from tests.conftest import MIB
from tests.stress import values
from tests.stress.fork_scenes import hammering, spin
from tests.stress.support import brood, run_module, settle, until
from tests.stress.values import Stamp

pytestmark = [
    # From 3.12 Python itself warns of what is tested here.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
]
METHODS = ["fork", "forkserver", "spawn"]
TIMEOUT_S = 60.0
ALONE_S = 10.0  # for a death to be noticed; the kernel needs milliseconds

_global: shmkv.Store | None = None


@pytest.fixture
def store(open_store: Callable[..., shmkv.Store]) -> Iterator[shmkv.Store]:
    """An evicting store that must be whole and empty of leftovers at the end."""
    store = open_store(size=16 * MIB)
    yield store
    assert settle(store) == []


def test_child_of_child(store: shmkv.Store) -> None:
    store.incr("n")

    def child(depth: int) -> None:
        store.incr("n")
        spin(store, depth, 3)
        if depth < 5:
            with brood() as make:
                make(lambda: child(depth + 1)).good()
        store.incr("n")

    with brood() as make:
        make(lambda: child(1)).good()
    assert store["n"] == 11


def test_first_use_is_in_the_child(store: shmkv.Store) -> None:
    """Neither the parent nor the child has used the handle since it was opened or forked."""
    with shmkv.open(store.name, create=False) as fresh, brood() as make:
        for turn in range(100):
            make(partial(fresh.incr, "n", turn)).good()
        assert fresh["n"] == sum(range(100))
    assert store.stats().attached == 1


def test_a_child_closes_and_opens(store: shmkv.Store) -> None:
    def child() -> None:
        number = store._number()
        store.close()
        with shmkv.open(store.name, create=False) as again:
            again.incr("n")
            assert again._number() != number
        with pytest.raises(shmkv.Closed):
            store.get("n")

    with brood() as make:
        for _ in range(20):
            make(child).good()
    assert store["n"] == 20


def test_a_view_is_the_parents(store: shmkv.Store) -> None:
    """The child leaves the view, closes, or dies: the parent's bytes stay."""
    value = values.make(Stamp(1, 2, 3), 200_000)
    store.set("held", value)

    def leaves_it() -> None:
        spin(store, 7, 5)

    def closes() -> None:
        held[0].release()
        store.close()

    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    held: list[memoryview] = []
    with store.view("held") as view, brood() as make:
        held.append(view)
        for body, code in ((leaves_it, 0), (closes, 0), (dies, -signal.SIGKILL)):
            child = make(body)
            assert child.wait() == code, child.text
            store.delete("held")
            for turn in range(400):
                store.set(f"churn{turn % 50}", b"c" * 60_000)
            assert view == value


def test_a_view_taken_by_a_child(store: shmkv.Store) -> None:
    """A child's own pin protects its bytes, and is gone when the child is killed."""
    value = values.make(Stamp(1, 2, 3), 200_000)
    store.set("held", value)
    board = mmap.mmap(-1, 8)

    def child() -> None:
        with store.view("held") as view:
            board[0] = 1
            until(lambda: board[1] != 0, "the parent has churned")
            assert view == value
            board[0] = 2
            signal.pause()

    with brood() as make:
        holder = make(child)
        until(lambda: board[0] == 1, "the child holds its view")
        store.delete("held")
        for turn in range(400):
            store.set(f"churn{turn % 50}", b"c" * 60_000)
        board[1] = 1
        until(lambda: board[0] == 2, f"the child finds its bytes unchanged: {holder.text}")
        holder.end()
    board.close()


def _beyond(look: Callable[[], tuple[int, int]], work: int) -> bool:
    return look()[1] > work


@pytest.mark.parametrize("uses", [True, False], ids=["working", "idle"])
def test_a_killed_parent_does_not_live_on_in_its_child(store: shmkv.Store, uses: bool) -> None:
    """Its row is free and its locks are taken over while the child, who inherited all, lives."""
    for _ in range(6):
        # {pid, work}, each one aligned store: struct would clear the place first, and whoever
        # looked then would take 0 for the pid to end.
        memory = mmap.mmap(-1, 16)
        board = memoryview(memory).cast("Q")

        def parent(board: memoryview[int] = board) -> None:
            with hammering(store, 2) as rounds:
                until(lambda: rounds() >= 2, "the threads work")
                pid = os.fork()
                if pid == 0:
                    work = 1
                    while True:
                        if uses:
                            spin(store, 9, 1)
                            work += 1
                        board[0] = os.getpid()  # before the work that makes it be looked at
                        board[1] = work
                        time.sleep(0.001)  # its pace; it is ended by its pid
                signal.pause()

        def look(board: memoryview[int] = board) -> tuple[int, int]:
            return board[0], board[1]

        with brood() as make:
            victim = make(parent)
            until(lambda: look()[1] > 0, "the grandchild works")
            grandchild, _ = look()
            assert grandchild > 1
            try:
                time.sleep(0.01)  # some way into the threads' work; nothing is waited for
                victim.end()
                until(lambda: store.stats().attached == 1 + uses, "the row is free", ALONE_S)
                if uses:
                    goes_on = partial(_beyond, look, look()[1] + 3)
                    until(goes_on, "the grandchild goes on", ALONE_S)
                spin(store, 8, 5)
            finally:
                os.kill(grandchild, signal.SIGKILL)
            until(lambda: store.stats().attached == 1, "all have left", ALONE_S)
        board.release()
        memory.close()


def test_daemon_double_fork(store: shmkv.Store) -> None:
    def middle() -> None:
        os.setsid()
        if os.fork() == 0:
            try:
                spin(store, 5, 10)
                store.set("daemon", os.getpid())
            finally:
                os._exit(0)

    with brood() as make:
        for _ in range(5):
            store.delete("daemon")
            make(middle).good()
            until(lambda: "daemon" in store, "the daemon works")
            until(lambda: store.stats().attached == 1, "the daemon has left", ALONE_S)


def test_exec_gives_the_row_back(store: shmkv.Store) -> None:
    """A child that had attached becomes another program: it is no attachment any more."""
    reader, writer = os.pipe()

    def child() -> None:
        store.incr("n")
        os.close(writer)
        os.dup2(reader, 0)
        os.execv(sys.executable, [sys.executable, "-S", "-c", "input()"])

    with brood() as make:
        program = make(child)
        os.close(reader)
        until(lambda: store.get("n") == 1, "the child has attached")
        until(lambda: store.stats().attached == 1, "exec has freed the row", ALONE_S)
        os.write(writer, b"\n")
        program.good()
    os.close(writer)


def test_a_reader_is_inherited(store: shmkv.Store) -> None:
    value = values.make(Stamp(1, 2, 3), 100_000)
    store.set("k", value)
    with shmkv.open(store.name, readonly=True) as reader, brood() as make:

        def child() -> None:
            assert reader.get("k") == value
            with pytest.raises(shmkv.ReadOnly):
                reader.set("k", 1)

        for _ in range(20):
            make(child).good()
        assert store.stats().attached == 1


@pytest.mark.parametrize("scene", ["hammered", "threads_fork", "exec_while_holding"])
def test_scene(store: shmkv.Store, scene: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_module("tests.stress.fork_scenes", scene, store.name, limit_s=110)
    with capsys.disabled():
        print(f" {scene}: {result}", end="")
    until(lambda: store.stats().attached == 1, "all have left", ALONE_S)


# --- multiprocessing -----------------------------------------------------------------------------


def given(store: shmkv.Store, turns: int) -> int:
    """Work of a process that was given the store."""
    spin(store, os.getpid() % 1000, turns)
    return os.getpid()


def keep(store: shmkv.Store) -> None:
    """Initialiser of a pool: the store as a global."""
    global _global
    _global = store


def kept(turns: int) -> int:
    """Work of a process that has the store as a global."""
    assert _global is not None
    return given(_global, turns)


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing(store: shmkv.Store, method: str) -> None:
    """Process, Pool and ProcessPoolExecutor, with the store as an argument and as a global."""
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=given, args=(store, 5))
    process.start()
    try:
        spin(store, 1, 5)
        process.join(TIMEOUT_S)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join(TIMEOUT_S)
        process.close()
    with context.Pool(2, initializer=keep, initargs=(store,), maxtasksperchild=3) as pool:
        workers = set(pool.map_async(kept, [3] * 8, chunksize=1).get(TIMEOUT_S))
        pool.close()
        pool.join()
    with ProcessPoolExecutor(2, context, initializer=keep, initargs=(store,)) as executor:
        workers |= set(executor.map(given, [store] * 4, [3] * 4, timeout=TIMEOUT_S))
        workers |= set(executor.map(kept, [3] * 4, timeout=TIMEOUT_S))
    assert os.getpid() not in workers
    assert len(workers) >= 4
    assert store["count"] == 5 + 5 + 8 * 3 + 8 * 3
    until(lambda: store.stats().attached == 1, "all workers have left", ALONE_S)
