"""The directory of a store: names of files, generations, rights, the lock, leftovers.

Owns: `Directory`. All steps go through one descriptor of the folder, so that nobody can put another
one in its place meanwhile. It is made with mode 0700; one that others may write to is refused.

Promises: files are removed only if they bear a name and a header of ours. A file being saved is
locked by its saver (flock), so what a dead one left is told from what a living one writes.

Does not: read blocks (`blocks`), or know which files make up a store (`chain`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from shmkv.errors import Busy, PersistError
from shmkv.persist import blocks
from shmkv.persist.blocks import Reader
from shmkv.persist.format import MAGIC
from shmkv.persist.trouble import refused

LOCK = "lock"
PAUSE = 0.01  # seconds between tries for the lock
GENERATION_MOST = 10**10 - 1
_NAME = r"(snapshot|journal)-([0-9]{10})\.(shmkv|part)"


def snapshot_name(generation: int) -> str:
    """The file of a snapshot."""
    return f"snapshot-{generation:010d}.shmkv"


def part_name(generation: int) -> str:
    """A snapshot that is being saved."""
    return f"snapshot-{generation:010d}.part"


def journal_name(generation: int) -> str:
    """The file of a journal."""
    return f"journal-{generation:010d}.shmkv"


class Files(NamedTuple):
    """Generations in a directory, each list rising."""

    snapshots: list[int]
    journals: list[int]
    parts: list[int]

    @property
    def last(self) -> int:
        """The highest number there is, 0 without any."""
        return max([0, *self.snapshots, *self.journals, *self.parts])


class Directory:
    """A directory, open; closed by `close`."""

    def __init__(self, path: str, *, make: bool = False, owner: int | None = None, mode: int = 0):
        self.path = path
        try:
            if make:
                _make(path)
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except NotADirectoryError:
            raise PersistError(
                f"path={path!r} is no directory: a store needs one of its own. To bring a store"
                f" back from a single file: shmkv restore {path} NAME"
            ) from None
        except OSError as error:
            raise refused(error, "cannot use the directory", path) from None
        try:
            self._trust({os.geteuid(), 0, *([] if owner is None else [owner])}, mode)
        except BaseException:
            self.close()
            raise

    def _trust(self, owners: set[int], mode: int) -> None:
        try:
            found = os.fstat(self.fd)
        except OSError as error:
            raise refused(error, "cannot use the directory", self.path) from None
        if found.st_uid not in owners:
            raise PersistError(
                f"the directory {self.path} is refused: it belongs to user {found.st_uid}, this is"
                f" user {os.geteuid()}"
            )
        if found.st_mode & 0o022 & ~mode:
            raise PersistError(
                f"the directory {self.path} is refused: others may write to it (mode"
                f" {stat.S_IMODE(found.st_mode):#o}): chmod 700 it, or name one of its own"
            )

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self.fd)

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- files ----------------------------------------------------------------------------------

    def at(self, name: str) -> str:
        """A file of it, for messages."""
        return os.path.join(self.path, name)

    def files(self) -> Files:
        """What is there, by names."""
        found: dict[str, list[int]] = {"snapshot": [], "journal": [], "part": []}
        try:
            names = os.listdir(self.fd)
        except OSError as error:
            raise refused(error, "cannot list the directory", self.path) from None
        for name in names:
            parts = re.fullmatch(_NAME, name)
            if parts is None or (parts[1] == "journal" and parts[3] == "part"):
                continue
            found["part" if parts[3] == "part" else parts[1]].append(int(parts[2]))
        return Files(*(sorted(numbers) for numbers in found.values()))

    def open(self, name: str) -> int:
        """A descriptor of a file, to read."""
        return blocks.opened(self.at(name), dir_fd=self.fd, name=name)

    def reader(self, name: str) -> Reader:
        """A file, to read."""
        return Reader(self.open(name), self.at(name))

    def remove(self, name: str) -> bool:
        """Remove a file of ours; False: it is not, or cannot be."""
        with contextlib.suppress(OSError):
            fd = self.open(name)
            try:
                ours = _is_ours(fd)
            finally:
                os.close(fd)
            if ours:
                os.unlink(name, dir_fd=self.fd)
                return True
        return False

    def living_parts(self) -> list[int]:
        """Generations that somebody is saving."""
        return [number for number in self.files().parts if not self._left(part_name(number))]

    def sweep(self) -> list[str]:
        """Remove what dead savers left; the names."""
        names = [part_name(number) for number in self.files().parts]
        return [name for name in names if swept(self.fd, name)]

    def _left(self, name: str) -> bool:
        """Is this a file whose saver is gone?"""
        try:
            fd = self.open(name)
        except PersistError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    # ---- the lock -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(
        self, timeout: float, *, patient: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Hold the lock while a store comes back, or for the life of a daemon.

        Waits `timeout` seconds, and as long as `patient()` says that it is worth it. Busy: somebody
        else holds it.
        """
        fd = self._lock_file()
        try:
            end = time.monotonic() + timeout
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= end and not patient():
                        raise self._busy(fd) from None
                except OSError as error:
                    raise refused(error, "cannot lock", self.at(LOCK)) from None
                time.sleep(PAUSE)  # flock has no time limit of its own
            with contextlib.suppress(OSError):  # for messages only
                os.ftruncate(fd, 0)
                os.pwrite(fd, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(fd)

    def _lock_file(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            return os.open(LOCK, flags, 0o600, dir_fd=self.fd)
        except OSError as error:
            raise refused(error, "cannot lock", self.at(LOCK)) from None

    def _busy(self, fd: int) -> Busy:
        found = os.pread(fd, 20, 0).decode(errors="replace")
        who = f"process {found}" if found.isdecimal() else "another process"
        return Busy(
            f"the directory {self.path} is in use: {who} restores a store from it, or is the daemon"
            " of one: wait, or name another directory"
        )


def swept(dir_fd: int, name: str) -> bool:
    """Remove a file whose saver is gone. False: it is being saved, or is none of ours.

    It goes under its lock. So who has just made it, and waits for that lock, finds that it has no
    name any more; and what bears the name by then is not taken for it.
    """
    with contextlib.suppress(OSError):
        fd = blocks.opened(name, dir_fd=dir_fd, name=name)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            named = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if os.path.samestat(named, os.fstat(fd)) and _is_ours(fd):
                os.unlink(name, dir_fd=dir_fd)
                return True
        finally:
            os.close(fd)
    return False


def _is_ours(fd: int) -> bool:
    """Does it begin as our files do, or not at all yet?"""
    return os.pread(fd, len(MAGIC), 0) in (MAGIC, bytes(len(MAGIC)), b"")


def _make(path: str) -> None:
    """Make the folder if there is none, for its user alone."""
    if os.path.lexists(path):
        return
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise PersistError(f"path={path!r} cannot be made: a part of it is a file") from None
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
