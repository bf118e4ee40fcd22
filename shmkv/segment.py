"""Names and rights of segments: create, open, unlink; a descriptor goes to the core.

A store `name` of user `uid` is the POSIX shared-memory object `/shmkv.<uid>.<name>`. Owns: how it
is found, made and removed, and whether it is to be trusted: owner, mode, type and links are looked
at through the descriptor before anything is mapped.

Promises: nothing is removed but what was asked for. Two that recreate one store at once end up in
the same new one: a name is unlinked only by who holds a lock on the very file it names.

Does not: know bytes of the segment (`_core` does), what fills a new one (`Making`), or keep
anything: all state is in files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import posix_ipc  # type: ignore[import-not-found]

from shmkv import _core, refusals
from shmkv.config import SIZE_MIN, Options, check_name, check_owner
from shmkv.errors import Busy, Corrupt, Denied, Mismatch, NoSpace, NotFound
from shmkv.refusals import SHM as SHM
from shmkv.refusals import file_path as file_path
from shmkv.refusals import object_name as object_name

ROUNDS = 1000  # a name that is unlinked and made again all the time is given up after these
PAUSE = 0.001  # seconds, while another process recreates the store
FILL_S = 600.0  # to wait for one that fills it from disk, and lives
FILL_PAUSE = 0.02

_FILLING = (1 << 40) - 4  # a byte of the file, beside those of `_csrc/layout.h` and `launch`
_FLOCK = struct.Struct("hhqqi0q")  # struct flock: type, whence, start, length, process

StoreT = TypeVar("StoreT", bound=_core.Store)


class Making(NamedTuple):
    """How a new segment gets its contents before anybody else may attach."""

    seed: int
    options: int
    """Bits beside those that `Options` says."""
    fill: Callable[[Any], None]
    """Called with the store; if it raises, the segment is removed again."""


class _Again(Exception):
    """The segment changed under us: start over."""


class _Filled(Exception):
    """Another process fills the segment: look again later."""


def names() -> list[str]:
    """Names of this user's stores, sorted."""
    prefix = f"shmkv.{os.geteuid()}."
    return sorted(
        entry.name.removeprefix(prefix)
        for entry in os.scandir(SHM)
        if entry.name.startswith(prefix) and entry.is_file(follow_symlinks=False)
    )


def unlink(name: str, *, missing_ok: bool = False, owner: int | None = None) -> None:
    """Remove a store's name and, when the last process lets go, its memory.

    Whoever has it open goes on with it; the next `open` makes a new store. `owner` is the user id
    it belongs to, this user by default. Raises NotFound (unless `missing_ok`), Denied.
    """
    check_name(name)
    uid = check_owner(owner)
    uid = os.geteuid() if uid is None else uid
    try:
        posix_ipc.unlink_shared_memory(object_name(name, uid))
    except posix_ipc.ExistentialError:
        if not missing_ok:
            raise NotFound(f"store {name!r} does not exist ({file_path(name, uid)})") from None
    except (posix_ipc.PermissionsError, PermissionError) as error:
        raise Denied(f"store {name!r} may not be removed: {error}") from None


# --- opening ----------------------------------------------------------------------------------


def attach(cls: type[StoreT], options: Options, making: Making | None = None) -> StoreT:
    """A store of type `cls`, opened or created as the options say.

    Who fills one from disk is waited for as long as it lives, up to ten minutes.
    """
    uid = os.geteuid() if options.owner is None else options.owner
    begun = time.monotonic()
    deadline, rounds = begun + max(options.lock_timeout, 1.0), 0
    while rounds < ROUNDS:
        try:
            store = _attach_once(cls, options, uid, deadline, making)
        except _Filled:
            time.sleep(FILL_PAUSE)
            deadline = time.monotonic() + max(options.lock_timeout, 1.0)
            if time.monotonic() > begun + FILL_S:
                raise Busy(
                    f"store {options.name!r}: another process has been filling it from disk for"
                    f" {FILL_S:.0f} s: is it stopped?"
                ) from None
            continue
        except _Again:
            rounds += 1
            if time.monotonic() > deadline:
                break
            continue
        if options.owner is None:
            refusals.warn_of_namesakes(options.name, uid)
        return store
    raise Busy(
        f"store {options.name!r}: its name was removed and made again while it was being opened,"
        " over and over: who does that?"
    )


