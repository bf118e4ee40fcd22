"""The crash matrix: which scenes are played, at which points of them a child dies, the report.

Owns the list of scenes, their order, the deaths during recovery, the comparison of the fault names
met with those in the sources, and the report: a line for each scene, a line for each violation, and
one line of JSON at the end: {name, seed, n, violations, worst_ms}. Exit code 1 when there are any.

Promises: every segment is unlinked and every process gone, also after a failure or an interrupt.
Does not: choose the build; matrix.py has done that before this file is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from shmkv import _core
from tests.crash import (
    faultbuild,
    states_growth,
    states_journal,
    states_life,
    states_memory,
    states_plain,
)
from tests.crash.birth import Birth
from tests.crash.explore import Explorer, Found, Probe
from tests.crash.journal_play import RESPONSES as ANSWERS
from tests.crash.journal_play import JournalPlay
from tests.crash.scene import RESPONSES, Scene, Verdict, relapse, run
from tests.crash.stage import MIB, Stage, counts

FULL = os.environ.get("SHMKV_CRASH") == "full"
SEED = int(os.environ.get("SHMKV_SEED", "20261122"))
SPREAD = 4  # points of a scene beside those that the names ask for
FAILURES_SHOWN = 40

# Deaths during recovery, quick form: the scene, the name at whose first visit the first child dies,
# what the second child does when it meets that, and dies of. Full form: all names, all responses.
RELAPSES = [
    ("set-larger", "page_tail", "attach"),
    ("set-larger", "page_tail", "clean"),
    ("set-larger", "ref_replaced", "write"),
    ("set-new", "tag_stored", "check"),
    ("page-full", "page_opened", "again"),
    ("page-full", "page_opened", "attach"),
    ("split-first", "index_taken", "again"),
    ("split-deeper", "directory_stored", "write"),
    ("split-deeper", "directory_stored", "attach"),
    ("clean-garbage", "page_cleaning", "again"),
    ("clean-garbage", "ref_replaced", "attach"),
    ("extent-set", "run_headed", "attach"),
    ("window-keeping", "window_formed", "attach"),
    ("evict", "ref_removed", "write"),
    ("damaged", "ref_swept", "attach"),
]
# Where a creator dies whose work a second one takes up, and dies of. Full form: all its names.
RECREATIONS = ["create_locked", "create_sized", "create_header", "create_magic", "row_numbered"]


class Play(Protocol):
    """Something in which a process dies at a point."""

    name: str

    def run(self, point: int, response: str) -> Verdict: ...


class Played:
    """A scene as a play."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.name = scene.name

    def run(self, point: int, response: str) -> Verdict:
        return run(self.scene, point, response)


class Violation(NamedTuple):
    """What was wrong, and how to see it again."""

    scene: str
    point: int
    response: str
    text: str


class Matrix:
    """All plays of one run, and what they yielded."""

    def __init__(self) -> None:
        self.kills = 0
        self.runs = 0
        self.worst_ms = 0.0
        self.violations: list[Violation] = []
        self.died_at: Counter[str] = Counter()
        self.found: dict[str, Found] = {}

    def play(self, play: Play, responses: list[str]) -> Found:
        """Every point of one play that the form asks for."""
        start, kills, worst = time.monotonic(), self.kills, self.worst_ms
        self.worst_ms = 0.0

        def probe(point: int) -> Probe:
            chosen = responses if FULL else [responses[point % len(responses)]]
            for response in chosen:
                verdict = play.run(point, response)
                self.runs += 1
                self.kills += verdict.killed
                self.worst_ms = max(self.worst_ms, verdict.worst_ms)
                for text in verdict.problems:
                    self.violation(Violation(play.name, point, response, text))
            return Probe(verdict.killed, verdict.visits)

        found = Explorer(probe).explore(full=FULL, spread=SPREAD)
        for name in found.first:
            self.died_at[name] += 1
        seconds, points = time.monotonic() - start, sum(found.total.values())
        print(
            f"{play.name:40} {points:6} points {len(found.total):3} names "
            f"{self.kills - kills:6} kills {seconds:6.2f} s  worst {self.worst_ms:5.1f} ms",
            flush=True,
        )
        self.worst_ms = max(self.worst_ms, worst)
        return found

    def violation(self, violation: Violation) -> None:
        """Note it, and tell it at once; of too many, later."""
        self.violations.append(violation)
        if len(self.violations) <= FAILURES_SHOWN:
            print(
                f"VIOLATION {violation.scene} --point {violation.point} --response "
                f"{violation.response}: {violation.text}",
                flush=True,
            )

    def missing(self) -> set[str]:
        """Names of the sources at which nobody died."""
        return faultbuild.names_in_sources() - set(self.died_at)


Builder = Callable[[Stage], Scene]


def scenes() -> dict[str, tuple[Builder, dict[str, object]]]:
    """Every scene with the options of its stage."""
    every: dict[str, tuple[Builder, dict[str, object]]] = {}
    for table in (states_plain.SCENES, states_memory.SCENES, states_life.SCENES):
        every |= {name: (build, {}) for name, build in table.items()}
    every |= {name: (build, {"evict": False}) for name, build in states_memory.KEEPING.items()}
    every |= {name: (build, {"size": 8 * MIB}) for name, build in states_memory.LARGE.items()}
    growth: dict[str, object] = {"growth": states_growth.GROWTH}
    every |= {name: (build, growth) for name, build in states_growth.SCENES.items()}
    return every


