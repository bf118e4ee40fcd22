"""What on this machine stands in the way of stores, and the command that mends it.

    for finding in examine(Places()):
        print(finding.severity, finding.text, finding.fix)

Owns: `examine`: findings about the machine, /dev/shm, memory limits, process limits, systemd and
each segment of a user (of their disk: `disk`). Every finding that is not ok names what to type.

Promises: reads only; attaches to nothing. What cannot be read is left out, never guessed. All it
looks at lies under the folders of `Places`, so that made-up machines can be examined.

Does not: verify what is in a store (`Store.check`), repair, or print.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shmkv import _core
from shmkv.config import GROWTH, SIZE_DEFAULT, show_size
from shmkv.inspect import disk
from shmkv.inspect import survey as states
from shmkv.inspect.finding import Finding, Severity
from shmkv.inspect.survey import Found, survey
from shmkv.inspect.words import about, ago

MIB = 1 << 20
DOCKER_SHM = 64 * MIB  # what a container gets unless it asks
SYSTEM_USERS = 999  # the last user id that systemd takes for a system user's
OLDEST_KERNEL = (3, 15)  # open-file-description locks
DEATH_RECENT = 86_400.0  # seconds in which a death is worth a line
TIGHT = 0.8  # of a limit: beyond that it is nearly used up


def _space(path: Path) -> tuple[int, int]:
    """Bytes of a file system: all, and free."""
    found = os.statvfs(path)
    return found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail


@dataclass(frozen=True)
class Places:
    """Where a machine is described, and for whom it is examined."""

    shm: Path = Path("/dev/shm")
    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")
    root: Path = Path("/")
    """Under it lie etc, run, usr and var."""
    uid: int = -1
    """The user; -1: who asks."""
    space: Callable[[Path], tuple[int, int]] = _space
    now: Callable[[], float] = time.time

    @property
    def user(self) -> int:
        """The user id."""
        return os.geteuid() if self.uid < 0 else self.uid


def examine(places: Places, *, name: str | None = None, folder: str | None = None) -> list[Finding]:
    """All findings for a user's stores, or for one of them; `folder`: their directory."""
    mine = survey(places.shm, uid=places.user, name=name)
    namesakes = [one for one in survey(places.shm, name=name) if one.uid != places.user]
    return [
        *_machine(places),
        *_shm(places, mine),
        *_memory(places, mine),
        *_limits(places, mine),
        *_systemd(places),
        *(disk.of_folder(folder, mine, places.user, places.space) if folder else ()),
        *(finding for one in mine for finding in _store(one, places.now())),
        *(
            finding
            for one in mine
            for finding in disk.of_store(one, places.proc, folder, places.now())
        ),
        *_strangers(mine, namesakes),
    ]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


# ---- the machine --------------------------------------------------------------------------------


def _machine(places: Places) -> Iterator[Finding]:
    release = _read(places.proc / "sys" / "kernel" / "osrelease") or "unknown"
    libc = " ".join(platform.libc_ver()).strip() or "unknown libc"
    yield Finding(
        "ok",
        "machine",
        f"Linux {release}, Python {platform.python_version()}, {libc},"
        f" pages of {os.sysconf('SC_PAGE_SIZE')} bytes, layout version {_core.LAYOUT_VERSION}",
    )
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is not None and (int(found[1]), int(found[2])) < OLDEST_KERNEL:
        yield Finding(
            "problem",
            "machine",
            f"Linux {release} is too old, 3.15 brought the locks needed: no store can be opened",
            "sudo apt-get install linux-image-amd64 && sudo reboot",
        )


# ---- /dev/shm -----------------------------------------------------------------------------------


def _mount(places: Places) -> tuple[str, list[str]] | None:
    """Type and options of the file system mounted at the folder of shared memory."""
    found = None
    for line in (_read(places.proc / "self" / "mounts") or "").splitlines():
        words = line.split()
        if len(words) >= 4 and words[1] == str(places.shm):
            found = words[2], words[3].split(",")  # a later mount covers an earlier one
    return found


def _shm(places: Places, mine: list[Found]) -> Iterator[Finding]:
    shm = places.shm
    mend = f"sudo mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs {shlex.quote(str(shm))}"
    if not shm.is_dir():
        yield Finding("problem", "shm", f"{shm} does not exist: no store can be opened", mend)
        return
    mount = _mount(places)
    if mount is None:
        yield Finding("warning", "shm", f"{shm} is no file system of its own", mend)
    elif mount[0] != "tmpfs":
        yield Finding("problem", "shm", f"{shm} is {mount[0]}, not tmpfs: it is not memory", mend)
    if mount is not None and "ro" in mount[1]:
        yield Finding("problem", "shm", f"{shm} is read-only", f"sudo mount -o remount,rw {shm}")
    if shm.stat().st_mode & 0o1777 != 0o1777:
        yield Finding(
            "warning",
            "shm",
            f"{shm} has mode {shm.stat().st_mode & 0o7777:o}, not 1777: users may be kept out, or"
            " may remove each other's stores",
            f"sudo chmod 1777 {shm}",
        )
    yield from _shm_space(places, mine)


