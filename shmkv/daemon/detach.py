"""Leaving the terminal: a process of its own, and a word to who waits for it.

Owns: `detach`, the double fork of daemons: a session without a terminal, which it can never get
again, the root folder, no standard streams, a umask that lets nobody in.

Promises: the caller returns when the new process has reported that it is ready or has failed, with
its words, or has ended without any. Nothing of the caller runs twice: the new process leaves by
`os._exit`.

Does not: open a store before the fork, or choose what the new process does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

READY_S = 60.0  # to report; a loaded machine takes long to do anything


class Word(NamedTuple):
    """What the new process reported."""

    code: int
    """0: it works."""
    text: str
    pid: int


Report = Callable[[int, str], None]


def detach(body: Callable[[Report], int]) -> Word:
    """Run `body(report)` in a detached process; what it reports first is the result here.

    `body` returns the exit code of its process, and must report it where it has not been ready.
    """
    reader, writer = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    child = os.fork()
    if child == 0:
        _leave(body, reader, writer)
    os.close(writer)
    try:
        os.waitpid(child, 0)
        return _listen(reader)
    finally:
        os.close(reader)


def _leave(body: Callable[[Report], int], reader: int, writer: int) -> None:
    """What the child does: it never returns."""
    code = 3
    try:
        os.close(reader)
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        os.chdir("/")
        os.umask(0o077)
        writer = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, 3)
        _close_all_but(writer)

        def report(code: int, text: str) -> None:
            nonlocal writer
            if writer >= 0:
                os.write(writer, json.dumps([code, text, os.getpid()]).encode())
                os.close(writer)
                writer = -1

        try:
            code = body(report)
        except Exception as error:  # noqa: BLE001 - there is nobody above to tell
            report(3, str(error))
    finally:
        os._exit(code)


def _close_all_but(kept: int) -> None:
    """No descriptor of the caller; nothing to read from, nowhere to print to."""
    for fd in [int(entry) for entry in os.listdir("/proc/self/fd")]:
        if fd != kept:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(fd)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)


def _listen(reader: int) -> Word:
    end, said = time.monotonic() + READY_S, b""
    while True:
        left = end - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return Word(3, f"the daemon has not reported within {READY_S:.0f} s", 0)
        more = os.read(reader, 1 << 16)
        if not more:
            break
        said += more
    if not said:
        return Word(3, "the daemon ended before it was ready", 0)
    code, text, pid = json.loads(said)
    return Word(code, text, pid)
