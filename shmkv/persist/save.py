"""Saving a store: a snapshot of everything in it, whole or not at all.

Owns: `save`, into the directory of a store or into a file; the order of writing, `fsync` and
`rename`; and which old files go.

Promises: the file appears under its name when all of it is on disk; a failure at any step removes
what was begun, and what was there before is as it was. While a store with a journal is saved, a new
generation of the journal begins first, and what was changed before the end is on disk before the
name appears: snapshot and journal together are exact. Nobody who uses the store waits.

Does not: read items: the core hands out payloads, here they become blocks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shmkv import _core
from shmkv.errors import PersistError, ReadOnly
from shmkv.persist import blocks, format
from shmkv.persist.belt import Belt
from shmkv.persist.blocks import Writer
from shmkv.persist.directory import (
    PAUSE,
    Directory,
    journal_name,
    part_name,
    snapshot_name,
    swept,
)
from shmkv.persist.format import Begin, End, Flag, Kind, What
from shmkv.persist.trouble import Damaged, refused

if TYPE_CHECKING:
    from shmkv.persist.packing import Packer

KEEP = 2  # snapshots
TRIES = 100  # names, while others save at the same time
Progress = Callable[[int, int], None]
"""Called with how much is done, and of how much."""

_PIECE = 3  # as `fill` says; 0 is the end, 2 are whole items


def save(
    store: _core.Store,
    target: Directory | str,
    *,
    compression: str | None = None,
    keep: int = KEEP,
    progress: Progress | None = None,
) -> Path:
    """Save everything into a directory of stores, or into a file; returns the file's path."""
    packer = packer_for(compression)
    if isinstance(target, Directory):
        return save_in(store, target, packer, keep, progress)
    folder, name = os.path.split(os.path.abspath(target))
    begin = begin_of(store, 0, journal=False)
    dir_fd = _folder(folder, name)
    try:
        _sweep_beside(dir_fd, name)
        part = f".{name}.{os.getpid()}.{os.urandom(4).hex()}.part"
        fd = _create(dir_fd, part, os.path.join(folder, part))
        with _made(fd, dir_fd, part):
            write(store, fd, os.path.join(folder, name), begin, packer, progress)
            _publish(dir_fd, part, name, os.path.join(folder, name))
    finally:
        os.close(dir_fd)
    _told(store, 0)
    return Path(folder, name)


def snapshot(
    store: _core.Store,
    target: str | os.PathLike[str] | None,
    folder: str | None,
    compression: str | None,
    keep: int,
) -> Path:
    """What `Store.snapshot` does: save to a file, or to the store's directory."""
    if isinstance(keep, bool) or not isinstance(keep, int):
        raise TypeError(f"keep must be an int, not {type(keep).__name__}")
    if keep < 1:
        raise ValueError(f"keep={keep} is less than 1: a snapshot stays")
    if target is not None:
        name = os.fspath(target)
        if not isinstance(name, str):
            raise TypeError(f"path must be a str, a path or None, not {type(target).__name__}")
        return save(store, name, compression=compression)
    if folder is None:
        raise ValueError(
            f"store {store.name!r} was opened without path=: name the file, snapshot(path)"
        )
    if store.readonly and store._journal_state() is not None:
        raise ReadOnly(
            f"store {store.name!r} was opened with readonly=True, and saving begins its journal's"
            " next generation: name a file, snapshot(path)"
        )
    with Directory(folder) as directory:
        return save(store, directory, compression=compression, keep=keep)


def save_in(
    store: _core.Store,
    directory: Directory,
    packer: Packer | None = None,
    keep: int = KEEP,
    progress: Progress | None = None,
    generation: int | None = None,
) -> Path:
    """Save into a directory. `generation`: the one that the journal has just begun for this."""
    directory.sweep()  # what dead savers left may be as large as what is saved now
    state = store._journal_state()
    if generation is None and state is not None:
        generation = store._journal_next()
    fd, generation = _create_part(directory, generation)
    part, name = part_name(generation), snapshot_name(generation)
    with _made(fd, directory.fd, part):
        begin = begin_of(store, generation, journal=state is not None)
        write(store, fd, directory.at(part), begin, packer, progress)
        if state is not None:
            store._journal_sync()
        _publish(directory.fd, part, name, directory.at(name))
    _told(store, generation)
    with contextlib.suppress(PersistError):  # it is saved; what is too much goes another time
        prune(directory, keep)
    return Path(directory.at(name))


def _told(store: _core.Store, generation: int) -> None:
    """Whoever looks at the store may know when it was saved; its journal counts, if it waited."""
    if not store.readonly:
        store._saved(now_ms(), generation)


def begin_of(store: _core.Store, generation: int, *, journal: bool) -> Begin:
    """BEGIN of a snapshot of this store. Without its journal it is a store without one."""
    made = store._geometry()
    options = made["options"] if journal else made["options"] & format.OPT_EVICT
    size, most = store.size, made["max_size"]
    return Begin(generation, 0, now_ms(), made["seed"], size, most, options, store.name)


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def packer_for(compression: str | None) -> Packer | None:
    """What compresses; PersistError where the package for it is missing."""
    if compression is None:
        return None
    if compression != "zstd":
        raise ValueError(f'compression={compression!r:.60} is not None or "zstd"')
    try:
        from shmkv.persist.packing import Packer
    except ImportError:
        raise PersistError(
            "compression takes the package zstandard: pip install 'shmkv[zstd]'"
        ) from None
    return Packer()


# ---- the file -----------------------------------------------------------------------------------