def _config(options: Options, making: Making | None) -> tuple[int, int, int, int] | None:
    """What a new segment is made with; None: none is to be made."""
    if options.create is False or options.readonly:
        return None
    bits = 0 if options.evict is False else _core.OPT_EVICT
    if making is not None:
        return options.new_size, options.new_max_size, making.seed, bits | making.options
    seed = int.from_bytes(os.urandom(8), "little")
    return options.new_size, options.new_max_size, seed, bits


def _attach_once(
    cls: type[StoreT], options: Options, uid: int, deadline: float, making: Making | None
) -> StoreT:
    fd, inode = _descriptor(options, uid)
    made = _core.attach(
        cls,
        options.name,
        fd,
        object_name(options.name, uid),
        _config(options, making),
        options.readonly,
        options.lock_timeout,
        making is not None,
    )
    if not isinstance(made, tuple):
        if options.create == "new" and not made._created:
            made.close()
            raise refusals.exists(options, uid)
        if making is not None and made._created:
            _fill(made, making, options, uid, inode, deadline)
            return made
        problem = refusals.mismatch(made, options)
        damaged = problem is None and _damaged(made, options)
        if problem is None and not damaged:
            return made
        made.close()
        if problem is not None and (options.on_mismatch != "recreate" or options.readonly):
            raise Mismatch(problem)
    else:
        status, number, found = made
        if status == "gone":
            raise _Again
        if status in ("busy", "half made") and being_filled(options.name, uid):
            raise _Filled
        if status != "corrupt" or options.on_corrupt != "recreate" or options.readonly:
            raise refusals.refusal(status, number, found, options, uid)
    _remove(options, uid, inode, deadline)
    raise _Again


def _fill(
    store: _core.Store,
    making: Making,
    options: Options,
    uid: int,
    inode: tuple[int, int],
    deadline: float,
) -> None:
    """Give a new segment its contents, then to everybody; or remove it."""
    try:
        with _filling(file_path(options.name, uid), inode):
            making.fill(store)
            store._publish()
    except BaseException:
        # Whoever waits for it finds that its name is gone, and starts again.
        _remove(options, uid, inode, max(deadline, time.monotonic() + 1.0))
        store.close()
        raise


@contextlib.contextmanager
def _filling(path: str, inode: tuple[int, int]) -> Iterator[None]:
    """Hold the byte that says so to who waits; the kernel lets go of it when this process ends."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) == inode:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, _FILLING, 1, 0))
        yield
    finally:
        os.close(fd)


def being_filled(name: str, uid: int) -> bool:
    """Does a living process fill this segment from disk?"""
    try:
        fd = _existing(name, uid, readonly=True)
    except OSError:
        return False
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, 0, _FILLING, 1, 0)
        found: int = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0]
    except OSError:
        return False
    finally:
        os.close(fd)
    return found != fcntl.F_UNLCK


def _damaged(store: _core.Store, options: Options) -> bool:
    """Is something wrong inside, where that is to be mended by recreating?"""
    if options.on_corrupt != "recreate" or options.readonly or store._created:
        return False
    counts, _ = store._check()
    return counts["problem_count"] > 0


def _descriptor(options: Options, uid: int) -> tuple[int, tuple[int, int]]:
    """A descriptor of the segment, trusted, and the file's identity; created if it is to be."""
    name, target = options.name, object_name(options.name, uid)
    if options.create is not False and not options.readonly:
        try:
            fd = posix_ipc.SharedMemory(target, posix_ipc.O_CREX, mode=options.mode).fd
        except posix_ipc.ExistentialError:
            if options.create == "new" and not _half_made(name, uid):
                raise refusals.exists(options, uid) from None
        except posix_ipc.PermissionsError:
            raise Denied(
                f"store {name!r} cannot be created: user {os.geteuid()} may not write to {SHM}"
            ) from None
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise NoSpace(refusals.no_space(options)) from None
        else:
            return fd, _own(fd, options, uid)
    try:
        fd = _existing(name, uid, readonly=options.readonly)
    except FileNotFoundError:
        if options.create is not False and not options.readonly:
            raise _Again from None
        raise NotFound(
            f"store {name!r} does not exist ({file_path(name, uid)}):"
            f" create it with shmkv.open({name!r}){refusals.elsewhere(name, uid)}"
        ) from None
    except OSError as error:
        raise refusals.not_opened(error, options, uid) from None
    try:
        return fd, _trust(os.fstat(fd), options, uid)
    except BaseException:
        os.close(fd)
        raise