def _shm_space(places: Places, mine: list[Found]) -> Iterator[Finding]:
    total, free = places.space(places.shm)
    said = f"{places.shm} has {about(total)}, {about(free)} of it free"
    grow = sum(max(one.size - one.backed, 0) for one in mine)
    wanted = about(max(2 * (total - free + grow), 1 << 30), up=True).replace(" ", "")
    if Path(places.root, ".dockerenv").exists() or total == DOCKER_SHM:
        fix = f"docker run --shm-size={wanted.removesuffix('iB').lower()} ..."
    else:
        fix = f"sudo mount -o remount,size={wanted.removesuffix('iB').lower()} {places.shm}"
    unattached = [one for one in mine if one.state == states.OK and not one.attached]
    if (grow > free or free < (1 - TIGHT) * total) and unattached:
        held = about(sum(one.memory for one in unattached))
        text = f"{len(unattached)} stores that no process is attached to hold {held} of it"
        yield Finding("note", "shm", text, "shmkv gc --idle 1d --dry-run")
    if grow > free:
        text = f"{said}: the stores may still take {about(grow)}; they will stop growing"
        yield Finding("problem", "shm", text, fix)
    elif total == DOCKER_SHM:
        yield Finding("warning", "shm", f"{said}: a container's default, soon too little", fix)
    elif free < (1 - TIGHT) * total:
        yield Finding("warning", "shm", f"{said}: nearly full", fix)
    else:
        yield Finding("ok", "shm", said)


# ---- memory of the control group ----------------------------------------------------------------


