"""The stores that are compared: shmkv, a plain dict, and lmdb when it is installed.

Each is given in the form a user would write for speed. lmdb: one transaction per operation, file in
/dev/shm, sync off, writemap and map_async, spare transactions kept. The context managers leave
/dev/shm as they found it.
"""

import importlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import shmkv
from tests.bench.timing import Loop

MIB = 1 << 20
SHM = "/dev/shm"
LMDB_BATCH = 10_000  # puts per transaction while filling
ABSENT = (
    "lmdb is not installed: everything beside it is left out (pip install -e '.[bench]' brings it)."
)


def _import_lmdb() -> ModuleType | None:
    try:
        return importlib.import_module("lmdb")
    except ImportError:
        return None


lmdb = _import_lmdb()


def unique_name() -> str:
    """A store name that nobody else uses."""
    return f"bench-{os.getpid()}-{secrets.token_hex(4)}"


@contextmanager
def new_store(size: int) -> Iterator[shmkv.Store]:
    """A store of its own, gone afterwards."""
    name = unique_name()
    try:
        with shmkv.open(name, size=size, max_size=size, create="new") as store:
            yield store
    finally:
        shmkv.unlink(name, missing_ok=True)


@contextmanager
def lmdb_folder() -> Iterator[str]:
    """A folder for one lmdb environment, in memory."""
    with tempfile.TemporaryDirectory(prefix="shmkv-bench-", dir=SHM) as folder:
        yield folder


def open_lmdb(folder: str) -> Any:
    """An environment; never to be carried over a fork."""
    assert lmdb is not None
    return lmdb.open(
        folder,
        map_size=4096 * MIB,
        sync=False,
        metasync=False,
        writemap=True,
        map_async=True,
        max_readers=64,
        max_spare_txns=8,
    )


@contextmanager
def new_lmdb() -> Iterator[Any]:
    """An environment of its own, or None without lmdb."""
    if lmdb is None:
        yield None
        return
    with lmdb_folder() as folder, open_lmdb(folder) as env:
        yield env


def fill_lmdb(env: Any, pairs: Iterable[tuple[bytes, bytes]]) -> None:
    """Put many pairs, many to a transaction."""
    batch: list[tuple[bytes, bytes]] = []
    for pair in pairs:
        batch.append(pair)
        if len(batch) == LMDB_BATCH:
            _put(env, batch)
            batch.clear()
    _put(env, batch)


def _put(env: Any, batch: Sequence[tuple[bytes, bytes]]) -> None:
    with env.begin(write=True) as txn, txn.cursor() as cursor:
        cursor.putmulti(batch)


# ---- loops --------------------------------------------------------------------------------------
# The same statement for dict and store: a call of a bound method. `race` gives each its own code.


def get_loop(get: Any) -> Loop:
    """get(key) for each key."""

    def loop(keys: Sequence[bytes]) -> None:
        for key in keys:
            get(key)

    return loop


def set_loop(set_: Any, value: bytes) -> Loop:
    """set(key, value) for each key."""

    def loop(keys: Sequence[bytes]) -> None:
        for key in keys:
            set_(key, value)

    return loop


def lmdb_get_loop(env: Any) -> Loop:
    """A read transaction per get."""
    begin = env.begin

    def loop(keys: Sequence[bytes]) -> None:
        for key in keys:
            with begin() as txn:
                txn.get(key)

    return loop


def lmdb_set_loop(env: Any, value: bytes) -> Loop:
    """A write transaction per put."""
    begin = env.begin

    def loop(keys: Sequence[bytes]) -> None:
        for key in keys:
            with begin(write=True) as txn:
                txn.put(key, value)

    return loop
