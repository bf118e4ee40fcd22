"""Where it is measured: a folder on disk, stores and processes that are gone afterwards, rounds.

Owns: `Place`, the pairs that every peer holds, `in_child`, and `rounds`, which gives every way its
turn and keeps its best quartile. Promises: folder, segments and children are gone at the end,
whatever happened. Does not measure.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import shmkv
from tests.bench.peers.team import gather
from tests.bench.timing import best_quartile, collector_off

MIB = 1 << 20
LIMIT_S = 300.0  # for one child
MEMORY = ("tmpfs", "ramfs")


class Shape(NamedTuple):
    """How many pairs, and how long their values."""

    keys: int
    value: int

    def key(self, number: int) -> bytes:
        """16 bytes."""
        return b"user:%011d" % number

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """All of them, in an order that is not that of their keys; values of random bytes."""
        draw = random.Random(7)
        order = list(range(self.keys))
        draw.shuffle(order)
        for number in order:
            yield self.key(number), draw.randbytes(self.value)

    @property
    def bytes(self) -> int:
        """Of keys and values."""
        return self.keys * (16 + self.value)

    @property
    def room(self) -> int:
        """A size of store that holds them, and as much again for garbage where they are small."""
        return int(self.bytes * 1.35) + 64 * MIB & ~(MIB - 1)


class Place:
    """A folder on disk and names of stores."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: list[str] = []

    def path(self, name: str) -> str:
        """A file of this name, which is not there."""
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return str(path)

    def name(self, word: str) -> str:
        """A name for a store."""
        name = f"bench-disk-{word}-{os.getpid()}"
        self._names.append(name)
        return name

    def store(self, word: str, shape: Shape, **options: Any) -> shmkv.Store:
        """A new store with all pairs."""
        given: dict[str, Any] = {"size": shape.room, "create": "new", "evict": False} | options
        store = shmkv.open(self.name(word), **given)
        for key, value in shape.pairs():
            store.set(key, value)
        return store

    def end(self) -> None:
        """Nothing stays."""
        for name in self._names:
            with suppress(shmkv.Error):
                shmkv.unlink(name, missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def new_place(below: Path | None) -> Iterator[Place]:
    """A folder of its own, below this one or the system's for temporary files."""
    place = Place(Path(tempfile.mkdtemp(prefix="shmkv-disk-", dir=below)))
    try:
        yield place
    finally:
        place.end()


def file_system(folder: Path) -> str:
    """The kind of file system a folder is on."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, at, what, *_ = line.split()
        if len(at) >= len(best) and (folder.resolve() / "x").is_relative_to(at):
            best, kind = at, what
    return kind


def in_child(job: Callable[[], Any]) -> Any:
    """What a forked process answers: what it made in memory goes with it."""
    return gather([job], LIMIT_S)[0]


def timed(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def rounds(ways: Mapping[str, Callable[[], float]], count: int) -> dict[str, float]:
    """Every way in turn, round by round; seconds, the best quartile of each."""
    names, found = list(ways), {name: list[float]() for name in ways}
    with collector_off():
        for number in range(count):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                found[name].append(ways[name]())
    return {name: best_quartile(values) for name, values in found.items()}
