"""The lives of processes: they fork, are called by signals, end while threads work, become daemons.

    python -m tests.stress.life                        every scene in its quick form
    python -m tests.stress.life --scene forks --n 10000 --seed 7
    SHMKV_TORTURE=1 python -m tests.stress.life        every scene in its full form

Owns: the table of scenes, and what must hold after each of them: nobody is attached but the keeper
of the store, no lock word names anybody, no reservation, pin or number is left in a row, all memory
is accounted for. A scene gives how much it did, what was wrong, and how long the slowest step took;
each is one line of JSON {name, seed, n, violations, worst_ms}. Each scene works on a store of its
own, in an interpreter of its own.

Does not: play (life_scenes, life_exits, life_server do). Beside it, test_fork, test_signals and
test_threads look at single promises.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import shmkv
from shmkv.inspect import layout
from tests.conftest import MIB
from tests.stress.support import PATIENT_S, report, run_module, seed, settle, until

LEAVE_S = 10.0  # for those who ended to be gone; the kernel needs milliseconds


class Outcome(NamedTuple):
    """What a scene comes to."""

    n: int
    violations: list[str]
    worst_ms: float


class Scene(NamedTuple):
    """Where it stands, and how much is quick and full."""

    module: str
    quick: int
    full: int
    limit_s: float  # of a thousand


SCENES = {
    "forks": Scene("tests.stress.life_scenes", 60, 10_000, 600),
    "signals": Scene("tests.stress.life_scenes", 600, 100_000, 100),
    "interpreters": Scene("tests.stress.life_scenes", 12, 500, 600),
    "daemons": Scene("tests.stress.life_scenes", 6, 300, 1000),
    "exits": Scene("tests.stress.life_exits", 24, 2000, 600),
    "waits": Scene("tests.stress.life_waits", 15, 1500, 1000),
    "server": Scene("tests.stress.life_server", 6, 200, 3000),
}


def full() -> bool:
    """Is the full form asked for?"""
    return os.environ.get("SHMKV_TORTURE") == "1"


# ---- what must hold afterwards ------------------------------------------------------------------


def rows(store: shmkv.Store) -> list[dict[str, Any]]:
    """The rows of the segment, field by field."""
    made = store._geometry()
    with store._raw() as raw:
        return [
            layout.ROW.read(raw, made["off_rows"] + layout.ROW.size * i)
            for i in range(made["rows"])
        ]


def left_behind(store: shmkv.Store) -> list[str]:
    """What words in the segment still name anybody but this handle."""
    made, own = store._geometry(), store._number()
    with store._raw() as raw:
        head = layout.HEADER.read(raw, 0)
        locks = {f"stripe {i}": layout.STRIPE.read(raw, made["off_stripes"] + 64 * i)["lock"]
                 for i in range(made["stripes"])}  # fmt: skip
    for part, what in (("cleaners", layout.CLEANER), ("appenders", layout.APPENDER)):
        words = memoryview(head[part])
        locks |= {f"{part} {i}": what.read(words, 64 * i)["lock"] for i in range(len(words) // 64)}
    left = [f"{name} is locked by {number}" for name, number in locks.items() if number]
    for at, row in enumerate(rows(store)):
        if row["number"] not in (0, own):
            left.append(f"row {at} bears the number {row['number']} of process {row['pid']}")
        if any(row["reservation"]) or any(row["pin"]):
            left.append(f"row {at} holds {row['reservation']} {row['pin']}")
    return left


def last_look(store: shmkv.Store) -> list[str]:
    """Everything that must hold when all others have left."""
    try:
        until(lambda: store.stats().attached == 1, "all have left", LEAVE_S)
    except AssertionError as late:
        return [f"{late}: {store.stats().attached} are attached"]
    checked = store.check()  # folds who is dead
    return [*checked.problems, *left_behind(store), *settle(store)]


# ---- one scene ----------------------------------------------------------------------------------


def play(name: str, scene: Callable[[shmkv.Store, int, int], Outcome]) -> None:
    """What the module of a scene does as a program: its words are the scene, store, n and seed."""
    n, start_seed = int(sys.argv[3]), int(sys.argv[4])
    with shmkv.open(sys.argv[2], create=False, lock_timeout=PATIENT_S) as store:
        parent = os.getpid()
        outcome = scene(store, n, start_seed)
        assert os.getpid() == parent, "a child went on as if it were the parent"
        wrong = [*outcome.violations, *last_look(store)]
        report(f"life[{name}]", start_seed, outcome.n, wrong, outcome.worst_ms)


def run(name: str, store_name: str, n: int, start_seed: int) -> dict[str, float]:
    """One scene on a store that must exist; its line."""
    scene = SCENES[name]
    limit_s = 60 + scene.limit_s * n / 1000
    words = (name, store_name, str(n), str(start_seed))
    line: dict[str, float] = run_module(scene.module, *words, limit_s=limit_s)
    print(json.dumps(line), flush=True)
    return line


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.life")
    parser.add_argument("--scene", choices=list(SCENES), help="only this one")
    parser.add_argument("--n", type=int)
    parser.add_argument("--seed", type=int)
    chosen = parser.parse_args()
    start_seed = seed() if chosen.seed is None else chosen.seed
    for name in [chosen.scene] if chosen.scene else list(SCENES):
        n = chosen.n or (SCENES[name].full if full() else SCENES[name].quick)
        store_name = f"t{os.getpid()}-life"
        shmkv.open(store_name, size=16 * MIB, max_size=16 * MIB, create="new").close()
        try:
            run(name, store_name, n, start_seed)
        finally:
            shmkv.unlink(store_name, missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
