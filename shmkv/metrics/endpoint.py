"""Serving metrics over HTTP from a process that has other work, as the daemon of a store has.

Owns: `Endpoint`, the listening socket and the thread behind it. A port is of a loopback address; a
socket's file has mode 0600 from its first moment, replaces one that nobody listens on any more, and
is removed at the end.

Promises: whoever asks holds up other requests at most: nothing here is waited for by the process's
own work. A connection has `REQUEST_S` seconds in all and there are `CONNECTIONS` at most; what is
more, or takes longer, is closed. One request a connection, one format: the client's Accept header
says which (`prometheus_client.MetricsHandler`).

Does not: encrypt or ask who it is: a port is for every user of the machine, a file for its owner.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import socketserver
import stat
import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, MetricsHandler
from prometheus_client.registry import Collector

from shmkv.metrics.address import Address
from shmkv.thread import Thread

REQUEST_S = 5.0  # from its acceptance to its end
CONNECTIONS = 8
LOOK_S = 0.25  # between looks whether to stop, and for what takes too long
# A daemon that was killed lets go of its store first and of its socket next: who takes over waits.
HANDOVER_S = 1.0
HANDOVER_PAUSE = 0.02
MODE = 0o600

log = logging.getLogger("shmkv.metrics")


class Endpoint:
    """Serves a collector at an address while the block runs. Raises OSError if it cannot."""

    def __init__(self, address: Address, collector: Collector) -> None:
        self._asked = address
        self._collector = collector

    def __enter__(self) -> Address:
        """Listen; the address, with the port that was found where 0 was asked for."""
        registry = CollectorRegistry()
        registry.register(self._collector)
        self._server = _Server(self._asked, registry)
        if not Thread(lambda: self._server.serve_forever(LOOK_S)).start():
            self._server.server_close()
            raise OSError(errno.EAGAIN, "metrics: no memory for a thread")
        return self._server.address

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread for each connection, of which there are few, and none for long."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True  # of connections that are gone; two listeners exclude each other
    allow_reuse_port = False
    request_queue_size = 2 * CONNECTIONS  # who knocks while all are taken is let in and closed

    def __init__(self, address: Address, registry: CollectorRegistry) -> None:
        self.address = address
        self._made: tuple[int, int] | None = None
        self._ends: dict[Any, float] = {}
        if address.path is not None:
            self.address_family = socket.AF_UNIX
        elif ":" in address.host:
            self.address_family = socket.AF_INET6
        where: Any = address.path or (address.host, address.port)
        super().__init__(where, _handler(registry))

    def server_bind(self) -> None:
        """Bind and listen; for a moment, whoever has the address may be about to leave it."""
        end = time.monotonic() + HANDOVER_S
        while True:
            try:
                if self.address.path is None:
                    super().server_bind()
                    self.address = self.address._replace(port=self.server_address[1])
                else:
                    self._made = _bind(self.socket, self.address.path)
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() >= end:
                    raise OSError(error.errno, self._words(error)) from error
            time.sleep(HANDOVER_PAUSE)  # of a daemon just killed; until `end`

    def _words(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return f"metrics: {self.address} is taken by another process: name another one"
        return f"metrics: {self.address}: {error.strerror or error}"

    def server_close(self) -> None:
        """Listen no longer; the file goes, if it is still the one that was made here."""
        if self._made is not None and self.address.path is not None:
            with contextlib.suppress(OSError):
                if _identity(self.address.path) == self._made:
                    os.unlink(self.address.path)
        super().server_close()
        self._close_ended(time.monotonic() + REQUEST_S)

    # ---- connections ----------------------------------------------------------------------------

    def verify_request(self, request: Any, _client_address: Any) -> bool:
        """Is there a place for one more?"""
        if len(self._ends) >= CONNECTIONS:
            return False
        self._ends[request] = time.monotonic() + REQUEST_S
        return True

    def shutdown_request(self, request: Any) -> None:
        """Its place is free again."""
        self._ends.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """After each look: end what takes too long, whatever it waits for."""
        self._close_ended(time.monotonic())

    def _close_ended(self, now: float) -> None:
        for request, end in list(self._ends.items()):
            if now >= end:
                with contextlib.suppress(OSError):  # it has ended by itself
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """One request failed: who asked sees no answer."""
        log.debug("a request for metrics failed", exc_info=True)


def _handler(registry: CollectorRegistry) -> type[MetricsHandler]:
    made: type[MetricsHandler] = type(
        "Handler", (MetricsHandler,), {"registry": registry, "timeout": REQUEST_S}
    )
    return made


# ---- the socket's file --------------------------------------------------------------------------


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _bind(listener: socket.socket, path: str) -> tuple[int, int]:
    """Listen on a file, in place of one that nobody listens on; which file it is."""
    with _alone_in(os.path.dirname(path)):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise FileExistsError(
                    errno.EEXIST, "a file that is no socket is in the way: name another path"
                )
            if _answers(path):
                raise OSError(errno.EADDRINUSE, "somebody listens")
            os.unlink(path)
        os.fchmod(listener.fileno(), MODE)  # before it has a name: the file is born so
        listener.bind(path)
        listener.listen(2 * CONNECTIONS)
        return _identity(path)


def _answers(path: str) -> bool:
    """Does somebody listen on a socket's file?"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as caller:
        try:
            caller.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True  # it has a queue, and that is full
        return True


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """Of those that look for a stale file at once, one replaces it and the others see that."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EADDRINUSE, "its folder is locked") from None
        yield
    finally:
        os.close(fd)
