"""Scenes of test_threads.py that need an interpreter of their own, because they end one or may
crash it: threads that work while it finalises, code of the user that runs inside an operation.

`python -m tests.stress.thread_scenes SCENE STORE` prints one JSON object and ends with 0 when all
went well. The ends of interpreters are those of forked children, which finalise like any other.
"""

from __future__ import annotations

import atexit
import datetime as dt
import gc
import json
import os
import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import shmkv
from tests.stress.fork_scenes import reap, spin
from tests.stress.support import die_with_parent

EXITS = 56
_held: dict[str, Any] = {}


# --- the end of an interpreter -------------------------------------------------------------------


def _start(store: shmkv.Store, count: int) -> None:
    """Daemon threads that work until the process ends."""
    started = threading.Barrier(count + 1)

    def body(number: int) -> None:
        started.wait()
        with suppress(shmkv.Closed):
            while True:
                spin(store, number, 3)

    for number in range(count):
        threading.Thread(target=body, args=(number,), daemon=True).start()
    started.wait()


def exit_working(name: str) -> None:
    """Daemon threads are in the middle of everything, the store is theirs alone."""
    _start(shmkv.open(name, create=False), 4)


def exit_global(name: str) -> None:
    """The store is a global of a module, threads work with it."""
    _held["store"] = shmkv.open(name, create=False)
    _start(_held["store"], 3)


def exit_closing(name: str) -> None:
    """It is closed at exit, under the hands of the threads."""
    store = shmkv.open(name, create=False)
    atexit.register(store.close)
    _start(store, 3)


def exit_viewing(name: str) -> None:
    """A view, an iterator and a store that nobody closes, in a cycle."""
    store = shmkv.open(name, create=False)
    store.set("held", b"h" * 100_000)
    cycle: list[Any] = [store, store.view("held").__enter__(), iter(store)]
    next(cycle[2])
    cycle.append(cycle)
    _held["cycle"] = cycle
    _start(shmkv.open(name, create=False), 2)


def exit_late(name: str) -> None:
    """What uses the store is called when the modules are already being taken apart."""

    class Late:
        def __init__(self) -> None:
            self.store = shmkv.open(name, create=False)

        def __del__(self) -> None:
            with suppress(shmkv.Closed):
                self.store.incr("late")
                self.store.set("large", b"l" * 100_000)
                assert self.store.get("large") is not None

    _held["late"] = Late()
    sys.modules["shmkv_test_late"] = Late()  # type: ignore[assignment]
    _start(_held["late"].store, 2)


ENDS = (exit_working, exit_global, exit_closing, exit_viewing, exit_late)


def exits(name: str) -> dict[str, Any]:
    """Interpreters that end while threads work: always with 0."""
    rng = random.Random(int(os.environ.get("SHMKV_SEED") or 1))
    for turn in range(EXITS):
        end = ENDS[turn % len(ENDS)]
        pause = rng.uniform(0, 0.02)
        pid = os.fork()
        if pid == 0:
            die_with_parent()
            end(name)
            time.sleep(pause)
            sys.exit(0)
        try:
            reap(pid)
        except AssertionError as error:
            raise AssertionError(f"{end.__name__}, turn {turn}: {error}") from None
    return {"exits": EXITS}


# --- handles nobody closes -----------------------------------------------------------------------


def _count(called: list[int], keeper: shmkv.Store, _: object) -> None:
    called.append(keeper.incr("dropped"))


def dropped(name: str) -> dict[str, Any]:
    """Garbage collection closes: by count, in cycles, from weakref callbacks and finalizers."""
    with shmkv.open(name, create=False) as keeper:
        for turn in range(50):
            store = shmkv.open(name, create=False)
            store.set("k", turn)
            called: list[int] = []
            watcher = weakref.ref(store, partial(_count, called, keeper))
            if turn % 2:
                cycle: list[Any] = [store]
                cycle.append(cycle)
                del cycle
            weakref.finalize(store, keeper.incr, "finalized")
            del store
            gc.collect()
            assert watcher() is None
            assert called == [turn + 1]
        assert keeper["finalized"] == keeper["dropped"] == 50
        assert keeper.stats().attached == 1
    return {"dropped": 50}


