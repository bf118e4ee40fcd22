"""Kernel help for tests that need a machine of their own: mounts, pid namespaces, other users.

Owns: `in_child`, which runs a function in a fork child that has left some of the parent's
namespaces or its user, and tells how it ended; the few system calls that Python 3.11 lacks.

Promises: what is mounted or changed is gone with the child; what the machine forbids raises
`NotRun` in the caller, with the reason, never a failure. Waits are bounded.
Does not: know shmkv.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import traceback
from collections.abc import Callable

from tests.stress.support import Child, die_with_parent

NEW_MOUNTS = 0x00020000
NEW_PIDS = 0x20000000
_MS_REC_PRIVATE = 0x4000 | (1 << 18)
_FORBIDDEN = 77
_libc = ctypes.CDLL(None, use_errno=True)


class NotRun(Exception):
    """What the machine forbids."""


class _Forbidden(Exception):
    """Raised in the child; becomes NotRun in the parent."""


def _call(name: str, *words: object) -> None:
    if getattr(_libc, name)(*words) != 0:
        number = ctypes.get_errno()
        raise _Forbidden(f"{name}: {os.strerror(number)}")


def leave(namespaces: int) -> None:
    """unshare(2); with new mounts, nothing mounted here reaches the others."""
    _call("unshare", namespaces)
    if namespaces & NEW_MOUNTS:
        _call("mount", b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None)


def own_tmpfs(folder: str, options: str) -> None:
    """A tmpfs over a folder; leave(NEW_MOUNTS) came before."""
    _call("mount", b"none", folder.encode(), b"tmpfs", ctypes.c_ulong(0), options.encode())


def become(uid: int, *groups: int) -> None:
    """Another user for good, with these groups, the first of them its own."""
    try:
        os.setgroups(groups)
        os.setgid(groups[0])
        os.setuid(uid)
    except PermissionError as error:
        raise _Forbidden(f"cannot become user {uid}: {error}") from None


def first_process(body: Callable[[], object], limit_s: float) -> None:
    """Run it as the first process of a new pid namespace, whose others end with it.

    For children of in_child: raises AssertionError with what it raised.
    """
    leave(NEW_PIDS)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            die_with_parent()
            body()
            code = 0
        except BaseException:  # noqa: BLE001 - told through the pipe
            os.write(writer, traceback.format_exc().encode(errors="replace")[-8000:])
        finally:
            os._exit(code)
    os.close(writer)
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    if not poll.poll(limit_s * 1000):
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert status == 0, os.read(reader, 8000).decode(errors="replace") or f"status {status}"


def in_child(body: Callable[[], object], limit_s: float = 60.0) -> int:
    """Run it in a fork child; 0, or minus the signal that ended it.

    What it raises is an AssertionError here, what the machine forbids it is NotRun.
    """

    def guarded() -> None:
        try:
            body()
        except _Forbidden as error:
            _say(str(error))
            os._exit(_FORBIDDEN)
        except BaseException:
            _say(traceback.format_exc())
            raise

    reader, writer = os.pipe()

    def _say(text: str) -> None:
        os.write(writer, text.encode(errors="replace")[-8000:])

    child = Child(guarded)
    os.close(writer)
    try:
        code = child.wait(limit_s)
        text = os.read(reader, 8000).decode(errors="replace")
    finally:
        child.end()
        os.close(reader)
    if code == _FORBIDDEN:
        raise NotRun(text)
    assert code <= 0, text
    return code
