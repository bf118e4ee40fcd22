"""The whole suite in its quick form, as `make test` runs it: `python -m tests.run [OPTION...]`.

Rooms run two at a time, since most tests keep one core busy, the longest first. Owns only their
order; options go to pytest. What a room says is shown when it ends. The exit code is 0 if all are
green; after a red one no further room begins.

Promises: what does not end within SHMKV_TEST_SECONDS (1500) is ended, with all its children.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = float(os.environ.get("SHMKV_TEST_SECONDS") or 1500)
LONGEST = ("stress", "c", "unit", "crash", "release")  # the others go together, last


def jobs() -> list[list[str]]:
    """The paths of each job; every room of the suite is in one of them."""
    rooms = {path.name: f"tests/{path.name}" for path in (ROOT / "tests").iterdir() if _has(path)}
    return [[rooms.pop(name)] for name in LONGEST] + [sorted(rooms.values())]


def _has(path: Path) -> bool:
    if path.is_dir():
        return any(path.rglob("test_*.py"))
    return path.name.startswith("test_") and path.suffix == ".py"


class Suite:
    """The jobs that wait, and what became of those that ran."""

    def __init__(self, options: list[str]) -> None:
        self.options = options
        self.waiting = jobs()
        self.running: set[subprocess.Popen[str]] = set()
        self.end = time.monotonic() + LIMIT_S
        self.red = False
        self.lock = threading.Lock()

    def work(self) -> None:
        """Job after job; one of two threads."""
        while True:
            with self.lock:
                if self.red or not self.waiting:
                    return
                paths = self.waiting.pop(0)
                job = self._start(paths)
                self.running.add(job)
            begun = time.monotonic()
            try:
                said, _ = job.communicate(timeout=max(0.0, self.end - begun))
            except subprocess.TimeoutExpired:
                os.killpg(job.pid, signal.SIGKILL)
                said = job.communicate()[0] + f"\nnot finished within {LIMIT_S:g} s\n"
            with self.lock:
                self.running.discard(job)
                self.red |= job.returncode != 0
                print(f"{said}{' '.join(paths)}: {time.monotonic() - begun:.0f} s\n", flush=True)

    def _start(self, paths: list[str]) -> subprocess.Popen[str]:
        options = ["-q", "--maxfail", "5", *self.options]
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *paths, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def stop(self) -> None:
        """End what runs, with its children."""
        for job in list(self.running):
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)


def main() -> int:
    """Run all, two at a time."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    begun, suite = time.monotonic(), Suite(sys.argv[1:])
    pair = [threading.Thread(target=suite.work, daemon=True) for _ in range(2)]
    try:
        for thread in pair:
            thread.start()
        for thread in pair:
            thread.join()
    finally:
        suite.stop()
    print(f"the suite: {time.monotonic() - begun:.0f} s, {'red' if suite.red else 'green'}")
    return 1 if suite.red else 0


if __name__ == "__main__":
    sys.exit(main())
