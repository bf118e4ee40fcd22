"""What goes wrong on disk, in words.

Owns: `Damaged`, a place in a file that no writer of ours leaves, and `refused`, which makes a
PersistError of what the system said.

Does not: decide what is done about it (`restore`, `verify`).
"""

from __future__ import annotations

import errno
import os

from shmkv.errors import PersistError


class Damaged(PersistError):
    """A file that is not whole: where, and what is wrong there."""

    def __init__(self, path: str, text: str, offset: int = 0, block: int = 0) -> None:
        super().__init__(f"{path} is damaged at byte {offset} (block {block}): {text}")
        self.path = path
        self.text = text
        self.offset = offset
        self.block = block

    def __reduce__(self) -> tuple[type[Damaged], tuple[str, str, int, int]]:
        return Damaged, (self.path, self.text, self.offset, self.block)


def refused(error: OSError, what: str, path: str) -> PersistError:
    """That the system refused a step, and what a person can do; `errno` is the system's."""
    text = f"{what}: {path}: {os.strerror(error.errno) if error.errno else error}"
    if error.errno == errno.ENOSPC:
        text += _room(path)
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        text += f" (this is user {os.geteuid()}): give it to that user, or name another place"
    made = PersistError(text)
    made.errno = error.errno
    return made


def _room(path: str) -> str:
    """How full the disk is, and what helps."""
    try:
        disk = os.statvfs(os.path.dirname(path) or ".")
    except OSError:
        return ": free some space there; what was saved before is as it was"
    free = disk.f_bavail * disk.f_frsize >> 20
    return f" ({free} MiB free): make room there; what was saved before is as it was"
