"""Daemons that are many, killed, stopped: nobody notices, and there is one again within a second.

Owns: the races for the turn, deaths and stops at random moments under load, and what a daemon folds
that nobody else touches.

Promises: time is judged by what a process could do about it: where the kernel kept one of the
processes that matter from a processor (its run delay in /proc), or the whole machine stood still
(storm_weather.py), that is allowed for.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shmkv
from shmkv import _core, segment
from shmkv.daemon import End, Task, Told, serve, stop_on_signals
from tests.conftest import MIB
from tests.stress.storm_weather import NOTED_NS, Delay, Slow, Weather, watched
from tests.stress.support import Child, report, seconds, seed, until

MANY = 50
TAKEOVERS, FOLDS, STOPS = 10, 10, 200
SOON_S = 1.0
KEYS = 20_000
WAIT_MS = 250.0  # of an operation that is done, beside what the machine took
LOCK_S = 0.05

Open = Callable[..., shmkv.Store]
Play = Callable[..., Child]


def be_daemon(name: str, standby: bool = False) -> None:
    """What a daemon process does; 0 if it was told to stop."""
    with stop_on_signals() as stop:
        assert serve(Task(name, standby=standby), stop, Told({})).end is End.STOPPED


def run_delay_s(pid: int) -> float:
    """How long a process has been runnable without a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def since(began: int, late_s: float) -> Slow:
    """What took from `began` (ns) until now, in which who mattered had no processor for so long."""
    return Slow(began, time.monotonic_ns(), int(late_s * 1e9))


def worst_of(weather: Weather, all_of_them: list[Slow]) -> float:
    """ms of the slowest, of which each must be soon."""
    worst = max(map(weather.store_ms, all_of_them))
    assert worst < SOON_S * 1000, (worst, all_of_them)
    return worst


