"""A new segment that is filled from disk before anybody may attach: what fills it, who waits.

Owns: `Making`, and the byte of the segment's file that who fills it holds, so that others know what
they wait for: a lock of the kernel, which ends with the process.

Does not: know files on disk (`disk`), or create segments (`segment`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from shmkv.removal import file_path

FILL_S = 600.0  # to wait for one that fills it, and lives
PAUSE = 0.02  # seconds between looks

_BYTE = (1 << 40) - 4  # of the file, beside those of `_csrc/layout.h` and `launch`
_FLOCK = struct.Struct("hhqqi0q")  # struct flock: type, whence, start, length, process
_ASKED = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0)


class Making(NamedTuple):
    """How a new segment gets its contents before anybody else may attach."""

    seed: int
    options: int
    """Bits beside those that `Options` says."""
    fill: Callable[[Any], None]
    """Called with the store; if it raises, the segment is removed again."""


@contextlib.contextmanager
def held(name: str, uid: int, inode: tuple[int, int]) -> Iterator[None]:
    """Hold the byte of the segment, if its name still means it."""
    fd = os.open(file_path(name, uid), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) == inode:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _ASKED)
        yield
    finally:
        os.close(fd)


def going_on(name: str, uid: int) -> bool:
    """Does a living process fill this segment?"""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(file_path(name, uid), flags)
    except OSError:
        return False
    try:
        found: int = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _ASKED))[0]
    except OSError:
        return False
    finally:
        os.close(fd)
    return found != fcntl.F_UNLCK
