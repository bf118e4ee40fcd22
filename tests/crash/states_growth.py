"""Scenes in which a full store is raised to twice its size.

Owns what is to hold whatever the death left undone: the size is the old or the new one, the
survivor raises it (again), everybody has it at once, and more items stay than there was room for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tests.crash.judge import Item, Judge
from tests.crash.scene import Scene
from tests.crash.stage import MIB, Action, Stage, value
from tests.crash.states_memory import fill

GROWTH = 2  # what the stage's size may be raised to, as a multiple
SMALL, RAISED = 2 * MIB, 4 * MIB
WIDE = 300_000  # bytes of a value too large for SMALL, not for RAISED
TARGET = b"target"


def _full_and_raised(stage: Stage, act: Action, **more: Any) -> Scene:
    keys = stage.keys("f")
    with stage.open() as store:
        for action in itertools.islice(fill(keys), 1200):
            action(store)

    def settle(scene: Scene, judge: Judge) -> None:
        if judge.store.size not in (SMALL, RAISED):
            judge.say(f"the size is {judge.store.size}")
        judge.timed("resize", lambda: judge.store.resize(RAISED))
        with stage.open(size=SMALL) as late, stage.open(size=RAISED) as new:
            if not judge.store.size == late.size == new.size == RAISED:
                judge.say(f"sizes are {judge.store.size}, {late.size}, {new.size}")
        before = judge.store.stats()
        for action in itertools.islice(fill(keys), 300):
            action(judge.store)
        after = judge.store.stats()
        if after.evictions != before.evictions or after.items < before.items + 300:
            judge.say(f"of 300 more items {after.items - before.items} are there")

    near = tuple(itertools.islice(stage.keys("near", stage.stripe(TARGET)), 2))
    return Scene(stage, act, near=near, loses=True, repeatable=True, settle=settle, **more)


def resize(stage: Stage) -> Scene:
    """A full store is raised."""
    return _full_and_raised(stage, lambda s: s.resize(RAISED))


def resize_and_use(stage: Stage) -> Scene:
    """It is raised, and at once used for a value that was too large before."""
    wide = value(TARGET, 1, WIDE)

    def act(store: Any) -> None:
        store.resize(RAISED)
        store.set(TARGET, wide)

    return _full_and_raised(stage, act, after={TARGET: [Item(wide)]})


SCENES: dict[str, Callable[[Stage], Scene]] = {
    "resize": resize,
    "resize-and-use": resize_and_use,
}
