"""/dev/shm is full at every step: for every number of free pages, from none up.

A tmpfs of its own lies over /dev/shm, in a mount namespace that ends with the child; a ballast file
leaves exactly so many pages free. For each number: creating says NoSpace and leaves nothing, or
works; a store that was created fills, grows as far as there is memory, and goes on at that size;
when the ballast goes, the same store takes more; coming back from disk goes as far, or leaves
nothing. A touch of memory that is not there would end the child with SIGBUS. Run by hand, as root:

    python -m tests.stress.failing_space --n 0 --seed 1      # every number of pages
    python -m tests.stress.failing_space --pages 131 --size 2097152

Owns: the ballast and the story of one store. Does not: fail calls one by one (failing.py).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import tempfile
import time
from collections.abc import Callable

import shmkv
from tests.conftest import MIB, SHM
from tests.stress.strangers_land import NEW_MOUNTS, NotRun, in_child, leave, own_tmpfs

PAGE = 4096
SIZES = (2 * MIB, 4 * MIB)
ROOM = 8 * MIB  # of the tmpfs
NAME = "space"
LIMIT_S = 60.0


class Ballast:
    """A file that takes all of /dev/shm but some pages."""

    def __init__(self) -> None:
        self._fd = os.open(SHM / "ballast", os.O_RDWR | os.O_CREAT, 0o600)
        self._has = 0

    def leave(self, pages: int) -> None:
        """So many pages are free now."""
        shm = os.statvfs(SHM)
        wanted = self._has + (shm.f_bavail - pages) * PAGE
        if wanted < self._has:
            os.ftruncate(self._fd, wanted)
        elif wanted > self._has:
            os.posix_fallocate(self._fd, self._has, wanted - self._has)
        self._has = wanted
        assert os.statvfs(SHM).f_bavail == pages

    def go(self) -> None:
        """All pages are free again."""
        os.ftruncate(self._fd, 0)
        self._has = 0


def others() -> list[str]:
    """What lies in /dev/shm besides the ballast."""
    return [entry for entry in os.listdir(SHM) if entry != "ballast"]


def use(store: shmkv.Store, rng: random.Random, rounds: int) -> None:
    """Everything that takes memory, and a look at all of it through another handle.

    A value that the memory at hand cannot hold may be refused, for want of space; small ones never.
    """
    with shmkv.open(store.name, readonly=True) as reader:
        for i in range(rounds):
            key = f"k{rng.randrange(2000)}"
            store.set(key, b"v" * rng.randrange(1500))
            assert reader.get(key) is not None
            if i % 40 == 0:
                large = bytes(rng.randrange(20_000, store.size // 9))
                with contextlib.suppress(shmkv.NoSpace):
                    store.set("large", large)
                    assert reader.get("large") == large
            if i % 10 == 0:
                store.incr("n")
                store.append("tail", b"12345678")
        for each in reader:
            reader.get(each)
    report = store.check()
    assert report.ok, report.problems[:3]


def story(pages: int, size: int, seed: int) -> str:
    """One number of free pages; what became of it."""
    rng, ballast = random.Random(seed), Ballast()
    ballast.leave(pages)
    try:
        store = shmkv.open(NAME, size=size, max_size=size, create="new")
    except shmkv.NoSpace as refusal:
        said = str(refusal)
        if "/dev/shm" not in said or "--shm-size" not in said or others():
            raise AssertionError(f"{said!r}, and there is {others()}") from None
        ballast.go()
        with shmkv.open(NAME, size=size, create="new") as store:
            use(store, rng, 60)
        return "refused"
    use(store, rng, size // 350)
    stats, g = store.stats(), store._geometry()
    assert stats.bytes_backed <= size
    short = g["watermark"] < g["off_arena"] + (g["bases"] << g["base_shift"])
    assert not short or stats.nospace > 0, stats
    ballast.go()
    use(store, rng, size // 350)
    grown = store.stats().bytes_backed
    assert grown > stats.bytes_backed or not short, (grown, stats)
    ballast.leave(0)  # whatever it has it keeps
    use(store, rng, 200)
    store.close()
    with tempfile.TemporaryDirectory() as folder:
        with shmkv.open(NAME, size=size, path=folder) as again:
            use(again, rng, 50)
            again.snapshot()
        come_back(folder, pages, ballast, rng)
    return "short" if short else "whole"


def come_back(folder: str, pages: int, ballast: Ballast, rng: random.Random) -> None:
    """From disk into so many free pages: whole, colder, or refused and without a trace."""
    shmkv.unlink(NAME)
    ballast.leave(pages)
    try:
        with shmkv.open(NAME, path=folder) as store:
            use(store, rng, 50)
    except (shmkv.NoSpace, shmkv.PersistError) as refusal:
        if others():
            raise AssertionError(f"{str(refusal)!r}, and there is {others()}") from None
    else:
        shmkv.unlink(NAME)
    ballast.go()
    with shmkv.open(NAME, path=folder) as store:
        use(store, rng, 50)


def in_own_shm(body: Callable[[], object], options: str = "size=8m") -> int:
    """Run it in a child whose /dev/shm is a small tmpfs; 0, or minus the signal that ended it."""

    def inside() -> None:
        leave(NEW_MOUNTS)
        own_tmpfs(str(SHM), f"{options},mode=1777")
        body()

    return in_child(inside, LIMIT_S)


def no_inodes() -> None:
    """Not memory, but the number of files is exhausted. In /dev/shm with nr_inodes=2."""
    (SHM / "other").touch()
    try:
        shmkv.open(NAME, size=2 * MIB)
    except shmkv.NoSpace:
        return
    raise AssertionError("no file could be made, and it said nothing")


def one(pages: int, size: int, seed: int) -> str | None:
    """What is wrong, or None. NotRun: the machine forbids it."""
    try:
        code = in_own_shm(lambda: story(pages, size, seed), f"size={ROOM}")
    except AssertionError as error:
        return str(error).strip().splitlines()[-1]
    return f"signal {-code}" if code else None


def steps(size: int, n: int, rng: random.Random) -> list[int]:
    """All numbers of pages worth a look, or n of them, those at the borders always."""
    last = size // PAGE + 2
    if n == 0:
        return list(range(last))
    return sorted({0, 1, 2, 64, 137, last - 3, last - 1, *rng.sample(range(last), min(n, last))})


def run(seed: int, n: int) -> tuple[str, list[str]]:
    """The line of JSON, and the findings."""
    rng, found, cases, worst = random.Random(seed), [], 0, 0.0
    for size in SIZES:
        for pages in steps(size, n, rng):
            begin = time.monotonic()
            wrong = one(pages, size, seed + pages)
            worst = max(worst, time.monotonic() - begin)
            cases += 1
            if wrong is not None:
                found.append(f"--pages {pages} --size {size} --seed {seed}: {wrong}")
    line = {"name": "full_dev_shm", "seed": seed, "n": cases, "violations": len(found)}
    return json.dumps({**line, "worst_ms": round(worst * 1000, 1)}), found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--n", type=int, default=0, help="numbers of pages a size; 0: all")
    parser.add_argument("--pages", type=int, default=None)
    parser.add_argument("--size", type=int, default=SIZES[0])
    given = parser.parse_args()
    try:
        if given.pages is not None:
            print(one(given.pages, given.size, given.seed + given.pages))
            return 0
        line, found = run(given.seed, given.n)
    except NotRun as why:
        print(json.dumps({"name": "full_dev_shm", "NOT RUN": str(why)}))
        return 0
    print(*found, line, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
