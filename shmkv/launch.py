"""Starting the daemon of a store from a program that uses it: `open(..., daemon=True)`.

Owns: when a daemon is started, and what of this process it gets: nothing but where Python and the
package lie. It is nobody's child, has no terminal and none of this process's descriptors.

Promises: of many that open a store at once one starts a daemon: it holds a lock on a byte of the
segment's file through a descriptor that the daemon inherits, so that the lock lives as long as what
was started. `open` waits for the start of a process and no longer. Where none can be started a
warning says so: a store works without.

Does not: work for the store (`shmkv.daemon`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import warnings
from typing import TYPE_CHECKING

from shmkv import log, segment

if TYPE_CHECKING:
    from shmkv import _core

_STARTING = (1 << 40) - 3  # the byte of the file; those of rows and of the daemon lie beside it
_FLOCK = struct.Struct("hhqqi0q")  # struct flock: type, whence, start, length, process
_START_S = 10.0
_KEPT = {"PATH", "HOME", "LANG", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONHOME"}
_KEPT |= {"PYTHONPATH", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE"}
# Fork once more and end: what is started is nobody's child then, and needs nobody to reap it.
_ORPHAN = "import os, sys; os.fork() and os._exit(0); os.execv(sys.argv[1], sys.argv[1:])"


def ensure(store: _core.Store, *, owner: int | None, mode: int, path: str | None = None) -> None:
    """See to it that the store has a daemon, now or soon. Never raises for want of one.

    path: the store's directory; the daemon leads its journal's rounds and saves by the usual rules
    (`daemon/saver.USUAL`).
    """
    try:
        if store._daemon(False):
            return
        with contextlib.closing(_Claim(segment.file_path(store.name, _uid(owner)))) as claim:
            if claim.mine:
                log.tell(log.INFO, "store %r has no daemon: one is started", store.name)
                _start(_command(store.name, owner, mode, path), claim.fd)
    except OSError as error:
        warnings.warn(
            f"store {store.name!r} has no daemon, none could be started ({error}): it works"
            f" without, or start one with: shmkv daemon -s {store.name}",
            RuntimeWarning,
            stacklevel=3,
        )


def _uid(owner: int | None) -> int:
    return os.geteuid() if owner is None else owner


class _Claim:
    """The right to start the daemon of a segment, for as long as a descriptor is open."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _STARTING, 1, 0)
        self.mine = True
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, lock)
        except (BlockingIOError, PermissionError):
            self.mine = False  # somebody is at it
        except OSError:
            os.close(self.fd)
            raise

    def close(self) -> None:
        """Leave it to who has inherited it."""
        os.close(self.fd)


def _command(name: str, owner: int | None, mode: int, path: str | None) -> list[str]:
    whose = [] if owner is None else ["--owner", str(owner)]
    where = [] if path is None else ["--path", path]
    options = ["--foreground", "-s", name, "--mode", f"{mode:03o}", *whose, *where]
    return [_python(), "-P", "-m", "shmkv", "daemon", *options]


def _python() -> str:
    """The interpreter; where Python is embedded, sys.executable is the program around it."""
    own = sys.executable or ""
    if os.path.basename(own).startswith("python"):
        return own
    return os.path.join(sys.prefix, "bin", "python3")


def _environment() -> dict[str, str]:
    """What Python needs to find itself and this package; nothing else of this process."""
    env = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith("LC_")}
    paths = [os.path.abspath(p) for p in env.get("PYTHONPATH", "").split(os.pathsep) if p]
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if os.path.basename(here) not in ("site-packages", "dist-packages"):
        paths.append(here)
    return env | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


def _start(command: list[str], inherited: int) -> None:
    import subprocess

    launcher = [command[0], "-S", "-c", _ORPHAN, *command]
    null = subprocess.DEVNULL
    with subprocess.Popen(
        launcher,
        stdin=null,
        stdout=null,
        stderr=null,
        cwd="/",
        env=_environment(),
        pass_fds=(inherited,),
        start_new_session=True,
    ) as process:
        try:
            code = process.wait(_START_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise OSError(f"{command[0]} has not started within {_START_S:.0f} s") from error
    if code != 0:
        raise OSError(f"{command[0]} ended with {code}")
