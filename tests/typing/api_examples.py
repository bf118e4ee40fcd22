"""Every public call as a user writes it; a strict type checker must accept all and infer these.

Read by the type checker, not run: the function bodies need no store. What a store returns as a
value is `Any`, because only the caller knows what was stored under a key.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, assert_type

import shmkv


def opening() -> None:
    assert_type(shmkv.open("web"), shmkv.Store)
    with shmkv.open("web", size="256MiB", max_size=1 << 30) as store:
        assert_type(store, shmkv.Store)
    shmkv.open("web", size=1 << 22, create=False, mode=0o640, owner=33, readonly=True)
    shmkv.open("web", create="new", evict=False, codec="safe", path=None, journal=None)
    shmkv.open("web", path=Path("directory"), journal="everysec")
    shmkv.open("web", path="directory", journal="always")
    shmkv.open("web", on_mismatch="attach", on_corrupt="fail", lock_timeout=0.5)
    shmkv.unlink("web")
    shmkv.unlink("web", missing_ok=True, owner=33)
    assert_type(shmkv.names(), list[str])


def attributes(store: shmkv.Store) -> None:
    assert_type(store.name, str)
    assert_type(store.size, int)
    assert_type(store.max_size, int)
    assert_type(store.evict, bool)
    assert_type(store.readonly, bool)
    assert_type(store.closed, bool)
    assert_type(store.snapshot(), Path)
    store.snapshot("backup.shmkv", compression="zstd")
    store.snapshot(Path("backup.shmkv"), keep=3)
    store.resize("512MiB")
    store.resize(1 << 30)
    store.snapshot("backup.shmkv", compression="zstd")
    store.close()


def one_item(store: shmkv.Store) -> None:
    store.set("k", b"v")
    store.set(b"k", "v", ttl=5)
    store.set("k", None, ttl=0.5)
    store.set("k", bytearray(b"v"), ttl=dt.timedelta(minutes=5))
    assert_type(store.get("k"), Any)
    assert_type(store.get(b"k", 5), Any)
    assert_type(store["k"], Any)
    store["k"] = 1.5
    del store[b"k"]
    assert_type("k" in store, bool)
    assert_type(len(store), int)
    assert_type(store.add("k", 1, ttl=None), bool)
    assert_type(store.replace("k", 1, ttl=1), bool)
    assert_type(store.delete("k"), bool)
    assert_type(store.append("k", b"tail"), int)
    assert_type(store.append("k", "tail"), int)
    store.rename("k", b"l")
    store.clear()


def counting_and_time(store: shmkv.Store) -> None:
    assert_type(store.incr("n"), int)
    assert_type(store.incr("n", 5, default=None, ttl=60), int)
    assert_type(store.decr("n", delta=5, default=100), int)
    assert_type(store.touch("k", 5), bool)
    assert_type(store.touch("k", None), bool)
    assert_type(store.touch("k", dt.timedelta(days=1)), bool)
    assert_type(store.ttl("k"), float | None)
    assert_type(store.expire_at("k", 4e9), bool)
    assert_type(store.expire_at("k", dt.datetime.now(dt.UTC)), bool)


def tokens(store: shmkv.Store) -> None:
    value, token = store.gets("k")
    assert_type(value, Any)
    assert_type(token, int)
    assert_type(store.cas("k", b"v", token), bool)
    assert_type(store.cas("k", b"v", token, ttl=5), bool)
    store.update_with("k", lambda v: v + 1)
    store.update_with("k", lambda v: v + 1, default=0, ttl=5)


def many(store: shmkv.Store) -> None:
    words = ["a", "b"]
    assert_type(store.get_many(words), dict[str, Any])
    assert_type(store.get_many(word.encode() for word in words), dict[bytes, Any])
    store.set_many({"a": 1, "b": "two"})
    store.set_many({b"a": 1}, ttl=5)
    assert_type(store.delete_many(words), int)


def as_mapping(store: shmkv.Store) -> None:
    mapping: MutableMapping[str | bytes, Any] = store
    mapping["k"] = 1
    for key in store:
        assert_type(key, str | bytes)
    for key, value in store.items():
        assert_type(key, str | bytes)
        assert_type(value, Any)
    for value in store.values():
        assert_type(value, Any)
    store.pop("k")
    store.pop("k", None)
    store.setdefault("k", 1)
    store.update({"k": 1})
    store.update(k=1)
    assert_type(store.popitem(), tuple[str | bytes, Any])


def walking(store: shmkv.Store) -> None:
    assert_type(store.scan(), Iterator[str | bytes])
    assert_type(store.scan(prefix="a", match="*b"), Iterator[str | bytes])
    store.scan(prefix=b"a")
    with store.view("k") as view:
        assert_type(view, Any)  # a memoryview; of an array an ndarray


def looking(store: shmkv.Store) -> None:
    stats = store.stats()
    assert_type(stats, shmkv.Stats)
    assert_type(stats.items, int)
    assert_type(stats.size, int)
    assert_type(stats.max_size, int)
    assert_type(stats.bytes_live, int)
    assert_type(stats.hits, int)
    assert_type(stats.misses, int)
    assert_type(stats.sets, int)
    assert_type(stats.deletes, int)
    assert_type(stats.expired, int)
    assert_type(stats.evictions, int)
    assert_type(stats.lock_recoveries, int)
    assert_type(stats.attached, int)
    assert_type(stats.as_dict(), dict[str, Any])
    report = store.check()
    assert_type(report, shmkv.Report)
    assert_type(report.ok, bool)
    for problem in report.problems:
        assert_type(problem, str)
    info = store.info("k")
    assert_type(info, shmkv.Info)
    assert_type(info.type, str)
    assert_type(info.size, int)
    assert_type(info.ttl, float | None)


def errors() -> None:
    try:
        shmkv.open("web", create=False)
    except shmkv.NotFound as error:
        found: FileNotFoundError = error
        print(found)
    except (shmkv.Busy, shmkv.Full, shmkv.TooLarge, shmkv.CodecError) as error:
        base: shmkv.Error = error
        print(base)
