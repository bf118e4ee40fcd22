"""Where metrics are served: `unix:/path`, or a port of this machine such as `127.0.0.1:9101`.

Owns: how such an address is read and shown.

Promises: no address means anything that another machine can reach; names are not looked up, but
for `localhost`, which is 127.0.0.1.

Does not: bind (`endpoint`).
"""

from __future__ import annotations

import ipaddress
import os
from typing import NamedTuple

UNIX = "unix:"
PATH_MOST = 107  # bytes: what a socket's address has room for
FORMS = "write unix:/path or 127.0.0.1:PORT"


class Address(NamedTuple):
    """A path, or a loopback host and a port."""

    path: str | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path is not None:
            return UNIX + self.path
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/metrics"


def parse(text: str) -> Address:
    """Read an address; the path becomes absolute. Raises ValueError, which says what is wrong."""
    if text.startswith(UNIX):
        return _path(text.removeprefix(UNIX))
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdecimal() and int(port[:6]) < 1 << 16):
        raise ValueError(f"{text!a:.150} is no address: {FORMS}")
    return Address(host=_loopback(host), port=int(port))


def _path(path: str) -> Address:
    if not path or "\0" in path:
        raise ValueError(f"{UNIX}{path!a:.150} names no file: {FORMS}")
    absolute = os.path.abspath(path)
    if len(os.fsencode(absolute)) > PATH_MOST:
        raise ValueError(
            f"{absolute!a:.150} is too long for a socket: a path has at most {PATH_MOST} bytes"
        )
    return Address(path=absolute)


def _loopback(host: str) -> str:
    if host == "localhost":
        return "127.0.0.1"
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        found = None
    if found is None or not found.is_loopback or "%" in bare:
        raise ValueError(
            f"metrics are served on this machine only, not on {host or 'every address'!a:.150}:"
            f" {FORMS}; a proxy may make more of it"
        )
    return str(found)