@contextlib.contextmanager
def staged(name: str) -> Iterator[Scene]:
    """A scene, prepared."""
    build, options = scenes()[name]
    stage = Stage(seed=SEED, **options)  # type: ignore[arg-type]
    try:
        scene = build(stage)
        scene.prepare(name)
        yield scene
    finally:
        stage.close()


@contextlib.contextmanager
def born(name: str, **options: object) -> Iterator[Birth]:
    """A creation."""
    stage = Stage(seed=SEED)
    try:
        yield Birth(stage, name, **options)  # type: ignore[arg-type]
    finally:
        stage.close()


def births(matrix: Matrix) -> None:
    """Creation, creation after a dead creator, creation under a removed name."""
    with born("create") as play:
        found = matrix.play(play, ["attach"])
    with born("unlink-create", removing=True) as play:
        matrix.play(play, ["attach"])
    for name in found.first if FULL else RECREATIONS:
        with born(f"create@{name}", first=found.first[name]) as play:
            matrix.play(play, ["attach"])


def relapses(matrix: Matrix, found: dict[str, Found]) -> None:
    """Death during recovery."""
    wanted: Iterable[tuple[str, str, str]] = RELAPSES
    if FULL:
        wanted = [(s, n, r) for s, one in found.items() for n in one.first for r in RESPONSES]
    for scene_name, name, response in wanted:
        point = found[scene_name].first.get(name)
        if point is None:
            matrix.violation(Violation(scene_name, 0, "", f"{name} is not visited"))
            continue
        with staged(scene_name) as scene:
            if response in scene.responses():
                again = relapse(scene, point, response)
                again.name = f"{scene_name}@{name}+{response}"
                matrix.play(Played(again), ["write", "attach"])


@contextlib.contextmanager
def journaled(name: str) -> Iterator[JournalPlay]:
    """A play about the journal."""
    play = states_journal.PLAYS[name](SEED)
    try:
        yield play
    finally:
        play.stage.close()


def journals(matrix: Matrix) -> None:
    """Stores with a journal; then deaths of who comes after a dead leader."""
    found: dict[str, Found] = {}
    for name in states_journal.PLAYS:
        with journaled(name) as play:
            found[name] = matrix.play(play, play.responses())
    wanted = states_journal.RELAPSES
    if FULL:
        bases = dict.fromkeys(base for base, _, _ in wanted)
        acts = states_journal.ACTS
        wanted = [(base, name, act) for base in bases for name in found[base].first for act in acts]
    for base, name, act in wanted:
        point = found[base].first.get(name)
        if point is None:
            matrix.violation(Violation(base, 0, "", f"{name} is not visited"))
            continue
        again = states_journal.relapse(base, point, act, SEED)
        try:
            matrix.play(again, again.responses())
        finally:
            again.stage.close()


def whole(matrix: Matrix) -> None:
    """Everything."""
    found: dict[str, Found] = {}
    for name in scenes():
        with staged(name) as scene:
            found[name] = matrix.play(Played(scene), scene.responses())
    births(matrix)
    relapses(matrix, found)
    journals(matrix)
    for name in sorted(matrix.missing()):
        matrix.violation(Violation("matrix", 0, "", f"nobody died at FAULT({name})"))


def chosen_play(matrix: Matrix, name: str, point: int | None, response: str | None) -> bool:
    """One of them by its name, or one death of it; did that show a violation?"""
    with journaled(name) if name in states_journal.PLAYS else staged(name) as what:
        play: Play = Played(what) if isinstance(what, Scene) else what
        responses = [response] if response else what.responses()
        if point is None:
            matrix.play(play, responses)
            return False
        verdict = play.run(point, responses[0])
        print(verdict.killed, *verdict.problems, sep="\n")
        return bool(verdict.problems)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.matrix")
    parser.add_argument("scene", nargs="*", help="only these scenes; `journals`: all about them")
    parser.add_argument("--point", type=int, help="only this point")
    parser.add_argument("--response", help=f"only this: {', '.join({*RESPONSES, *ANSWERS})}")
    chosen = parser.parse_args()
    _core.fault_share()
    gc.freeze()
    matrix = Matrix()
    if not chosen.scene:
        whole(matrix)
    for name in chosen.scene:
        if name == "journals":
            journals(matrix)
        elif chosen_play(matrix, name, chosen.point, chosen.response):
            return 1
    print(
        f"{sum(counts().values())} visits of fault points, {matrix.kills} kills, "
        f"{matrix.runs} runs, at {len(matrix.died_at)} names"
    )
    for one in matrix.violations[FAILURES_SHOWN:]:
        print(f"VIOLATION {one.scene} --point {one.point} --response {one.response}: {one.text}")
    summary = {
        "name": "crash-matrix",
        "seed": SEED,
        "n": matrix.kills,
        "violations": len(matrix.violations),
        "worst_ms": round(matrix.worst_ms, 2),
    }
    print(json.dumps(summary), flush=True)
    return 1 if matrix.violations else 0