def views_outlive(name: str) -> dict[str, Any]:
    """A view keeps its store open until it is released, whoever drops the handle."""
    keeper = shmkv.open(name, create=False)
    keeper.set("k", b"v" * 100_000)
    views = []
    for _ in range(40):
        store = shmkv.open(name, create=False)
        views.append(store.view("k").__enter__())
        del store
    gc.collect()
    assert keeper.stats().attached == 41
    keeper.delete("k")
    for turn in range(300):
        keeper.set(f"churn{turn % 30}", b"c" * 60_000)
    assert all(view == b"v" * 100_000 for view in views)
    views.clear()
    gc.collect()
    assert keeper.stats().attached == 1
    keeper.close()
    return {"views": 40}


# --- the user's code inside an operation ---------------------------------------------------------


class Meddler:
    """What the user's code does when it is called from within: anything, closing included."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.store = shmkv.open(name, create=False, lock_timeout=0.02)

    def fresh(self) -> shmkv.Store:
        """A store that is open, with something in it."""
        if self.store.closed:
            self.store = shmkv.open(self.name, create=False, lock_timeout=0.02)
        return self.store

    def meddle(self) -> bool:
        """Use the store, then close it two times of three."""
        self.calls += 1
        store = self.store
        with suppress(shmkv.Closed):
            store.set("k", b"m" * 50_000)
            store.get("k")
            store.incr("n")
        with suppress(shmkv.Busy):
            if self.calls % 3:
                store.close()
        return True


def _meddling_keys(m: Meddler) -> type[str]:
    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            m.meddle()
            return str.__hash__(self)

        def __eq__(self, other: object) -> bool:
            m.meddle()
            return str.__eq__(self, other)

    return Key


def _calls(m: Meddler) -> Iterator[Callable[[shmkv.Store], object]]:
    """Operations that call the user's code: by keys, mappings, iterables, times, functions."""
    key = _meddling_keys(m)

    class Ttl(dt.timedelta):
        def total_seconds(self) -> float:
            m.meddle()
            return 5.0

    class When(dt.datetime):
        def utcoffset(self) -> dt.timedelta:
            m.meddle()
            return dt.timedelta()

    class Pairs(dict[str, Any]):
        def items(self) -> Any:
            m.meddle()
            return super().items()

    class Token(int):
        def __rshift__(self, other: int) -> int:
            m.meddle()
            return int(self) >> other

    def keys() -> Iterator[str]:
        for text in "kabc":
            m.meddle()
            yield text

    def change(value: Any) -> int:
        m.meddle()
        return (value if isinstance(value, int) else 0) + 1

    when = When.now(dt.UTC)
    yield lambda s: s.get(key("k"))
    yield lambda s: s.get_many([key("k"), key("k"), key("i")])
    yield lambda s: s.get_many(keys())
    yield lambda s: s.delete_many(keys())
    yield lambda s: s.set_many(Pairs(a=1, b=b"b" * 50_000))
    yield lambda s: s.set("k", 1, ttl=Ttl(seconds=5))
    yield lambda s: s.incr("i", ttl=Ttl(seconds=5))
    yield lambda s: s.touch("k", Ttl(seconds=5))
    yield lambda s: s.expire_at("k", when)
    yield lambda s: s.cas("k", 1, Token(7))
    yield lambda s: s.update_with("i", change, default=0)
    yield lambda s: s.update({key("k"): 1})
    yield lambda s: [m.meddle() for _ in s]
    yield lambda s: [m.meddle() for _ in s.items()]


EXPECTED = (shmkv.Closed, shmkv.Busy, KeyError, TypeError, ValueError)


