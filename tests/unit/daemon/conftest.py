"""Daemons in this process, and daemons as processes.

Owns: `working`, which runs `serve` in a thread of the test, and `start`, processes of the verb; the
hunt for daemons that nobody is the parent of.

Promises: threads are stopped and processes ended at the end of a test; a detached daemon is found
by the name of its store in its command line, and killed by its process id.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv.daemon import Result, Stop, Task, Told, serve
from tests.stress.support import until
from tests.unit.cli.conftest import finished, start

__all__ = ["finished", "start"]

Working = Callable[..., "Worker"]


class Worker:
    """A daemon in a thread: `result` when it has ended."""

    def __init__(self, name: str, told: Told | None = None, **task: Any) -> None:
        self.stop = Stop()
        self.result: Result | None = None
        self.error: Exception | None = None
        self._arguments = Task(name, **task), self.stop, told or Told({})
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = serve(*self._arguments)
        except (shmkv.Error, OSError) as error:
            self.error = error

    def end(self) -> Result:
        """Stop it and wait; how it ended."""
        self.stop.set()
        return self.ended()

    def ended(self) -> Result:
        """Wait until it ends by itself."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


@pytest.fixture
def working() -> Iterator[Working]:
    """Start a daemon in a thread: working(store.name, standby=True) -> Worker."""
    made: list[Worker] = []

    def begin(name: str, **options: Any) -> Worker:
        made.append(Worker(name, **options))
        return made[-1]

    yield begin
    for one in made:
        one.stop.set()
        with contextlib.suppress(shmkv.Error, OSError):
            one.ended()


def daemons_of(name: str) -> list[int]:
    """Process ids of `shmkv daemon` for this store."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"daemon" in words and name.encode() in words:
                found.append(int(folder.name))
    return sorted(found)


@pytest.fixture
def orphans(store_name: str) -> Iterator[Callable[[], list[int]]]:
    """The daemons of `store_name`, wherever they came from; they are ended at the end."""
    yield lambda: daemons_of(store_name)
    for pid in daemons_of(store_name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not daemons_of(store_name), "the daemons have ended")
