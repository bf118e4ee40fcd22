"""What others are told about a daemon: the service manager, and who started it.

Owns: `Told`. Under systemd (NOTIFY_SOCKET) it speaks the protocol of sd_notify, which is one
datagram of lines NAME=value a message: READY=1, STATUS=..., WATCHDOG=1, STOPPING=1. Who started the
daemon is called once, when it is ready or has failed.

Promises: never raises and never waits; a service manager that does not listen is no reason to end.

Does not: decide what is said (`loop`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping


def _period(env: Mapping[str, str]) -> float:
    """Seconds between signs of life: half of what the service manager waits; 0: it does not."""
    usec, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdecimal()) or (pid and pid != str(os.getpid())):
        return 0.0
    return int(usec) / 2e6


class Told:
    """Messages to the service manager of `env`, and one to `on_ready`."""

    def __init__(
        self, env: Mapping[str, str] = os.environ, on_ready: Callable[[str], None] | None = None
    ) -> None:
        self._address = env.get("NOTIFY_SOCKET", "")
        self._period = _period(env) if self._address else 0.0
        self._on_ready = on_ready
        self._alive_at = 0.0
        self._status = ""

    def ready(self, status: str) -> None:
        """It works, or waits for its turn. Only the first time is `on_ready` called."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")
        if self._on_ready is not None:
            self._on_ready(status)
            self._on_ready = None

    def status(self, status: str) -> None:
        """A line for people; said when it changes."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def alive(self, now: float) -> None:
        """A sign of life, as often as it is wanted. `now` is a monotonic clock."""
        if self._period and now >= self._alive_at:
            self._alive_at = now + self._period
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """It ends, as it was told to."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        # A leading @ stands for the zero byte of an abstract address.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        text = "\n".join(line.replace("\n", " ") for line in lines)
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as out:
                out.sendto(text.encode(), address)
        except OSError:
            pass  # said into the void
