"""Removing names of segments, and never one that somebody else has meanwhile made or opened.

Owns: what a store's file is called, `unlink`, and `Alone`: the hold of a segment that proves that
nobody has it. The proof is a write lease, which the kernel grants to a file's owner only while no
other descriptor and no mapping of the file exists, in whatever process, fork child or container.
While it is held nobody can open the file: `segment` and `unlink` get EAGAIN and try again, and then
find the name gone, or the hold given up. So a name that is removed under it means a file that
nobody uses, and nobody has begun to.

Against who is stopped while it holds one: the kernel ends a lease that somebody waits for after
/proc/sys/fs/lease-break-time (45 s). So an `Alone` also locks the bytes of creation, daemon and
rows: until it lives or ends, nobody becomes a user of the file whose name it may be about to
remove; who tries gets Busy. A death at any step leaves nothing: leases and locks end with the
process, and removing is one system call.

Does not: know which segments are to go (`leftovers`), bytes of a segment, or attach.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
import struct
import time
from collections.abc import Iterator

import posix_ipc  # type: ignore[import-not-found]

from shmkv import log
from shmkv.config import check_name, check_owner
from shmkv.errors import Denied, NotFound

SHM = "/dev/shm"
PAUSE = 0.001  # seconds, while another process holds a segment to remove it
GLANCE = 0.05  # seconds: `ls` and others look at every segment, and have it open while they do
PATIENCE = 1.0  # seconds, for one that is stopped

_FLOCK = struct.Struct("hhqqi0q")  # struct flock: type, whence, start, length, process
_LOCKS, _LOCKS_LEN = (1 << 40) - 3, 3 + 4096  # starting a daemon, being it, creating; all rows


def object_name(name: str, uid: int) -> str:
    """The shared-memory object of a store."""
    return f"/shmkv.{uid}.{name}"


def file_path(name: str, uid: int) -> str:
    """Where the system keeps it, for messages and listings."""
    return SHM + object_name(name, uid)


def unlink(name: str, *, missing_ok: bool = False, owner: int | None = None) -> None:
    """Remove a store's name and, when the last process lets go, its memory.

    Whoever has it open goes on with it; the next `open` makes a new store. `owner` is the user id
    it belongs to, this user by default. Raises NotFound (unless `missing_ok`), Denied.
    """
    check_name(name)
    uid = check_owner(owner)
    uid = os.geteuid() if uid is None else uid
    try:
        with _keeping_others_off(file_path(name, uid)):
            posix_ipc.unlink_shared_memory(object_name(name, uid))
        log.tell(log.INFO, "store %r of user %d: its name is removed", name, uid)
    except posix_ipc.ExistentialError:
        if not missing_ok:
            raise NotFound(f"store {name!r} does not exist ({file_path(name, uid)})") from None
    except (posix_ipc.PermissionsError, PermissionError) as error:
        raise Denied(f"store {name!r} may not be removed: {error}") from None


@contextlib.contextmanager
def _keeping_others_off(path: str) -> Iterator[None]:
    """Nobody becomes `Alone` with the file meanwhile: between its last look at the name and the
    removal, ours and the making of another store under that name must not fit."""
    fd, end = -1, time.monotonic() + PATIENCE
    while fd < 0:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except BlockingIOError:  # somebody is at it
            if time.monotonic() > end:
                break
            time.sleep(PAUSE)  # a lease wakes nobody who was refused; until `end`
        except OSError:  # what cannot be opened is nothing that anybody is alone with
            break
    try:
        yield
    finally:
        if fd >= 0:
            os.close(fd)


class InUse(Exception):
    """Somebody has the segment open or mapped."""


class Unsure(Exception):
    """Whether somebody uses the segment cannot be known here; in words."""


class Alone:
    """The hold of the file at a path, made while nobody else has it. A context manager.

    Raises FileNotFoundError, InUse, Unsure, OSError. Leaves no trace in the file's times.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        how = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME
        try:
            self.fd = os.open(path, how)
        except BlockingIOError:
            raise InUse from None  # another one is alone with it
        try:
            found = os.fstat(self.fd)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise Unsure("it is no regular file with one name")
            self._take()
        except BaseException:
            os.close(self.fd)
            raise

    def _take(self) -> None:
        # Who opens the file meanwhile makes the kernel signal us: with one nobody dies of.
        fcntl.fcntl(self.fd, fcntl.F_SETSIG, signal.SIGURG)
        end = time.monotonic() + GLANCE
        while not self._leased():
            if time.monotonic() > end:
                raise InUse
            time.sleep(PAUSE)  # who only glances is gone in a moment; until `end`
        lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _LOCKS, _LOCKS_LEN, 0)
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, lock)
        except (BlockingIOError, PermissionError):
            raise InUse from None

    def _leased(self) -> bool:
        try:
            fcntl.fcntl(self.fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return False
            why = os.strerror(error.errno or 0)
            raise Unsure(f"no lease on it is granted here ({why})") from None
        return True

    def remove(self) -> None:
        """Remove the name. Raises InUse if the hold has been lost, FileNotFoundError."""
        held = os.fstat(self.fd)
        named = os.stat(self.path, follow_symlinks=False)
        if (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        if fcntl.fcntl(self.fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK:
            raise InUse  # somebody waits for it, who comes first
        os.unlink(self.path)
        log.tell(log.INFO, "%s is removed: nobody has it", self.path)

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)


def remove_unused(path: str) -> bool:
    """Remove a file that nobody has; False: somebody has it, or may have."""
    try:
        with Alone(path) as alone:
            alone.remove()
    except (InUse, Unsure, OSError):
        return False
    return True
