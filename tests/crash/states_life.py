"""Scenes of attachment: coming, going, forking, folding the dead, waiting for the living, limbo.

Owns what needs a second process while the first is at work. Creation, where nobody can have been
attached before, stands in birth.py.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from tests.crash.children import LIMIT_S, STOP, Child, Hang
from tests.crash.judge import Item, Judge
from tests.crash.scene import Scene
from tests.crash.stage import Stage, counts, value
from tests.crash.states_memory import body, fill
from tests.crash.states_plain import TARGET, furnish, near_keys

NEW = value(TARGET, 2, 600)
VIEWED = 15_000  # an item that fits a log page, and long enough that a view does not copy it


def _furnished(stage: Stage, act: Callable[[Any], object], **more: Any) -> Scene:
    furnish(stage)
    return Scene(stage, act, near=near_keys(stage), **more)


# --- coming and going ----------------------------------------------------------------------------


def attach(stage: Stage) -> Scene:
    """A process opens the store."""

    def come(store: Any) -> None:
        with stage.open() as mine:
            assert mine.get("kind1") == 17

    return _furnished(stage, come, warm=False)


def attach_readonly(stage: Stage) -> Scene:
    """A process opens the store for reading: it changes nothing."""

    def come(store: Any) -> None:
        with stage.open(readonly=True) as mine:
            assert mine.get("kind1") == 17

    return _furnished(stage, come, warm=False)


def attach_again(stage: Stage) -> Scene:
    """A process that is attached opens the store a second time."""

    def come(store: Any) -> None:
        with stage.open() as mine:
            mine.set(TARGET, NEW)

    return _furnished(stage, come, after={TARGET: [Item(NEW)]})


def leave(stage: Stage) -> Scene:
    """A process closes the store."""
    return _furnished(stage, lambda s: s.close())


def first_operation(stage: Stage) -> Scene:
    """A fork child's first operation takes its row."""
    scene = _furnished(stage, lambda s: s.set(TARGET, NEW), after={TARGET: [Item(NEW)]})
    scene.warm = False
    return scene


def _dead_rows(stage: Stage, how_many: int, survivor: Any) -> None:
    """Rows as dead owners leave them; the survivor's own stays."""
    own = survivor._number()
    rows = stage.geometry["rows"]
    numbers = [own + 1000 * rows + i for i in range(1, rows)]
    stage.row_numbers(numbers[:how_many])


def fold_one(stage: Stage) -> Scene:
    """A process comes, and the row it gets bears a dead owner's number; it is not folded for that,
    because there are others, but afterwards with all dead rows."""

    def spoil(scene: Scene, survivor: Any) -> None:
        _dead_rows(stage, 3, survivor)

    return _furnished(stage, lambda s: s.get(TARGET), warm=False, spoil=spoil, deaths=4)


def fold_all_rows(stage: Stage) -> Scene:
    """All rows but one are dead owners': the newcomer must fold to have one at all."""

    def spoil(scene: Scene, survivor: Any) -> None:
        _dead_rows(stage, stage.geometry["rows"], survivor)

    return _furnished(stage, lambda s: s.get(TARGET), warm=False, spoil=spoil)


# --- for people ----------------------------------------------------------------------------------

OLD_BOARD, NEW_BOARD = b"old" * 500, b"new" * 700


def watched(stage: Stage) -> Scene:
    """Requests are sampled and the board is written: what is there is whole at any moment."""
    furnish(stage)
    with stage.open() as store:
        store._board_write(b"older")
        store._board_write(OLD_BOARD)

    def act(store: Any) -> None:
        store._sampling(0xFFFFFFFF)
        store.set(TARGET, NEW)
        store._samples()
        store._board_write(NEW_BOARD)

    def settle(scene: Scene, judge: Judge) -> None:
        if judge.store._board_read() not in (OLD_BOARD, NEW_BOARD):
            judge.say("the board is torn")
        words, lost = judge.store._samples()
        if len(words) % 8 or lost < 0:
            judge.say(f"{len(words)} bytes of samples, {lost} lost")
        judge.store._board_write(b"later")
        if judge.store._board_read() != b"later":
            judge.say("the board cannot be written")
        judge.store._sampling(0)

    after = {TARGET: [Item(NEW)]}
    return Scene(stage, act, near=near_keys(stage), after=after, settle=settle)


# --- the living ----------------------------------------------------------------------------------


