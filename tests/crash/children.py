"""Processes that are to die.

Owns `Child`: a fork that prepares itself, says so, waits for the word, arms the fault points and
does one thing. Its end is `Ended`: killed there, finished, or failed with a traceback.

Promises: every wait is bounded; a child that does not end in time is killed by its id and reported
as hanging; a child dies when its parent does; no descriptor and no process is left by `end()`.
Does not: know what the child does, or judge it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

from shmkv import _core

KILL, STOP = 1, 2
LIMIT_S = 20.0
_PR_SET_PDEATHSIG = 1
_TEXT = 8192
_libc = ctypes.CDLL(None, use_errno=True)


class Ended(NamedTuple):
    """How a child ended; `visits` counts fault points when it finished."""

    killed: bool
    visits: int
    error: str


class Hang(Exception):
    """A child did not do in time what it should."""


def _wait_fd(fd: int, what: str) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(LIMIT_S * 1000):
        raise Hang(f"{what} within {LIMIT_S:.0f} s")


class Child:
    """One forked process. `warm` runs at once, `act` when `go` is called."""

    def __init__(self, act: Callable[[], object], warm: Callable[[], object] | None) -> None:
        self._board = mmap.mmap(-1, 8 + _TEXT)
        ready_r, ready_w = os.pipe()
        self._go_r, self._go_w = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._live(parent, ready_w, act, warm)
        os.close(ready_w)
        os.close(self._go_r)
        self._ended: Ended | None = None
        self._pidfd = os.pidfd_open(self.pid)
        try:
            _wait_fd(ready_r, "the child was not ready")
            if os.read(ready_r, 1) != b"r":
                raise Hang(f"the child died while it prepared: {self.wait().error}")
        except Hang:
            self.end()
            raise
        finally:
            os.close(ready_r)

    def _live(
        self,
        parent: int,
        ready: int,
        act: Callable[[], object],
        warm: Callable[[], object] | None,
    ) -> None:
        code = 1
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.close(self._go_w)
            if warm is not None:
                warm()
            if os.getppid() == parent:
                os.write(ready, b"r")
                order = os.read(self._go_r, 16)
                if len(order) == 9:
                    _core.fault_arm(int.from_bytes(order[1:], "little"), order[0])
                    act()
                    visits = _core.fault_visits()
                    _core.fault_arm(0, KILL)
                    self._board[:8] = visits.to_bytes(8, "little")
                    code = 0
        except BaseException:  # noqa: BLE001 - nothing may run on here
            text = traceback.format_exc().encode()[-_TEXT + 1 :]
            self._board[8 : 8 + len(text)] = text
        finally:
            os._exit(code)

    def go(self, point: int, action: int = KILL) -> None:
        """Let it act; at its visit number `point` (0 = none) it is killed or stopped."""
        os.write(self._go_w, bytes([action]) + point.to_bytes(8, "little"))

    def stopped(self) -> None:
        """Wait until it stopped at its point."""
        poll_end = _deadline()
        while True:
            state = os.waitid(
                os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
            )
            if state is not None and state.si_code == os.CLD_STOPPED:
                return
            if state is not None:
                raise Hang("the child ended instead of stopping")
            if poll_end():
                raise Hang("the child did not stop")
            os.sched_yield()

    def resume(self) -> None:
        """Let a stopped child go on."""
        os.kill(self.pid, signal.SIGCONT)

    def running(self) -> bool:
        """Has it not ended yet?"""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def wait(self) -> Ended:
        """Its end; `Hang` when it takes too long."""
        if self._ended is None:
            _wait_fd(self._pidfd, "the child did not end")
            _, status = os.waitpid(self.pid, 0)
            text = self._board[8:].split(b"\0", 1)[0].decode(errors="replace")
            killed = os.WIFSIGNALED(status)
            if killed and os.WTERMSIG(status) != signal.SIGKILL:
                text = f"ended by signal {os.WTERMSIG(status)}"
            visits = int.from_bytes(self._board[:8], "little")
            self._ended = Ended(killed, visits, text)
        return self._ended

    def end(self) -> None:
        """Whatever it does: it is gone afterwards, and so are its descriptors."""
        if self._ended is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._ended = Ended(True, 0, "")
        if self._pidfd >= 0:
            os.close(self._pidfd)
            os.close(self._go_w)
            self._pidfd = -1
            self._board.close()


def _deadline() -> Callable[[], bool]:
    end = time.monotonic() + LIMIT_S
    return lambda: time.monotonic() > end
