"""The journal's price, how fast it is replayed, and a store that outlives all who used it.

`everysec`: one writer of 100 B values, as the store was opened (its daemon in a process of its own
leads the rounds), beside a store without a journal, in turns. `always`: beside a bare append of 150
B with fdatasync in the same folder, in turns; then eight writers beside one. Replay: a directory
with nothing but journals is opened. Warm: every user of a full store is killed; who attaches then
finds all of it.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import shmkv
from shmkv.config import Journal
from tests.bench.disk.place import MIB, Place, Shape, in_child, rounds, timed
from tests.bench.peers.team import FORK, gather
from tests.bench.report import Figure, Table, at_least, at_most

VALUE = bytes(range(100))
SLICE_S = 0.5  # of a way, in a round
SYNCED = 100  # writes of a turn with always
SLICE = 20  # ... beside a bare append
APPENDED = 150  # bytes: about what a round of one such write takes
UP_S = 30.0


def _journaled(place: Place, word: str, mode: Journal, size: int) -> shmkv.Store:
    """A store with a journal; for `everysec` with its daemon."""
    folder = place.path(word)
    store = shmkv.open(
        place.name(word), size=size, create="new", path=folder, journal=mode, evict=False
    )
    return store


def _gone(store: shmkv.Store) -> None:
    store.close()
    shmkv.unlink(store.name, missing_ok=True)


def _per_write(store: shmkv.Store, keys: Sequence[bytes]) -> Callable[[], float]:
    """Seconds for a write, over a slice of time."""

    def turn() -> float:
        set_, done, began = store.set, 0, time.perf_counter()
        while True:
            for key in keys[done % len(keys) : done % len(keys) + 1000]:
                set_(key, VALUE)
            done += 1000
            if (took := time.perf_counter() - began) > SLICE_S:
                return took / done

    return turn


def _everysec(place: Place, keys: int, count: int) -> list[Figure]:
    shape = Shape(keys, len(VALUE))
    plain = place.store("plain", shape)
    logged = _journaled(place, "everysec", "everysec", shape.room)
    try:
        for key, value in shape.pairs():
            logged.set(key, value)
        draw = random.Random(5)
        asked = [shape.key(draw.randrange(keys)) for _ in range(200_000)]
        found = rounds({"plain": _per_write(plain, asked), "log": _per_write(logged, asked)}, count)
    finally:
        _gone(plain)
        _gone(logged)
    what = f"everysec, {keys:,} keys"
    return [
        Figure(f"{what}: a write", found["log"] * 1e9, unit="ns"),
        Figure(f"{what}: rate / no journal", found["plain"] / found["log"], bar=at_least(0.5)),
    ]


def _synced(store: shmkv.Store, first: int, count: int) -> None:
    for number in range(count):
        store.set(b"k%d:%d" % (first, number % 50), VALUE)


def _append(fd: int) -> None:
    line = bytes(APPENDED)
    for _ in range(SLICE):
        os.write(fd, line)
        os.fdatasync(fd)


def _slices(name: str, folder: str) -> dict[str, float]:
    """One writer and the bare append, a few writes each in turn: a disk has its moods."""
    fd = os.open(os.path.join(folder, "append"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        with shmkv.open(name, create=False, path=folder) as store:
            ways = {
                "append": lambda: timed(lambda: _append(fd)) / SLICE,
                "one": lambda: timed(lambda: _synced(store, 0, SLICE)) / SLICE,
            }
            return rounds(ways, 8 * SYNCED // SLICE)
    finally:
        os.close(fd)


def _together(name: str, path: str, writers: int) -> float:
    """Seconds for a write when so many processes write at once."""
    begin = FORK.Event()

    def job(first: int) -> float:
        with shmkv.open(name, create=False, path=path) as store:
            _synced(store, first, SLICE)  # open files, warm
            ready.release()
            begin.wait(UP_S)
            _synced(store, first, SYNCED)
            return time.monotonic()

    ready = FORK.Semaphore(0)
    started = FORK.RawValue("d", 0.0)

    def start() -> float:
        for _ in range(writers):
            ready.acquire(timeout=UP_S)
        started.value = time.monotonic()
        begin.set()
        return 0.0

    jobs: list[Callable[[], float]] = [partial(job, number) for number in range(writers)]
    ends = gather([*jobs, start], 2 * UP_S)
    return float(max(ends[:-1]) - started.value) / (SYNCED * writers)


def _always(place: Place, count: int) -> list[Figure]:
    store = _journaled(place, "always", "always", 64 * MIB)
    path = str(place.folder / "always")
    try:
        found = rounds(
            {
                "1": lambda: _together(store.name, path, 1),
                "8": lambda: _together(store.name, path, 8),
            },
            3 * count,
        )
        alone = in_child(lambda: _slices(store.name, path))
    finally:
        _gone(store)
    return [
        Figure("a bare append and fdatasync", alone["append"] * 1e6, unit="us"),
        Figure("always: a write", alone["one"] * 1e6, unit="us"),
        Figure("always: rate / bare append", alone["append"] / alone["one"], bar=at_least(0.6)),
        Figure("always: 8 writers / one", found["1"] / found["8"], bar=at_least(3)),
    ]


def _replay(place: Place, keys: int, count: int) -> list[Figure]:
    """Records are counted as they stand in the files."""
    shape = Shape(keys, len(VALUE))
    store = _journaled(place, "replay", "everysec", shape.room)
    path, name = str(place.folder / "replay"), store.name
    for key, value in shape.pairs():
        store.set(key, value)
    store._journal_sync()
    _gone(store)

    def back() -> float:
        began = time.perf_counter()
        with shmkv.open(name, path=path) as found:
            took = time.perf_counter() - began
            if len(found) != keys:
                raise RuntimeError(f"{len(found)} of {keys} keys came back")
        shmkv.unlink(name)
        return took

    took = rounds({"replay": lambda: float(in_child(back))}, count)["replay"]
    rate = keys / took / 1e6
    return [Figure("replay, journals only, keys", rate, bar=at_least(0.5), unit="M/s")]


def journal(place: Place, count: int, quick: bool) -> list[Table]:
    """What a journal costs, and how it is replayed."""
    most = 100_000 if quick else 1_000_000
    table = Table("journal, values of 100 B")
    table.figures = _everysec(place, 10_000, count) + _everysec(place, most, count)
    table.figures += _always(place, count)
    table.figures += _replay(place, most, min(count, 4))
    return [table]


# ---- warm restart -------------------------------------------------------------------------------


def _user(name: str, keys: int, shape: Shape, up: Any) -> None:
    draw = random.Random(os.getpid())
    with shmkv.open(name, create=False) as store:
        up.release()
        while True:
            store.set(shape.key(draw.randrange(keys)), VALUE[:1] * shape.value)


def warm(place: Place, count: int, quick: bool) -> list[Table]:
    """A full store whose users were all killed."""
    shape = Shape(1000, 16_000) if quick else Shape(60_000, 16_000)
    took = list[float]()
    store = place.store("warm", shape, size=int(shape.bytes * 1.1) + 8 * MIB)
    name, up = store.name, FORK.Semaphore(0)
    store.close()
    missing = 0
    for _ in range(count):
        users = [
            FORK.Process(target=_user, args=(name, shape.keys, shape, up), daemon=True)
            for _ in range(4)
        ]
        for user in users:
            user.start()
        for _user_up in users:
            up.acquire(timeout=UP_S)
        for user in users:
            with suppress(ProcessLookupError):
                os.kill(user.pid or 0, signal.SIGKILL)
        for user in users:
            user.join(UP_S)
        began = time.perf_counter()
        with shmkv.open(name, create=False) as store:
            took.append(time.perf_counter() - began)
            values = (store.get(shape.key(number)) for number in range(shape.keys))
            missing += sum(value is None or len(value) != shape.value for value in values)
            size = store.stats().size
    shmkv.unlink(name)
    table = Table(
        f"warm restart, {shape.bytes / 1e9:.2f} GB in {size / 1e9:.2f} GB, its users killed"
    )
    table.figures = [
        Figure("attach, the slowest", max(took) * 1e3, bar=at_most(100), unit="ms"),
        Figure("keys missing or of another length", missing, bar=at_most(0), unit="keys"),
    ]
    return [table]
