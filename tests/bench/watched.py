"""What two workers lose while they are looked at: python -m tests.bench.watched [rounds].

Two processes read and write at full speed (90/10, zipf 0.99, a full store of 64 MiB with a daemon
that samples what they ask for). Beside them `shmkv top` has a terminal of its own, and `shmkv
report` is made over and over on another: sessions of their own, as somebody at a terminal has them.
In each round both run for a while and are stopped (SIGSTOP) for as long, first one, then the other,
in turns; judged is the ratio of the workers' operations in all rounds. Beside it stand the
quartiles of the rounds, which say how much the machine does by itself, and the share of a processor
that was used. With --count the hot keys of `shmkv hot --count`, over and over, take their place.

Does not: take part in the tests. Other processes of a busy machine disturb it: ask for more rounds.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

import psutil

import shmkv
from tests.bench.keys import Zipf, make_keys
from tests.bench.report import Figure, Table, at_least

MIB = 1 << 20
SIZE = 64 * MIB
KEYS = 600_000  # more than fit: items leave all the time
DRAWS = 100_000
BLOCK = 500
WORKERS = 2
VALUE = bytes(100)
TURN = 1.0  # seconds
SETTLE = 0.1  # after top goes on or stands still
DRAWN = 500  # bytes on the terminal, from which it runs
BAR = 0.95
FORK = get_context("fork")


def work(name: str, seed: int, done: Any, end: Any) -> None:
    """Get and set until told to end or the parent is gone."""
    keys, parent = make_keys(KEYS), os.getppid()
    asked = [keys[i] for i in Zipf(KEYS).draws(DRAWS, seed=seed)]
    writes = [i for i in range(BLOCK) if random.Random(i).random() < 0.1]
    with shmkv.open(name, create=False) as store:
        for at in itertools.cycle(range(0, DRAWS, BLOCK)):
            block = asked[at : at + BLOCK]
            for key in block:
                store.get(key)
            for i in writes:
                store.set(block[i], VALUE)
            done.value += BLOCK + len(writes)
            if end.value or os.getppid() != parent:
                return


@contextlib.contextmanager
def workers(name: str) -> Iterator[list[Any]]:
    """Counts of operations, one a worker; all gone afterwards."""
    end = FORK.RawValue("i", 0)
    counts = [FORK.RawValue("Q", 0) for _ in range(WORKERS)]
    made = [
        FORK.Process(target=work, args=(name, seed, done, end), daemon=True)
        for seed, done in enumerate(counts)
    ]
    for process in made:
        process.start()
    try:
        deadline = time.monotonic() + 60
        while any(done.value < DRAWS for done in counts):
            if time.monotonic() > deadline:
                raise RuntimeError("the workers do not work")
            time.sleep(0.05)
        yield counts
    finally:
        end.value = 1
        for process in made:
            process.join(10)
            process.kill()


def again(*verb: str) -> list[str]:
    """A command that does this verb over and over."""
    return ["sh", "-c", 'while "$@"; do :; done', "again", sys.executable, "-m", "shmkv", *verb]


@contextlib.contextmanager
def eyes(name: str, count: bool) -> Iterator[list[psutil.Process]]:
    """Who looks at the workers."""
    if count:
        with on_terminal(*again("hot", name, "--count")) as hot:
            yield [hot]
        return
    with (
        on_terminal(sys.executable, "-m", "shmkv", "top", name) as top,
        on_terminal(*again("report", name, "-o", "-")) as report,
    ):
        yield [top, report]


@contextlib.contextmanager
def watching(name: str) -> Iterator[None]:
    """A daemon, which keeps the past."""
    words = [sys.executable, "-m", "shmkv", "daemon", name, "--foreground"]
    process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        with shmkv.open(name, create=False) as store:
            deadline = time.monotonic() + 60
            while not store._daemon(False):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError("the daemon does not run")
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


@contextlib.contextmanager
def on_terminal(*command: str) -> Iterator[psutil.Process]:
    """A program on a terminal of 80 x 24, in a session of its own, that has begun to write."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    )
    os.close(slave)
    drawn = threading.Event()

    def drain() -> None:
        total = 0
        with contextlib.suppress(OSError):  # the terminal is gone
            while data := os.read(master, 65536):
                total += len(data)
                if total > DRAWN:
                    drawn.set()

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    try:
        if not drawn.wait(60) or process.poll() is not None:
            raise RuntimeError(f"{command} does not run")
        yield psutil.Process(process.pid)
    finally:
        for one in reversed(tree(psutil.Process(process.pid))):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
        os.close(master)
        thread.join(5)


def tree(root: psutil.Process) -> list[psutil.Process]:
    """A process and all it has made, from the top."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [root, *(one for child in root.children() for one in tree(child))]
    return []


def cpu_seconds(root: psutil.Process) -> float:
    """What a process has used, and what it has made, the dead included."""
    used = 0.0
    for one in tree(root):
        with contextlib.suppress(psutil.NoSuchProcess):
            used += sum(one.cpu_times()[:4])
    return used


def let(root: psutil.Process, runs: bool) -> None:
    """Stop a process and all it has made, from the top, so that it makes no more; or let them go
    on."""
    with contextlib.suppress(psutil.NoSuchProcess):
        (root.resume if runs else root.suspend)()
        for child in root.children():
            let(child, runs)


def turn(counts: list[Any], seen: list[psutil.Process], runs: bool) -> float:
    """Operations a second of all workers while the others run or stand still."""
    for one in seen:
        let(one, runs)
    time.sleep(SETTLE)
    before, began = sum(done.value for done in counts), time.perf_counter()
    time.sleep(TURN)
    return (sum(done.value for done in counts) - before) / (time.perf_counter() - began)


def measured(rounds: int, count: bool) -> tuple[list[dict[bool, float]], float]:
    """Operations a second of each round, with and without; the share of a processor that who looks
    used while it ran."""
    name, found, used = f"watched-{os.getpid()}", list[dict[bool, float]](), 0.0
    with shmkv.open(name, size=SIZE, create="new") as store:
        try:
            for key in make_keys(KEYS):
                store.set(key, VALUE)
            with watching(name), workers(name) as counts, eyes(name, count) as seen:
                for number in range(rounds):
                    rates = {}
                    for runs in (True, False) if number % 2 else (False, True):
                        before = sum(map(cpu_seconds, seen))
                        rates[runs] = turn(counts, seen, runs)
                        used += sum(map(cpu_seconds, seen)) - before
                    found.append(rates)
        finally:
            shmkv.unlink(name)
    return found, used / rounds / (TURN + SETTLE)


def main(rounds: int, count: bool) -> None:
    """Print what two workers lose."""
    found, used = measured(rounds, count)
    ratios = statistics.quantiles((one[True] / one[False] for one in found), n=4)
    ratio = sum(one[True] for one in found) / sum(one[False] for one in found)
    what = "shmkv hot --count, over and over" if count else "shmkv top and reports"
    table = Table(f"two workers, 90/10, beside {what}, {rounds} rounds")
    table.figures = [
        Figure("operations with / without", ratio, bar=at_least(BAR)),
        Figure("lower quartile", ratios[0]),
        Figure("upper quartile", ratios[2]),
        Figure("share of a processor that was used", used),
    ]
    print(table.text())


if __name__ == "__main__":
    given = [arg for arg in sys.argv[1:] if arg != "--count"]
    main(int(given[0]) if given else 50, "--count" in sys.argv)
