"""Scenes of test_signals.py: a timer whose handler raises inside operations, a lock holder that is
stopped while it holds.

`python -m tests.stress.signal_scenes SCENE STORE` prints one JSON object and ends with 0 when all
went well. `stopped` runs on the build with fault points, which must be loaded before the package.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

if __name__ == "__main__" and sys.argv[1] != "interrupted":
    from tests.crash import faultbuild

    faultbuild.load()

import shmkv
import shmkv.forms  # these now: a handler that raises inside an import proves nothing
import shmkv.packed
import shmkv.types.results
from shmkv import _core as _release
from tests.stress import values
from tests.stress.support import Child, brood, until
from tests.stress.values import Stamp

STOP = 2
_core: Any = _release  # with fault points in the scenes that need them
PERIOD_S = 0.001
LARGE = 200_000


class Alarm(Exception):
    """What the handler raises."""


def _raise(number: int, frame: object) -> None:
    raise Alarm


@contextmanager
def alarms(period_s: float) -> Iterator[None]:
    """SIGALRM again and again; the handler raises wherever the interpreter is."""
    before = signal.signal(signal.SIGALRM, _raise)
    try:
        signal.setitimer(signal.ITIMER_REAL, period_s, period_s)
        yield
    finally:
        while True:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
                break
            except Alarm:
                continue


class Player:
    """Operations at random, and what each key may hold when one of them was interrupted."""

    def __init__(self, store: shmkv.Store, seed: int) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.seq = 0
        self.may: dict[int, set[int]] = {}  # key number: seqs, 0 = missing
        self.counts = [0, 0]  # acknowledged, begun
        self.tails: set[tuple[int, int]] = set()
        self.begun: set[tuple[int, int]] = set()

    def _make(self, key: int) -> bytes:
        self.seq += 1
        length = self.rng.choice((10, 500, 5000, 50_000, LARGE))
        return values.make(Stamp(key, 1, self.seq), length)

    def _put(self, key: int, put: Callable[[str, bytes], Any]) -> None:
        value = self._make(key)
        seq, old = self.seq, self.may.get(key, {0})
        self.may[key] = old | {seq}
        did = put(f"k{key}", value)
        self.may[key] = old if did is False else {seq}

    def _drop(self, key: int, drop: Callable[[str], Any]) -> None:
        self.may[key] = self.may.get(key, {0}) | {0}
        drop(f"k{key}")
        self.may[key] = {0}

    def look(self, key: int) -> None:
        """The key holds one of what it may hold; it is known from then on."""
        value = self.store.get(f"k{key}")
        seq = 0 if value is None else values.parse(value).seq
        assert value is None or values.parse(value).key == key
        assert seq in self.may.get(key, {0}), f"k{key} holds {seq}, may {self.may.get(key)}"
        self.may[key] = {seq}

    def _swap(self, key: int) -> None:
        try:
            _, token = self.store.gets(f"k{key}")
        except KeyError:
            return
        self._put(key, lambda k, v: self.store.cas(k, v, token))

    def _view(self, key: int) -> None:
        try:
            with self.store.view(f"k{key}") as view:
                values.parse(view)
        except KeyError:
            pass

    def _incr(self, key: int) -> None:
        self.counts[1] += 1
        self.store.incr("count")
        self.counts[0] += 1

    def _append(self, key: int) -> None:
        self.seq += 1
        stamp = (1, self.seq)
        self.begun.add(stamp)
        self.store.append("tails", values.make_tail(*stamp))
        self.tails.add(stamp)

    def _many(self, key: int) -> None:
        keys = [f"k{self.rng.randrange(20)}" for _ in range(6)]
        for value in self.store.get_many(keys).values():
            values.parse(value)

    def step(self) -> None:
        """One operation."""
        store, key = self.store, self.rng.randrange(20)
        moves: tuple[Callable[[], object], ...] = (
            lambda: self._put(key, store.set),
            lambda: self._put(key, store.set),
            lambda: self._put(key, store.add),
            lambda: self._put(key, store.replace),
            lambda: self._swap(key),
            lambda: self._drop(key, store.delete),
            lambda: self._drop(key, lambda k: store.pop(k, None)),
            lambda: self.look(key),
            lambda: self._view(key),
            lambda: self._incr(key),
            lambda: self._incr(key),
            lambda: self._append(key) if len(self.begun) < 2000 else None,
            lambda: self._many(key),
            lambda: store.touch(f"k{key}", self.rng.choice((None, 1000))),
            lambda: (f"k{key}" in store, len(store), store.stats()),
            lambda: list(store) if self.rng.random() < 0.2 else None,
            lambda: store.check() if self.rng.random() < 0.05 else None,
        )
        self.rng.choice(moves)()

    def judge(self) -> None:
        """Everything is old or new."""
        for key in range(20):
            self.look(key)
        value = self.store.get("count", 0)
        assert self.counts[0] <= value <= self.counts[1], (value, self.counts)
        tails = values.parse_tails(self.store.get("tails", b""))
        assert len(tails) == len(set(tails))
        assert self.tails <= set(tails) <= self.begun


def interrupted(name: str) -> dict[str, Any]:
    """Operations of every kind, many of them ended by the handler, beside another writer."""
    store = shmkv.open(name, create=False)
    player = Player(store, int(os.environ.get("SHMKV_SEED") or 1))
    steps = alarmed = 0
    least = int(os.environ.get("SHMKV_SIGNAL_STEPS") or 12_000)

    def rival() -> None:
        """Keeps the same stripes and pages busy."""
        turn = 0
        while os.getppid() == parent:
            turn += 1
            store.set(f"rival{turn % 200}", b"r" * (turn * 37 % 60_000))
            store.incr("rival")

    parent = os.getpid()
    end = time.monotonic() + 40
    with brood() as make:
        make(rival)
        while steps < least or alarmed < 300:
            assert time.monotonic() < end, f"{steps} steps, {alarmed} alarms"
            try:
                with alarms(PERIOD_S):
                    while True:
                        player.step()
                        steps += 1
            except Alarm:
                alarmed += 1
                steps += 1
    player.judge()
    assert store.check().ok
    store.close()
    return {"steps": steps, "alarms": alarmed}


# --- a stopped holder (fault build) --------------------------------------------------------------


def _points(store: shmkv.Store, act: Callable[[], object]) -> int:
    """How many fault points an operation passes."""
    _core.fault_arm(1 << 40, STOP)
    act()
    visits = _core.fault_visits()
    _core.fault_arm(0, STOP)
    return int(visits)


def _names(busy: shmkv.Busy, child: Child) -> None:
    assert str(child.pid) in str(busy), f"{busy} does not name {child.pid}"


def _holding(store: shmkv.Store, make: Callable[..., Any], key: str) -> Any:
    """A child stopped inside `incr(key)` with the stripe locked: found by trying its points."""
    store.incr(key)
    for point in range(1, _points(store, lambda: store.incr(key)) + 1):
        before = store.get(key)

        def body(point: int = point) -> None:
            store.get(key)  # attaches: its points are not counted
            _core.fault_arm(point, STOP)
            store.incr(key)

        child = make(body)
        child.stopped()
        with shmkv.open(store.name, create=False, lock_timeout=0.05) as probe:
            try:
                probe.incr(key, 0)
            except shmkv.Busy as busy:
                _names(busy, child)
                return child
        child.send(signal.SIGCONT)
        child.good()
        assert store.get(key) == before + 1
    raise AssertionError("no point holds the stripe")


def _stripe(store: shmkv.Store, key: str) -> int:
    g = store._geometry()
    return int(_core.hash(key.encode(), g["seed"]) >> g["stripe_shift"])


def _writes(store: shmkv.Store, key: str) -> tuple[Callable[[], object], ...]:
    token = store.gets(key)[1]
    return (
        lambda: store.set(key, 1), lambda: store.incr(key), lambda: store.delete(key),
        lambda: store.touch(key, 5), lambda: store.pop(key), lambda: store.cas(key, 1, token),
        lambda: store.rename(key, "elsewhere"), lambda: store.set_many({key: 1}),
        lambda: store.delete_many([key]),
    )  # fmt: skip


def stopped(name: str) -> dict[str, Any]:
    """Writers of its stripe give up in time and name it; all else goes on; SIGCONT mends all."""
    timeout = 0.3
    store = shmkv.open(name, create=False, lock_timeout=timeout)
    key, others = "held", [f"other{n}" for n in range(400)]
    store.set_many(dict.fromkeys(others, 1))
    stripe = _stripe(store, key)
    free = [o for o in others if stripe not in (_stripe(store, o), _stripe(store, "free" + o))]
    worst, busy = 0.0, 0
    with brood() as make:
        holder = _holding(store, make, key)
        value = store.get(key)
        for write in (*_writes(store, key), store.check, store.clear):
            started = time.monotonic()
            try:
                write()
            except shmkv.Busy as error:
                _names(error, holder)
                busy += 1
            worst = max(worst, time.monotonic() - started - timeout)
            assert store.get(key) == value
        for other in free:
            started = time.monotonic()
            store.get(key), store.get_many([key, other]), key in store, store.ttl(key)
            store.set(other, other)
            store.incr("free" + other), store.delete(other)
            worst = max(worst, time.monotonic() - started)
        with shmkv.open(name, readonly=True) as reader:
            assert reader.get(key) == value
        assert busy == 11, busy
        holder.send(signal.SIGCONT)
        holder.good()
    assert store.incr(key) >= value
    until(lambda: store.stats().attached == 2, "the holder has left")
    assert store.check().ok
    store.close()
    return {"busy": busy, "worst_ms": worst * 1000}


def _wait_and_be_called(name: str, calls: str) -> dict[str, Any]:
    store = shmkv.open(name, create=False, lock_timeout=4)
    key, alarmed, worst = "held", 0, 0.0
    with brood() as make:
        holder = _holding(store, make, key)
        value = store.get(key)
        waits = (store.check, store.clear) if calls == "whole" else _writes(store, key)
        for turn, wait in enumerate(waits * 4):
            started = time.monotonic()
            try:
                with alarms(0.01):
                    wait()
                raise AssertionError(f"operation {turn} got through a held stripe")
            except Alarm:
                alarmed += 1
            worst = max(worst, time.monotonic() - started)
            assert store.get(key) == value
        holder.send(signal.SIGCONT)
        holder.good()
    assert value + 1 <= store.incr(key) <= value + 2
    until(lambda: store.stats().attached == 2, "the holder has left")
    assert store.check().ok
    store.close()
    assert worst < 2, f"a handler waited {worst:.1f} s"
    return {"alarms": alarmed, "worst_ms": worst * 1000}


def waiting(name: str) -> dict[str, Any]:
    """A wait for a stopped holder's stripe is ended by what a handler raises, at once."""
    return _wait_and_be_called(name, "writes")


def waiting_whole(name: str) -> dict[str, Any]:
    """Check and clear wait for every stripe: they are ended likewise."""
    return _wait_and_be_called(name, "whole")


SCENES = {scene.__name__: scene for scene in (interrupted, stopped, waiting, waiting_whole)}


def main() -> None:
    """Run one scene."""
    print(json.dumps(SCENES[sys.argv[1]](sys.argv[2])))


if __name__ == "__main__":
    main()
