"""A gunicorn of our own: started on a free port of the loopback, ended by process id, in time.

Owns the server's processes and their log. `Server` is a context manager: whatever happens inside,
no process of it is left behind. Also reads what the kernel knows about the workers: who they are
and what memory they use.

Memory is PSS, the proportional set size: a page that several processes map counts for each of
them by its share, so the sum over the workers counts shared memory once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from examples.webapp.load import Client, Tally

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("gunicorn_conf.py")
WORKERS = 4
START_SECONDS = 30.0
STOP_SECONDS = 10.0


class DemoError(Exception):
    """Something outside the measurement went wrong; the message says what."""


class Memory(NamedTuple):
    """Bytes, proportional: all of it, and the part that is shared memory."""

    pss: int
    shmem: int


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Look every 20 ms whether `done`; False when it is not within `seconds`."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def parent_of(stat: str) -> int:
    """The parent in the text of /proc/PID/stat; the command in it may hold anything."""
    return int(stat.rpartition(")")[2].split()[1])


def children_of(pid: int) -> list[int]:
    """Living children of a process, oldest number first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if parent_of((entry / "stat").read_text()) == pid:
                    found.append(int(entry.name))
    return sorted(found)


def memory_in(rollup: str) -> Memory:
    """Read the text of /proc/PID/smaps_rollup."""
    kib = {}
    for line in rollup.splitlines()[1:]:
        name, _, rest = line.partition(":")
        kib[name] = int(rest.split()[0])
    return Memory(kib["Pss"] * 1024, kib["Pss_Shmem"] * 1024)


class Server:
    """Gunicorn with the application, its pages in `kind`: "none", "dict" or "shmkv"."""

    def __init__(self, kind: str, store_name: str) -> None:
        self._environment = {**os.environ, "WEBAPP_CACHE": kind, "WEBAPP_STORE": store_name}
        self._log = contextlib.ExitStack()
        self._log_descriptor = -1
        self._master: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Server:
        try:
            self._log_descriptor = self._log.enter_context(tempfile.TemporaryFile()).fileno()
            self._start()
            if not wait_until(self._is_up, START_SECONDS):
                raise DemoError(f"gunicorn did not start in {START_SECONDS:.0f} s:\n{self.log()}")
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            # The port is handed over open, so that nobody can take it in between.
            self.port = listener.getsockname()[1]
            command = [sys.executable, "-m", "gunicorn", "--config", str(CONFIG)]
            command += ["--workers", str(WORKERS), "--bind", f"fd://{listener.fileno()}"]
            self._master = subprocess.Popen(
                [*command, "examples.webapp.app:create()"],
                cwd=ROOT,
                env=self._environment,
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log_descriptor,
                stderr=self._log_descriptor,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the server
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _is_up(self) -> bool:
        if self._master is None or self._master.poll() is not None:
            raise DemoError(f"gunicorn ended at once:\n{self.log()}")
        if len(self.workers()) < WORKERS:
            return False
        client = Client(self.port, Tally())
        status, _ = client.get("/stats", "127.0.0.1")
        client.close()
        return status == 200

    def workers(self) -> list[int]:
        """Process ids of the workers that live now."""
        return children_of(self._master.pid) if self._master is not None else []

    def kill_a_worker(self) -> tuple[int, float]:
        """SIGKILL one worker; its process id and the moment."""
        victim = self.workers()[0]
        moment = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        return victim, moment

    def wait_for_workers(self) -> None:
        """Until all workers are there again."""
        if not wait_until(lambda: len(self.workers()) == WORKERS, START_SECONDS):
            raise DemoError(f"a killed worker was not replaced:\n{self.log()}")

    def memory(self) -> Memory:
        """What the workers use together."""
        each = [memory_in(Path(f"/proc/{p}/smaps_rollup").read_text()) for p in self.workers()]
        return Memory(sum(m.pss for m in each), sum(m.shmem for m in each))

    def log(self) -> str:
        """The end of what gunicorn wrote."""
        # The offset is gunicorn's, which goes on writing there: read without moving it.
        size = os.fstat(self._log_descriptor).st_size
        return os.pread(self._log_descriptor, 4000, max(0, size - 4000)).decode(errors="replace")

    def stop(self) -> None:
        """End the server and its workers; by force after `STOP_SECONDS`."""
        with self._log:
            if self._master is None:
                return
            workers = self.workers()
            self._master.terminate()
            try:
                self._master.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for pid in {*workers, *self.workers()}:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                self._master.kill()
                self._master.wait(STOP_SECONDS)
            self._master = None
