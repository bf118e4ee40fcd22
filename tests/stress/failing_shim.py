"""The preloaded library that makes calls of the core fail, seen from Python.

Owns: compiling tests/c/failing_shim.c, the environment that preloads it, and `Shim`, which says
which call fails. `KINDS` names what may fail and with which numbers the system may answer.

Promises: only calls that come from the core's and posix_ipc's code fail; the interpreter's never.
Does not: judge what comes of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "c" / "failing_shim.c"
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]

# In the order of the enum in C; the first number is what a quick run uses. 0: a short read.
KINDS: Mapping[str, tuple[int, ...]] = {
    "memory": (errno.ENOMEM,),
    "open": (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES),
    "stat": (errno.EIO, errno.ENOMEM),
    "truncate": (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EPERM),
    "allocate": (errno.ENOSPC, errno.EINTR, errno.EIO, errno.ENOMEM, errno.EOPNOTSUPP),
    "map": (errno.ENOMEM, errno.EAGAIN, errno.EPERM),
    "advise": (errno.EINVAL, errno.ENOMEM),
    "lock": (errno.ENOLCK, errno.EINTR, errno.EINVAL, errno.EIO),
    "read": (errno.EIO, errno.EINTR, 0),
    "futex": (errno.EINTR, errno.EAGAIN, errno.ENOSYS, errno.ENOMEM),
    "close": (errno.EINTR, errno.EIO),
    "unlink": (errno.EACCES, errno.ENOENT),
    "ask": (errno.EINVAL,),
}


class NotRun(Exception):
    """What the machine lacks."""


def build(folder: Path) -> Path:
    """The library, compiled into a folder."""
    if shutil.which("gcc") is None:
        raise NotRun("there is no gcc to compile the preloaded library")
    made = folder / "failing_shim.so"
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", *WARNINGS]
    subprocess.run(["gcc", *flags, str(SOURCE), "-o", str(made)], check=True, timeout=120)
    probe = subprocess.run(["/bin/true"], env=preloaded(made), capture_output=True, timeout=20)
    if probe.returncode or probe.stderr:
        raise NotRun(f"the library cannot be preloaded: {probe.stderr.decode()[-200:]}")
    return made


def preloaded(library: Path) -> dict[str, str]:
    """An environment whose processes load it first."""
    return {**os.environ, "LD_PRELOAD": str(library)}


class _State(ctypes.Structure):
    _fields_ = [
        ("low", ctypes.c_uint64 * 2),
        ("high", ctypes.c_uint64 * 2),
        ("kinds", ctypes.c_uint64),
        ("nth", ctypes.c_uint64),
        ("forever", ctypes.c_uint64),
        ("error", ctypes.c_uint64),
        ("seen", ctypes.c_uint64),
        ("failed", ctypes.c_uint64),
        ("wall", ctypes.c_int64),
    ]


def _code_of(name: str) -> tuple[int, int]:
    """Where the code of a loaded file lies."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    found = [line.split()[0] for line in lines if name in line.rsplit("/", 1)[-1]]
    assert found, f"{name} is not loaded"
    return int(found[0].split("-")[0], 16), int(found[-1].split("-")[1], 16)


class Shim:
    """The state of the library in this process."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        library.failing_state.restype = ctypes.POINTER(_State)
        self._state = library.failing_state().contents
        for i, name in enumerate(("_core.", "posix_ipc.")):
            self._state.low[i], self._state.high[i] = _code_of(name)

    @contextlib.contextmanager
    def failing(self, kind: str, nth: int, error: int, forever: bool) -> Iterator[None]:
        """Inside, the nth call of a kind fails; all later ones too, if `forever`."""
        state = self._state
        state.kinds, state.error, state.forever = 1 << list(KINDS).index(kind), error, forever
        state.seen = state.failed = 0
        state.nth = nth
        try:
            yield
        finally:
            state.nth = 0

    def calm(self) -> None:
        """Nothing fails any more."""
        self._state.nth = 0

    def wall(self, seconds: int) -> None:
        """The core's wall clock is so far ahead of the system's."""
        self._state.wall = seconds

    @property
    def failed(self) -> int:
        """Calls that were made to fail."""
        return int(self._state.failed)

    @property
    def seen(self) -> int:
        """Calls of the kind."""
        return int(self._state.seen)