class Stopper:
    """Forks processes that stop at their first visit of one fault point. Where that is, is tried
    beforehand, each time in the same store; so the stage must be ready, and nobody attached."""

    def __init__(self, stage: Stage, act: Callable[[Any], object], name: str) -> None:
        self._act = act
        self._name = name
        image = stage.save()
        for point in range(1, 200):
            stage.restore(image)
            with stage.open() as store:
                child, there = self._try(store, point)
                child.end()
            if there:
                break
        stage.restore(image)
        self._point = point

    def _try(self, survivor: Any, point: int) -> tuple[Child, bool]:
        child = Child(lambda: self._act(survivor), lambda: survivor.get("nothing"))
        try:
            before = counts()[self._name]
            child.go(point, STOP)
            child.stopped()
        except Hang:
            child.end()
            raise
        return child, counts()[self._name] > before

    def stopped(self, survivor: Any) -> Child:
        """A process that stands there now."""
        child, there = self._try(survivor, self._point)
        if there:
            return child
        child.end()
        raise Hang(f"{self._name} is not reached at point {self._point}")


def contended(stage: Stage) -> Scene:
    """A living, stopped process holds the stripe's lock: the armed one marks itself as waiting."""
    holders: list[tuple[Child, int]] = []

    def spoil(scene: Scene, survivor: Any) -> None:
        holders.append((stopper.stopped(survivor), counts()["lock_waiter_marked"]))

    def beside(scene: Scene, child: Child) -> None:
        holder, before = holders.pop()
        end = time.monotonic() + LIMIT_S
        try:
            while child.running() and counts()["lock_waiter_marked"] == before:
                if time.monotonic() > end:
                    raise Hang("the waiter did not mark the lock")
            holder.resume()
            holder.wait()
        finally:
            holder.end()

    key = next(stage.keys("away", stage.stripe(b"absent")))
    scene = _furnished(stage, lambda s: s.set(key, NEW), spoil=spoil, beside=beside)
    stopper = Stopper(stage, lambda s: s.delete(b"absent"), "lock_taken")
    scene.after, scene.target = {key: [Item(NEW)]}, key
    scene.near = tuple(itertools.islice(stage.keys("by", stage.stripe(key)), 2))
    return scene


# --- limbo ---------------------------------------------------------------------------------------


def _limbo(stage: Stage, *, released: bool) -> Scene:
    """A page that was cleaned while a reader had a pin in it: the lowest one, cleaned first."""
    with stage.open() as store:
        for action in itertools.islice(fill(stage.keys("f"), VIEWED), 24):
            action(store)
    image = stage.save()
    first = itertools.islice(stage.keys("f"), 24)
    key = min(first, key=lambda k: image.index(body(k, 1, VIEWED)))
    views: list[Any] = []
    seen: list[memoryview] = []
    stopper = Stopper(stage, lambda s: s._compact(), "page_cleaning")

    def spoil(scene: Scene, survivor: Any) -> None:
        cleaner = stopper.stopped(survivor)
        view = survivor.view(key)
        views.append(view)
        seen.append(view.__enter__())
        cleaner.resume()
        ended = cleaner.wait()
        cleaner.end()
        if ended.killed or ended.error:
            raise Hang(f"the cleaner failed: {ended.error}")
        if released:
            seen.pop()
            views.pop().__exit__(None, None, None)

    def settle(scene: Scene, judge: Judge) -> None:
        """Whoever has a pin still reads what was there, also when all free memory is used."""
        if not views:
            return
        judge.check("while there is a pin")
        for action in itertools.islice(fill(stage.keys("z")), 1000):
            action(judge.store)
        view = views.pop()
        if bytes(seen.pop()) != body(key, 1, VIEWED):
            judge.say("the memory behind a pin was given to others")
        view.__exit__(None, None, None)

    near = tuple(itertools.islice(stage.keys("by", stage.stripe(key)), 2))
    return Scene(stage, lambda s: s._compact(), target=key, near=near, spoil=spoil, settle=settle)


def limbo_pinned(stage: Stage) -> Scene:
    """Somebody looks whether a page may leave limbo: the pin is still there."""
    return _limbo(stage, released=False)


def limbo_free(stage: Stage) -> Scene:
    """Somebody looks whether a page may leave limbo: it may."""
    return _limbo(stage, released=True)


SCENES: dict[str, Callable[[Stage], Scene]] = {
    "attach": attach,
    "attach-readonly": attach_readonly,
    "attach-again": attach_again,
    "leave": leave,
    "first-operation": first_operation,
    "fold-one": fold_one,
    "fold-all-rows": fold_all_rows,
    "watched": watched,
    "contended": contended,
    "limbo-pinned": limbo_pinned,
    "limbo-free": limbo_free,
}
