"""Peers without a server: shmkv, dict, lmdb, sqlite, diskcache, UltraDict, shared-memory-dict.

Each is given as its own documents advise for speed, with its files in /dev/shm and without waiting
for a disk, since shmkv has none. `get` and `set` are the client's bound methods where there are
such methods, else the shortest function a user would write.
"""

import importlib
import itertools
import os
import sqlite3
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import shmkv
from tests.bench.peers.peer import (
    MIB,
    SHM,
    Peer,
    Room,
    blocks_below,
    each,
    lacking,
    versions,
)
from tests.bench.peers.work import COUNTER, Access, Pairs, make_pairs

BATCH = 5_000  # pairs to a transaction while filling
MAP_BYTES = 4096 * MIB


class Shmkv(Peer):
    """The store itself."""

    name = "shmkv"
    options = "shmkv.open(name, size=twice the keys and values, at least 64 MiB)"
    counted = "backed part of the whole segment"

    def version(self) -> str:
        return versions("shmkv")

    def attach(self) -> Access:
        size = max(64 * MIB, self.room.bytes_wanted(16))
        store = shmkv.open(self.room.name, size=size)

        def count() -> int:
            found = store.get(COUNTER, 0)
            assert isinstance(found, int)
            return found

        def fill(pairs: Pairs) -> None:
            pairs = iter(pairs)
            while batch := dict(itertools.islice(pairs, BATCH)):
                store.set_many(batch)

        return Access(store.get, store.set, fill, store.incr, count, store.close)

    def stop(self) -> None:
        shmkv.unlink(self.room.name, missing_ok=True)

    def held(self) -> int:
        return blocks_below(SHM / f"shmkv.{os.getuid()}.{self.room.name}")


class PlainDict(Peer):
    """The bound: what sharing nothing costs."""

    name = "dict"
    options = "a dict in each process, filled with the very key objects that are asked for"
    counted = "growth of the process that holds it"
    reference = True

    def version(self) -> str:
        return "built in"

    def attach(self) -> Access:
        plain: dict[bytes, Any] = dict(make_pairs(self.room.keys, self.room.value_bytes))
        plain[COUNTER] = 0

        def incr(key: bytes) -> None:
            plain[key] += 1

        return Access(plain.get, plain.__setitem__, plain.update, incr)

    def prepare(self) -> None:
        """Nothing: every worker has its own."""

    def bytes_for(self, pairs: Pairs) -> int:
        return self.fill(pairs)


class Lmdb(Peer):
    """py-lmdb."""

    name = "lmdb"
    options = (
        "a transaction per operation; writemap, map_async, sync and metasync off, 8 spare "
        "transactions (py-lmdb's documents on speed); /dev/shm"
    )
    counted = "blocks of its file, random order of keys"

    def missing(self) -> str | None:
        return lacking("lmdb")

    def version(self) -> str:
        return versions("lmdb")

    def attach(self) -> Access:
        env = importlib.import_module("lmdb").open(
            str(self.room.folder),
            map_size=MAP_BYTES,
            sync=False,
            metasync=False,
            writemap=True,
            map_async=True,
            max_readers=64,
            max_spare_txns=8,
        )
        begin = env.begin

        def get(key: bytes) -> Any:
            with begin() as txn:
                return txn.get(key)

        def put(key: bytes, value: bytes) -> None:
            with begin(write=True) as txn:
                txn.put(key, value)

        def incr(key: bytes) -> None:
            with begin(write=True) as txn:
                txn.put(key, b"%d" % (int(txn.get(key, b"0")) + 1))

        def fill(pairs: Pairs) -> None:
            pairs = iter(pairs)
            while batch := list(itertools.islice(pairs, BATCH)):
                with begin(write=True) as txn, txn.cursor() as cursor:
                    cursor.putmulti(batch)

        return Access(get, put, fill, incr, lambda: int(get(COUNTER) or 0), env.close)

    def held(self) -> int:
        return blocks_below(self.room.folder / "data.mdb")


