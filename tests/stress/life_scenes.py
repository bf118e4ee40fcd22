"""Scenes of life.py: forks while threads work, signals inside operations, interpreters, daemons.

`python -m tests.stress.life_scenes SCENE STORE N SEED` prints a line of JSON and ends with 0 when
nothing was wrong. Every process made here is waited for with a limit and ended by its id.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn

import shmkv
from tests.stress.fork_scenes import hammering, spin
from tests.stress.life import Outcome, play, rows
from tests.stress.signal_scenes import Alarm, Player
from tests.stress.support import Child, brood, die_with_parent, until

WAIT_S = 20.0
CALLS = (signal.SIGINT, signal.SIGALRM)
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


# ---- forks --------------------------------------------------------------------------------------


def _leave(way: int) -> NoReturn:
    """The ways a child may leave, dead in the middle included."""
    if way == 1:
        sys.exit(0)
    if way == 2:
        os.execv("/bin/true", ["true"])
    if way == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(0)


def _forked(store: shmkv.Store, number: int, way: int) -> NoReturn:
    die_with_parent()
    try:
        spin(store, number, 2)
        own = store._number()
        assert own != number, "a child has the number of its parent"
        if way == 3:  # it dies with a pin
            store.set("pinned", b"p" * 50_000)
            with store.view("pinned"):
                _leave(way)
        if way == 4:
            store.close()
    except BaseException:  # noqa: BLE001 - nothing may run on in this process
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    _leave(way)


def forks(store: shmkv.Store, n: int, start_seed: int) -> Outcome:
    """The main thread forks; other threads are in the middle of operations, whatever these are."""
    rng, number = random.Random(start_seed), store._number()
    wrong: list[str] = []
    worst = 0.0
    with hammering(store, 2) as rounds:
        for turn in range(n):
            done, started, way = rounds(), time.monotonic(), rng.randrange(5)
            pid = os.fork()
            if pid == 0:
                _forked(store, number, way)
            code = end_of(pid)
            worst = max(worst, time.monotonic() - started)
            if code != (-signal.SIGKILL if way == 3 else 0):
                wrong.append(f"fork {turn}: the child ended with {code}")
            if turn % 50 == 0:
                goes_on = partial(_beyond, rounds, done)
                until(goes_on, "the threads of this process go on", WAIT_S)
    return Outcome(n, wrong, worst * 1000)


def _beyond(rounds: Callable[[], int], done: int) -> bool:
    return rounds() > done


def end_of(pid: int) -> int | str:
    """The exit code of a child; what is wrong if it does not end in time."""
    ended = select.poll()
    fd = os.pidfd_open(pid)
    ended.register(fd, select.POLLIN)
    late = not ended.poll(WAIT_S * 1000)
    os.close(fd)
    if late:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return f"a hang of {WAIT_S:g} s" if late else os.waitstatus_to_exitcode(status)


# ---- signals ------------------------------------------------------------------------------------


def _rivalry(store: shmkv.Store, met: memoryview[int], n: int, start_seed: int) -> None:
    """Keeps the same stripes busy, and interrupts its parent at random moments."""
    rng, parent, turn = random.Random(start_seed), os.getppid(), 0
    while (before := met[0]) < n:
        end = time.monotonic() + rng.expovariate(1000)
        while time.monotonic() < end:
            turn += 1
            store.set(f"rival{turn % 200}", b"r" * (turn * 37 % 60_000))
            store.incr("rival")
        assert os.getppid() == parent
        os.kill(parent, rng.choice(CALLS))
        until(partial(_differs, met, before), "the call is met", WAIT_S)


def _differs(met: memoryview[int], before: int) -> bool:
    return met[0] != before


class Bell:
    """The handler of both signals: it counts, and raises if it was armed since it raised last."""

    def __init__(self, met: memoryview[int]) -> None:
        self.armed, self.met = False, met

    def __call__(self, number: int, frame: object) -> None:
        self.met[0] += 1
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt if number == signal.SIGINT else Alarm


def signals(store: shmkv.Store, n: int, start_seed: int) -> Outcome:
    """Two kinds of exceptions raised wherever the interpreter is; every key is old or new."""
    met = memoryview(mmap.mmap(-1, 8)).cast("Q")
    player, bell, caught = Player(store, start_seed), Bell(met), 0
    before = [signal.signal(number, bell) for number in CALLS]
    worst, over = 0.0, False
    with brood() as make:
        rival = make(partial(_rivalry, store, met, n, start_seed))
        while not over:
            try:
                bell.armed = True
                while _alive(rival):
                    started = time.monotonic()
                    player.step()
                    worst = max(worst, time.monotonic() - started)
                bell.armed = False
                over = True
            except (Alarm, KeyboardInterrupt):
                caught += 1
        rival.good(WAIT_S)
    for number, handler in zip(CALLS, before, strict=True):
        signal.signal(number, handler)
    wrong = []
    try:
        player.judge()
    except AssertionError as error:
        wrong.append(str(error))
    if caught < n // 2:
        wrong.append(f"only {caught} of {n} calls raised")
    return Outcome(caught, wrong, worst * 1000)


def _alive(child: Child) -> bool:
    state = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return state is None


# ---- sub-interpreters ---------------------------------------------------------------------------

_INSIDE = """
import sys
sys.path[:] = {path!r}
import shmkv
store = shmkv.open({name!r}, create=False)
number = store._number()
for turn in range(20):
    store.incr("count")
    for value in (turn, "text", b"b" * 50_000, [turn], {{"a": (1, 2)}}, 1 << 80):
        store["value"] = value
        assert store.get("value") is not None
