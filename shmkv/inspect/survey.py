"""Which segments lie in a folder of shared memory, and in which state, without attaching.

Owns: `survey`, which reads file attributes, the header and the rows of each segment and classifies
it. It serves listings and the doctor: both must name what nobody can attach to.

Promises: reads only, a few KiB a segment, and trusts nothing it reads. Never raises for what a file
holds or is: that is its `state` and `why`. A symbolic link is not followed. The folder is a
parameter, so that made-up ones can be looked at. To look at one's own stores counts as no use.

Does not: judge (`doctor.py`), map memory, or import the C core.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shmkv.inspect.geometry import SIZE_MIN, Config, geometry_of
from shmkv.inspect.layout import (
    CONFIG,
    DEATH,
    DEATHS,
    HEADER,
    HEADER_BYTES,
    JOURNAL,
    LAYOUT_VERSION,
    LINE,
    MAGIC,
    OPTION_ALWAYS,
    OPTION_EVICT,
    OPTION_JOURNAL,
    OPTIONS,
    ROW,
    fingerprint,
)

OK = "ok"
HALF_MADE = "half made"
DAMAGED = "damaged"
OTHER_VERSION = "other version"
OTHER_MACHINE = "other machine"
REFUSED = "refused"  # no file to trust: a link, a folder, of another owner
UNREADABLE = "unreadable"

ROW_LOCKS = 1 << 40  # owning row r is holding the lock on this byte + r of the file
DAEMON_LOCK = ROW_LOCKS - 2  # being the daemon is holding the lock on this one
FLOCK = struct.Struct("hhqqi0q")  # struct flock: type, whence, start, length, process


@dataclass(frozen=True, slots=True)
class Found:
    """A segment as far as it can be known from outside."""

    name: str
    uid: int
    """The user its file name speaks of."""
    path: Path
    state: str
    why: str = ""
    """What led to a state that is not ok."""
    owner: int = -1
    """The user its file belongs to."""
    mode: int = 0
    """Permission bits of the file."""
    file_bytes: int = 0
    memory: int = 0
    """Bytes of memory its file takes."""
    layout_version: int | None = None
    size: int = 0
    max_size: int = 0
    backed: int = 0
    """Bytes taken from the system."""
    evict: bool = True
    created: float = 0.0
    """Unix time."""
    nospace: int = 0
    """How often the system refused memory."""
    damage: int = 0
    """How often damaged bytes were met and cut out."""
    used: float = 0.0
    """Unix time at which it was certainly in use: the newest of opening (mapping the file), a first
    write to a page of it by a process, and closing. Use after that leaves a trace only in a row:
    see `attached` and `dead`."""
    rows: int = 0
    attached: int = 0
    """Attachments whose process lives."""
    dead: int = 0
    """Attachments whose process has ended without detaching, and that nobody has folded."""
    deaths: tuple[float, ...] = ()
    """Unix times at which attachments were found that ended without detaching: the last ones."""
    has_daemon: bool = False
    journal: str | None = None
    """"everysec", "always", or None."""
    journal_broken: bool = False
    """Changes went unlogged, and nothing was saved since."""
    saved: float | None = None
    """Unix time of the last snapshot; None: there was none."""


def survey(folder: Path, *, uid: int | None = None, name: str | None = None) -> list[Found]:
    """The segments of a folder, by user and name; only those of a user or of a name if given."""
    found: list[Found] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for entry in os.scandir(folder):
            prefix, _, rest = entry.name.partition(".")
            number, _, stored = rest.partition(".")
            if prefix != "shmkv" or not number.isascii() or not number.isdecimal() or not stored:
                continue
            if uid in (None, int(number)) and name in (None, stored):
                with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                    found.append(_look(folder / entry.name, int(number), stored))
    return sorted(found, key=lambda one: (one.uid, one.name))


def _look(path: Path, uid: int, name: str) -> Found:
    about = os.stat(path, follow_symlinks=False)
    if _file(about, uid)[0] != OK:
        return look_at(path, uid, name, about, None)
    try:
        fd = opened(path, about)
    except (PermissionError, BlockingIOError) as error:
        why = f"mode {stat.S_IMODE(about.st_mode):04o} keeps this user out"
        if isinstance(error, BlockingIOError):
            why = "another process is about to remove it"
        return replace(look_at(path, uid, name, about, None), state=UNREADABLE, why=why)
    try:
        return look_at(path, uid, name, about, fd)
    finally:
        os.close(fd)


def opened(path: Path, about: os.stat_result) -> int:
    """A descriptor to read by, which counts as no use of one's own store. OSError."""
    how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if about.st_uid == os.geteuid():
        how |= os.O_NOATIME
    return os.open(path, how)


def look_at(path: Path, uid: int, name: str, about: os.stat_result, fd: int | None) -> Found:
    """The segment behind a descriptor that is open for reading, or as far as attributes tell."""
    fields: dict[str, Any] = {
        "owner": about.st_uid,
        "mode": stat.S_IMODE(about.st_mode),
        "file_bytes": about.st_size,
        "memory": about.st_blocks * 512,
        "used": max(about.st_atime, about.st_mtime),
    }
    state, why = _file(about, uid)
    if state == OK and fd is not None:
        try:
            state, why = _content(fd, about.st_size, fields)
        except OSError as error:
            state, why = UNREADABLE, f"reading it failed: {error.strerror}"
    return Found(name=name, uid=uid, path=path, state=state, why=why, **fields)


