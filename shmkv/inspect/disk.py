"""What stands between stores and their disk: journals, snapshots, directories.

Owns: the doctor's findings about these. The directory of a store stands nowhere in shared memory:
a person names it, or it is seen in the open files of the processes that use the store.

Promises: reads only, and of a directory its attributes alone. What cannot be seen (processes of
other users and of other containers) is not held against a store.

Does not: verify files (`shmkv verify`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from shmkv.inspect.finding import Finding, Severity
from shmkv.inspect.survey import OK, Found
from shmkv.inspect.words import OLD_SNAPSHOT_S, about, ago

Space = Callable[[Path], tuple[int, int]]
_JOURNAL = re.compile(r"journal-[0-9]{10}\.shmkv")
FULL = 0.05  # of a disk: less than that free is nearly full


# ---- a store ------------------------------------------------------------------------------------


def of_store(one: Found, proc: Path, folder: str | None, now: float) -> Iterator[Finding]:
    """The journal and the snapshots of a segment."""
    if one.state != OK:
        return
    topic = f"store {one.name}"
    where = f"-s {shlex.quote(one.name)} --path {'DIR' if folder is None else shlex.quote(folder)}"
    save = f"shmkv snapshot {where}"
    if one.journal_broken:
        text = "its journal is broken: what changes is on disk again after the next snapshot"
        yield Finding("problem", topic, text, save)
    if one.journal is not None:
        yield from _writers(one, proc, topic, f"shmkv daemon {where}")
    if one.saved is not None and now - one.saved > OLD_SNAPSHOT_S:
        yield Finding("note", topic, f"it was last saved {ago(now - one.saved)}", save)
    elif one.journal is not None and one.saved is None and now - one.created > OLD_SNAPSHOT_S:
        text = f"made {ago(now - one.created)}, it was never saved: it has its journal alone"
        yield Finding("note", topic, text, save)


def _writers(one: Found, proc: Path, topic: str, fix: str) -> Iterator[Finding]:
    """Does anybody write the journal?"""
    known = _openers(one, proc)
    if any(known.values()):
        if not one.has_daemon and one.journal == "everysec":
            text = "no daemon: when its writers pause, what they wrote last waits in memory"
            yield Finding("note", topic, text, fix)
        return
    if not one.has_daemon:
        severity: Severity = "problem" if one.journal == "always" and one.attached else "warning"
        text = f"nobody alive is seen to know the directory of its journal ({one.journal}):"
        text += " writes raise PersistError" if one.journal == "always" else " it is not written"
        yield Finding(severity, topic, text, fix)
    elif len(known) >= one.attached:  # all of them are seen, the daemon too
        text = "its daemon was started without --path: nobody writes its journal"
        standby = fix.replace("daemon", "daemon --standby", 1)
        stop = [f"kill {pid}; " for pid in known if _is_daemon(proc / pid)]
        yield Finding("warning", topic, text, "".join(stop[:1]) + standby)


def _openers(one: Found, proc: Path) -> dict[str, bool]:
    """Of the processes that have a segment open: do they have its directory open as well?"""
    found = {}
    for folder in proc.glob("[0-9]*/fd"):
        links = _links(folder)
        if str(one.path) in links:
            found[folder.parent.name] = any(map(_is_store_folder, links))
    return found


def _links(folder: Path) -> list[str]:
    """What a process has open, as far as this user may know."""
    links = []
    with contextlib.suppress(OSError):
        for number in os.listdir(folder):
            with contextlib.suppress(OSError):  # closed meanwhile
                links.append(os.readlink(folder / number))
    return links


def _is_daemon(process: Path) -> bool:
    try:
        return b"daemon" in (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _is_store_folder(link: str) -> bool:
    if not link.startswith("/") or link.startswith(("/dev/", "/proc/")):
        return False
    if _JOURNAL.fullmatch(os.path.basename(link)):
        return True
    try:
        return any(_JOURNAL.fullmatch(name) for name in os.listdir(link))
    except OSError:
        return False


# ---- a directory --------------------------------------------------------------------------------


def of_folder(folder: str, stores: list[Found], uid: int, space: Space) -> Iterator[Finding]:
    """Can stores of this user be saved in that directory?"""
    quoted = shlex.quote(folder)
    if not os.path.lexists(folder):
        text = f"{folder} does not exist: nothing can be saved there"
        yield Finding("problem", "disk", text, f"install -d -m 700 -o {uid} {quoted}")
        return
    if not os.path.isdir(folder):
        text = f"{folder} is no directory: a store needs one of its own"
        yield Finding("problem", "disk", text, f"ls -ld {quoted}")
        return
    found = os.stat(folder)
    if found.st_uid not in (uid, 0) or not _may_write(found, uid):
        text = f"user {uid} cannot save in {folder}: it belongs to user {found.st_uid}, mode"
        text += f" {found.st_mode & 0o7777:o}"
        yield Finding("problem", "disk", text, f"sudo chown {uid} {quoted} && chmod 700 {quoted}")
    elif found.st_mode & 0o022:
        text = f"{folder} has mode {found.st_mode & 0o7777:o}: others may put files there, so it is"
        yield Finding("problem", "disk", f"{text} refused", f"chmod 700 {quoted}")
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        text = f"{folder} lies on a file system that is read-only"
        yield Finding("problem", "disk", text, f"sudo mount -o remount,rw {_mount(folder)}")
    yield from _room(folder, stores, space)


def _may_write(found: os.stat_result, uid: int) -> bool:
    return uid == 0 or (found.st_uid == uid and found.st_mode & 0o300 == 0o300)


def _room(folder: str, stores: list[Found], space: Space) -> Iterator[Finding]:
    total, free = space(Path(folder))
    wanted = max((one.backed for one in stores if one.state == OK), default=0)
    said = f"{folder} has {about(free)} free of {about(total)}"
    fix = f"sudo du -xhd1 {_mount(folder)} | sort -h | tail"
    if free < wanted:
        text = f"{said}: a snapshot may take {about(wanted)}, beside those that are there"
        yield Finding("problem", "disk", text, fix)
    elif free < FULL * total:
        yield Finding("warning", "disk", f"{said}: nearly full", fix)
    else:
        yield Finding("ok", "disk", said)


def _mount(folder: str) -> str:
    """Where the file system of a folder is mounted."""
    path = os.path.realpath(folder)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return shlex.quote(path)
