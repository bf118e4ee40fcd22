"""Names and rights of segments: create and open; a descriptor goes to the core.

A store `name` of user `uid` is the POSIX shared-memory object `/shmkv.<uid>.<name>`. Owns: how it
is found, made and recreated, and whether it is to be trusted: owner, mode, type and links are
looked at through the descriptor before anything is mapped.

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
import time
from typing import TypeVar

import posix_ipc  # type: ignore[import-not-found]

from shmkv import _core, filling, log, refusals
from shmkv.config import SIZE_MIN, Options, check_owner
from shmkv.errors import Busy, Corrupt, Denied, Mismatch, NoSpace, NotFound
from shmkv.filling import Making
from shmkv.removal import PAUSE, SHM, file_path, object_name, unlink

__all__ = ["SHM", "Making", "attach", "file_path", "names", "object_name", "unlink"]

ROUNDS = 1000  # a name that is unlinked and made again all the time is given up after these

StoreT = TypeVar("StoreT", bound=_core.Store)


class _Again(Exception):
    """The segment changed under us: start over."""


class _Filled(Exception):
    """Another process fills the segment: look again later."""


def names(*, owner: int | None = None) -> list[str]:
    """Names of the stores of a user, this one by default, sorted."""
    uid = check_owner(owner)
    prefix = f"shmkv.{os.geteuid() if uid is None else uid}."
    return sorted(
        entry.name.removeprefix(prefix)
        for entry in os.scandir(SHM)
        if entry.name.startswith(prefix) and entry.is_file(follow_symlinks=False)
    )


# --- opening ----------------------------------------------------------------------------------


def attach(
    cls: type[StoreT], options: Options, making: Making | None = None, *, unseen: bool = False
) -> StoreT:
    """A store of type `cls`, opened or created as the options say, and filled if `making` says so.

    Who fills one from disk is waited for as long as it lives, up to ten minutes.
    unseen: to look at what there is counts as no use of it (`shmkv ls`); for owners only.
    """
    uid = os.geteuid() if options.owner is None else options.owner
    begun = time.monotonic()
    deadline, rounds = begun + max(options.lock_timeout, 1.0), 0
    while rounds < ROUNDS:
        try:
            store = _attach_once(cls, options, uid, deadline, making, unseen)
        except _Filled:
            time.sleep(filling.PAUSE)  # as long as who fills it lives; the kernel says so
            deadline = time.monotonic() + max(options.lock_timeout, 1.0)
            if time.monotonic() > begun + filling.FILL_S:
                raise refusals.still_filled(options) from None
        except _Again:
            rounds += 1
            if time.monotonic() > deadline:
                break
        except Exception as error:
            serious = isinstance(error, (Corrupt, NoSpace))
            log.tell(log.WARNING if serious else log.DEBUG, "refused: %s", error)
            raise
        else:
            if options.owner is None:
                refusals.warn_of_namesakes(options.name, uid)
            return store
    raise Busy(
        f"store {options.name!r}: its name was removed and made again while it was being opened,"
        " over and over, or a `shmkv gc` that is about to remove it is stopped: who does that?"
    )


def _config(options: Options, making: Making | None) -> tuple[int, int, int, int] | None:
    """What a new segment is made with; None: none is to be made."""
    if options.create is False or options.readonly:
        return None
    bits = _core.OPT_EVICT if options.new_evict else 0
    if making is not None:
        return options.new_size, options.new_max_size, making.seed, bits | making.options
    seed = int.from_bytes(os.urandom(8), "little")
    return options.new_size, options.new_max_size, seed, bits


def _attach_once(
    cls: type[StoreT],
    options: Options,
    uid: int,
    deadline: float,
    making: Making | None,
    unseen: bool,
) -> StoreT:
    fd, inode = _descriptor(options, uid, unseen)
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
        problem = None
        status, number, found = made
        if status == "gone":
            raise _Again
        _waited(status, options.name, uid)
        if status != "corrupt" or options.on_corrupt != "recreate" or options.readonly:
            raise refusals.refusal(status, number, found, options, uid)
    log.tell(
        log.WARNING,
        "store %r is removed to be made anew: %s",
        options.name,
        problem or "it is damaged",
    )
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
        with filling.held(options.name, uid, inode):
            making.fill(store)
            store._publish()
    except BaseException:
        # Whoever waits for it finds that its name is gone, and starts again.
        _remove(options, uid, inode, max(deadline, time.monotonic() + 1.0))
        store.close()
        raise


def _damaged(store: _core.Store, options: Options) -> bool:
    """Is something wrong inside, where that is to be mended by recreating?"""
    if options.on_corrupt != "recreate" or options.readonly or store._created:
        return False
    counts, _ = store._check()
    return counts["problem_count"] > 0


def _descriptor(options: Options, uid: int, unseen: bool) -> tuple[int, tuple[int, int]]:
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
        fd = _existing(name, uid, readonly=options.readonly, unseen=unseen)
    except BlockingIOError:  # somebody is alone with it: its name goes, or stays
        time.sleep(PAUSE)  # the caller counts, and has a deadline
        raise _Again from None
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


def _existing(name: str, uid: int, *, readonly: bool, unseen: bool = False) -> int:
    """A descriptor of what has the name, whatever it is; a pipe put there does not block."""
    how = (os.O_RDONLY if readonly else os.O_RDWR) | (os.O_NOATIME if unseen else 0)
    return os.open(file_path(name, uid), how | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _waited(status: str, name: str, uid: int) -> None:
    """Is who makes the segment still at it, or has that come to an end since? Then not in vain."""
    if status in ("busy", "half made") and filling.going_on(name, uid):
        raise _Filled
    if status == "busy" and not _half_made(name, uid, whole=True):
        raise _Again


def _half_made(name: str, uid: int, *, whole: bool = False) -> bool:
    """Has its creator not come further than the file? Then creating goes on, by who is first.

    whole: has it not come to the end, which is the magic? A name that is gone is no half-made one.
    """
    try:
        if not whole:
            return os.stat(file_path(name, uid), follow_symlinks=False).st_size == 0
        fd = _existing(name, uid, readonly=True)
    except FileNotFoundError:
        return not whole
    try:
        return not any(os.pread(fd, 8, 0))
    finally:
        os.close(fd)


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
    except (FileNotFoundError, BlockingIOError):
        return
    try:
        while not _lock(fd):
            if time.monotonic() > deadline:
                raise Busy(f"store {options.name!r} is being recreated by another process: wait")
            time.sleep(PAUSE)  # flock has no time limit of its own
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