def _file(about: os.stat_result, uid: int) -> tuple[str, str]:
    """Can the file be trusted at all?"""
    if stat.S_ISLNK(about.st_mode):
        return REFUSED, "a symbolic link"
    if not stat.S_ISREG(about.st_mode):
        return REFUSED, f"no regular file ({stat.filemode(about.st_mode)})"
    if about.st_nlink > 1:
        return REFUSED, f"{about.st_nlink} hard links, a store has one"
    if about.st_uid not in (uid, 0):
        return REFUSED, f"belongs to user {about.st_uid}, its name says {uid}"
    return OK, ""


def _content(fd: int, file_bytes: int, fields: dict[str, Any]) -> tuple[str, str]:
    """The state its header tells; what is known goes into the fields."""
    if file_bytes == 0:
        return HALF_MADE, "its creator ended, or has only begun"
    if file_bytes < SIZE_MIN:
        return DAMAGED, f"cut to {file_bytes} bytes"
    raw = os.pread(fd, HEADER_BYTES, 0)
    if len(raw) < HEADER_BYTES:
        return DAMAGED, f"cut to {len(raw)} bytes"
    header = HEADER.read(memoryview(raw), 0)
    if header["magic"] == 0:
        return HALF_MADE, "its creator ended, or is at work"
    if header["magic"] != MAGIC:
        return DAMAGED, f"begins with {header['magic']:#018x}: no segment of shmkv"
    fields["layout_version"] = header["layout_version"]
    if header["layout_version"] != LAYOUT_VERSION:
        return OTHER_VERSION, f"layout version {header['layout_version']}, not {LAYOUT_VERSION}"
    if header["fingerprint"] != fingerprint():
        return OTHER_MACHINE, f"fingerprint {header['fingerprint']:#x}, not {fingerprint():#x}"
    config = Config(**CONFIG.read(memoryview(header["config"]), 0))
    geometry = geometry_of(config)
    if geometry is None or config.options not in OPTIONS:
        return DAMAGED, "its header tells of sizes or options that no store has"
    if not geometry.size <= header["size"] <= geometry.max_size == file_bytes:
        return DAMAGED, f"{file_bytes} bytes long, its header says {geometry.max_size}"
    if not geometry.off_arena <= header["watermark"] <= geometry.max_size:
        return DAMAGED, f"its watermark {header['watermark']} lies outside"
    ghost = min(header["ghost"] * LINE, geometry.max_size - geometry.off_ghost)
    attached, dead = _rows(fd, geometry.off_rows, geometry.rows)
    fields |= {
        "size": header["size"],
        "max_size": geometry.max_size,
        "backed": header["watermark"] + ghost + geometry.journal_bytes,
        "evict": bool(config.options & OPTION_EVICT),
        "created": header["created_ms"] / 1000,
        "nospace": header["nospace"],
        "damage": header["damage"],
        "rows": geometry.rows,
        "attached": attached,
        "dead": dead,
        "deaths": _deaths(fd, geometry.off_deaths),
        "has_daemon": held(fd, DAEMON_LOCK),
        **_disk(config.options, JOURNAL.read(memoryview(header["journal"]), 0)),
    }
    return OK, ""


def _disk(options: int, journal: dict[str, Any]) -> dict[str, Any]:
    """What the header tells of journal and snapshots."""
    mode = "always" if options & OPTION_ALWAYS else "everysec"
    return {
        "journal": mode if options & OPTION_JOURNAL else None,
        "journal_broken": bool(journal["broken"]),
        "saved": journal["saved_ms"] / 1000 or None,
    }


def held(fd: int, byte: int) -> bool:
    """Does a living process hold the kernel's lock on a byte?"""
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    found: int = FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0]
    return found != fcntl.F_UNLCK


def _rows(fd: int, at: int, rows: int) -> tuple[int, int]:
    """Attachments that live and that are dead: the kernel's lock on a row's byte is the proof."""
    raw = memoryview(os.pread(fd, rows * ROW.size, at))
    attached = dead = 0
    for row in range(len(raw) // ROW.size):
        if ROW.read(raw, row * ROW.size)["number"] == 0:
            continue
        lives = held(fd, ROW_LOCKS + row)
        attached += lives
        # A row given back between the two looks is no dead one.
        dead += not lives and os.pread(fd, 4, at + row * ROW.size) == bytes(
            raw[row * ROW.size :][:4]
        )
    return attached, dead


def _deaths(fd: int, at: int) -> tuple[float, ...]:
    """When the deaths that are remembered were found."""
    raw = memoryview(os.pread(fd, DEATHS * DEATH.size, at))
    read = (DEATH.read(raw, i * DEATH.size) for i in range(len(raw) // DEATH.size))
    return tuple(sorted(death["found_ms"] / 1000 for death in read if death["number"]))
