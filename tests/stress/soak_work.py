"""Who lives in a soak: one resident for the whole time, and visitors that come and go.

Owns: what they do. The resident works without end: every kind of value, big and small, deadlines,
views, scans, refusals, second handles, threads and forks of its own. A visitor attaches, works some
milliseconds and leaves, in one of three ways, or is killed from outside before. `Planted` makes the
resident lose something on purpose for each sample that is taken: the soak must find it, however
fast the machine is.

Keys are bounded, so that everything that grows without end is a leak.
Does not: measure or judge.
"""

from __future__ import annotations

import ctypes
import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

import shmkv
from tests.stress import values
from tests.stress.support import Child
from tests.stress.values import Stamp

KEYS = 1500
LARGEST = 300_000  # of a value; the store takes up to an eighth of its arena
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
REFUSED = (KeyError, TypeError, ValueError, OverflowError, shmkv.Full, shmkv.Busy)


class Planted(Enum):
    """What the resident may be told to lose."""

    NOTHING = 0
    MEMORY = 1
    DESCRIPTOR = 2
    THREAD = 3
    VIEW = 4


# Lost for each sample. Half of the 24 samples or more lie between the medians that are compared: at
# least 240 views, and a row has 32 pins.
AT_A_TIME = {Planted.MEMORY: 1, Planted.DESCRIPTOR: 1, Planted.THREAD: 1, Planted.VIEW: 20}


def length(rng: random.Random) -> int:
    """Mostly small; each order of magnitude as likely as another beyond."""
    most = 100 if rng.random() < 0.7 else LARGEST
    return int(most ** rng.random())


class Worker:
    """Operations at random; what comes back is whole."""

    def __init__(self, store: shmkv.Store, writer: int, seed: int) -> None:
        self.store, self.writer, self.rng = store, writer, random.Random(seed)
        self.seq = 0

    def step(self) -> None:
        """One operation."""
        key = int(KEYS * self.rng.random() ** 2)
        with suppress(*REFUSED):
            self.rng.choice(self._moves)(self, key)

    def put(self, key: int) -> None:
        self.seq += 1
        value = values.make(Stamp(key, self.writer, self.seq), length(self.rng))
        ttl = self.rng.choice((None, None, 0.02, 0.2, 1000))
        self.store.set(f"v{key}", value, ttl=ttl)

    def get(self, key: int) -> None:
        value = self.store.get(f"v{key}")
        assert value is None or values.parse(value).key == key

    def view(self, key: int) -> None:
        with self.store.view(f"v{key}") as view:
            assert values.parse(view).key == key

    def many(self, key: int) -> None:
        keys = [f"v{(key + i) % KEYS}" for i in range(10)]
        for name, value in self.store.get_many(keys).items():
            assert values.parse(value).key == int(str(name)[1:])
        self.store.delete_many(keys[:2])

    def shaped(self, key: int) -> None:
        value = {"n": key, "t": (1, "x"), "s": {1, 2}, "l": [None, True, 1.5, 1 << 70]}
        self.store[f"s{key % 50}"] = value
        assert self.store.get(f"s{key % 50}", value).keys() == value.keys()

    def count(self, key: int) -> None:
        self.store.incr(f"c{key % 100}")
        self.store.touch(f"c{key % 100}", 5)

    def change(self, key: int) -> None:
        value, token = self.store.gets(f"c{key % 100}")
        self.store.cas(f"c{key % 100}", value, token, ttl=1)

    def tail(self, key: int) -> None:
        if self.store.append(f"a{key % 20}", b"tail" * 20) > 20_000:
            self.store.delete(f"a{key % 20}")

    def wrong(self, key: int) -> None:
        self.store.incr(f"v{key}", default=None)

    def drop(self, key: int) -> None:
        self.store.pop(f"v{key}", None)

    _moves: tuple[Callable[[Worker, int], None], ...] = (
        put, put, put, put, get, get, get, get, view, many, shaped, count, change, tail, wrong,
        drop,
    )  # fmt: skip


# ---- visitors -----------------------------------------------------------------------------------


def visit(name: str, writer: int, seed: int) -> None:
    """A visitor's life; the end of it is one of those that programs have."""
    rng = random.Random(seed)
    store = shmkv.open(name, create=False, lock_timeout=30)
    worker = Worker(store, writer, seed)
    end = time.monotonic() + rng.uniform(0.001, 0.05)
    while time.monotonic() < end:
        worker.step()
    way = rng.randrange(3)
    if way == 0:
        store.close()
    elif way == 1:
        with suppress(KeyError), store.view("v1"):
            os.kill(os.getpid(), signal.SIGKILL)


# ---- the resident -------------------------------------------------------------------------------


def settle_allocator() -> None:
    """Large blocks go back to the system when they are freed; else fragments grow for a minute."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 16_384)
    libc.mallopt(_M_ARENA_MAX, 1)


class Resident:
    """One process for the whole time.

    The board: its rounds, its slowest operation (ns), whether it is to leave, the samples taken.
    """

    def __init__(self, store: shmkv.Store, board: memoryview[int], planted: Planted) -> None:
        self.store, self.board, self.planted = store, board, planted
        self.lost: list[object] = []

    def live(self, seed: int) -> None:
        """Until the third word of the board says to leave."""
        settle_allocator()
        gc.freeze()
        worker = Worker(self.store, 1, seed)
        while not self.board[2]:
            for _ in range(100):
                started = time.monotonic_ns()
                worker.step()
                self.board[1] = max(self.board[1], time.monotonic_ns() - started)
            self._seldom(self.board[0], seed)
            wanted = AT_A_TIME.get(self.planted, 0) * self.board[3]
            while len(self.lost) < wanted:
                self._lose()
            self.board[0] += 1
        self.lost.clear()

    def _seldom(self, turn: int, seed: int) -> None:
        store = self.store
        match turn % 8:
            case 0:
                assert all(isinstance(key, str) for key in store.scan(prefix="v"))
            case 1:
                with shmkv.open(store.name, readonly=turn % 16 == 1, create=False) as other:
                    other.get("v1")
            case 2:
                thread = threading.Thread(target=Worker(store, 2, seed + turn).step)
                thread.start()
                thread.join()
            case 3:
                Child(Worker(store, 3, seed + turn).step).good()
            case 4:
                store.stats()
                views = [store.view(f"v{n}") for n in range(60)]
                for view in views:
                    with suppress(KeyError), view:
                        pass
            case _:
                pass

    def _lose(self) -> None:
        match self.planted:
            case Planted.MEMORY:
                self.lost.append(os.urandom(1_000_000))
            case Planted.DESCRIPTOR:
                self.lost.append(os.open("/dev/null", os.O_RDONLY))  # nobody closes a number
            case Planted.THREAD:
                stay = threading.Event()
                threading.Thread(target=stay.wait, daemon=True).start()
                self.lost.append(stay)
            case _:
                self.store.add("lost", b"l" * 5000)
                with suppress(KeyError):  # evicted before it was looked at
                    self.lost.append(self.store.view("lost").__enter__())
