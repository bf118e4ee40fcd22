"""A thread whose start is waited for only so long.

Owns: `Thread`. One that gets no memory dies before its first line, and `threading.Thread.start`
would wait for it for ever. Does not: have a name, or results.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable

START_S = 2.0  # for a thread to begin


class Thread:
    """`body` in a thread; `ended` is set after it."""

    def __init__(self, body: Callable[[], None]) -> None:
        self._body = body
        self._lock = threading.Lock()
        self._given_up = False
        self._begun = threading.Event()
        self.ended = threading.Event()

    def start(self) -> bool:
        """Does it run?"""
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError:
            return False
        if not self._begun.wait(START_S):
            with self._lock:
                self._given_up = not self._begun.is_set()
        return not self._given_up

    def _run(self) -> None:
        with self._lock:
            if self._given_up:
                return
            self._begun.set()
        try:
            self._body()
        finally:
            self.ended.set()