class Sqlite(Peer):
    """sqlite3 of the standard library."""

    name = "sqlite"
    options = (
        "WAL, synchronous off, mmap 1 GiB, cache 64 MiB, a table WITHOUT ROWID, autocommit, "
        "statements prepared once (sqlite.org on WAL, mmap and WITHOUT ROWID); /dev/shm"
    )
    counted = "blocks of its file, random order of keys"

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    @property
    def _file(self) -> Path:
        return self.room.folder / "kv.db"

    def attach(self) -> Access:
        base = sqlite3.connect(self._file, timeout=30, isolation_level=None)
        for pragma in ("journal_mode=wal", "synchronous=off", "mmap_size=1073741824"):
            base.execute(f"pragma {pragma}")
        base.execute("pragma cache_size=-65536")
        base.execute("create table if not exists kv (k blob primary key, v) without rowid")
        execute = base.cursor().execute

        def get(key: bytes) -> Any:
            row = execute("select v from kv where k=?", (key,)).fetchone()
            return row and row[0]

        def put(key: bytes, value: bytes) -> None:
            execute("insert or replace into kv values (?,?)", (key, value))

        def incr(key: bytes) -> None:
            execute("insert into kv values (?,1) on conflict(k) do update set v=v+1", (key,))

        def fill(pairs: Pairs) -> None:
            execute("begin immediate")
            base.executemany("insert or replace into kv values (?,?)", pairs)
            execute("commit")

        return Access(get, put, fill, incr, lambda: int(get(COUNTER) or 0), base.close)

    def held(self) -> int:
        return blocks_below(self.room.folder)


class Diskcache(Peer):
    """diskcache: one SQLite file, or several behind one face."""

    counted = "blocks of its files"
    memory_share = 0.1  # it stores some 30,000 a second

    def __init__(self, shards: int = 0) -> None:
        self.name, self._shards = "diskcache", shards
        kind = "Cache"
        if shards:
            self.name, kind = "diskcache fanout", f"FanoutCache, {shards} shards"
        self.options = (
            f"{kind}; eviction_policy none, sqlite_synchronous 0, size_limit 4 GiB, timeout 30 "
            "(its tutorial's settings); /dev/shm"
        )

    def missing(self) -> str | None:
        return lacking("diskcache")

    def version(self) -> str:
        return versions("diskcache")

    def attach(self) -> Access:
        library, how = importlib.import_module("diskcache"), {"timeout": 30.0}
        settings = {"eviction_policy": "none", "sqlite_synchronous": 0, "size_limit": MAP_BYTES}
        folder = str(self.room.folder)
        if self._shards:
            cache = library.FanoutCache(folder, shards=self._shards, **how, **settings)
        else:
            cache = library.Cache(folder, **how, **settings)

        def fill(pairs: Pairs) -> None:
            if self._shards:
                return each(cache.set)(pairs)
            with cache.transact():
                each(cache.set)(pairs)

        def count() -> int:
            return int(cache.get(COUNTER) or 0)

        return Access(cache.get, cache.set, fill, cache.incr, count, cache.close)

    def held(self) -> int:
        return blocks_below(self.room.folder)


class Ultra(Peer):
    """UltraDict: a copy in every process, kept up by a stream of changes in shared memory."""

    name = "UltraDict"
    options = "shared_lock, a stream of 64 MiB, a fixed full dump; each process has a full copy"

    def missing(self) -> str | None:
        return lacking("UltraDict", "atomics", "psutil")

    def version(self) -> str:
        return versions("UltraDict", "atomics")

    def attach(self) -> Access:
        # The tracker of the standard library unlinks what a process has merely attached.
        resource_tracker.register = lambda name, rtype: None
        resource_tracker.unregister = lambda name, rtype: None
        made = importlib.import_module("UltraDict").UltraDict(
            name=f"{self.room.name}-stream",
            shared_lock=True,
            auto_unlink=False,
            buffer_size=64 * MIB,
            full_dump_size=max(64 * MIB, self.room.bytes_wanted(128)),
        )
        made.apply_update()

        def incr(key: bytes) -> None:
            with made.lock:
                made[key] = made.get(key, 0) + 1

        def count() -> int:
            return int(made.get(COUNTER, 0))

        return Access(made.get, made.__setitem__, made.update, incr, count)


class SharedMemoryDict(Peer):
    """shared-memory-dict: one pickle of everything."""

    name = "shared-memory-dict"
    options = "its lock switched on; each get unpickles the whole dict, each set pickles it anew"

    def missing(self) -> str | None:
        return lacking("shared_memory_dict")

    def version(self) -> str:
        return versions("shared-memory-dict")

    def start(self, room: Room) -> None:
        """Its lock is made at import and shared by forking: so it is imported here."""
        super().start(room)
        os.environ["SHARED_MEMORY_USE_LOCK"] = "1"
        importlib.import_module("shared_memory_dict")

    def attach(self) -> Access:
        resource_tracker.register = lambda name, rtype: None
        made = importlib.import_module("shared_memory_dict").SharedMemoryDict(
            name=self.room.name, size=self.room.bytes_wanted(128) // 2 + MIB
        )
        return Access(made.get, made.__setitem__, lambda pairs: made.update(dict(pairs)))
