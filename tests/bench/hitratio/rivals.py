"""Redis and memcached on the same requests, with the same resident memory, where installed.

Each listens on a unix socket in a folder of its own and is ended by its process id. Their limits
are settings, not resident memory: a first pass over the same requests tells how much memory a limit
makes resident, the second runs with the limit that follows from it. Resident is what the server
has grown by since it started empty; a store's is its size.

Redis (allkeys-lru) is asked `SET key value NX GET`: one command that reads, and writes on a miss.
memcached is asked get, then set. Redis stamps accesses in whole seconds, and a replay is quicker
than life: where it turns its memory over within seconds its choice is nearly random. Its figure
tells what it does here, not what it would do over days.
"""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from shmkv.replay import Chunk, Trace, replay, survey
from tests.bench.hitratio.corpus import MIB, Work
from tests.bench.hitratio.ratios import LARGE
from tests.bench.peers.peer import Server

QUICK = 30_000
LEAST = 8 * MIB  # smaller ones are mostly the servers' own tables
BATCH = 8  # commands sent together: what waits in buffers counts as Redis's memory
SECONDS = 60  # a server that does not answer so long is given up


@dataclass(frozen=True)
class Beside:
    """One of them, or shmkv, on one trace."""

    trace: str
    who: str
    size: int
    """Bytes it was to have."""
    resident: int
    """Bytes it had."""
    misses_to_lru: float
    """Of LRU's with `size` bytes."""
    ours_to_lru: float
    """The same of a store that has as many bytes as this one had."""
    failed: int

    def line(self) -> str:
        """A row of the table."""
        return (
            f"  {self.trace:<14}{self.who:<12}{self.size / MIB:>8.1f}{self.resident / MIB:>10.1f}"
            f"{self.misses_to_lru:>8.3f}{self.ours_to_lru:>8.3f}{self.failed:>8}"
        )


class Rival:
    """A server that runs, and a connection to it."""

    program: ClassVar[str]

    def __init__(self, folder: Path, limit: int) -> None:
        self.server = Server(self.command(folder / "socket", limit), folder / "socket")
        try:
            self.end = socket.socket(socket.AF_UNIX)
            self.end.settimeout(SECONDS)
            self.end.connect(str(folder / "socket"))
            self.answers = self.end.makefile("rb")
            self.misses = self.failed = 0
            self.ready(limit)
        except BaseException:
            self.server.stop()
            raise

    @classmethod
    def command(cls, path: Path, limit: int) -> list[str]:
        """How it is started."""
        raise NotImplementedError

    def ready(self, limit: int) -> None:
        """What is set before the first request."""

    def run(self, chunk: Chunk, values: memoryview) -> None:
        """Take the requests of a chunk."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it."""
        self.answers.close()
        self.end.close()
        self.server.stop()


class Redis(Rival):
    """Redis with allkeys-lru."""

    program = "redis-server"

    @classmethod
    def command(cls, path: Path, limit: int) -> list[str]:
        listen = ["--port", "0", "--unixsocket", str(path), "--dir", str(path.parent)]
        plain = ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        return [cls.program, *listen, *plain, "--maxmemory-policy", "allkeys-lru"]

    def ready(self, limit: int) -> None:
        """Its limit counts what it has when it is empty, too."""
        self.end.sendall(b"INFO memory\r\n")
        length = int(self.answers.readline()[1:])
        info = self.answers.read(length + 2).decode()
        (used,) = (line[12:] for line in info.splitlines() if line.startswith("used_memory:"))
        self.end.sendall(b"CONFIG SET maxmemory %d\r\n" % (int(used) + limit))
        if self.answers.readline() != b"+OK\r\n":
            raise RuntimeError("redis-server does not take its limit")

    def run(self, chunk: Chunk, values: memoryview) -> None:
        for start in range(0, len(chunk.keys), BATCH):
            keys, sizes = chunk.keys[start : start + BATCH], chunk.sizes[start : start + BATCH]
            parts: list[bytes | memoryview] = []
            for key, size in zip(keys, sizes, strict=True):
                parts.append(b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(key), key, size))
                parts += [values[:size], b"\r\n$2\r\nNX\r\n$3\r\nGET\r\n"]
            self.end.sendall(b"".join(parts))
            for _ in keys:
                line = self.answers.readline()
                if line == b"$-1\r\n":
                    self.misses += 1
                elif line.startswith(b"$"):
                    self.answers.read(int(line[1:]) + 2)
                else:
                    self.misses += 1
                    self.failed += 1