def write_on(name: str, size: int = 400) -> None:
    """Overwrite and read keys at random, forever."""
    with shmkv.open(name, create=False) as store:
        numbers = random.Random(os.getpid())
        while True:
            key = f"{numbers.randrange(KEYS)}"
            store.set(key, key.encode() * numbers.randrange(1, size // 4), ttl=numbers.random())
            store.get(f"{numbers.randrange(KEYS)}")


@pytest.fixture
def play() -> Iterator[Play]:
    """Start processes; what still lives at the end is killed."""
    cast: list[Child] = []

    def begin(body: Callable[..., object], *args: object) -> Child:
        cast.append(Child(lambda: body(*args)))
        return cast[-1]

    yield begin
    for child in cast:
        child.send(signal.SIGKILL)
        child.wait()


def dead(child: Child) -> None:
    """Kill it; its locks are gone when it is reaped."""
    child.send(signal.SIGKILL)
    child.wait()


def has_ended(child: Child) -> bool:
    """Without reaping it."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def rises(store: shmkv.Store, total: str) -> Callable[[], bool]:
    """A condition: since now."""
    before = getattr(store.stats(), total)
    return lambda: getattr(store.stats(), total) > before


def has_daemon(store: shmkv.Store) -> Callable[[], bool]:
    """A condition."""
    return lambda: store._daemon(False)


def test_of_fifty_one_is_the_daemon(store: shmkv.Store, play: Play) -> None:
    gate = os.pipe()
    result = os.pipe()

    def cry(word: bytes) -> None:
        os.write(result[1], word)

    def race() -> None:
        os.close(gate[1])
        os.read(gate[0], 1)
        with stop_on_signals() as stop:
            told = Told({}, on_ready=lambda _: cry(b"D"))
            end = serve(Task(store.name), stop, told).end
            if end is End.TAKEN:
                cry(b"t")

    racers = [play(race) for _ in range(MANY)]
    for fd in gate:
        os.close(fd)
    said = b""
    while len(said) < MANY:
        said += os.read(result[0], MANY)
    assert said.count(b"D") == 1
    assert said.count(b"t") == MANY - 1
    assert store._daemon(False)
    for racer in racers:
        racer.send(signal.SIGTERM)
        assert racer.wait() in (0, -signal.SIGTERM), racer.text  # told before it listened, or after
    assert not store._daemon(False)
    for fd in result:
        os.close(fd)


def test_another_takes_over(store: shmkv.Store, play: Play) -> None:
    """Within a second of the death of the one before, beside others that wait for the same."""
    present = play(be_daemon, store.name, True)
    until(has_daemon(store), "the first works")
    waiting = [play(be_daemon, store.name, True) for _ in range(2)]
    took = []
    with watched() as weather:
        for _ in range(TAKEOVERS):
            dead(present)
            delays = {one.pid: run_delay_s(one.pid) for one in waiting}
            began = time.monotonic_ns()
            until(has_daemon(store), "another works")
            late = max(run_delay_s(pid) - before for pid, before in delays.items())
            took.append(since(began, late))
            present = daemon_among(store, waiting)
            waiting = [one for one in waiting if one is not present]
            waiting.append(play(be_daemon, store.name, True))
    report("takeover", 0, TAKEOVERS, [], worst_of(weather, took))


def daemon_among(store: shmkv.Store, candidates: list[Child]) -> Child:
    """Which of the standbys became it: the one that holds the lock on the daemon's byte."""
    path, byte = segment.file_path(store.name, os.geteuid()), str((1 << 40) - 2)

    def holders() -> list[Child]:
        found = []
        for one in candidates:
            for fd in Path(f"/proc/{one.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    told = Path(f"/proc/{one.pid}/fdinfo/{fd.name}").read_text()
                    if os.readlink(fd) == path and byte in told:
                        found.append(one)
        return found

    until(lambda: len(holders()) == 1, "one of them holds the lock")
    return holders()[0]


def test_what_the_dead_held_is_given_back(store: shmkv.Store, open_store: Open, play: Play) -> None:
    """Within a second, though nobody else does anything."""
    daemon = play(be_daemon, store.name)
    until(has_daemon(store), "a daemon works")
    took, start_seed = [], seed()
    numbers = random.Random(start_seed)

    watch = open_store(readonly=True)  # which cannot fold
    with watched() as weather:
        for _ in range(FOLDS):
            folded = rises(watch, "folds")
            writer = play(write_on, store.name, 40_000)
            until(lambda: watch.stats().attached == 3, "the writer is attached")
            time.sleep(numbers.random() * 0.02)  # somewhere in the middle of its work
            dead(writer)
            before, began = run_delay_s(daemon.pid), time.monotonic_ns()
            until(folded, "it is folded")
            took.append(since(began, run_delay_s(daemon.pid) - before))
            assert watch.stats().attached == 2
    assert store.check()
    report("folding", start_seed, FOLDS, [], worst_of(weather, took))


@pytest.mark.parametrize("evict", [True, False])
def test_killed_at_any_moment(open_store: Open, play: Play, evict: bool) -> None:
    """Under load, again and again: every invariant holds each time, and all go on."""
    store = open_store(size=16 * MIB, evict=evict)
    writers = [play(write_on, store.name, 400 if evict else 200) for _ in range(2)]
    start_seed = seed()
    numbers, kills, wrong = random.Random(start_seed), 0, list[str]()
    end = time.monotonic() + seconds(5)
    while time.monotonic() < end and not wrong:
        daemon = play(be_daemon, store.name)
        until(has_daemon(store), "a daemon works")
        time.sleep(numbers.random() * 0.03)  # somewhere in the middle of its work
        dead(daemon)
        kills += 1
        wrong += store.check().problems
        wrong += [writer.text for writer in writers if has_ended(writer)]
        until(rises(store, "sets"), "the writers go on")
    report(f"daemon killed, evict={evict}", start_seed, kills, wrong, 0)


class Stopped:
    """Writes and reads of this process beside a daemon that is stopped."""

    def __init__(self, store: shmkv.Store, numbers: random.Random) -> None:
        self.store, self.numbers, self.delay = store, numbers, Delay()
        made = store._geometry()
        self.seed, self.shift = made["seed"], made["stripe_shift"]
        self.slow: dict[str, list[Slow]] = {"read": [], "write": []}
        self.rounds = 0
        """With a stripe that could not be written."""

    def _timed(self, what: str, do: Callable[[str], object], key: str) -> None:
        before, began = self.delay.read(), time.monotonic_ns()
        try:
            do(key)
        finally:
            ended, after = time.monotonic_ns(), self.delay.read()
            if ended - began > NOTED_NS:
                self.slow[what].append(Slow(began, ended, Delay.between(before, after)))

    def write(self, key: str) -> None:
        """May raise Busy."""
        self.store.set(key, b"x" * 400, ttl=self.numbers.random() + 0.001)

    def key(self) -> str:
        """One of many."""
        return f"{self.numbers.randrange(5 * KEYS)}"

    def round(self) -> list[str]:
        """A few hundred of each; what is wrong."""
        busy: set[int] = set()
        for _ in range(500):
            key = self.key()
            try:
                self._timed("write", self.write, key)
            except shmkv.Busy:
                busy.add(_core.hash(key.encode(), self.seed) >> self.shift)
            self._timed("read", self.store.get, key)
            if len(busy) > 1:
                return [f"stripes {busy} at once"]
        self.rounds += bool(busy)
        return []


def test_a_stopped_daemon_keeps_nobody_but_the_writers_of_a_stripe(
    open_store: Open, play: Play
) -> None:
    """It may be stopped while it holds a stripe, as anybody may: its writers are told Busy in time.

    All others go on: no read waits, and no write but in that one stripe.
    """
    store = open_store(size=16 * MIB, lock_timeout=LOCK_S)
    daemon = play(be_daemon, store.name)
    until(has_daemon(store), "a daemon works")
    start_seed, wrong = seed(), list[str]()
    beside = Stopped(store, random.Random(start_seed))
    with watched() as weather:
        for _ in range(STOPS):
            end = time.monotonic() + beside.numbers.random() * 0.02
            while time.monotonic() < end:
                with contextlib.suppress(shmkv.Busy):  # it goes on, but had no processor yet
                    beside.write(beside.key())
            daemon.send(signal.SIGSTOP)
            daemon.stopped()
            wrong += beside.round()
            daemon.send(signal.SIGCONT)
    worst = 0.0
    for what, slow in beside.slow.items():
        ms = max(map(weather.store_ms, slow), default=NOTED_NS / 1e6)
        wrong += [f"a {what} took {ms:.0f} ms"] if ms > WAIT_MS else []
        worst = max(worst, ms)
    wrong += store.check().problems
    report(f"daemon stopped, {beside.rounds} times in a stripe", start_seed, STOPS, wrong, worst)


def test_told_to_stop_under_load(open_store: Open, play: Play) -> None:
    store = open_store(size=16 * MIB)
    for _ in range(2):
        play(write_on, store.name)
    took = []
    with watched() as weather:
        for _ in range(5):
            daemon = play(be_daemon, store.name)
            until(has_daemon(store), "a daemon works")
            before, began = run_delay_s(daemon.pid), time.monotonic_ns()
            daemon.send(signal.SIGTERM)
            until(lambda: not store._daemon(False), "it has let go")
            took.append(since(began, run_delay_s(daemon.pid) - before))
            daemon.good()
    report("told to stop", 0, 5, [], worst_of(weather, took))