def _cgroup_limit(places: Places) -> tuple[int, str] | None:
    """The least memory limit this process is under, and the group that has it."""
    folders: list[tuple[Path, str, str]] = []
    for line in (_read(places.proc / "self" / "cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            folders.append((places.cgroup, path, "memory.max"))
            folders.append((places.cgroup / "unified", path, "memory.max"))
        elif "memory" in controllers.split(","):
            folders.append((places.cgroup / "memory", path, "memory.limit_in_bytes"))
    least: tuple[int, str] | None = None
    for top, path, file in folders:
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for depth in range(len(parts), -1, -1):
            text = _read(top.joinpath(*parts[:depth]) / file) or ""
            # Version 1 says "no limit" by a number near 2**63, version 2 by "max".
            if text.isdecimal() and int(text) < 1 << 60 and (not least or int(text) < least[0]):
                least = int(text), "/" + "/".join(parts[:depth])
    return least


def _memory(places: Places, mine: list[Found]) -> Iterator[Finding]:
    limit = _cgroup_limit(places)
    total = sum(one.size for one in mine)
    if limit is None:
        yield Finding("ok", "memory", "no control group limits the memory of this process")
        return
    most, group = limit
    said = f"the control group {group} allows {about(most)}"
    unit = re.search(r"[^/]+\.(?:service|slice|scope)$", group)
    wanted = about(2 * total, up=True).replace(" ", "").removesuffix("iB")
    if unit is not None:
        fix = f"sudo systemctl set-property {shlex.quote(unit[0])} MemoryMax={wanted}"
    else:
        fix = f"docker run --memory={wanted.lower()} ...  # Kubernetes: resources.limits.memory"
    counts = "shared memory counts against the group that first touches it"
    if total > most:
        text = f"{said}, the stores may take {about(total)}: {counts}; processes will be killed"
        yield Finding("problem", "memory", text, fix)
    elif total > TIGHT * most:
        text = f"{said}, the stores may take {about(total)} of it: {counts}"
        yield Finding("warning", "memory", text, fix)
    else:
        yield Finding("ok", "memory", f"{said}, the stores may take {about(total)} of it")


# ---- limits of processes ------------------------------------------------------------------------

LIMITS = {
    "Max address space": ("-v", "LimitAS", "no process can map"),
    "Max file size": ("-f", "LimitFSIZE", "no process can create or grow"),
}


def _limits(places: Places, mine: list[Found]) -> Iterator[Finding]:
    largest = max((one.max_size for one in mine), default=0)
    whose = "the largest store"
    if not largest:
        largest, whose = GROWTH * SIZE_DEFAULT, "a store of the default size"
    low = False
    for line in (_read(places.proc / "self" / "limits") or "").splitlines():
        for what, (flag, directive, cannot) in LIMITS.items():
            soft = line.removeprefix(what).split()[:1] if line.startswith(what) else []
            if soft and soft[0].isdecimal() and int(soft[0]) < largest:
                low = True
                yield Finding(
                    "problem",
                    "limits",
                    f"{what.lower()} is {about(int(soft[0]))}: {cannot} {whose}, which has room"
                    f" for {about(largest)}",
                    f"ulimit {flag} unlimited  # in a systemd unit: {directive}=infinity",
                )
    if not low:
        yield Finding("ok", "limits", "address space and file size are not limited below need")


# ---- systemd ------------------------------------------------------------------------------------

LOGIND = ("usr/lib/systemd", "lib/systemd", "run/systemd", "etc/systemd")  # the last one wins


def _remove_ipc(places: Places) -> bool:
    """What systemd-logind does when a user logs out for the last time: RemoveIPC, default yes."""
    files: dict[str, Path] = {}
    for folder in LOGIND:
        base = places.root / folder
        with contextlib.suppress(OSError):
            files |= {one.name: one for one in base.joinpath("logind.conf.d").glob("*.conf")}
    mains = [places.root / folder / "logind.conf" for folder in LOGIND]
    says = True
    for file in [*mains, *(files[name] for name in sorted(files))]:
        section = ""
        for raw in (_read(file) or "").splitlines():
            line = raw.strip()
            if line.startswith("["):
                section = line
            key, _, value = line.partition("=")
            if section == "[Login]" and key.strip() == "RemoveIPC":
                says = value.strip().lower() in ("1", "yes", "y", "true", "t", "on")
    return says


def _systemd(places: Places) -> Iterator[Finding]:
    if not (places.root / "run/systemd/system").is_dir() or places.user <= SYSTEM_USERS:
        return
    import pwd

    try:
        user = pwd.getpwuid(places.user).pw_name
    except KeyError:
        user = str(places.user)
    lingers = (places.root / "var/lib/systemd/linger" / user).exists()
    if lingers or not _remove_ipc(places):
        yield Finding("ok", "systemd", f"logging out leaves the stores of user {user} alone")
        return
    yield Finding(
        "warning",
        "systemd",
        f"systemd removes the stores of user {user} when they log out for the last time"
        " (RemoveIPC=yes in logind.conf)",
        f"sudo loginctl enable-linger {shlex.quote(user)}",
    )


# ---- stores -------------------------------------------------------------------------------------


def _store(one: Found, now: float) -> Iterator[Finding]:
    topic, name = f"store {one.name}", shlex.quote(one.name)
    remove = f"shmkv gc -- {name}"
    if one.state != states.OK:
        fixes = {
            states.UNREADABLE: f"chmod 600 {shlex.quote(str(one.path))}",
            states.REFUSED: f"sudo rm -r {shlex.quote(str(one.path))}",
        }
        severity: Severity = "warning" if one.state == states.HALF_MADE else "problem"
        text = f"{one.state}: {one.why}"
        yield Finding(severity, topic, text, fixes.get(one.state, remove))
    elif not one.damage:
        size = f"{show_size(one.size)}, {about(one.backed)} taken"
        yield Finding("ok", topic, f"{size}, {one.attached} of {one.rows} rows attached")
    if one.mode & 0o077 and one.state != states.REFUSED:
        text = f"mode {one.mode:04o} lets other users in: whoever writes can change its data"
        yield Finding("warning", topic, text, f"chmod 600 {shlex.quote(str(one.path))}")
    if one.dead:
        text = f"attachments of ended processes that still hold a row: {one.dead}"
        yield Finding("note", topic, text, f"shmkv check --fold -s {name}")
    recent = [when for when in one.deaths if now - when < DEATH_RECENT]
    if recent:
        text = f"attachments that ended without closing, within a day: {len(recent)}, the last one"
        text = f"{text} was found {ago(now - recent[-1])}"
        yield Finding("note", topic, text, f"shmkv postmortem -s {name}")
    if one.rows and one.attached >= one.rows:
        text = f"all {one.rows} rows are attached: no further process can open it"
        yield Finding("problem", topic, text, f"fuser -v {shlex.quote(str(one.path))}")
    if one.damage:
        text = f"damaged bytes were met and cut out {one.damage} times"
        yield Finding("problem", topic, text, f"shmkv check -s {name}")
    if one.nospace:
        text = f"the system refused it memory {one.nospace} times: it works with less than its size"
        yield Finding("warning", topic, text, "df -h /dev/shm")


def _strangers(mine: list[Found], others: list[Found]) -> Iterator[Finding]:
    names = {one.name for one in mine}
    for one in others:
        if one.owner not in (one.uid, 0):
            yield Finding(
                "warning",
                f"store {one.name}",
                f"user {one.owner} squats on the name of a store of user {one.uid}",
                f"sudo rm -r {shlex.quote(str(one.path))}",
            )
        elif one.name in names:
            text = f"user {one.uid} has another store of this name: is one shared by mistake?"
            fix = f"shmkv info -s {shlex.quote(one.name)} --owner {one.uid}"
            yield Finding("note", f"store {one.name}", text, fix)