class Memcached(Rival):
    """memcached as it is. It takes a page of 1 MiB for each class of sizes whatever its limit, and
    no limit below 2 MiB: with many sizes and little memory it has more than it was to have."""

    program = "memcached"

    @classmethod
    def command(cls, path: Path, limit: int) -> list[str]:
        who = ["-u", "root"] if os.getuid() == 0 else []
        return [cls.program, *who, "-m", str(max(2, limit // MIB)), "-t", "1", "-s", str(path)]

    def run(self, chunk: Chunk, values: memoryview) -> None:
        for key, size in zip(chunk.keys, chunk.sizes, strict=True):
            self.end.sendall(b"get %b\r\n" % key)
            line = self.answers.readline()
            if line.startswith(b"VALUE"):
                self.answers.read(int(line.split()[3]) + 2)
                self.answers.readline()
                continue
            self.misses += 1
            self.end.sendall(b"set %b 0 0 %d\r\n%b\r\n" % (key, size, bytes(values[:size])))
            self.failed += self.answers.readline() != b"STORED\r\n"


RIVALS: tuple[type[Rival], ...] = (Redis, Memcached)


def lacking() -> list[str]:
    """Programs that are not installed."""
    return [rival.program for rival in RIVALS if shutil.which(rival.program) is None]


@contextmanager
def running(kind: type[Rival], limit: int) -> Iterator[Rival]:
    """A fresh server; it and its folder are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="shmkv-") as folder:
        rival = kind(Path(folder), limit)
        try:
            yield rival
        finally:
            rival.stop()


def one_pass(kind: type[Rival], trace: Trace, limit: int) -> tuple[int, int, int]:
    """Misses, failed sets, and bytes that became resident."""
    values = memoryview(b"")
    with running(kind, limit) as rival:
        for chunk in trace.chunks():
            largest = max(chunk.sizes)
            if largest > len(values):
                values = memoryview(os.urandom(largest))
            rival.run(chunk, values)
        return rival.misses, rival.failed, rival.server.grew()


def beside(work: Work, folder: Path | None, quick: bool) -> list[Beside]:
    """shmkv and all that are installed, on a trace, 10 % of its footprint.

    A server that makes more memory resident than it was to have is compared with a store that has
    as much.
    """
    trace = work.trace(folder, most=QUICK if quick else None)
    size = max(LEAST, int(survey(trace.chunks()).footprint * LARGE))
    ours = replay(trace, size)
    assert ours.lru is not None
    base = max(ours.lru.misses, 1)
    share = ours.store.misses / base
    found = [Beside(work.name, "shmkv", size, ours.size, share, share, ours.store.failed)]
    for kind in RIVALS:
        if shutil.which(kind.program) is None:
            continue
        limit = size
        _, _, resident = one_pass(kind, trace, limit)
        limit = int(limit * size / max(resident, size // 8))
        misses, failed, resident = one_pass(kind, trace, limit)
        same = replay(trace, resident // 4096 * 4096, compare=False).store.misses
        found.append(
            Beside(work.name, kind.program, size, resident, misses / base, same / base, failed)
        )
    return found


def table(rows: list[Beside]) -> str:
    """All of it."""
    head = f"  {'trace':<14}{'':<12}{'MiB':>8}{'resident':>10}{'/ LRU':>8}{'shmkv':>8}{'failed':>8}"
    title = "beside servers: the same requests, the same resident memory"
    return "\n".join(["", title, head, *(row.line() for row in rows)])