def _folder(folder: str, name: str) -> int:
    """The folder of a file that may be written or replaced."""
    path = os.path.join(folder, name)
    if not name or os.path.isdir(path):
        raise PersistError(f"{path} is a directory: name a file in it")
    try:
        dir_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise refused(error, "cannot save into", folder) from None
    try:
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            _replaceable(path, dir_fd, name)
    except BaseException as error:
        os.close(dir_fd)
        if isinstance(error, OSError) and not isinstance(error, PersistError):
            raise refused(error, "cannot save", path) from None
        raise
    return dir_fd


def _replaceable(path: str, dir_fd: int, name: str) -> None:
    """Only a snapshot is replaced by a snapshot."""
    fd = blocks.opened(path, dir_fd=dir_fd, name=name)
    try:
        head = os.pread(fd, format.FILE_BYTES, 0)
    finally:
        os.close(fd)
    if head[:8] != format.MAGIC:
        raise PersistError(f"{path} exists and is no snapshot: remove it, or name another file")


def _sweep_beside(dir_fd: int, name: str) -> None:
    """Remove what savers of this file left that died."""
    left = re.compile(rf"\.{re.escape(name)}\.[0-9]+\.[0-9a-f]{{8}}\.part")
    with contextlib.suppress(OSError):  # a folder that cannot be listed can be saved into
        for one in os.listdir(dir_fd):
            if left.fullmatch(one):
                swept(dir_fd, one)


def _create(dir_fd: int, part: str, path: str) -> int:
    """A new file for its user alone, locked for as long as it is written."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(part, flags, 0o600, dir_fd=dir_fd)
    except FileExistsError:
        raise
    except OSError as error:
        raise refused(error, "cannot save", path) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink == 0:
            raise BlockingIOError(errno.EAGAIN, "swept away before it was locked")
    except BlockingIOError:
        os.close(fd)
        raise FileExistsError from None
    except BaseException as error:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=dir_fd)
        if isinstance(error, OSError):
            raise refused(error, "cannot save", path) from None
        raise
    return fd


def _create_part(directory: Directory, generation: int | None) -> tuple[int, int]:
    """A part of that generation, or of the next that is free."""
    for _ in range(TRIES):
        number = directory.files().last + 1 if generation is None else generation
        part = part_name(number)
        try:
            return _create(directory.fd, part, directory.at(part)), number
        except FileExistsError:
            directory.sweep()
            time.sleep(PAUSE)  # who sweeps has it for a moment
    raise PersistError(f"{directory.path}: others save there all the time: wait, and save again")


@contextlib.contextmanager
def _made(fd: int, dir_fd: int, part: str) -> Iterator[None]:
    """A file in the making: removed when it fails, closed at the end."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=dir_fd)
        raise
    finally:
        with contextlib.suppress(OSError):  # it is on disk, or gone
            os.close(fd)


def write(
    store: _core.Store,
    fd: int,
    path: str,
    begin: Begin,
    packer: Packer | None,
    progress: Progress | None,
) -> End:
    """Write a whole snapshot and wait until it is on disk."""
    dump = store._dump()
    try:
        out = Writer(fd, path, What.SNAPSHOT, begin)

        def append(buffer: bytearray, made: _Made) -> None:
            payload = memoryview(buffer)[: made.used]
            out.block(made.kind, payload, flags=made.flags, count=made.many, packer=packer)

        with Belt(append, format.RAW_MAX) as belt:
            items, stored = _dumped(dump, belt, len(store) if progress else 0, progress)
        end = End(items, stored, out.blocks, now_ms())
        out.block(Kind.END, format.pack_end(end))
        os.fsync(fd)
    except PersistError:
        raise
    except OSError as error:
        raise refused(error, "cannot save", path) from None
    finally:
        dump.close()
    return end


class _Made(NamedTuple):
    """A block's payload, in a buffer."""

    kind: Kind
    used: int
    flags: int
    many: int


def _dumped(
    dump: _core.Dump, belt: Belt[_Made], total: int, progress: Progress | None
) -> tuple[int, int]:
    """Take everything out of the store, block by block; items and bytes."""
    items = stored = 0
    while True:
        buffer = belt.take()
        kind, used, count, last = dump.fill(buffer)
        if kind == 0:
            return items, stored
        flags = Flag.LAST if kind == _PIECE and last else 0
        belt.put(buffer, _Made(Kind(kind), used, flags, count))
        items, stored = items + count, stored + used
        if progress:
            progress(min(items, total), total)


def _publish(dir_fd: int, part: str, name: str, path: str) -> None:
    """Give the file its name, for good."""
    try:
        os.rename(part, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        os.fsync(dir_fd)
    except OSError as error:
        raise refused(error, "cannot finish", path) from None


# ---- old files ----------------------------------------------------------------------------------


def prune(directory: Directory, keep: int = KEEP) -> list[str]:
    """Remove snapshots but the last `keep`, and journals that none of these needs; their names.

    What cannot be removed stays: it does no harm.
    """
    files = directory.files()
    living = directory.living_parts()
    # One that is not whole does not count among the kept: it must not push out what it may need.
    kept: list[int] = []
    removed: list[str] = []
    for number in reversed(files.snapshots):
        if len(kept) < max(keep, 1) and _whole(directory, number):
            kept.append(number)
    if len(kept) < max(keep, 1):
        return []  # what there is before the first ones can bring the store back, too
    oldest = min([*kept, *living])
    for number in files.snapshots:
        if number < oldest and directory.remove(snapshot_name(number)):
            removed.append(snapshot_name(number))
    for number in files.journals:
        if number < oldest and directory.remove(journal_name(number)):
            removed.append(journal_name(number))
    return removed


def _whole(directory: Directory, number: int) -> bool:
    """Does it look whole: a good beginning and a good end?"""
    try:
        with directory.reader(snapshot_name(number)) as reader:
            reader.end()
        return True
    except (Damaged, PersistError, OSError):
        return False
