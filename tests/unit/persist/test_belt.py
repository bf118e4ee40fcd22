"""Buffers that go round: order, errors, ends, and what happens where no thread can be started."""

from __future__ import annotations

import _thread
import threading
from pathlib import Path

import pytest

import shmkv
from shmkv.persist.belt import BUFFERS, Belt

WAIT_S = 60.0


def refuse(_body: object, _args: object) -> None:
    raise RuntimeError("can't start new thread")


def test_one_thread_keeps_the_order() -> None:
    seen: list[int] = []
    with Belt[int](lambda buffer, n: seen.append(n + buffer[0]), 1) as belt:
        for number in range(100):
            buffer = belt.take()
            buffer[0] = number
            belt.put(buffer, 1000)
    assert seen == [1000 + number for number in range(100)]


def test_rest_waits_for_all() -> None:
    seen: list[int] = []
    with Belt[int](lambda _buffer, n: seen.append(n), 1, 3) as belt:
        for number in range(20):
            belt.put(belt.take(), number)
        belt.rest()
        assert sorted(seen) == list(range(20))
        belt.rest()


@pytest.mark.parametrize("threads", [1, 4])
def test_more_than_the_buffers_is_never_under_way(threads: int) -> None:
    gate, busy = threading.Event(), threading.Semaphore(0)

    def step(_buffer: bytearray, _n: int) -> None:
        busy.release()
        assert gate.wait(WAIT_S)

    with Belt[int](step, 1, threads) as belt:
        for number in range(BUFFERS):
            belt.put(belt.take(), number)
        for _ in range(threads):
            assert busy.acquire(timeout=WAIT_S)
        assert not busy.acquire(blocking=False)
        gate.set()


def test_what_a_thread_raises_comes_to_who_fills_and_the_rest_is_left_alone() -> None:
    seen: list[int] = []

    def step(_buffer: bytearray, number: int) -> None:
        if number == 1:
            raise OSError(28, "no room")
        seen.append(number)

    def fill() -> None:
        with Belt[int](step, 1) as belt:
            for number in range(1000):
                belt.put(belt.take(), number)

    with pytest.raises(OSError, match="no room"):
        fill()
    assert seen == [0]


def test_an_error_of_the_last_step_is_raised_at_the_end() -> None:
    def step(_buffer: bytearray, _number: int) -> None:
        raise ValueError("the last")

    with pytest.raises(ValueError, match="the last"), Belt[int](step, 1) as belt:
        belt.put(belt.take(), 0)


def test_no_thread_is_left_when_who_fills_raises() -> None:
    def fill() -> None:
        with Belt[int](lambda _buffer, _n: None, 1, 4) as belt:
            belt.put(belt.take(), 0)
            raise KeyError("mine")

    before = threading.active_count()
    with pytest.raises(KeyError):
        fill()
    assert threading.active_count() == before


def test_without_threads_the_work_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    seen: list[int] = []
    with Belt[int](lambda _buffer, n: seen.append(n), 1, 4) as belt:
        for number in range(10):
            belt.put(belt.take(), number)
            assert seen[-1] == number


def test_a_store_is_saved_and_comes_back_without_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store_name: str
) -> None:
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    name, wanted = store_name, {f"k{n}": bytes(n) for n in range(0, 400_000, 20_000)}
    with shmkv.open(name, size="16MiB", create="new", path=tmp_path / "d") as store:
        store.set_many(wanted)
        store.snapshot()
    shmkv.unlink(name)
    with shmkv.open(name, path=tmp_path / "d") as store:
        assert dict(store.items()) == wanted


def test_a_thread_that_dies_before_its_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no memory for it: the interpreter tells nobody."""
    monkeypatch.setattr("shmkv.thread.START_S", 0.01)
    monkeypatch.setattr(_thread, "start_new_thread", lambda _body, _args: 1)
    done: list[int] = []
    with Belt[int](lambda _buffer, n: done.append(n), 16) as one:
        for n in range(9):
            one.put(one.take(), n)
        one.rest()
    assert done == list(range(9))
