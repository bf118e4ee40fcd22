"""Threads of one process: shared handles, own handles, and close while others work.

Small and bounded: what needs many processes or kills stands in `stress/` and `crash/`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import shmkv
from tests.conftest import MIB

THREADS = 4


@pytest.fixture(autouse=True)
def eager_switches() -> Iterator[None]:
    """Let threads change places as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def run(work: Callable[[int], None], count: int = THREADS) -> None:
    """Run `work(number)` in `count` threads that start together; raise what one of them raised."""
    start = threading.Barrier(count)
    errors: list[BaseException] = []

    def body(number: int) -> None:
        start.wait(30)
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            errors.append(error)

    threads = [threading.Thread(target=body, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]


def value_of(number: int) -> bytes:
    """A value from which its number can be told, of a size that depends on it."""
    return b"%d," % number * (1 + number * 7919 % 9000)


def joined(tail: bytes, value: bytes) -> bytes:
    return value + tail


def is_whole(value: bytes) -> bool:
    return value == value_of(int(value[: value.index(b",")]))


def test_counts_are_exact(store: shmkv.Store) -> None:
    def work(number: int) -> None:
        for _ in range(5000):
            store.incr("n")
            store.decr("m", 2)

    run(work)
    assert (store["n"], store["m"]) == (THREADS * 5000, -2 * THREADS * 5000)


def test_counts_are_exact_over_own_handles(open_store: Callable[..., shmkv.Store]) -> None:
    handles = [open_store() for _ in range(THREADS)]

    def work(number: int) -> None:
        for _ in range(5000):
            handles[number].incr("n")

    run(work)
    assert handles[0]["n"] == THREADS * 5000


def test_update_with_loses_nothing(store: shmkv.Store) -> None:
    def work(number: int) -> None:
        for turn in range(500):
            tail = b"%d:%d;" % (number, turn)
            store.update_with("k", partial(joined, tail), default=b"")

    run(work)
    parts = store["k"].split(b";")[:-1]
    assert len(parts) == len(set(parts)) == THREADS * 500
    for number in range(THREADS):
        mine = [part for part in parts if part.startswith(b"%d:" % number)]
        assert mine == [b"%d:%d" % (number, turn) for turn in range(500)]


def test_append_loses_nothing(store: shmkv.Store) -> None:
    def work(number: int) -> None:
        for turn in range(500):
            store.append("k", b"%d:%d;" % (number, turn))

    run(work)
    parts = store["k"].split(b";")[:-1]
    assert len(parts) == len(set(parts)) == THREADS * 500


def test_add_has_one_winner(store: shmkv.Store) -> None:
    wins: list[tuple[int, int]] = []

    def work(number: int) -> None:
        for turn in range(1000):
            if store.add(f"k{turn}", number):
                wins.append((turn, number))

    run(work)
    assert len(wins) == 1000
    assert {f"k{turn}": number for turn, number in wins} == dict(store.items())


def test_pop_and_delete_have_one_winner(store: shmkv.Store) -> None:
    store.set_many({f"k{turn}": turn for turn in range(1000)})
    popped: list[int] = []
    deleted: list[int] = []

    def work(number: int) -> None:
        for turn in range(1000):
            if number % 2:
                value = store.pop(f"k{turn}", None)
                popped.extend([] if value is None else [value])
            elif store.delete(f"k{turn}"):
                deleted.append(turn)

    run(work)
    assert sorted(popped + deleted) == list(range(1000))


def test_popitem_gives_each_item_once(store: shmkv.Store) -> None:
    store.set_many({f"k{n}": n for n in range(2000)})
    popped: list[int] = []

    def work(number: int) -> None:
        while True:
            try:
                popped.append(store.popitem()[1])
            except KeyError:
                return

    run(work)
    assert sorted(popped) == list(range(2000))


def test_values_are_never_mixed(open_store: Callable[..., shmkv.Store]) -> None:
    store = open_store(size=4 * MIB)

    def work(number: int) -> None:
        for turn in range(3000):
            key = f"k{turn * 31 % 50}"
            if (turn + number) % 2:
                store.set(key, value_of(turn * THREADS + number))
            else:
                value = store.get(key)
                assert value is None or is_whole(value)

    run(work)
    assert all(is_whole(value) for value in store.values())
    assert store.check().ok


def test_views_hold_while_others_overwrite(open_store: Callable[..., shmkv.Store]) -> None:
    store = open_store(size=8 * MIB)
    store.set("k", value_of(0))

    def work(number: int) -> None:
        for turn in range(1000):
            if number == 0:
                with store.view("k") as view:
                    first = bytes(view)
                    assert is_whole(first)
                    assert view == first
            else:
                store.set("k", value_of(turn * THREADS + number))

    run(work)
    store.close()


def test_close_while_others_work(open_store: Callable[..., shmkv.Store]) -> None:
    for _ in range(20):
        store = open_store()

        def work(number: int, store: shmkv.Store = store) -> None:
            if number == 0:
                store.close()
                return
            try:
                for turn in range(100_000):
                    store.set(f"k{turn % 100}", value_of(turn % 1000))
                    store.get(f"k{turn % 77}")
            except shmkv.Closed:
                return

        run(work)
        assert store.closed


def test_open_and_close_from_many_threads(store: shmkv.Store) -> None:
    def work(number: int) -> None:
        for _ in range(50):
            with shmkv.open(store.name, create=False) as handle:
                handle.incr("n")

    run(work)
    assert store["n"] == THREADS * 50
    assert store.stats().attached == 1


def test_creation_has_one_winner(new_name: Callable[[], str]) -> None:
    for _ in range(20):
        name = new_name()
        created: list[int] = []

        def work(number: int, name: str = name, created: list[int] = created) -> None:
            try:
                shmkv.open(name, size=2 * MIB, create="new").close()
                created.append(number)
            except shmkv.Exists:
                pass

        run(work)
        assert len(created) == 1
