"""The scene `exits` of life.py: interpreters that end while daemon threads are inside operations.

`python -m tests.stress.life_exits exits STORE N SEED` runs on the build with fault points (`make
build`): a process is stopped while it holds a stripe, so that the threads of an ending interpreter
surely wait in the middle of an operation, for a lock, without the interpreter's lock. Beside that:
ends by an exception, ends called by a signal, ends under a pool of threads and under a thread that
is not a daemon. Whatever the end is: no crash, no hang, the exit code that Python gives it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NoReturn

from tests.crash import faultbuild

if __name__ == "__main__":
    faultbuild.load()

import shmkv
from tests.stress.fork_scenes import spin
from tests.stress.life import Outcome, play
from tests.stress.life_scenes import WAIT_S, end_of
from tests.stress.signal_scenes import _holding, _stripe
from tests.stress.support import Child, die_with_parent, until


def held_key(store: shmkv.Store) -> str:
    """A key whose stripe nobody needs who is not to wait: not that of `spin`'s keys."""
    spun = {_stripe(store, key) for key in ("count", *(f"k{n}" for n in range(12)))}
    return next(key for n in range(10_000) if _stripe(store, key := f"held{n}") not in spun)


def _work(store: shmkv.Store, number: int) -> None:
    with suppress(shmkv.Closed):
        while True:
            spin(store, number, 2)


def _wait(store: shmkv.Store, turn: int) -> None:
    """Operations that wait for the holder, each in its own way."""
    held = held_key(store)
    waits: tuple[Callable[[], object], ...] = (
        lambda: store.incr(held), lambda: store.set(held, b"v" * 50_000),
        lambda: store.touch(held, 5), lambda: store.delete(held), store.check, store.clear,
        lambda: store.set_many({held: 1}), lambda: store.rename(held, "elsewhere"),
    )  # fmt: skip
    with suppress(shmkv.Busy, shmkv.Closed, KeyError, TypeError):
        waits[turn % len(waits)]()


def _start(bodies: Sequence[Callable[[], object]], daemon: bool = True) -> list[threading.Thread]:
    crew = [threading.Thread(target=body, daemon=daemon) for body in bodies]
    for thread in crew:
        thread.start()
    return crew


def ends_waiting(name: str, turn: int) -> int:
    """Daemon threads sleep in waits for a lock whose owner is stopped."""
    store = shmkv.open(name, create=False, lock_timeout=600)
    _start([partial(_wait, store, turn + i) for i in range(4)] + [partial(_work, store, 1)])
    return 0


def ends_raising(name: str, turn: int) -> int:
    """The main thread raises, daemon threads are in the middle."""
    store = shmkv.open(name, create=False)
    _start([partial(_work, store, n) for n in range(3)])
    sys.excepthook = lambda *what: None
    return 1


def ends_called(name: str, turn: int) -> int:
    """A signal's handler leaves, out of an operation of the main thread."""
    store = shmkv.open(name, create=False)
    _start([partial(_work, store, n) for n in range(2)])
    signal.signal(signal.SIGALRM, lambda *what: sys.exit(7))
    signal.setitimer(signal.ITIMER_REAL, 0.001 + turn % 7 / 1000)
    _work(store, 9)
    raise AssertionError("work ends by the signal only")


def ends_pooled(name: str, turn: int) -> int:
    """A pool's threads are joined at exit, with work left."""
    store = shmkv.open(name, create=False)
    pool = ThreadPoolExecutor(3)
    for number in range(12):
        pool.submit(spin, store, number, 3)
    return 0


def ends_joining(name: str, turn: int) -> int:
    """Threads that are no daemons go on after the main thread has ended, then all is over."""
    store = shmkv.open(name, create=False)
    _start([partial(spin, store, n, 20) for n in range(2)], daemon=False)
    _start([partial(_work, store, 5)])
    return 0


ENDS = (ends_waiting, ends_raising, ends_called, ends_pooled, ends_joining, ends_waiting)


def _live(name: str, turn: int, pause: float) -> NoReturn:
    """In the child: an interpreter's end like any other."""
    die_with_parent()
    code = ENDS[turn % len(ENDS)](name, turn)
    time.sleep(pause)  # the moment of the end is the test
    if code == 1:
        raise LookupError("an end like others")
    sys.exit(code)


def _wanted(turn: int) -> int:
    return {ends_raising: 1, ends_called: 7}.get(ENDS[turn % len(ENDS)], 0)


def exits(store: shmkv.Store, n: int, start_seed: int) -> Outcome:
    """Interpreters that end, most of them at a random moment of their threads' work."""
    rng, wrong, worst, parent = random.Random(start_seed), [], 0.0, os.getpid()
    held = held_key(store)
    store.set(held, 1)
    holder: Child = _holding(store, Child, held)
    try:
        for turn in range(n):
            pause, started = rng.uniform(0, 0.02), time.monotonic()
            pid = os.fork()
            if pid == 0:
                _live(store.name, turn, pause)
            code = end_of(pid)
            worst = max(worst, time.monotonic() - started)
            if code != _wanted(turn):
                wrong.append(f"{ENDS[turn % len(ENDS)].__name__}, turn {turn}: ended with {code}")
        holder.send(signal.SIGCONT)
        holder.good(WAIT_S)
    finally:
        if os.getpid() == parent:  # the ends of children pass here, too
            holder.end()
    until(lambda: store.stats().attached == 1, "all have left", WAIT_S)
    return Outcome(n, wrong, worst * 1000)


def main() -> None:
    """Run the scene."""
    sys.setswitchinterval(1e-4)
    play("exits", exits)


if __name__ == "__main__":
    main()
