"""Stepping aside: what a verb that works hard does before anything else, so that others work on.

Owns: the one decision how little of a busy machine such a verb takes. Linux may share processors
among sessions before it shares them among processes (autogroups, see sched(7)); there a priority
says nothing to processes of another terminal. So the verb goes on in a session of its own, which as
a whole, and as a process, has a low priority. Where processors are idle that costs it nothing.

Does not: run in a process that has more to do than the verb (tests, programs that call click).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

NICE = 19  # the least there is: a few hundredths of two processors that others keep busy
TRIES, PAUSE_S = 20, 0.05
PR_SET_PDEATHSIG = 1


def step_aside() -> None:
    """Go on in a child, which returns from here; this process ends as that one ends.

    Whatever ends this one interrupts the child. Ctrl-C is passed on to the child, whose end this
    one awaits; Ctrl-Z stops this one alone. Where no process can be made, this one goes on.
    """
    parent = os.getpid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, it takes the exit code
    try:
        child = os.fork()
    except OSError:
        child = 0
    if child:
        _end_like(child)
    nice = max(NICE, os.getpriority(os.PRIO_PROCESS, 0))
    if os.getpid() != parent:
        os.setsid()
        # Jobs that scripts start with & ignore it; here no terminal sends it, only the parent does.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _end_with_parent()
        if os.getppid() != parent:
            raise KeyboardInterrupt
        _lower_session(nice)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)


def _end_with_parent() -> None:
    with contextlib.suppress(ImportError):  # a Python made without it: the page is made to its end
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _lower_session(nice: int) -> None:
    """Only one's own: the terminal's would stay so for all that is in it."""
    for _ in range(TRIES):
        try:
            with open("/proc/self/autogroup", "w") as group:
                group.write(str(nice))
        except BlockingIOError:  # one in 100 ms on the whole machine, unless it is root's
            time.sleep(PAUSE_S)
        except OSError:
            return
        else:
            return


def _end_like(child: int) -> NoReturn:
    def interrupt(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL is as it is
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        code = 128 - code
    sys.exit(code)
