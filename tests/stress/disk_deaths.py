"""A process dies, or a call fails, at its n-th system call while it works with the disk.

For every scene (disk_scenes) and every n until a run comes to its end: the process is killed before
its n-th call (--mode dies); or that call is refused with ENOSPC, EIO, EDQUOT, once or from there
on (--mode fails), or a write is cut short (--mode short). Then:

- the store that is still in memory is sound, and has what it had;
- the files are good (`verify`), and the directory brings back a state from before or after,
  compared item by item; every acknowledged write is in it;
- the next save works, and the one after a reboot;
- what such ends leave does not become more when they come again (--mode dies).

By hand:

    python -m tests.stress.disk_deaths --mode dies --scene save --nth 17
    python -m tests.stress.disk_deaths --mode fails --step 1

Each scene runs in a process of its own. The order is fixed; --seed says where sampling begins.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import shmkv
from shmkv.persist import verify
from tests.conftest import SHM
from tests.stress.disk_calls import WRITES, Fate, Run, run
from tests.stress.disk_scenes import (
    SCENES,
    Content,
    Scene,
    Stage,
    changed,
    content,
    of_file,
    restored_name,
    staged,
)
from tests.stress.failing_shim import NotRun
from tests.stress.support import LIMIT_S, ROOT

# Calls about the disk that may fail; that a close fails tells nothing that fsync did not.
REFUSED = frozenset(WRITES) | {"openat", "fsync", "fdatasync", "rename", "renameat", "renameat2"}
REFUSED |= {"unlink", "unlinkat", "ftruncate", "fallocate", "mkdir", "getdents", "pread", "preadv"}
REFUSED |= {"read", "fstat", "fstatat", "flock", "fchmod", "mmap", "fcntl"}
NUMBERS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
MODES = ("dies", "fails", "short")
AGAIN = 6  # deaths at the same place, one after the other
GROWING = {"round_", "writes", "rotation", "torn_tail"}  # a journal grows until somebody saves
FILES_MOST = 14  # in a directory that keeps two snapshots, whatever died
OURS = ("shmkv.errors.", "shmkv.persist.trouble.")
SECONDS = 900.0


class Wrong(Exception):
    """What must not be."""


def must(condition: object, text: str) -> None:
    """Wrong unless it holds."""
    if not condition:
        raise Wrong(text)


def of_the_segment(text: str) -> bool:
    """Does what was raised come from making a segment, or from asking which file it is? That says
    what the system said."""
    raised = [line for line in text.splitlines() if line.startswith("  File ")][-1:]
    rooms = ("/shmkv/segment.py", "/shmkv/filling.py", "/shmkv/daemon/turn.py")
    return "OSError" in text and bool(raised) and any(room in raised[0] for room in rooms)


def brief(found: Content) -> str:
    """A state, for people."""
    return str({key: str(value)[:12] for key, value in sorted(found.items())})


class Judge:
    """One scene: acts, strikes, looks."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.scene: Scene = SCENES[stage.scene]

    def struck(self, fate: Fate) -> Run:
        """The scene, from the beginning, with this fate."""
        self.stage.reset()
        return self.again(fate)

    def again(self, fate: Fate) -> Run:
        """The scene, with what the last ones left."""
        return run(lambda: self.scene.prepare(self.stage), fate)

    def look(self, found: Run, fate: Fate) -> None:
        """Everything that must hold now."""
        done = found.code == 0
        if not done and not fate.short and not fate.error:
            must(found.code == -9, f"ended with {found.code}: {found.text[-600:]}")
        elif not done:
            last = found.text.strip().rpartition("\n")[2]
            ours = last.startswith((*OURS, "MemoryError")) or of_the_segment(found.text)
            must(found.code == 1 and ours, f"ended with {found.code}: {found.text[-900:]}")
        states = self._states(done)
        copy = self.stage.root / "rebooted"
        shutil.copytree(self.stage.folder, copy)
        self._good(copy)
        self._in_memory(done)
        self._others()
        self.stage.forget()
        self._rebooted(copy, states)

    def _states(self, done: bool) -> list[Content]:
        if done:
            return [changed(self.scene.goal)]
        if self.scene.disk == (-1,):
            said = self.stage.acknowledged[0]
            return [changed(said), changed(min(said + 1, self.scene.goal))]
        return [changed(count) for count in self.scene.disk]

    def _good(self, path: Path) -> None:
        verdict = verify(str(path))
        must(verdict, f"verify {path.name}: {verdict.problems[:3]}")

    def _in_memory(self, done: bool) -> None:
        """The store that the dead one leaves to the others."""
        names = {one.name for one in SHM.glob(f"shmkv.{os.geteuid()}.{self.stage.name}")}
        comes_back = self.stage.scene.startswith("come_back")
        if not names and not comes_back:
            return
        with self.stage.open() as store:
            if self.stage.scene == "writes":
                wanted = self._states(done)
            elif self.scene.goal or self.stage.scene == "save_file":
                wanted = [changed(5)]
            else:
                wanted = [changed(0)]
            self._is(content(store), wanted, "in memory")
            must(store.check().ok, f"check: {store.check().problems[:3]}")
            store["later"] = 1
            store.snapshot()
            must(store["later"] == 1, "what was written later")
        self._good(self.stage.folder)
        self._no_more(self.stage.folder)

    def _rebooted(self, folder: Path, states: list[Content]) -> None:
        with self.stage.open(folder) as store:
            self._is(content(store), states, "after a reboot")
            store["later"] = 2
            store.snapshot()
        self._good(folder)
        self._no_more(folder)
        self.stage.forget()
        with self.stage.open(folder) as store:
            must(store["later"] == 2, "the save after a reboot")
        self.stage.forget()

    def _is(self, found: Content, wanted: list[Content], where: str) -> None:
        if found not in wanted:
            raise Wrong(f"{where} there is {brief(found)}, wanted {[brief(w) for w in wanted]}")

    def _no_more(self, folder: Path) -> None:
        left = sorted(one.name for one in folder.iterdir())
        must(not any(name.endswith(".part") for name in left), f"left: {left}")
        must(len(left) <= FILES_MOST, f"too many files: {left}")

    def _others(self) -> None:
        """What the scene makes besides the store."""
        stage = self.stage
        if stage.scene == "save_file":
            found = of_file(stage, stage.file)
            old = {key: value for key, value in changed(0).items() if key != "n"}
            self._is(found, [old, changed(5)], "in the file")
            self._good(stage.file)
            with stage.open() as store:
                store.snapshot(stage.file)
            left = sorted(one.name for one in stage.root.iterdir() if ".part" in one.name)
            must(not left, f"left beside the file: {left}")
        if stage.scene.startswith("cli_re"):
            self._restored()

    def _restored(self) -> None:
        stage = self.stage
        name = restored_name(stage)
        try:
            with shmkv.open(name, create=False) as store:
                wanted = [changed(0), {"old": 1}] if "replace" in stage.scene else [changed(0)]
                self._is(content(store), wanted, "restored")
                must(store.check().ok, "check of what was restored")
        except shmkv.NotFound:
            must("replace" not in stage.scene, "the store that was to be replaced is gone")
        words = ["restore", "--replace", str(stage.folder), name]
        done = subprocess.run(
            [sys.executable, "-m", "shmkv", *words], cwd=ROOT, capture_output=True, text=True
        )
        must(done.returncode == 0, f"the next restore: {done.stderr[-300:]}")
        with shmkv.open(name, create=False) as store:
            self._is(content(store), [changed(0)], "restored again")

    # ---- what is left -------------------------------------------------------------------------

    def names(self) -> set[str]:
        """Files, and segments, as they are called without their numbers."""
        found = {str(one.relative_to(self.stage.root)) for one in self.stage.root.rglob("*")}
        mark = f"shmkv.{os.geteuid()}."
        return found | {one.name for one in SHM.glob(f"{mark}*{self.stage.name}*")}

    def grows(self, fate: Fate) -> None:
        """Die there again and again: no more is left than by the first ones. Which call is the n-th
        differs with the threads; where one left more than another, go on: it must stay at that."""
        counts = self._left(fate)
        if counts[-1] > counts[2] + 1:
            more = self._left(fate)
            text = f"it grows: {counts + more}: {sorted(self.names())[-12:]}"
            must(max(more) <= max(counts), text)

    def _left(self, fate: Fate) -> list[int]:
        """How much there is after each of so many deaths."""
        counts = []
        for _ in range(AGAIN):
            if self.stage.scene != "cli_replace":
                self._without_segment()
            self.again(fate)
            counts.append(len(self.names()))
        return counts

    def _without_segment(self) -> None:
        """Where the scene begins with a reboot, there is one."""
        if self.stage.scene.startswith(("come_back", "cli_restore")):
            for one in SHM.glob(f"shmkv.{os.geteuid()}.{self.stage.name}*"):
                one.unlink()


