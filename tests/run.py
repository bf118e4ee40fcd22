"""The whole suite in its quick form, as `make test` runs it: `python -m tests.run [OPTION...]`.

Two groups side by side, since most tests keep one core busy: what looks at one process, and what
kills, stops and crowds processes. Owns only which room is in which group; options go to pytest.
What a group says is shown when it ends. The exit code is 0 if both are green.

Promises: a group that does not end within SHMKV_TEST_SECONDS (900) is ended, with all its children.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
CROWDS = ("stress", "crash", "c")  # the rest is the other group
LIMIT_S = float(os.environ.get("SHMKV_TEST_SECONDS") or 900)


def groups() -> list[list[str]]:
    """The paths of each group; every room of the suite is in one of them."""
    rooms = [path for path in sorted((ROOT / "tests").iterdir()) if _holds_tests(path)]
    names = {path.name for path in rooms}
    assert names > set(CROWDS), names
    return [
        [f"tests/{name}" for name in CROWDS],
        [f"tests/{path.name}" for path in rooms if path.name not in CROWDS],
    ]


def _holds_tests(path: Path) -> bool:
    if path.is_dir():
        return any(path.rglob("test_*.py"))
    return path.name.startswith("test_") and path.suffix == ".py"


def start(paths: list[str], options: list[str], out: IO[bytes]) -> subprocess.Popen[bytes]:
    """One group, in a session of its own."""
    command = [sys.executable, "-m", "pytest", *paths, "-q", "--maxfail", "5", *options]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
    )


def finish(group: subprocess.Popen[bytes], end: float) -> int:
    """Its exit code; a group that hangs is ended."""
    try:
        return group.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(group.pid, signal.SIGKILL)
        group.wait()
        print(f"not finished within {LIMIT_S:g} s")
        return 1


def main() -> int:
    """Run both, show what they say."""
    begun, code = time.monotonic(), 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as two:
        outs = [one, two]
        pairs = zip(groups(), outs, strict=True)
        running = [start(paths, sys.argv[1:], out) for paths, out in pairs]
        try:
            for group, out in zip(running, outs, strict=True):
                code |= finish(group, begun + LIMIT_S)
                out.seek(0)
                sys.stdout.write(out.read().decode(errors="replace"))
                sys.stdout.flush()
        finally:
            for group in running:
                if group.poll() is None:
                    os.killpg(group.pid, signal.SIGKILL)
                    group.wait()
    print(f"both groups: {time.monotonic() - begun:.0f} s, exit code {code}")
    return code


if __name__ == "__main__":
    sys.exit(main())