def reentrant(name: str) -> dict[str, Any]:
    """The user's code uses and closes the store from within: Closed or a result, nothing else."""
    m = Meddler(name)
    for turn in range(40):
        for call in _calls(m):
            store = m.fresh()
            store.set_many({"k": b"v" * (40_000 if turn % 2 else 40), "a": 1, "i": 5})
            with suppress(*EXPECTED):
                call(store)
    m.fresh().close()
    assert m.calls > 400
    return {"calls": m.calls}


def _plain_calls() -> tuple[Callable[[Any], object], ...]:
    """Every operation, those that fail included; none takes code of the user."""
    return (
        lambda s: s.get("k"), lambda s: s["large"], lambda s: s["missing"], lambda s: "k" in s,
        lambda s: s.set("k", b"v" * 50_000), lambda s: s.set("k", 1 << 100),
        lambda s: s.set("k", object()), lambda s: s.set(5, 1), lambda s: s.set("k", 1, ttl=-1),
        lambda s: s.set("k", bytes(16 << 20)), lambda s: s.add("k", 1), lambda s: s.replace("k", 1),
        lambda s: s.gets("large"), lambda s: s.cas("k", 1, 1 << 90), lambda s: s.incr("i"),
        lambda s: s.incr("large"), lambda s: s.append("large", "x"),
        lambda s: s.append("large", b"x"),
        lambda s: s.pop("k"), lambda s: s.rename("k", "l"), lambda s: s.rename("missing", "l"),
        lambda s: s.view("large").__enter__(), lambda s: s.view("i").__enter__(),
        lambda s: s.view("missing").__enter__(), lambda s: s.view("short").__enter__(),
        lambda s: s.get_many(["k", "large", "i"]), lambda s: s.set_many({"k": 1, "l": 2}),
        lambda s: s.delete_many(["k", "l"]), list, lambda s: s.items(), lambda s: s.info("i"),
        lambda s: s.stats(), lambda s: s.check(), lambda s: s.clear(), lambda s: s.ttl("i"),
        lambda s: s.touch("large", 5), lambda s: s.expire_at("i", 5e9), lambda s: s._raw(),
    )  # fmt: skip


class Snare:
    """Garbage in a cycle: its finalizer meddles whenever the collector happens to run."""

    def __init__(self, m: Meddler) -> None:
        self.m = m
        self.me = self

    def __del__(self) -> None:
        self.m.meddle()


def _sprung(m: Meddler, call: Callable[[shmkv.Store], object]) -> None:
    """Run `call` so that the first object it makes that the collector knows springs the snare."""
    store = m.fresh()
    with suppress(*EXPECTED):
        store.set_many({"k": b"v", "large": b"v" * 40_000, "i": 5, "short": "s"})
    gc.disable()
    Snare(m)
    gc.enable()
    try:  # not suppress(): making one would spring the snare too early
        call(store)
    except EXPECTED as error:
        del error


def collected(name: str) -> dict[str, Any]:
    """Finalizers that the collector runs inside operations use and close the store.

    With and without an exception being handled: with one, raising another allocates.
    """
    m = Meddler(name)
    gc.set_threshold(1)
    for _ in range(30):
        for call in _plain_calls():
            _sprung(m, call)
            try:
                raise LookupError
            except LookupError:
                _sprung(m, call)
    gc.set_threshold(700)
    gc.collect()
    m.fresh().close()
    assert m.calls > 1000
    return {"calls": m.calls}


SCENES = {scene.__name__: scene for scene in (exits, dropped, views_outlive, reentrant, collected)}


def main() -> None:
    """Run one scene."""
    sys.setswitchinterval(1e-4)
    parent = os.getpid()
    result = SCENES[sys.argv[1]](sys.argv[2])
    assert os.getpid() == parent
    print(json.dumps(result))


if __name__ == "__main__":
    main()
