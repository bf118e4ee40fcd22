"""The alternatives: shmkv, lmdb, diskcache, a manager's dict, UltraDict, shared-memory-dict, a
table under a semaphore.

Each is opened by name in every worker, after the fork, with the options its own documents give for
several processes; where these leave a choice it is made for survival, not for speed. Files are in
/dev/shm. What a library needs to be cleaned up by name is told here, too.
"""

import importlib
import multiprocessing as mp
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import resource_tracker, shared_memory
from typing import Any

import posix_ipc  # type: ignore[import-not-found]

import shmkv
from tests.bench.peers.peer import MIB, SHM, Room, blocks_below, lacking, versions
from tests.bench.peers.served import AUTHKEY, KvManager, Managed
from tests.bench.survival.peer import Ops, Store
from tests.bench.survival.semtable import SemaphoreTable
from tests.bench.survival.values import COUNTERS, LONGEST, OWN, SLOTS

# What pickle raises of bytes that are not one whole pickle: its documents say "any exception".
NO_PICKLE = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError,
    TypeError, ValueError, MemoryError, AssertionError,
)  # fmt: skip


def deleter(remove: Callable[[str], Any]) -> Callable[[str], bool]:
    """For what raises KeyError when there is nothing."""

    def delete(key: str) -> bool:
        try:
            remove(key)
        except KeyError:
            return False
        return True

    return delete


class Shmkv(Store):
    """The store of this project."""

    name = "shmkv"
    options = "shmkv.open(name, size='16MiB', evict=False); no daemon"

    def version(self) -> str:
        return versions("shmkv")

    def attach(self) -> Ops:
        store = shmkv.open(self.room.name, size=16 * MIB, evict=False)

        def count(key: str) -> int:
            return int(store.get(key, 0))

        def look() -> list[str]:
            checked, stats = store.check(), store.stats()
            return [
                f"check() of every page and slot: {'clean' if checked.ok else checked.problems}",
                f"{stats.lock_recoveries} locks of the dead taken over, "
                f"{stats.folds} dead processes' belongings given back",
            ]

        return Ops(store.get, store.set, store.delete, store.incr, count, look=look)

    def stop(self) -> None:
        shmkv.unlink(self.room.name, missing_ok=True)


class Lmdb(Store):
    """py-lmdb."""

    def __init__(self, *, writemap: bool = False, check: bool = True) -> None:
        self.name = "lmdb" + writemap * " writemap" + (not check) * " without reader_check"
        self._writemap, self._check = writemap, check
        self.options = (
            f"lmdb.open(path, map_size=512 MiB, writemap={writemap}), sync and all else as "
            "py-lmdb sets it, an environment per process, a transaction per operation; "
            + ("reader_check() by every newcomer" if check else "nobody calls reader_check()")
        )

    def missing(self) -> str | None:
        return lacking("lmdb")

    def version(self) -> str:
        return f"{versions('lmdb')}, LMDB {'.'.join(map(str, self._library().version()))}"

    @staticmethod
    def _library() -> Any:
        return importlib.import_module("lmdb")

    def attach(self) -> Ops:
        path = str(self.room.folder)
        env = self._library().open(path, map_size=512 * MIB, writemap=self._writemap)
        cleared = env.reader_check() if self._check else 0
        begin = env.begin

        def get(key: str) -> Any:
            with begin() as txn:
                return txn.get(key.encode())

        def put(key: str, value: bytes) -> None:
            with begin(write=True) as txn:
                txn.put(key.encode(), value)

        def delete(key: str) -> bool:
            with begin(write=True) as txn:
                return bool(txn.delete(key.encode()))

        def incr(key: str) -> None:
            with begin(write=True) as txn:
                txn.put(key.encode(), b"%d" % (int(txn.get(key.encode(), b"0")) + 1))

        def look() -> list[str]:
            stale, size = env.reader_check(), blocks_below(self.room.folder / "data.mdb")
            return [
                f"{stale} slots of dead readers found in the end, "
                f"its file has grown to {size / MIB:.1f} MiB"
            ]

        return Ops(
            get, put, delete, incr, lambda key: int(get(key) or 0), cleared=cleared, look=look
        )


class Diskcache(Store):
    """diskcache, that is SQLite."""

    name = "diskcache"
    options = "diskcache.Cache(directory), all settings its own (WAL, synchronous=NORMAL)"

    def missing(self) -> str | None:
        return lacking("diskcache")

    def version(self) -> str:
        return (
            f"{versions('diskcache')}, SQLite {importlib.import_module('sqlite3').sqlite_version}"
        )

    def attach(self) -> Ops:
        cache = importlib.import_module("diskcache").Cache(str(self.room.folder))

        def look() -> list[str]:
            wrong = cache.check()
            return [f"its own check(): {len(wrong)} warnings"]

        return Ops(
            cache.get, cache.set, cache.delete, cache.incr,
            lambda key: int(cache.get(key) or 0), look=look,
        )  # fmt: skip


