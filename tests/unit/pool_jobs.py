"""What the workers of test_pools.py do: in a module of its own, which spawned workers can import.

Owns the jobs, and the four ways in which a worker has its store: as an argument, from its
initializer, from a global of the module it imports, by inheritance from the process that forked it.
Values tell by themselves whether they are whole.

Does not: know pytest; a worker imports nothing but the standard library and shmkv.
"""

from __future__ import annotations

import functools
import os
from typing import NoReturn

import shmkv

NAME_VARIABLE = "SHMKV_POOL_JOBS_STORE"
KEYS = 5

_store: shmkv.Store | None = None


def initialize(store: shmkv.Store) -> None:
    """The initializer of a pool; its argument travels once to each worker, not with each job."""
    global _store
    _store = store


@functools.cache
def global_store() -> shmkv.Store:
    """The store of this process, opened by the first job that asks: the name is all it needs."""
    return shmkv.open(os.environ[NAME_VARIABLE], create=False)


def make(writer: int, turn: int) -> bytes:
    """A value from which one can tell that it is whole; its length changes with every turn."""
    return b"%d:%d," % (writer, turn) * (1 + turn * 7919 % 6000)


def is_whole(value: bytes) -> bool:
    """Is it what one `make` made?"""
    writer, turn = value[: value.index(b",")].split(b":")
    return value == make(int(writer), int(turn))


def work(store: shmkv.Store, job: int) -> tuple[int, int]:
    """A bit of everything; gives (process id, job)."""
    for turn in range(100):
        store.incr("count")
        store.set(f"shared{turn % KEYS}", make(job, turn))
        value = store.get(f"shared{(turn + job) % KEYS}")
        assert value is None or is_whole(value)
        store.update_with("sum", lambda total: total + job, default=0)
    store[f"done{job}"] = os.getpid()
    return os.getpid(), job


def work_argument(task: tuple[shmkv.Store, int]) -> tuple[int, int]:
    """The store came with the job."""
    return work(*task)


def work_initialized(job: int) -> tuple[int, int]:
    """The store came with the initializer, or was there when the process was forked."""
    assert _store is not None
    return work(_store, job)


def work_global(job: int) -> tuple[int, int]:
    """The store is opened by name, once for each process."""
    return work(global_store(), job)


def read(store: shmkv.Store, key: str) -> object:
    """A value."""
    return store[key]


def read_inherited(key: str) -> object:
    """A value from what was there when the process was forked."""
    assert _store is not None
    return _store[key]


def one(job: int) -> int:
    """As little as possible with the store of the initializer."""
    assert _store is not None
    return _store.incr("count")


def write_for_ever(store: shmkv.Store, worker: int) -> NoReturn:
    """Write until killed; `pid<worker>` and `turns<worker>` say who and how far."""
    store[f"pid{worker}"] = os.getpid()
    turn = 0
    while True:
        turn += 1
        store.set(f"shared{turn % KEYS}", make(worker, turn))
        store.delete(f"shared{(turn + 2) % KEYS}")
        store.append("tail", b"t")
        if turn % 20 == 0:
            store.delete("tail")
        store.incr(f"turns{worker}")
