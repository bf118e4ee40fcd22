"""Peers with a server: Redis, memcached, and the dict of multiprocessing's manager.

Each listens on a unix socket in the peer's own folder and is ended by its process id. Every worker
has one connection; every write waits for its answer, as it does elsewhere.
"""

import importlib
import itertools
import multiprocessing as mp
import os
import shutil
import sys
from collections.abc import Sequence
from multiprocessing.managers import BaseManager, DictProxy
from pathlib import Path
from threading import Lock
from typing import Any

from tests.bench.peers.peer import (
    ROOT,
    Peer,
    Room,
    Server,
    first_line,
    lacking,
    versions,
)
from tests.bench.peers.work import COUNTER, Access, Pairs

BATCH = 100  # pairs to a request while filling


class Served(Peer):
    """A peer whose data are in a server."""

    program: str
    modules: tuple[str, ...]
    counted = "growth of the server process (RSS)"
    _server: Server | None = None

    def missing(self) -> str | None:
        if shutil.which(self.program) is None:
            return f"no program {self.program} (Debian has a package)"
        return lacking(*self.modules)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.room.folder / "socket"

    def command(self) -> Sequence[str | Path]:
        """How it is started."""
        raise NotImplementedError

    def start(self, room: Room) -> None:
        super().start(room)
        self._server = Server(self.command(), self.socket)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def held(self) -> int:
        assert self._server is not None
        return self._server.grew()


class Redis(Served):
    """Redis."""

    name = "Redis"
    program = "redis-server"
    modules = ("redis", "hiredis")
    options = (
        "unix socket, no persistence; redis-py with hiredis, single_connection_client "
        "(redis.io on latency; redis-py's README)"
    )

    def version(self) -> str:
        server = first_line(self.program, "--version").split()[2].removeprefix("v=")
        return f"server {server}, {versions('redis', 'hiredis')}"

    def command(self) -> Sequence[str | Path]:
        listen = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.room.folder)]
        return [self.program, *listen, "--save", "", "--appendonly", "no", "--daemonize", "no"]

    def attach(self) -> Access:
        client = importlib.import_module("redis").Redis(
            unix_socket_path=str(self.socket), single_connection_client=True, socket_timeout=30
        )

        def fill(pairs: Pairs) -> None:
            pairs = iter(pairs)
            while batch := dict(itertools.islice(pairs, BATCH)):
                client.mset(batch)

        def count() -> int:
            return int(client.get(COUNTER) or 0)

        return Access(client.get, client.set, fill, client.incr, count, client.close)


class Memcached(Served):
    """memcached."""

    name = "memcached"
    program = "memcached"
    modules = ("pymemcache",)
    options = (
        "unix socket, 4 threads, 1 GiB; pymemcache's Client, sets answered (default_noreply off)"
    )

    def version(self) -> str:
        return f"server {first_line(self.program, '-V').split()[-1]}, {versions('pymemcache')}"

    def command(self) -> Sequence[str | Path]:
        who = ["-u", "root"] if os.getuid() == 0 else []
        return [self.program, *who, "-m", "1024", "-t", "4", "-s", self.socket]

    def attach(self) -> Access:
        base = importlib.import_module("pymemcache.client.base")
        client = base.Client(str(self.socket), default_noreply=False, timeout=30)
        client.add(COUNTER, b"0")

        def incr(key: bytes) -> None:
            client.incr(key, 1)

        def fill(pairs: Pairs) -> None:
            pairs = iter(pairs)
            while batch := dict(itertools.islice(pairs, BATCH)):
                client.set_many(batch)

        def count() -> int:
            return int(client.get(COUNTER))

        return Access(client.get, client.set, fill, incr, count, client.close)


# ---- multiprocessing ----------------------------------------------------------------------------

AUTHKEY = b"bench"
_plain: dict[bytes, Any] = {}
_lock = Lock()


class KvManager(BaseManager):
    """A manager of one dict and one lock, as `multiprocessing.Manager` would serve them."""


KvManager.register("plain", callable=lambda: _plain, proxytype=DictProxy)
KvManager.register("lock", callable=lambda: _lock, exposed=("acquire", "release"))


class Managed(Served):
    """`multiprocessing.Manager().dict()`."""

    name = "Manager dict"
    program = sys.executable
    modules = ()
    options = "DictProxy over a unix socket; incr under the manager's lock, since += is two calls"

    def version(self) -> str:
        return f"Python {sys.version.split()[0]}"

    def command(self) -> Sequence[str | Path]:
        code = "import sys; sys.path.insert(0, sys.argv[1]); "
        code += "from tests.bench.peers import served; served.serve(sys.argv[2])"
        return [self.program, "-c", code, ROOT, self.socket]

    def attach(self) -> Access:
        mp.current_process().authkey = AUTHKEY
        manager: Any = KvManager(str(self.socket), AUTHKEY)
        manager.connect()
        plain, lock = manager.plain(), manager.lock()

        def incr(key: bytes) -> None:
            lock.acquire()
            try:
                plain[key] = plain.get(key, 0) + 1
            finally:
                lock.release()

        def fill(pairs: Pairs) -> None:
            pairs = iter(pairs)
            while batch := dict(itertools.islice(pairs, BATCH)):
                plain.update(batch)

        def count() -> int:
            return int(plain.get(COUNTER, 0))

        return Access(plain.get, plain.__setitem__, fill, incr, count)


def serve(socket: str) -> None:
    """The life of the manager's server process."""
    KvManager(socket, AUTHKEY).get_server().serve_forever()