def fates(mode: str, full: bool) -> Iterator[Fate]:
    """In which ways the n-th call may end; nth is to be filled in."""
    if mode == "dies":
        yield Fate(0)
    elif mode == "short":
        yield Fate(0, errno.EIO, frozenset(WRITES), short=True)
    else:
        for number in NUMBERS if full else NUMBERS[:1]:
            yield Fate(0, number, REFUSED)
            yield Fate(0, number, REFUSED, forever=True)


def at_each(judge: Judge, fate: Fate, first: int, step: int) -> Iterator[tuple[str, str | None]]:
    """Every step-th n: where it was, and what is wrong."""
    shapes: set[str] = set()
    nth = first
    while True:
        one = fate._replace(nth=nth)
        found = judge.struck(one)
        where = f"{judge.stage.scene} {nth} ({found.struck or 'end'}"
        where += f" {errno.errorcode[one.error]}" if one.error and not one.short else ""
        where += " and later)" if one.forever else ")"
        shape = "".join(sorted(re.sub(r"[0-9a-f]*[0-9][0-9a-f]*", "#", n) for n in judge.names()))
        yield where, judged(lambda f=found, o=one: judge.look(f, o))  # type: ignore[misc]
        new = shape not in shapes or not found.struck
        if not fate.error and new and judge.stage.scene not in GROWING:
            shapes.add(shape)
            judge.struck(one)
            again = judged(lambda o=one: judge.grows(o))  # type: ignore[misc]
            yield f"{where}, {AGAIN} times", again
        if not found.struck:
            return
        nth += step


