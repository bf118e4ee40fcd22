"""The n-th call fails, n = 1, 2, 3 … until a run has no failure: memory, files, locks, futexes.

After SQLite's tests of memory and input-output errors. For every scene (failing_scenes), every kind
of call (failing_shim) and every n, once, and again with all later calls failing too: the act must
succeed or raise what fits; then another handle must find the store sound; then the same act without
failures must work; no descriptor and no mapping may be left over.

Run it by hand (it starts itself again with the library preloaded):

    python -m tests.stress.failing --full
    python -m tests.stress.failing --only fork:open

Each scene runs in a child, so that an end by a signal is a finding like any other. The order is
fixed; there is nothing to chance, --seed is accepted and repeated in the report.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import shmkv
from tests.conftest import SHM
from tests.stress.failing_python import python_memory
from tests.stress.failing_scenes import GROWING, SCENES, Stage, stage
from tests.stress.failing_shim import KINDS, Shim, build, preloaded
from tests.stress.support import ROOT

RIGHT = (MemoryError, OSError, shmkv.NoSpace, shmkv.Busy)
MOST = 400  # calls of one kind in one act
LIMIT_S = 240.0


def resources() -> tuple[int, int]:
    """Descriptors and mappings of segments of this process."""
    maps = Path("/proc/self/maps").read_text()
    return len(os.listdir("/proc/self/fd")), maps.count("shmkv.")


class Runner:
    """One scene on one stage."""

    def __init__(self, shim: Shim, name: str, full: bool, grows: bool) -> None:
        self.shim, self.name, self.full, self.grows = shim, name, full, grows
        self.prepare, self.act = SCENES[name]
        self.cases = 0
        self.found: list[str] = []
        self.worst = 0.0
        self.stage = self._stage()

    def _stage(self) -> Stage:
        made = Stage(self.grows)
        made.calm = self.shim.calm
        return made

    def run(self, kinds: list[str]) -> None:
        """All kinds, numbers and places."""
        for kind in kinds:
            for error in KINDS[kind] if self.full else KINDS[kind][:1]:
                for forever in (False, True):
                    if not (forever and error in (4, 0)):  # an endless EINTR is no answer
                        self._every(kind, error, forever)

    def _every(self, kind: str, error: int, forever: bool) -> None:
        for nth in range(1, MOST):
            self.cases += 1
            where = f"{self.name}:{kind} call {nth}{' and later' if forever else ''}"
            where += f" with {os.strerror(error) if error else 'a short read'}"
            print(f"@ {where}", flush=True)
            found = len(self.found)
            hit = self._one(where, kind, nth, error, forever)
            if len(self.found) > found:  # what follows must not suffer from it
                self.stage.end()
                self.stage = self._stage()
            if not hit:
                return
            if nth > 6 and not self.full:
                return

    def _one(self, where: str, kind: str, nth: int, error: int, forever: bool) -> int:
        s = self.stage
        s.restore()
        if self.prepare is not None:
            self.prepare(s)
        before, begin = resources(), time.monotonic()
        try:
            with self.shim.failing(kind, nth, error, forever):
                self.act(s)
        except RIGHT as e:
            denied = isinstance(e, shmkv.Denied) and error != errno.EACCES
            if denied or isinstance(e, shmkv.NotFound | shmkv.Exists):
                self._find(where, f"raised {e!r}")
        except Exception as e:  # noqa: BLE001 - whatever it is, it is the finding
            self._find(where, f"raised {e!r}")
        self.worst = max(self.worst, time.monotonic() - begin)
        hit = self.shim.failed
        self._afterwards(where, before, kind == "stat")
        return hit

    def _afterwards(self, where: str, before: tuple[int, int], unknown: bool) -> None:
        """`unknown`: a descriptor that cannot be looked at is left to whoever opened it."""
        s = self.stage
        s.drop()
        now = resources()
        if now[1] != before[1] or (now[0] != before[0] and not unknown):
            self._find(where, f"left {now} descriptors and mappings, had {before}")
        with self._finding(where, "the store is not sound"):
            report = s.witness.check()
            assert report.ok, report.problems[:3]
        with self._finding(where, "the next attempt"):
            if self.prepare is not None:
                s.restore()
            self.act(s)
        s.drop()

    @contextlib.contextmanager
    def _finding(self, where: str, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as e:  # noqa: BLE001 - whatever it is, it is the finding
            self._find(where, f"{what}: {e!r}")

    def _find(self, where: str, what: str) -> None:
        self.found.append(f"{where}: {what[:300]}")


def inside(name: str, kind: str, full: bool) -> None:
    """In the process with the library: one scene; its findings as a line of JSON."""
    shim = Shim()
    found: list[str] = []
    cases, worst = 0, 0.0
    for grows in (False, True) if name in GROWING else (False,):
        if name == "python":
            with stage(grows) as s:
                found, cases = python_memory(s, full)
            break
        runner = Runner(shim, name, full, grows)
        try:
            runner.run([kind] if kind else list(KINDS))
        finally:
            runner.stage.end()
        found, cases = found + runner.found, cases + runner.cases
        worst = max(worst, runner.worst)
    print(json.dumps({"found": found, "cases": cases, "worst_ms": worst * 1000}), flush=True)


def scene_alone(library: Path, name: str, kind: str, full: bool) -> tuple[list[str], int, float]:
    """One scene in an interpreter of its own: findings, cases, the longest act in ms."""
    words = [sys.executable, "-X", "faulthandler", "-m", "tests.stress.failing", "--inside"]
    words += ["--only", f"{name}:{kind}", *(["--full"] if full else [])]
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        words, cwd=ROOT, env=preloaded(library), stdout=pipe, stderr=pipe, text=True
    )
    try:
        out, err = child.communicate(timeout=LIMIT_S)
    finally:
        child.kill()
        child.wait()
        for left in SHM.glob(f"shmkv.{os.geteuid()}.t{child.pid}-*"):  # of one that was killed
            left.unlink()
    lines = out.splitlines() or ["nothing"]
    if child.returncode == 0:
        told = json.loads(lines[-1])
        return told["found"], told["cases"], told["worst_ms"]
    last = [line for line in lines if line.startswith("@ ")][-1:] or lines[-1:]
    end = f"{last[0]}: the process ended with {child.returncode}: {err[-400:]}"
    return [end], len(lines), 0.0


def run(seed: int, only: str, full: bool) -> tuple[str, list[str]]:
    """Everything, or one scene, or one kind of one: the line of JSON, and the findings."""
    wanted, _, kind = only.partition(":")
    found: list[str] = []
    cases, worst = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        for name in [*SCENES, "python"]:
            if wanted in ("", name):
                more, n, ms = scene_alone(library, name, kind, full)
                found, cases, worst = found + more, cases + n, max(worst, ms)
    line = {"name": "failing_calls", "seed": seed, "n": cases, "violations": len(found)}
    return json.dumps({**line, "worst_ms": round(worst, 1)}), found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="scene, or scene:kind")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        name, _, kind = given.only.partition(":")
        inside(name, kind, given.full)
        return 0
    line, found = run(given.seed, given.only, given.full)
    print(*found, line, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
