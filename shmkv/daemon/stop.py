"""How a daemon is told to stop, and how it sleeps: one object for both.

Owns: `Stop`, a flag that ends every wait for it at once, and the signals that set it.

Promises: setting it is safe in a signal handler and in another thread: no lock is taken, one word
is written to an event descriptor (threading.Event takes a lock, which its own waiter may hold when
the handler runs).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stop:
    """A flag that is set once."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._set = False

    def set(self) -> None:
        """End the present wait and all later ones."""
        self._set = True
        with contextlib.suppress(BlockingIOError):  # the word is full: it was set before
            os.eventfd_write(self._fd, 1)

    def is_set(self) -> bool:
        """Was it set?"""
        return self._set

    def wait(self, seconds: float) -> bool:
        """Sleep so long, or until it is set; is it?"""
        if not self._set and seconds > 0:
            self._poll.poll(seconds * 1000)
        return self._set

    def close(self) -> None:
        """Give the descriptor back; nobody may set it any more."""
        os.close(self._fd)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """A Stop that SIGTERM, SIGINT and SIGHUP set, while the block runs.

    The last two stay ignored where they are (nohup, jobs of a shell); whoever started this process
    may have blocked signals, which is inherited.
    """
    stop = Stop()

    def handler(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    taken = [n for n in SIGNALS if n == signal.SIGTERM or signal.getsignal(n) != signal.SIG_IGN]
    former = {number: signal.signal(number, handler) for number in taken}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield stop
    finally:
        for number, one in former.items():
            signal.signal(number, one)
        stop.close()
