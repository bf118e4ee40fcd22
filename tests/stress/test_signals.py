"""Signals: handlers that raise inside operations, holders of locks that are stopped.

What must hold: what a handler raises comes through, soon, also out of a wait; the key has its old
value or its new one; nothing stays locked; a stopped process costs the writers of one stripe a
bounded wait and a `Busy` that names it, everybody else nothing. The scenes stand in
signal_scenes.py; two of them need the build with fault points (`make build`).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

import shmkv
from tests.conftest import MIB
from tests.crash.faultbuild import FAULT_BUILD
from tests.stress.support import brood, run_module, settle, until


def _run(
    open_store: Callable[..., shmkv.Store], scene: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(size=16 * MIB)
    result = run_module("tests.stress.signal_scenes", scene, store.name)
    with capsys.disabled():
        print(f" {scene}: {result}", end="")
    until(lambda: store.stats().attached == 1, "all have left", 10)
    assert settle(store) == []


def test_handlers_raise_inside_operations(
    open_store: Callable[..., shmkv.Store], capsys: pytest.CaptureFixture[str]
) -> None:
    _run(open_store, "interrupted", capsys)


@pytest.mark.parametrize("scene", ["stopped", "waiting"])
def test_a_stopped_holder(
    open_store: Callable[..., shmkv.Store], scene: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not list(FAULT_BUILD.glob("_core*.so")):
        pytest.skip("NOT RUN: there is no build with fault points, 'make build' makes it")
    _run(open_store, scene, capsys)


def test_keyboard_interrupt(open_store: Callable[..., shmkv.Store]) -> None:
    """Ctrl-C ends a loop of operations as it ends any other."""
    store = open_store(size=16 * MIB)
    value = b"v" * 100_000

    def child() -> None:
        try:
            while True:
                store.set("k", value)
                store.get("k")
                store.incr("ready")
        except KeyboardInterrupt:
            store.set("interrupted", True)
        assert store.get("k") in (None, value)

    with brood() as make:
        for turn in range(20):
            store.clear()
            looping = make(child)
            until(lambda: "ready" in store, "the child loops")
            time.sleep(turn % 5 / 1000)  # another moment of its loop each time
            looping.send(signal.SIGINT)
            looping.good()
            assert store["interrupted"] is True
    assert settle(store) == []


def test_a_handler_uses_closes_and_forks(open_store: Callable[..., shmkv.Store]) -> None:
    """A handler that runs inside an operation may do anything with the store."""
    keeper = open_store(size=16 * MIB)

    def child(deed: str) -> None:
        store = shmkv.open(keeper.name, create=False)

        def handler(number: int, frame: object) -> None:
            store.set("handled", b"h" * 60_000)
            if deed == "fork" and os.fork() == 0:
                code = 1
                try:
                    store.incr("forked")
                    code = 0
                finally:
                    os._exit(code)
            if deed == "fork":
                assert os.wait()[1] == 0
            if deed == "close":
                store.close()
            signal.setitimer(signal.ITIMER_REAL, 0.005)  # one at a time

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        end = time.monotonic() + 0.5

        def enough() -> bool:
            return deed != "fork" or store.get("forked", 0) > 3

        try:
            while time.monotonic() < end or not enough():
                store.set("k", b"v" * 100_000)
                store.get("k")
                store.check()
                list(store)
        except shmkv.Closed:
            assert deed == "close"
        signal.setitimer(signal.ITIMER_REAL, 0)

    with brood() as make:
        for deed in ("use", "fork", "close"):
            make(partial(child, deed)).good()
    assert keeper["handled"] == b"h" * 60_000
    assert keeper["forked"] > 3
    assert settle(keeper) == []


def test_other_threads_work_while_the_main_thread_is_interrupted(
    open_store: Callable[..., shmkv.Store],
) -> None:
    store = open_store(size=16 * MIB)

    def child() -> None:
        stop = threading.Event()

        def body() -> None:
            while not stop.is_set():
                store.incr("thread")
                store.set("t", b"t" * 50_000)

        thread = threading.Thread(target=body)
        thread.start()
        caught = 0
        for _ in range(200):
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):
                    store.set("m", b"m" * 50_000)
            except KeyboardInterrupt:
                caught += 1
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
        assert caught == 200

    with brood() as make:
        make(child).good()
    assert settle(store) == []
