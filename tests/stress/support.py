"""What every stress test needs: seeds, lengths, bounded children, bounded scripts, the last look.

Owns: `Child`, a fork that runs one function and leaves by `os._exit`, so that nothing of the test
runner runs twice; `run_module`, a fresh interpreter with a time limit; `report`, the one JSON line
a test prints; `settle`, what must hold of a store when everybody else has gone.

Promises: every wait is bounded; children die with their parent; what a child raises reaches the
caller as text; processes are ended by their id and nobody else's.
Does not: decide what is right, except in `settle`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import random
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import shmkv

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0
GENEROUS_MS = 4000.0  # of one operation beside what the machine itself delayed; in quiet: 250
PATIENT_S = 30.0  # lock_timeout where processes are many: who has no processor for long is not Busy
_PR_SET_PDEATHSIG = 1
_TEXT = 8192
_libc = ctypes.CDLL(None, use_errno=True)


def seed() -> int:
    """SHMKV_SEED, or a fresh one; print it in every report."""
    given = os.environ.get("SHMKV_SEED")
    return int(given) if given else random.SystemRandom().randrange(1 << 32)


def seconds(default: float) -> float:
    """SHMKV_STRESS_SECONDS, or the quick length."""
    return float(os.environ.get("SHMKV_STRESS_SECONDS") or default)


def report(name: str, seed: int, n: int, violations: list[str], worst_ms: float) -> None:
    """Print what happened, then fail on the first violations."""
    line = {"name": name, "seed": seed, "n": n, "violations": len(violations)}
    print(json.dumps({**line, "worst_ms": round(worst_ms, 1)}), flush=True)
    assert not violations, f"SHMKV_SEED={seed}: {len(violations)}: {violations[:5]}"


def until(condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Look until it holds; fail after `limit_s`."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what}"
        time.sleep(0.001)


def die_with_parent() -> None:
    """The kernel kills this process when the thread that forked it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A forked process that runs `body`; 0 is its exit code when that returns."""

    def __init__(self, body: Callable[[], object]) -> None:
        self._board = mmap.mmap(-1, _TEXT)
        parent = os.getpid()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._live(parent, body)
        self._pidfd = os.pidfd_open(self.pid)
        self._code: int | None = None

    def _live(self, parent: int, body: Callable[[], object]) -> None:
        code = 1
        try:
            die_with_parent()
            if os.getppid() == parent:
                body()
                code = 0
        except BaseException:  # noqa: BLE001 - nothing may run on in this process
            text = traceback.format_exc().encode()[-_TEXT + 1 :]
            self._board[: len(text)] = text
        finally:
            os._exit(code)

    @property
    def text(self) -> str:
        """The traceback of what it raised."""
        return self._board[:].split(b"\0", 1)[0].decode(errors="replace")

    def send(self, number: int) -> None:
        """A signal, if it was not waited for yet."""
        if self._code is None:
            os.kill(self.pid, number)

    def stopped(self) -> None:
        """Wait until SIGSTOP has stopped it."""
        flags = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT

        def look() -> bool:
            state = os.waitid(os.P_PID, self.pid, flags)
            if state is None:
                return False
            assert state.si_code == os.CLD_STOPPED, f"ended instead of stopping: {self.text}"
            return True

        until(look, f"process {self.pid} stops")

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Its exit code; minus the signal that killed it. AssertionError when it takes too long."""
        if self._code is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            assert poll.poll(limit_s * 1000), f"process {self.pid} hangs after {limit_s:g} s"
            self._reap()
        assert self._code is not None
        return self._code

    def good(self, limit_s: float = LIMIT_S) -> None:
        """It must end with 0."""
        code = self.wait(limit_s)
        assert code == 0, f"child ended with {code}: {self.text}"

    def _reap(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self._code = os.waitstatus_to_exitcode(status)
        os.close(self._pidfd)

    def end(self) -> None:
        """Whatever it does: it is gone afterwards."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            self._reap()


@contextlib.contextmanager
def brood() -> Iterator[Callable[[Callable[[], object]], Child]]:
    """A maker of children, all of which are gone at the end."""
    children: list[Child] = []

    def make(body: Callable[[], object]) -> Child:
        children.append(Child(body))
        return children[-1]

    try:
        yield make
    finally:
        for child in children:
            child.end()


def run_module(module: str, *words: str, limit_s: float = LIMIT_S) -> Any:
    """Run `python -m module words...` in a session of its own; the JSON of its last line of output.

    It must end with 0 and say nothing on stderr.
    """
    command = [sys.executable, "-X", "faulthandler", "-m", module, *words]
    pipe = subprocess.PIPE
    run = subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        out, err = run.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{module} {words} hangs after {limit_s:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)  # its session: itself and what it left
        run.__exit__(None, None, None)
    assert run.returncode == 0, f"{module} {words}: exit {run.returncode}\n{out}\n{err}"
    assert err == "", err
    return json.loads(out.splitlines()[-1]) if out else None


def settle(store: shmkv.Store, attached: int = 1) -> list[str]:
    """What is wrong with a store after all others have left: nothing must be. Empties it."""
    wrong = _look(store, "left alone")
    store._compact()
    wrong += _look(store, "compacted")
    store.clear()
    store._compact()
    wrong += _look(store, "emptied")
    checked, stats = store.check().as_dict(), store.stats()
    left = {k: checked[k] for k in ("items", "bytes_live", "pages_log", "pages_extent")}
    if any(left.values()):
        wrong.append(f"memory is left in an empty store: {left}")
    if stats.attached != attached:
        wrong.append(f"{stats.attached} rows are in use, wanted {attached}")
    return wrong


def _look(store: shmkv.Store, when: str) -> list[str]:
    checked = store.check().as_dict()
    wrong = [f"check, {when}: {problem}" for problem in checked["problems"]]
    kinds = ("pages_free", "pages_index", "pages_log", "pages_extent")
    if checked["pages_held"] or sum(checked[kind] for kind in kinds) != checked["pages"]:
        wrong.append(f"{when}: not all pages are accounted for: {checked}")
    return wrong