def _existing(name: str, uid: int, *, readonly: bool) -> int:
    """A descriptor of what has the name, whatever it is; a pipe put there does not block."""
    how = os.O_RDONLY if readonly else os.O_RDWR
    return os.open(file_path(name, uid), how | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _half_made(name: str, uid: int) -> bool:
    """Has its creator not come further than the file? Then creating goes on, by who is first."""
    try:
        return os.stat(file_path(name, uid), follow_symlinks=False).st_size == 0
    except FileNotFoundError:
        return True


def _own(fd: int, options: Options, uid: int) -> tuple[int, int]:
    """Give the file just made its owner and its mode, whatever the umask took away."""
    try:
        if uid != os.geteuid():
            os.fchown(fd, uid, -1)
        os.fchmod(fd, options.mode)
        found = os.fstat(fd)
        return found.st_dev, found.st_ino
    except OSError as error:
        os.close(fd)
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_shared_memory(object_name(options.name, uid))
        if isinstance(error, PermissionError):
            raise Denied(
                f"store {options.name!r} cannot be given to user {uid} by user {os.geteuid()}:"
                " only root may create for others"
            ) from None
        raise


def _trust(found: os.stat_result, options: Options, uid: int) -> tuple[int, int]:
    """Refuse a file that cannot be this user's segment."""
    path = file_path(options.name, uid)
    what = f"store {options.name!r} is refused: {path}"
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        raise Denied(f"{what} is no regular file ({stat.filemode(found.st_mode)})")
    if found.st_nlink == 0:
        raise _Again
    if found.st_nlink > 1:
        raise Denied(f"{what} has {found.st_nlink} hard links: a store has one, remove the others")
    if found.st_uid not in (uid, 0):
        raise Denied(f"{what} belongs to user {found.st_uid}, not to {uid}")
    beyond = mode & 0o077 & ~options.mode
    if beyond:
        raise Denied(
            f"{what} has mode {mode:#o}, which lets in more than mode={options.mode:#o} allows:"
            f" chmod it, or open with mode={mode & 0o777:#o} if that is meant"
        )
    if 0 < found.st_size < SIZE_MIN and options.on_corrupt != "recreate":
        raise Corrupt(
            f"{what} has only {found.st_size} bytes: it was cut. Remove it with"
            f' shmkv.unlink({options.name!r}), or open with on_corrupt="recreate"'
        )
    return found.st_dev, found.st_ino


def _remove(options: Options, uid: int, inode: tuple[int, int], deadline: float) -> None:
    """Unlink the name if it still means this file: its lock is held while looking and removing."""
    try:
        fd = _existing(options.name, uid, readonly=True)
    except FileNotFoundError:
        return
    try:
        while not _lock(fd):
            if time.monotonic() > deadline:
                raise Busy(f"store {options.name!r} is being recreated by another process: wait")
            time.sleep(PAUSE)
        held = os.fstat(fd)
        named = os.stat(file_path(options.name, uid), follow_symlinks=False)
        if inode == (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino):
            posix_ipc.unlink_shared_memory(object_name(options.name, uid))
    except (FileNotFoundError, posix_ipc.ExistentialError):
        return
    except posix_ipc.PermissionsError:
        raise Denied(
            f"store {options.name!r} may not be recreated by user {os.geteuid()}: {SHM} lets only"
            f" its owner remove it (user {held.st_uid})"
        ) from None
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