store["b"] = b"b" * 50_000
view = store.view("b").__enter__()
if {closes}:
    view.release()
    store.close()
"""


def _interpreter_module() -> object:
    """The interpreters of 3.11 share a lock; 3.12 and later have other ones beside them."""
    import importlib

    for name in ("_interpreters", "_xxsubinterpreters"):
        with suppress(ImportError):
            return importlib.import_module(name)
    raise AssertionError("this Python has no sub-interpreters")


def interpreters(store: shmkv.Store, n: int, start_seed: int) -> Outcome:
    """Sub-interpreters that share the process's lock work, one by one and four at a time.

    Half of them end with the store open and a view held: destroying them gives both back.
    """
    made = _interpreter_module()
    wrong: list[str] = []
    worst = [0.0]

    def life(number: int) -> None:
        started = time.monotonic()
        legacy = () if sys.version_info < (3, 12) else ("legacy",)
        one = made.create(*legacy)  # type: ignore[attr-defined]
        try:
            text = _INSIDE.format(path=sys.path, name=store.name, closes=number % 2)
            found = made.run_string(one, text)  # type: ignore[attr-defined]
            if found is not None:
                wrong.append(f"interpreter {number}: {found}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            wrong.append(f"interpreter {number}: {error!r}")
        finally:
            made.destroy(one)  # type: ignore[attr-defined]
            worst[0] = max(worst[0], time.monotonic() - started)

    store["count"] = 0
    for number in range(n // 2):
        life(number)
    for first in range(n // 2, n, 4):
        crew = [threading.Thread(target=life, args=(i,)) for i in range(first, min(n, first + 4))]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join(WAIT_S * 3)
            assert not thread.is_alive(), "an interpreter hangs"
    if store["count"] != 20 * n:
        wrong.append(f"{store['count']} increments of {20 * n}")
    return Outcome(n, wrong, worst[0] * 1000)


# ---- daemons ------------------------------------------------------------------------------------

_MASTER = """
import os, sys, time
import shmkv
from tests.stress.fork_scenes import spin
store = shmkv.open({name!r}, create=False)
spin(store, 1, 5)
number = store._number()
closes = {closes}
if os.fork():
    sys.exit(0)
os.setsid()
if os.fork():
    os._exit(0)
code = 1
try:
    if closes:
        os.closerange(0, 256)
        store.incr("daemon work")
    spin(store, 2, 5)
    assert store._number() != number
    store["daemon"] = [os.getpid(), number, store._number()]
    end = time.monotonic() + 60
    while "stop" not in store and time.monotonic() < end:
        spin(store, 2, 1)
    code = 0
finally:
    os._exit(code)
"""


def daemons(store: shmkv.Store, n: int, start_seed: int) -> Outcome:
    """A program attaches, forks twice and ends; its grandchild goes on, with a row of its own.

    Half of the grandchildren close all descriptors, as daemons do: the inherited handle gets
    another one.
    """
    wrong: list[str] = []
    worst = 0.0
    assert _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    for turn in range(n):
        store.clear()
        started = time.monotonic()
        text = _MASTER.format(name=store.name, closes=turn % 2)
        done = subprocess.run([sys.executable, "-c", text], timeout=WAIT_S)
        if done.returncode != 0:
            wrong.append(f"the master ended with {done.returncode}")
        try:
            until(lambda: "daemon" in store, "the daemon works", WAIT_S)
            pid, _, own = store["daemon"]
            worst = max(worst, time.monotonic() - started)
            until(lambda: store.stats().attached == 2, "the daemon alone is attached", WAIT_S)
            if [row["pid"] for row in rows(store) if row["number"] == own] != [pid]:
                wrong.append(f"daemon {pid} has no row of the number {own}")
            store["stop"] = True
        except AssertionError as late:
            wrong.append(str(late))
            break
        finally:
            wrong += _orphans(kill=bool(wrong))
    return Outcome(n, wrong, worst * 1000)


def _orphans(kill: bool) -> list[str]:
    """Grandchildren are this process's to wait for."""
    wrong = []
    for child in map(int, _children()):
        if kill:
            os.kill(child, signal.SIGKILL)
        code = end_of(child)
        if code != 0:
            wrong.append(f"a grandchild ended with {code}")
    return wrong


def _children() -> list[str]:
    with open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        return file.read().split()


SCENES = {scene.__name__: scene for scene in (forks, signals, interpreters, daemons)}


def main() -> None:
    """Run one scene."""
    sys.setswitchinterval(1e-4)
    play(sys.argv[1], SCENES[sys.argv[1]])


if __name__ == "__main__":
    main()
