"""A disk that is really full, at every step: for every number of free pages, from none up.

A small tmpfs of its own is the disk of a store with a journal; a ballast file leaves exactly so
many pages free. Then the store is written to and saved until the disk refuses, is looked at while
it is full, and when there is room again goes on, and comes back: with every acknowledged write. By
hand, as root:

    python -m tests.stress.disk_space --n 0              # every number of pages
    python -m tests.stress.disk_space --pages 7

Owns: the disk, the ballast, the story of one store. Does not: fail calls one by one (disk_deaths).
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import shmkv
from shmkv import launch
from shmkv.persist import verify
from tests.conftest import MIB
from tests.stress.strangers_land import NEW_MOUNTS, NotRun, in_child, leave, own_tmpfs

PAGE = 4096
ROOM = MIB
MOST = 40  # pages; the writes and the save of the story take fewer
LIMIT_S = 60.0


def full(error: OSError) -> None:
    """It says that the disk is full, and what helps."""
    assert error.errno == errno.ENOSPC, error
    assert "No space left" in str(error), error


class Disk:
    """A tmpfs with a ballast."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._fd = os.open(folder / "ballast", os.O_RDWR | os.O_CREAT, 0o600)

    def leave(self, pages: int) -> None:
        """So many pages are free."""
        free = os.statvfs(self.folder).f_bavail
        os.posix_fallocate(self._fd, 0, max(free - pages, 0) * PAGE)
        assert os.statvfs(self.folder).f_bavail == pages

    def go(self) -> None:
        """All are."""
        os.ftruncate(self._fd, 0)


def story(folder: Path, name: str, pages: int) -> None:
    """One store on a disk with so many free pages."""
    launch.ensure = lambda *args, **how: None
    disk, where = Disk(folder), folder / "store"
    known: dict[str, bytes] = {}
    with shmkv.open(
        name, size="2MiB", path=where, journal="always", lock_timeout=0.02, create="new"
    ) as store:
        for i in range(8):
            store[f"k{i}"] = known[f"k{i}"] = bytes(200)
        store.snapshot()
        disk.leave(pages)
        for i in range(MOST):
            try:
                store[f"k{i % 20}"] = os.urandom(900)
            except shmkv.PersistError as error:
                full(error)
            else:
                known[f"k{i % 20}"] = store[f"k{i % 20}"]
        with contextlib.suppress(shmkv.PersistError):
            store.snapshot()
        verdict = verify(str(where))
        assert verdict, verdict.problems
        memory = {key: store[key] for key in store}
    shmkv.unlink(name)
    try:
        with shmkv.open(name, path=where, lock_timeout=0.02) as store:
            holds(store, known, memory)
    except shmkv.PersistError as error:
        full(error)
        assert name not in shmkv.names()
    shmkv.unlink(name, missing_ok=True)
    disk.go()
    with shmkv.open(name, path=where) as store:
        holds(store, known, memory)
        store["later"] = 1
        store.snapshot()
        assert not [one for one in os.listdir(where) if one.endswith(".part")]
    shmkv.unlink(name)
    with shmkv.open(name, path=where) as store:
        assert store["later"] == 1
    verdict = verify(str(where))
    assert verdict, verdict.problems


def holds(store: shmkv.Store, known: dict[str, bytes], memory: dict[object, object]) -> None:
    """Every key is as it was acknowledged, or as it was in memory, which is later."""
    for key, value in known.items():
        assert store[key] in (value, memory[key]), key
    assert set(store) <= set(memory)


def one(pages: int) -> str | None:
    """What is wrong, or None. NotRun: the machine forbids it."""
    name = f"t{os.getpid()}-full-{pages}"
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:

        def inside() -> None:
            warnings.simplefilter("ignore")
            leave(NEW_MOUNTS)
            own_tmpfs(folder, f"size={ROOM},mode=700")
            story(Path(folder), name, pages)

        try:
            code = in_child(inside, LIMIT_S)
        except AssertionError as error:
            return str(error).strip()[-900:]
        finally:
            shmkv.unlink(name, missing_ok=True)
    return f"signal {-code}" if code else None


def run(seed: int, n: int) -> tuple[str, list[str]]:
    """The line of JSON, and the findings; n = 0: every number of pages."""
    step = 1 if n == 0 else max(MOST // n, 1)
    found, cases, worst = [], 0, 0.0
    for pages in range(0 if n == 0 else seed % step, MOST, step):
        begun = time.monotonic()
        wrong = one(pages)
        worst, cases = max(worst, time.monotonic() - begun), cases + 1
        if wrong is not None:
            found.append(f"--pages {pages}: {wrong}")
    line = {"name": "full disk", "seed": seed, "n": cases, "violations": len(found)}
    return json.dumps({**line, "worst_ms": round(worst * 1000, 1)}), found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=0, help="numbers of pages; 0: all")
    parser.add_argument("--pages", type=int, default=None)
    given = parser.parse_args()
    try:
        if given.pages is not None:
            print(one(given.pages))
            return 0
        line, found = run(given.seed, given.n)
    except NotRun as why:
        print(json.dumps({"name": "full disk", "not_run": str(why)}))
        return 77
    print(*found, line, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
