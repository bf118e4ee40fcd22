"""Deaths in the middle of operations, and what the notes tell of them.

  1  a child is stopped at a fault point: it is told of as living, in the midst of its operation
  2  it is killed there: it is told of as dead, its row not yet folded, doing the same
  3  a survivor's check folds it: the same again, from the death that was recorded

Each time operation and key must be right, and the locks those whose words name the child in memory.
Then one that waits for a stopped one is killed: told are the lock, and who had it. Scenes are those
of the crash matrix.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from shmkv import _core
from shmkv.cli.postmortem import lines
from shmkv.inspect.blackbox import of_file
from shmkv.inspect.postmortem import Attachment
from tests.crash.children import KILL, STOP, Child
from tests.crash.deaths import SEED, staged
from tests.crash.scene import Scene
from tests.crash.stage import counts
from tests.stress.holder_play import Held
from tests.stress.support import report, until

SCENES = {  # the operation that is noted
    "set-new": "set",
    "set-larger": "set",
    "delete": "delete",
    "incr": "incr",
    "rename": "rename",
    "touch-rewrite": "touch",
}
WAIT_S = 60.0  # longer than any test: who waits so long is killed while it waits


class Play:
    """All deaths of one run."""

    def __init__(self) -> None:
        self.deaths = 0
        self.locked: dict[str, int] = {}  # the first point of a scene at which a stripe is held
        self.violations: list[str] = []

    def want(self, good: bool, text: str) -> None:
        """Note what does not hold."""
        if not good:
            self.violations.append(text)

    def scene(self, name: str, what: str) -> None:
        """A death at each point of an operation."""
        with staged(name) as scene:
            with prepared(scene) as (survivor, child):
                child.go(0, KILL)
                points = child.wait().visits
            for point in range(1, points + 1):
                with prepared(scene) as (survivor, child):
                    self.death(scene, survivor, child, point, what)

    def death(self, scene: Scene, survivor: Any, child: Child, point: int, what: str) -> None:
        """One, looked at three times."""
        before = counts()
        child.go(point, STOP)
        child.stopped()
        site = {n for n, count in counts().items() if count > before[n]}
        held = Held.by(child.pid, survivor)
        words = f"{scene.name} --point {point}"
        self.tell(scene, child, "living", what, held, words)
        child.end()
        self.tell(scene, child, "unfolded", what, held, words)
        survivor.check()
        one = self.tell(scene, child, "dead", what, held, words)
        self.want(one is None or one.finder == survivor._number(), f"{words}: finder")
        self.want(bool(site), f"{words}: no point was visited")
        self.deaths += 1
        if held.stripes:
            self.locked.setdefault(scene.name, point)

    def tell(
        self, scene: Scene, child: Child, state: str, what: str, held: Held, words: str
    ) -> Attachment | None:
        """What is told of the child now must be right."""
        words = f"{words}, {state}"
        found = of_child(scene, child)
        if found is None or found.state != state:
            self.want(False, f"{words}: told is {found}")
            return found
        doing = [(did.what, did.key) for did in found.doing]
        key = scene.target
        self.want(len(doing) == 1 and doing[0][0] == what, f"{words}: doing {doing}")
        self.want(what == "rename" or doing[0][1] == key, f"{words}: doing {doing}, not {key!r}")
        locks = {lock.name for lock in found.locks if lock.name.startswith("stripe")}
        self.want(locks == {f"stripe {i}" for i in held.stripes}, f"{words}: {locks}, not {held}")
        others = len(found.locks) - len(locks)
        self.want(others == held.cleaners + held.appenders, f"{words}: {found.locks}, not {held}")
        self.want(found.locks_held == len(found.locks), f"{words}: {found.locks_held} locks")
        text = "\n".join(lines(found, time.time()))
        self.want(f"doing     {what} '" in text, f"{words}: {text}")
        self.want(all(lock.name in text for lock in found.locks), f"{words}: {text}")
        return found

    def waiting(self, name: str) -> None:
        """One waits for a stripe that a stopped one has, and is killed."""
        with staged(name) as scene, ExitStack() as stack:
            survivor, holder = stack.enter_context(prepared(scene))
            holder.go(self.locked[name], STOP)
            holder.stopped()

            def wait() -> None:
                with scene.stage.open(lock_timeout=WAIT_S) as store:
                    store.set(scene.target, b"waits")

            waiter = Child(wait, None)
            stack.callback(waiter.end)
            waiter.go(0, KILL)
            until(lambda: awaits(scene, waiter), "the child waits")
            waiter.end()
            stripe = f"stripe {scene.stage.stripe(scene.target)}"
            self.blamed(scene, waiter, holder, stripe)
            holder.resume()
            holder.wait()
            survivor.check()
            self.blamed(scene, waiter, holder, stripe)
            self.deaths += 2

    def blamed(self, scene: Scene, waiter: Child, holder: Child, stripe: str) -> None:
        """What is told of one that waited."""
        one = of_child(scene, waiter)
        text = "" if one is None else "\n".join(lines(one, time.time()))
        self.want(f"  doing     set '{scene.target.decode()}'\n" in text, text)
        self.want(f"waiting for {stripe}, which attachment " in text, text)
        self.want(f" (process {holder.pid}) had, for at most " in text, text)


@contextmanager
def prepared(scene: Scene) -> Iterator[tuple[Any, Child]]:
    """The store as it was, a survivor, a child that is ready."""
    scene.stage.restore(scene.image)
    with ExitStack() as stack:
        survivor = stack.enter_context(scene.stage.open())
        child = scene.child(survivor)
        stack.callback(child.end)
        yield survivor, child


def of_child(scene: Scene, child: Child) -> Attachment | None:
    """What is told of it."""
    found = of_file(scene.stage.path, living=True)
    mine = [one for one in found.attachments if one.pid == child.pid]
    return mine[0] if len(mine) == 1 else None


def awaits(scene: Scene, child: Child) -> bool:
    """Does its note say that it waits?"""
    one = of_child(scene, child)
    return one is not None and any(did.wait is not None for did in one.doing)


def main() -> int:
    """Everything."""
    _core.fault_share()
    gc.freeze()
    play = Play()
    began = time.monotonic()
    for name, what in SCENES.items():
        play.scene(name, what)
    play.want(set(play.locked) == set(SCENES), f"stripes are held in {set(play.locked)} only")
    play.waiting("set-larger")
    took = (time.monotonic() - began) * 1000
    report("autopsy", SEED, play.deaths, play.violations, took)
    return 0
