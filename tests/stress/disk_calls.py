"""A process that is stopped at each of its system calls: the n-th kills it, fails, or is cut short.

Owns: `run`, which forks, lets the child prepare, follows it with ptrace(2) from there on, and does
to the n-th call what `Fate` says; the names of calls. Threads and forks of the child are followed,
too, and all calls are counted together.

Promises: every call counts, whoever makes it: the interpreter, the core, the C library. A death
comes before the call is carried out, a failed call is not carried out, and a short one is with half
of its bytes. The child ends with this process. What the machine forbids raises NotRun.

Does not: know what is done, or judge. Deaths work on every machine with Linux 5.3; failures need
x86-64, where the registers are known.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import signal
import struct
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

from tests.stress.failing_shim import NotRun
from tests.stress.support import die_with_parent

_TRACEME, _SYSCALL, _GETREGS, _SETREGS = 0, 24, 12, 13
_PEEK, _POKE = 2, 5
_SETOPTIONS, _SYSCALL_INFO = 0x4200, 0x420E
_GOOD, _FORK, _VFORK, _CLONE, _EXITKILL = 1, 2, 4, 8, 0x100000
_WALL = 0x40000000
_ENTRY, _EXIT = 1, 2
_RAX, _RDX, _ORIG_RAX, _REGS = 10, 12, 15, 27  # of user_regs_struct, in words
_TEXT = 8192
LIMIT_S = 60.0
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long

# Numbers of x86-64: what a disk may refuse.
NAMES = {
    0: "read",
    1: "write",
    2: "open",
    3: "close",
    5: "fstat",
    8: "lseek",
    9: "mmap",
    17: "pread",
    18: "pwrite",
    20: "writev",
    32: "dup",
    72: "fcntl",
    73: "flock",
    74: "fsync",
    75: "fdatasync",
    76: "truncate",
    77: "ftruncate",
    82: "rename",
    83: "mkdir",
    87: "unlink",
    91: "fchmod",
    217: "getdents",
    257: "openat",
    258: "mkdirat",
    262: "fstatat",
    263: "unlinkat",
    264: "renameat",
    268: "fchmodat",
    285: "fallocate",
    295: "preadv",
    296: "pwritev",
    316: "renameat2",
    318: "getrandom",
    332: "statx",
    137: "statfs",
}
WRITES = {"write": False, "pwrite": False, "writev": True, "pwritev": True}  # True: of parts


class Fate(NamedTuple):
    """What becomes of the n-th call."""

    nth: int
    """0: of none."""
    error: int = 0
    """It fails with this number; 0: the process is killed."""
    names: frozenset[str] = frozenset()
    """Calls that count; empty: all."""
    forever: bool = False
    """All later ones that count fail, too."""
    short: bool = False
    """The call writes half of what it should."""


class Run(NamedTuple):
    """What became of the child."""

    seen: int
    """Calls that counted."""
    struck: str
    """The call that fate struck; empty: none."""
    code: int
    """Its exit code; minus the signal that ended it."""
    text: str
    """What it raised."""


def _ptrace(what: int, pid: int, address: object = None, data: object = None) -> int:
    ctypes.set_errno(0)
    found: int = _libc.ptrace(what, pid, address, data)
    if found == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), f"ptrace {what:#x}")
    return found


def run(prepare: Callable[[], Callable[[], object]], fate: Fate) -> Run:
    """In a child: prepare, then, followed, do what that returned."""
    if fate.error and platform.machine() != "x86_64":
        raise NotRun(f"the registers of {platform.machine()} are not known: no call can fail")
    board = mmap.mmap(-1, _TEXT)
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        _live(parent, board, prepare)
    follower = _Follower(pid, fate)
    try:
        code = follower.follow()
    finally:
        follower.end()
    text = board[:].split(b"\0", 1)[0].decode(errors="replace")
    board.close()
    return Run(follower.seen, follower.struck, code, text)


def _live(parent: int, board: mmap.mmap, prepare: Callable[[], Callable[[], object]]) -> None:
    code = 1
    try:
        die_with_parent()
        if os.getppid() == parent:
            act = prepare()
            if _libc.ptrace(_TRACEME, 0, None, None) != 0:
                os._exit(77)
            os.kill(os.getpid(), signal.SIGSTOP)
            act()
            code = 0
    except BaseException:  # noqa: BLE001 - told in the text
        text = traceback.format_exc().encode()[-_TEXT + 1 :]
        board[: len(text)] = text
    finally:
        os._exit(code)


class _Follower:
    """A child and its threads, from stop to stop."""

    def __init__(self, pid: int, fate: Fate) -> None:
        self.pid = pid
        self.fate = fate
        self.seen = 0
        self.struck = ""
        self._undo: dict[int, Callable[[], None]] = {}  # at the end of a call
        self._threads = {pid}
        self._code: int | None = None

    def follow(self) -> int:
        """To its end, in bounded time."""
        end = time.monotonic() + LIMIT_S
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return self._ended(status)
        try:
            _ptrace(_SETOPTIONS, self.pid, None, _GOOD | _FORK | _VFORK | _CLONE | _EXITKILL)
        except OSError as error:
            raise NotRun(f"no process can be followed: {error}") from None
        self._go(self.pid, 0)
        while self._code is None:
            pid, status = os.waitpid(-1, _WALL)
            assert time.monotonic() < end, f"it hangs after {self.seen} calls"
            if not os.WIFSTOPPED(status):
                self._threads.discard(pid)
                if pid == self.pid:
                    self._ended(status)
                continue
            self._threads.add(pid)
            with contextlib.suppress(ProcessLookupError):  # killed meanwhile
                self._stopped(pid, status)
        return self._code

    def _ended(self, status: int) -> int:
        self._code = os.waitstatus_to_exitcode(status)
        if self._code == 77:
            raise NotRun("ptrace(2) is forbidden here")
        return self._code

    def _go(self, pid: int, number: int) -> None:
        _ptrace(_SYSCALL, pid, None, number)

    def _stopped(self, pid: int, status: int) -> None:
        number = os.WSTOPSIG(status)
        if number == signal.SIGTRAP | 0x80:
            self._call(pid)
            number = 0
        elif number in (signal.SIGTRAP, signal.SIGSTOP):  # a new thread; an event
            number = 0
        self._go(pid, number)

    def _call(self, pid: int) -> None:
        info = (ctypes.c_char * 88)()
        _ptrace(_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info))
        kind, number = info[0][0], struct.unpack_from("<Q", bytes(info), 24)[0]
        if kind == _EXIT:
            undo = self._undo.pop(pid, None)
            if undo is not None:
                undo()
            return
        name = NAMES.get(number, f"call {number}")
        fate = self.fate
        if kind != _ENTRY or (fate.names and name not in fate.names):
            return
        self.seen += 1
        if self.seen == fate.nth or (fate.forever and self.struck and fate.nth):
            self.struck = self.struck or name
            self._strike(pid, name)

    def _strike(self, pid: int, name: str) -> None:
        if self.fate.short:
            self._shorten(pid, name)
        elif self.fate.error:
            regs = self._registers(pid)
            regs[_ORIG_RAX] = (1 << 64) - 1  # no call at all
            _ptrace(_SETREGS, pid, None, ctypes.addressof(regs))
            self._undo[pid] = lambda: self._answer(pid, -self.fate.error)
        else:
            os.kill(self.pid, signal.SIGKILL)

    def _registers(self, pid: int) -> ctypes.Array[ctypes.c_uint64]:
        regs = (ctypes.c_uint64 * _REGS)()
        _ptrace(_GETREGS, pid, None, ctypes.addressof(regs))
        return regs

    def _answer(self, pid: int, value: int) -> None:
        regs = self._registers(pid)
        regs[_RAX] = value & ((1 << 64) - 1)
        _ptrace(_SETREGS, pid, None, ctypes.addressof(regs))

    def _shorten(self, pid: int, name: str) -> None:
        """Half of the bytes of a write; of parts: the first one, or half of that if it is alone."""
        regs = self._registers(pid)
        many = regs[_RDX]
        if not WRITES[name] or many > 1:
            regs[_RDX] = max(many // 2, 1)
            _ptrace(_SETREGS, pid, None, ctypes.addressof(regs))
            self._undo[pid] = lambda: self._put(pid, _RDX, many)
            return
        at = regs[13] + 8  # rsi: the one struct iovec, its length
        length = _ptrace(_PEEK, pid, at)
        _ptrace(_POKE, pid, at, max(length // 2, 1))
        self._undo[pid] = lambda: (_ptrace(_POKE, pid, at, length), None)[1]

    def _put(self, pid: int, register: int, value: int) -> None:
        regs = self._registers(pid)
        regs[register] = value
        _ptrace(_SETREGS, pid, None, ctypes.addressof(regs))

    def end(self) -> None:
        """Nothing of it is left."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, _WALL)
        while self._threads - {self.pid}:
            pid = (self._threads - {self.pid}).pop()
            with contextlib.suppress(ChildProcessError, ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, _WALL)
            self._threads.discard(pid)


ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
