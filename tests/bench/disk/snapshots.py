"""Snapshots and coming back from them, beside what others do with the same pairs.

Both ways in turns, round by round; a file is written under a name that is free, since removing an
old one costs what it costs whoever removes it. The store comes back by `open(path=...)`.
"""

from __future__ import annotations

from collections.abc import Callable

import shmkv
from shmkv.persist import save
from shmkv.persist.directory import Directory
from tests.bench.disk.others import (
    Lmdb,
    Redis,
    bare_write,
    dump_pickle,
    load_pickle,
    redis_missing,
)
from tests.bench.disk.place import Place, Shape, in_child, rounds, timed
from tests.bench.peers.peer import lacking
from tests.bench.report import Figure, Table, at_least

SMALL, LARGE = Shape(1_000_000, 100), Shape(10_000, 65_536)


def _ratio(name: str, found: dict[str, float], other: str, bar: float) -> list[Figure]:
    """How many times as fast as another, if it was measured."""
    if other not in found:
        return []
    return [Figure(name, found[other] / found["shmkv"], bar=at_least(bar))]


def _seconds(found: dict[str, float]) -> list[Figure]:
    return [Figure(name, seconds, unit="s") for name, seconds in found.items()]


def _back(place: Place, name: str, folder: str, shape: Shape) -> float:
    """Unlink the store and open its directory."""
    shmkv.unlink(name, missing_ok=True)
    kept = list[shmkv.Store]()
    took = timed(lambda: kept.append(shmkv.open(name, path=folder)))
    with kept.pop() as store:
        if len(store) != shape.keys:
            raise RuntimeError(f"{len(store)} of {shape.keys} items came back")
    return took


def small(place: Place, count: int, quick: bool) -> list[Table]:
    """Pairs of 16 B + 100 B: Redis, lmdb, pickle."""
    shape = Shape(SMALL.keys // 10, SMALL.value) if quick else SMALL
    what = f"{shape.keys:,} x (16 B + {shape.value} B)"
    saved, back = Table(f"snapshot, {what}"), Table(f"coming back, {what}")
    ways: dict[str, Callable[[], float]] = {}
    redis, lmdb = None, None
    store, folder = place.store("small", shape), place.path("small")
    try:
        if (why := redis_missing()) is None:
            redis = Redis(place, shape)
            ways["Redis BGSAVE"] = redis.save
        else:
            saved.notes.append(f"Redis NOT RUN: {why}")
        if (why := lacking("lmdb")) is None:
            lmdb = Lmdb(place, shape)
            ways["lmdb compact copy"] = lmdb.save
        else:
            saved.notes.append(f"lmdb NOT RUN: {why}")
        ways["shmkv"] = lambda: timed(lambda: store.snapshot(place.path("copy")))
        found = rounds(ways, count)
        saved.figures = _seconds(found)
        saved.figures += _ratio("as fast as Redis BGSAVE", found, "Redis BGSAVE", 4)
        saved.figures += _ratio("as fast as lmdb's copy", found, "lmdb compact copy", 0.35)
        _save_in(store, folder)
        found = _come_back(place, store.name, folder, shape, redis, count)
        back.figures = _seconds(found)
        back.figures += _ratio("as fast as Redis' restart", found, "Redis restart", 2)
        back.figures += _ratio("as fast as pickle.load", found, "pickle.load", 1.2)
    finally:
        for other in (redis, lmdb):
            if other is not None:
                other.end()
        store.close()
        shmkv.unlink(store.name, missing_ok=True)
    return [saved, back]


def _save_in(store: shmkv.Store, folder: str) -> None:
    """A directory of the store, which was opened without: its snapshot lies there."""
    with Directory(folder, make=True) as directory:
        save(store, directory)
    store.close()


def _come_back(
    place: Place, name: str, folder: str, shape: Shape, redis: Redis | None, count: int
) -> dict[str, float]:
    in_child(lambda: dump_pickle(place, shape))
    ways: dict[str, Callable[[], float]] = {
        "pickle.load": lambda: float(in_child(lambda: load_pickle(place))),
        "shmkv": lambda: float(in_child(lambda: _back(place, name, folder, shape))),
    }
    if redis is not None:
        redis.save()
        ways["Redis restart"] = redis.restart
    return rounds(ways, count)


def large(place: Place, count: int, quick: bool) -> list[Table]:
    """Pairs of 16 B + 64 KiB of random bytes: a bare write."""
    shape = Shape(LARGE.keys // 10, LARGE.value) if quick else LARGE
    what = f"{shape.keys:,} x (16 B + 64 KiB)"
    saved, back = Table(f"snapshot, {what}"), Table(f"coming back, {what}")
    store, folder = place.store("large", shape), place.path("large")
    try:
        found = rounds(
            {
                "bare write and fsync": lambda: bare_write(place, shape.bytes),
                "shmkv": lambda: timed(lambda: store.snapshot(place.path("copy"))),
            },
            count,
        )
        place.path("copy")
        saved.figures = _seconds(found)
        saved.figures += _ratio("as fast as a bare write", found, "bare write and fsync", 0.6)
        _save_in(store, folder)
        name = store.name
        again = rounds(
            {"shmkv": lambda: float(in_child(lambda: _back(place, name, folder, shape)))}, count
        )
        rate = shape.bytes / again["shmkv"] / 1e9
        back.figures = [*_seconds(again), Figure("rate", rate, bar=at_least(1), unit="GB/s")]
    finally:
        store.close()
        shmkv.unlink(store.name, missing_ok=True)
    return [saved, back]
