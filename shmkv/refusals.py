"""Why a segment was refused, in words that name the store and say what to do.

Owns: the exceptions for what `segment` and the core met, and who else has a store of a name.

Does not: open, create or remove anything.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import warnings

from shmkv import _core
from shmkv.config import Options, show_size
from shmkv.errors import BY_STATUS, Busy, Denied, Exists, NoSpace
from shmkv.filling import FILL_S
from shmkv.removal import SHM, file_path


def mismatch(store: _core.Store, options: Options) -> str | None:
    """What differs between the store and the options, in words."""
    if options.on_mismatch == "attach":
        return None
    made, most = store._geometry(), store.size
    sides = [
        (f"{what} is {show_size(present)}", f"{what}={show_size(asked)} was asked")
        for what, asked, least, present in (
            # Who knows a size from before a resize is welcome: the store has been that one.
            ("size", options.size, made["size"], most),
            ("max_size", options.max_size, made["max_size"], made["max_size"]),
        )
        if asked is not None and not least <= asked <= present
    ]
    if options.evict is not None and store.evict != options.evict:
        sides.append((f"evict is {store.evict}", f"evict={options.evict} was asked"))
    if options.journal is not None and journal_of(made["options"]) != options.journal:
        has = journal_of(made["options"]) or "none"
        sides.append((f"journal is {has}", f"journal={options.journal} was asked"))
    if not sides:
        return None
    text = "; ".join(f"its {has}, {asked}" for has, asked in sides)
    larger = most < (options.size or 0) <= made["max_size"]
    return (
        f"store {options.name!r} is another one: {text}. Open it as it is, with"
        ' on_mismatch="attach"'
        + (", and raise it with resize()" if larger else "")
        + ', or replace it with on_mismatch="recreate"'
    )


def journal_of(bits: int) -> str | None:
    """The mode of a journal, as the option bits of a store say."""
    if not bits & _core.OPT_JOURNAL:
        return None
    return "always" if bits & _core.OPT_ALWAYS else "everysec"


def exists(options: Options, uid: int) -> Exists:
    """That there is a store of this name."""
    return Exists(
        f"store {options.name!r} exists already ({file_path(options.name, uid)}): open it without"
        ' create="new", or unlink it first'
    )


def still_filled(options: Options) -> Busy:
    """That somebody has been filling it for too long."""
    return Busy(
        f"store {options.name!r}: another process has been filling it from disk for {FILL_S:.0f} s:"
        " is it stopped?"
    )


def refusal(
    status: str, number: int, found: dict[str, int], options: Options, uid: int
) -> Exception:
    """The exception for a segment that the core refused."""
    name, path = options.name, file_path(options.name, uid)
    texts = {
        "half made": f"store {name!r} is half made: its creator ended on the way ({path}); open"
        " with create=True finishes it",
        "version": f"store {name!r} has layout version {found['layout_version']}, this shmkv has"
        f" {_core.LAYOUT_VERSION}: use the version that made it, or unlink it",
        "stranger": f"store {name!r} was made by a program of another kind (fingerprint"
        f" {found['fingerprint']:#x}, here {_core.FINGERPRINT:#x}): other byte order or word size",
        "corrupt": f"store {name!r} is corrupt: {path} ({found['file_bytes']} bytes) is no segment"
        f" that shmkv made. Remove it with shmkv.unlink({name!r}), or open with"
        ' on_corrupt="recreate"',
        "busy": f"store {name!r}: another process has been creating it for"
        f" {options.lock_timeout:g} s: is it stopped?",
        "no rows": f"store {name!r}: all its attachment rows belong to living processes: close"
        " handles that are not needed",
        "invalid": f"store {name!r} cannot be laid out: max_size={show_size(options.new_max_size)}"
        f" is too large for size={show_size(options.new_size)}",
    }
    if status == "no space":
        return NoSpace(no_space(options))
    if status == "system" or status not in texts:
        return OSError(number, f"store {name!r}: {os.strerror(number)}", path)
    return BY_STATUS[status](texts[status])


def no_space(options: Options) -> str:
    """That there is no memory to create it, and where more comes from."""
    shm = os.statvfs(SHM)
    total, free = shm.f_frsize * shm.f_blocks, shm.f_frsize * shm.f_bavail
    return (
        f"store {options.name!r} of {show_size(options.new_size)} cannot be created: {SHM} has"
        f" {show_size(total)}, {show_size(free)} of it free. Enlarge it: docker run"
        " --shm-size=..., Kubernetes emptyDir with medium: Memory, mount -o remount,size=..."
    )


def not_opened(error: OSError, options: Options, uid: int) -> Exception:
    """The exception for a file that the system did not open."""
    path = file_path(options.name, uid)
    if error.errno == errno.ELOOP:
        return Denied(f"store {options.name!r} is refused: {path} is a symbolic link: remove it")
    if error.errno in (errno.EISDIR, errno.ENXIO):
        return Denied(f"store {options.name!r} is refused: {path} is no regular file")
    if error.errno in (errno.EACCES, errno.EPERM):
        with contextlib.suppress(OSError):
            found = os.stat(path, follow_symlinks=False)
            return Denied(
                f"store {options.name!r} is refused: {path} belongs to user {found.st_uid} with"
                f" mode {stat.S_IMODE(found.st_mode):#o}, this is user {os.geteuid()}"
            )
        return Denied(f"store {options.name!r} is refused: {path} may not be opened")
    return error


def others(name: str, uid: int) -> list[int]:
    """Users that have a store of this name, but for `uid`; where one cannot look: none known."""
    found = []
    try:
        entries = list(os.scandir(SHM))
    except OSError:
        return []
    for entry in entries:
        parts = entry.name.split(".", 2)
        if len(parts) == 3 and parts[0] == "shmkv" and parts[2] == name and parts[1].isdecimal():
            found.append(int(parts[1]))
    return sorted(set(found) - {uid})


def elsewhere(name: str, uid: int) -> str:
    """A hint at the store of another user, if there is one of that name."""
    found = others(name, uid)
    return f"; user {found[0]} has one of that name (owner={found[0]})" if found else ""


def warn_of_namesakes(name: str, uid: int) -> None:
    """Say that another user has a store of this name."""
    found = others(name, uid)
    if found:
        warnings.warn(
            f"store {name!r} of user {uid} is not the store {name!r} of user {found[0]}, which"
            f" exists too: to share that one, open it with owner={found[0]}",
            UserWarning,
            stacklevel=4,
        )
