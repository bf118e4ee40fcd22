"""Scenes of test_fork.py that need an interpreter of their own: threads that hammer, a main thread
that forks, children that leave as ordinary programs do.

`python -m tests.stress.fork_scenes SCENE STORE` prints one JSON object and ends with 0 when all
went well. Every child is waited for with a limit and ended by its id.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

import shmkv
from tests.stress import values
from tests.stress.support import die_with_parent, until
from tests.stress.values import Stamp

LENGTHS = (0, 100, 5_000, 40_000, 64_000, 200_000)
CHILD_LIMIT_S = 20.0


def spin(store: shmkv.Store, writer: int, turns: int) -> None:
    """Every kind of operation; what is read is whole."""
    for seq in range(turns):
        key = seq * 7 % 12
        value = values.make(Stamp(key, writer, seq), LENGTHS[seq % len(LENGTHS)])
        store.set(f"k{key}", value, ttl=None if seq % 2 else 1000)
        found = store.get(f"k{(key + 5) % 12}")
        assert found is None or values.parse(found).key == (key + 5) % 12
        store.incr("count")
        store.touch(f"k{key}", 2000)
        if seq % 3 == 0:
            store.delete(f"k{key}")
        try:
            with store.view(f"k{(key + 3) % 12}") as view:
                values.parse(view)
        except KeyError:
            pass


@contextmanager
def hammering(store: shmkv.Store, threads: int) -> Iterator[Callable[[], int]]:
    """Threads that work until the end; gives the number of rounds done so far."""
    stop = threading.Event()
    rounds = [0] * threads
    errors: list[BaseException] = []

    def body(number: int) -> None:
        try:
            while not stop.is_set():
                spin(store, 1000 + number, 3)
                rounds[number] += 1
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            errors.append(error)

    crew = [threading.Thread(target=body, args=(n,)) for n in range(threads)]
    for thread in crew:
        thread.start()
    try:
        yield lambda: sum(rounds)
    finally:
        stop.set()
        for thread in crew:
            thread.join(CHILD_LIMIT_S)
        assert not any(thread.is_alive() for thread in crew), "a thread hangs"
        if errors:
            raise errors[0]


def reap(pid: int) -> None:
    """A child must end with 0 in time; it is gone afterwards."""
    fd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    ended = poll.poll(CHILD_LIMIT_S * 1000)
    os.close(fd)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert ended, "a child hangs"
    assert status == 0, f"a child ended with {os.waitstatus_to_exitcode(status)}"


def _leave(normally: bool) -> NoReturn:
    """End a child that did its work."""
    if normally:
        sys.exit(0)
    os._exit(0)


def _fork(work: Callable[[], None], normally: bool) -> int:
    pid = os.fork()
    if pid == 0:
        die_with_parent()
        try:
            work()
        except BaseException:  # noqa: BLE001 - nothing may run on in this process
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        _leave(normally)
    return pid


def _beyond(rounds: Callable[[], int], done: int) -> bool:
    return rounds() > done


def hammered(store: shmkv.Store) -> dict[str, float]:
    """The main thread forks while others are in the middle of operations."""
    forks, worst = 210, 0.0
    with hammering(store, 2) as rounds:
        for turn in range(forks):
            done = rounds()
            started = time.monotonic()
            reap(_fork(partial(spin, store, turn, 1), normally=turn % 4 == 0))
            worst = max(worst, time.monotonic() - started)
            if turn % 20 == 0:
                goes_on = partial(_beyond, rounds, done)
                until(goes_on, "the threads of this process go on")
    return {"forks": forks, "worst_ms": worst * 1000}


def threads_fork(store: shmkv.Store) -> dict[str, float]:
    """Several threads fork at once, and each child forks again."""
    errors: list[BaseException] = []

    def child(writer: int) -> None:
        spin(store, writer, 1)
        reap(_fork(lambda: spin(store, writer + 500, 1), normally=False))
        spin(store, writer, 1)

    def body(number: int) -> None:
        try:
            for turn in range(10):
                reap(_fork(partial(child, number * 100 + turn), normally=False))
                spin(store, number, 1)
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            errors.append(error)

    crew = [threading.Thread(target=body, args=(n,)) for n in range(4)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(60)
    assert not any(thread.is_alive() for thread in crew), "a thread hangs"
    if errors:
        raise errors[0]
    return {"forks": 80}


def exec_while_holding(store: shmkv.Store) -> dict[str, float]:
    """Programs started while threads work inherit no descriptor of the segment."""
    script = (
        "import os, sys\n"
        "links = [os.readlink('/proc/self/fd/' + n) for n in os.listdir('/proc/self/fd')"
        " if os.path.exists('/proc/self/fd/' + n)]\n"
        "sys.exit(any('shmkv' in link for link in links))"
    )
    command = [sys.executable, "-S", "-c", script]
    store.set("held", b"h" * 100_000)
    runs = 0
    with hammering(store, 2), store.view("held") as view:
        for close_fds in (True, False):
            for before in (None, int):  # vfork, and fork because something runs before exec
                done = subprocess.run(command, close_fds=close_fds, timeout=30, preexec_fn=before)
                assert done.returncode == 0, f"close_fds={close_fds}, preexec_fn={before}"
                runs += 1
        pid = os.posix_spawn(sys.executable, command, os.environ)
        reap(pid)
        assert view == b"h" * 100_000
    return {"runs": runs + 1}


SCENES = {scene.__name__: scene for scene in (hammered, threads_fork, exec_while_holding)}


def main() -> None:
    """Run one scene."""
    sys.setswitchinterval(1e-4)
    store = shmkv.open(sys.argv[2], create=False)
    parent = os.getpid()
    result = SCENES[sys.argv[1]](store)
    assert os.getpid() == parent
    assert store.stats().attached == 2, store.stats()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