def judged(look: Callable[[], None]) -> str | None:
    """What is wrong."""
    try:
        look()
    except Wrong as error:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever it is, it is the finding
        return traceback.format_exc()[-1500:]
    return None


def inside(scene: str, mode: str, seed: int, step: int, nth: int) -> int:
    """One scene in this process; findings, then a line of JSON."""
    found: list[str] = []
    cases, worst = 0, 0.0
    with staged(scene, f"t{os.getpid()}-{scene}") as stage:
        judge = Judge(stage)
        if nth:
            fate = next(fates(mode, True))._replace(nth=nth)
            judge.look(judge.struck(fate), fate)
            return 0
        # The first n of a sample moves with the seed; all kinds of failures when nothing is left
        # out.
        for fate in fates(mode, step == 1):
            begun = time.monotonic()
            for where, wrong in at_each(judge, fate, 1 + seed % step, step):
                cases += 1
                worst = max(worst, time.monotonic() - begun)
                begun = time.monotonic()
                if wrong:
                    found.append(f"{where}: {wrong}")
    line = {"name": f"disk {mode}: {scene}", "seed": seed, "n": cases}
    print(*found, sep="\n")
    print(json.dumps({**line, "violations": len(found), "worst_ms": round(worst * 1000, 1)}))
    return 1 if found else 0


def scene_alone(scene: str, mode: str, seed: int, step: int) -> tuple[dict[str, object], str]:
    """A scene in a process of its own: its line, and what it said of violations."""
    words = [sys.executable, "-X", "faulthandler", "-W", "ignore::RuntimeWarning", "-m"]
    words += ["tests.stress.disk_deaths", "--inside", "--scene", scene, "--mode", mode]
    words += ["--seed", str(seed), "--step", str(step)]
    pipe = subprocess.PIPE
    child = subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
    try:
        out, err = child.communicate(timeout=SECONDS)
    finally:
        child.kill()
        child.wait()
        for left in SHM.glob(f"shmkv.{os.geteuid()}.*t{child.pid}-*"):
            left.unlink(missing_ok=True)
    if child.returncode == 77:
        raise NotRun(err.strip().rpartition("\n")[2])
    lines = out.splitlines()
    if not lines or not lines[-1].startswith("{"):
        bad: dict[str, object] = {"name": scene, "seed": seed, "n": 1, "violations": 1}
        return {**bad, "worst_ms": 0.0}, f"{scene}: ended with {child.returncode}: {err[-1500:]}"
    return json.loads(lines[-1]), "\n".join(lines[:-1])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=MODES, default="dies")
    parser.add_argument("--scene", choices=list(SCENES), default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", type=int, default=1, help="look at every so many-th call")
    parser.add_argument("--nth", type=int, default=0, help="at this one only")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside or given.nth:
        try:
            return inside(given.scene, given.mode, given.seed, given.step, given.nth)
        except NotRun as why:
            print(why, file=sys.stderr)
            return 77
    bad = 0
    for scene in [given.scene] if given.scene else SCENES:
        try:
            line, said = scene_alone(scene, given.mode, given.seed, given.step)
        except NotRun as why:
            print(json.dumps({"name": "disk", "not_run": str(why)}))
            return 77
        print(*([said] if said else []), json.dumps(line), sep="\n", flush=True)
        bad += bool(line["violations"])
    return 1 if bad else 0


assert LIMIT_S < SECONDS

if __name__ == "__main__":
    raise SystemExit(main())
