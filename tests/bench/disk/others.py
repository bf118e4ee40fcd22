"""The others: Redis, lmdb, a bare write, pickle; each asked for a whole copy on disk, and back.

Redis keeps its pairs in its server (Unix socket, no compression, no automatic saves), lmdb in a
file in /dev/shm: what is timed is the way to disk. A copy counts when it is on disk; where a peer
does not see to that (lmdb), one fsync follows. Does not know shmkv.
"""

from __future__ import annotations

import importlib
import itertools
import os
import pickle
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.disk.place import MIB, Place, Shape
from tests.bench.peers.peer import SHM, Server, end_program, lacking, start_program
from tests.bench.peers.team import Failed

BATCH = 1000
LIMIT_S = 60.0
LOOK_S = 0.001  # between looks at a condition


def redis_missing() -> str | None:
    """Why there is no Redis here."""
    if shutil.which("redis-server") is None:
        return "no program redis-server (Debian has a package)"
    return lacking("redis")


class Redis:
    """A server with all pairs."""

    def __init__(self, place: Place, shape: Shape) -> None:
        self._place, self._shape = place, shape
        self._socket, self._rdb = place.folder / "redis.socket", place.folder / "dump.rdb"
        self._server: Server | None = Server(self._command(), self._socket)
        pairs, client = shape.pairs(), self._client()
        while batch := dict(itertools.islice(pairs, BATCH)):
            client.mset(batch)

    def _command(self) -> list[str]:
        line = "redis-server --port 0 --appendonly no --daemonize no --rdbcompression no --save"
        files = ["--dir", str(self._place.folder), "--unixsocket", str(self._socket)]
        return [*line.split(), "", *files]

    def _client(self) -> Any:
        redis = importlib.import_module("redis")
        return redis.Redis(unix_socket_path=str(self._socket), socket_timeout=LIMIT_S)

    def save(self) -> float:
        """BGSAVE until the file has its name: the server hears of it up to 0.1 s later."""
        self._rdb.unlink(missing_ok=True)
        client = self._client()
        began = time.perf_counter()
        client.bgsave()
        while not self._rdb.exists():
            if time.perf_counter() - began > LIMIT_S:
                raise Failed("Redis did not save in time")
            time.sleep(LOOK_S)  # a name wakes nobody when it appears
        took = time.perf_counter() - began
        while client.info("persistence")["rdb_bgsave_in_progress"]:
            if time.perf_counter() - began > LIMIT_S:
                raise Failed("Redis does not hear that it has saved")
            time.sleep(LOOK_S)  # the server tells who asks
        return took

    def restart(self) -> float:
        """From the start of a new server to the right answer to DBSIZE."""
        assert self._server is not None
        self._server.stop()
        self._server = None
        self._socket.unlink(missing_ok=True)
        began = time.perf_counter()
        null = -3  # subprocess.DEVNULL
        program = start_program(self._command(), stdin=null, stdout=null, stderr=null)
        try:
            self._answers(began)
            took = time.perf_counter() - began
        finally:
            end_program(program)
        self._socket.unlink(missing_ok=True)
        self._server = Server(self._command(), self._socket)
        self._answers(time.perf_counter())
        return took

    def _answers(self, began: float) -> None:
        errors = importlib.import_module("redis.exceptions")
        while time.perf_counter() - began < LIMIT_S:
            try:
                if self._client().dbsize() == self._shape.keys:
                    return
            except (errors.ConnectionError, errors.BusyLoadingError):
                pass
            time.sleep(LOOK_S)  # it refuses until it has loaded; bounded above
        raise Failed("Redis did not come back in time")

    def end(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.stop()


class Lmdb:
    """An environment with all pairs."""

    def __init__(self, place: Place, shape: Shape) -> None:
        self._place = place
        self._folder = Path(tempfile.mkdtemp(prefix="shmkv-disk-", dir=SHM))
        try:
            self._env = importlib.import_module("lmdb").open(
                str(self._folder), map_size=4 * shape.bytes + 64 * MIB, sync=False, writemap=True
            )
            pairs = shape.pairs()
            while batch := list(itertools.islice(pairs, 50 * BATCH)):
                with self._env.begin(write=True) as txn, txn.cursor() as cursor:
                    cursor.putmulti(batch)
        except BaseException:
            shutil.rmtree(self._folder)
            raise

    def save(self) -> float:
        """A compact copy, and one fsync."""
        path = self._place.path("lmdb-copy")
        os.mkdir(path)
        began = time.perf_counter()
        self._env.copy(path, compact=True)
        fd = os.open(os.path.join(path, "data.mdb"), os.O_RDONLY)
        os.fsync(fd)
        took = time.perf_counter() - began
        os.close(fd)
        return took

    def end(self) -> None:
        """Remove it."""
        self._env.close()
        shutil.rmtree(self._folder)


def bare_write(place: Place, count: int) -> float:
    """So many random bytes with `write`, a MiB at a time, and one fsync."""
    chunk, path = random.Random(1).randbytes(MIB), place.path("bare")
    began = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    for at in range(0, count, MIB):
        os.write(fd, chunk[: count - at])
    os.fsync(fd)
    took = time.perf_counter() - began
    os.close(fd)
    os.unlink(path)
    return took


def dump_pickle(place: Place, shape: Shape) -> None:
    """A dict of all pairs, in a file."""
    with open(place.path("pickle"), "wb") as stream:
        pickle.dump(dict(shape.pairs()), stream, protocol=5)


def load_pickle(place: Place) -> float:
    """The dict again; in a process of its own, without garbage collection."""
    began = time.perf_counter()
    with open(place.folder / "pickle", "rb") as stream:
        pickle.load(stream)
    return time.perf_counter() - began