class ManagerDict(Store):
    """`multiprocessing.Manager().dict()`."""

    def __init__(self, *, lock: bool = False) -> None:
        self.name = "Manager dict" + lock * " and its lock"
        self._lock, self._managed = lock, Managed()
        self.options = "DictProxy over a unix socket; the server is not killed; " + (
            "incr under Manager().Lock(), as Python's documents say" if lock else "no incr"
        )

    def version(self) -> str:
        return self._managed.version()

    def start(self, room: Room) -> None:
        super().start(room)
        self._managed.start(room)

    def attach(self) -> Ops:
        mp.current_process().authkey = AUTHKEY
        manager: Any = KvManager(str(self._managed.socket), AUTHKEY)
        manager.connect()
        plain = manager.plain()
        ops = Ops(plain.get, plain.__setitem__, deleter(plain.__delitem__))
        if not self._lock:
            return ops
        lock = manager.lock()

        def incr(key: str) -> None:
            lock.acquire()
            try:
                plain[key] = plain.get(key, 0) + 1
            finally:
                lock.release()

        return replace(ops, incr=incr, count=lambda key: int(plain.get(key, 0)))

    def stop(self) -> None:
        self._managed.stop()


class Ultra(Store):
    """UltraDict."""

    def __init__(self, *, steal: bool = False) -> None:
        self.name = "UltraDict" + steal * " stealing"
        self._steal = steal
        self.options = (
            "shared_lock=True, buffer_size=1 MiB, dumps of its own making (the default); "
            + ("writes under lock.acquire(timeout=1.5, steal_after_timeout=True)" if steal
               else "writes take its lock by themselves")
        )  # fmt: skip

    def missing(self) -> str | None:
        return lacking("UltraDict", "atomics", "psutil")

    def version(self) -> str:
        return versions("UltraDict", "atomics")

    def _prefix(self) -> str:
        """Of the memory it names at random."""
        return f"sv{os.path.basename(self.room.name)[-6:]}"

    def start(self, room: Room) -> None:
        """Imported before the fork, so that no worker spends its life on importing."""
        super().start(room)
        importlib.import_module("UltraDict")

    def attach(self) -> Ops:
        shared_memory._SHM_NAME_PREFIX = f"/{self._prefix()}"  # type: ignore[attr-defined]
        ultra: Any = importlib.import_module("UltraDict").UltraDict(
            name=f"{self.room.name}-stream", shared_lock=True, auto_unlink=False, buffer_size=MIB
        )

        def incr(key: str) -> None:
            with ultra.lock:
                ultra[key] = ultra.get(key, 0) + 1

        def look() -> list[str]:
            left = len(list(SHM.glob(f"{self._prefix()}*")))
            return [f"{left} dumps in /dev/shm, one is in use"]

        return Ops(
            ultra.get,
            self._held(ultra, ultra.__setitem__),
            self._held(ultra, deleter(ultra.__delitem__)),
            self._held(ultra, incr),
            lambda key: int(ultra.get(key, 0)),
            unreadable=NO_PICKLE,
            look=look,
        )

    def _held(self, ultra: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        if not self._steal:
            return call

        def held(*words: Any) -> Any:
            ultra.lock.acquire(timeout=1.5, steal_after_timeout=True)
            try:
                return call(*words)
            finally:
                ultra.lock.release()

        return held

    def stop(self) -> None:
        for left in SHM.glob(f"{self._prefix()}*"):
            left.unlink(missing_ok=True)


class SharedMemoryDict(Store):
    """shared-memory-dict."""

    name = "shared-memory-dict"
    options = "size 1 MiB, SHARED_MEMORY_USE_LOCK=1 inherited by forking; no incr"

    def missing(self) -> str | None:
        return lacking("shared_memory_dict")

    def version(self) -> str:
        return versions("shared-memory-dict")

    def start(self, room: Room) -> None:
        """Its lock is made at import and shared by forking. A new store gets a new one."""
        super().start(room)
        os.environ["SHARED_MEMORY_USE_LOCK"] = "1"
        module: Any = importlib.import_module("shared_memory_dict.lock")
        module._lock = mp.Lock()
        importlib.import_module("shared_memory_dict")

    def attach(self) -> Ops:
        # Else the tracker that each worker starts unlinks the memory when that worker dies.
        resource_tracker.register = lambda name, rtype: None
        made = importlib.import_module("shared_memory_dict").SharedMemoryDict(
            name=self.room.name, size=MIB
        )
        return Ops(
            made.get, made.__setitem__, deleter(made.__delitem__), unreadable=NO_PICKLE
        )  # fmt: skip


class Semaphore(Store):
    """A table by hand under a named semaphore."""

    name = "semaphore table"
    options = (
        "fixed slots of 8 KiB in posix_ipc.SharedMemory, `with posix_ipc.Semaphore` around all"
    )
    _slots = 2 * (SLOTS * OWN + COUNTERS)

    def version(self) -> str:
        return versions("posix_ipc")

    def attach(self) -> Ops:
        name = f"{self.room.name}-table"
        create = not (SHM / f"sem.{name}").exists()
        table = SemaphoreTable(name, self._slots, LONGEST, create=create)

        def incr(key: str) -> None:
            table.change(key, lambda value: b"%d" % (int(value or b"0") + 1))

        def look() -> list[str]:
            return [f"the semaphore is {'free' if table.free() else 'taken'} in the end"]

        return Ops(
            table.get, table.set, table.delete, incr,
            lambda key: int(table.get(key) or 0), look=look,
        )  # fmt: skip

    def stop(self) -> None:
        for unlink in (posix_ipc.unlink_semaphore, posix_ipc.unlink_shared_memory):
            try:
                unlink(f"/{self.room.name}-table")
            except posix_ipc.ExistentialError:
                continue


def all_stores() -> list[Store]:
    """Everybody, installed or not."""
    return [
        Shmkv(), Lmdb(), Lmdb(writemap=True), Lmdb(check=False), Diskcache(), ManagerDict(),
        ManagerDict(lock=True), Ultra(), Ultra(steal=True), SharedMemoryDict(), Semaphore(),
    ]  # fmt: skip
