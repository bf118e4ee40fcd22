"""Scenes of ordinary work: a store with room, items of every kind, one operation.

Owns the furnished store: `target` and its neighbours in one stripe, values of all types, counters,
deadlines, expired items, two extents. Every operation of the public face that changes something, or
pins something, is one entry of `SCENES`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import shmkv
from tests.crash.judge import ABSENT, Item, Judge, now_s
from tests.crash.scene import Scene
from tests.crash.stage import Stage, value

TARGET = b"target"
LONG_S, LONGER_S = 1000.0, 9000.0
OLD = value(TARGET, 1, 600)


def until(seconds: float) -> float:
    """A deadline that a scene sets, seen from its preparation."""
    return now_s() + seconds


def near_keys(stage: Stage, target: bytes = TARGET) -> tuple[bytes, ...]:
    """Three keys of the target's stripe."""
    return tuple(itertools.islice(stage.keys("near", stage.stripe(target)), 3))


def furnish(stage: Stage, target: bytes = TARGET) -> None:
    """Items of every kind."""
    with stage.open() as store:
        store.set(TARGET, OLD)
        for key in near_keys(stage, target):
            store.set(key, value(key, 1, 200))
        for i in range(24):
            key = f"bytes{i:03d}".encode()
            store.set(key, value(key, 1, 40 + 60 * i))
        kinds: list[Any] = ["text", 17, -(1 << 90), 2.5, True, None, ""]
        for i, kind in enumerate(kinds):
            store.set(f"kind{i}", kind)
        store.set("count", 41)
        store.set("count-till", 41, ttl=LONG_S)
        store.set("count-gone", 41, ttl=5)
        store.set("gone", b"g" * 300, ttl=5)
        store.set("till", value(b"till", 1, 300), ttl=LONG_S)
        store.set("extent", value(b"extent", 1, 40_000))
        store.set("extent-b", value(b"extent-b", 1, 100_000))


def changing(
    act: Callable[[Any], object], *, raises: tuple[type[Exception], ...] = (), **after: Any
) -> Callable[[Stage], Scene]:
    """A scene in the furnished store; `after` says what keys become, by name or as `TARGET`."""

    def build(stage: Stage) -> Scene:
        target = next(iter(after), TARGET.decode()).replace("_", "-").encode()
        furnish(stage, target)
        items: dict[bytes, list[Item]] = {}
        for name, what in after.items():
            steps = what if isinstance(what, list) else [what]
            items[name.replace("_", "-").encode()] = [
                step if isinstance(step, Item) else Item(step) for step in steps
            ]
        near = near_keys(stage, target)
        return Scene(stage, act, items, target=target, near=near, raises=raises)

    return build


def setting(size: int, key: str = "target") -> Callable[[Stage], Scene]:
    """Set one key to a new value of this size."""
    new = value(key.encode(), 2, size)
    return changing(lambda s: s.set(key.encode(), new), **{key.replace("-", "_"): new})


def _till(seconds: float, generation: int) -> Callable[[Stage], Scene]:
    new = value(b"till", generation, 300)

    def build(stage: Stage) -> Scene:
        scene = changing(lambda s: s.set("till", new, ttl=seconds))(stage)
        scene.after[b"till"] = [Item(new, until(seconds))]
        return scene

    return build


def _first_deadline(stage: Stage) -> Scene:
    """Nothing had a deadline so far: once the item can be found, the header says that one has."""
    with stage.open() as store:
        store.set(TARGET, OLD)

    def settle(scene: Scene, judge: Judge) -> None:
        if judge.store.ttl(TARGET) is not None and not stage.mortal():
            judge.say("an item has a deadline, and the header says that none ever had one")

    new = value(TARGET, 2, 600)
    after = {TARGET: [Item(new, until(LONG_S))]}
    return Scene(
        stage,
        lambda s: s.set(TARGET, new, ttl=LONG_S),
        after,
        target=TARGET,
        near=near_keys(stage),
        settle=settle,
    )


def _touch(key: str, ttl: float | None) -> Callable[[Stage], Scene]:
    size = {"target": 600, "till": 300}[key]

    def build(stage: Stage) -> Scene:
        scene = changing(lambda s: s.touch(key, ttl))(stage)
        deadline = None if ttl is None else until(ttl)
        scene.after[key.encode()] = [Item(value(key.encode(), 1, size), deadline)]
        return scene

    return build


def _incr_with_ttl(stage: Stage) -> Scene:
    scene = changing(lambda s: s.incr("count-new", 5, ttl=LONGER_S))(stage)
    scene.after[b"count-new"] = [Item(5, until(LONGER_S))]
    return scene


def _incr_with_deadline(stage: Stage) -> Scene:
    scene = changing(lambda s: s.incr("count-till"))(stage)
    scene.after[b"count-till"] = [Item(42, until(LONG_S))]
    return scene


def _cas(store: Any) -> None:
    _, token = store.gets(TARGET)
    assert store.cas(TARGET, b"swapped" * 50, token)


def _cas_refused(store: Any) -> None:
    _, token = store.gets(TARGET)
    assert not store.cas(TARGET, b"swapped" * 50, token + 1)


def _view(store: Any) -> None:
    with store.view("extent") as seen:
        assert bytes(seen) == value(b"extent", 1, 40_000)


def _get_long(store: Any) -> None:
    assert store.get("extent-b") == value(b"extent-b", 1, 100_000)


def _scan(store: Any) -> None:
    assert len(list(store.scan())) > 30


def _rename(to: str) -> Callable[[Stage], Scene]:
    def build(stage: Stage) -> Scene:
        scene = changing(lambda s: s.rename(TARGET, to), target=ABSENT, **{to: OLD})(stage)
        scene.never_all_missing = frozenset({TARGET, to.encode()})
        return scene

    return build


def _clear(stage: Stage) -> Scene:
    scene = changing(lambda s: s.clear())(stage)
    with stage.open() as store:
        scene.after = {
            key if isinstance(key, bytes) else key.encode(): [ABSENT] for key in store.scan()
        }
    return scene


_many = {f"many{i}": value(f"many{i}".encode(), 1, 100 + 90 * i) for i in range(5)}
_over = {f"bytes{i:03d}": value(f"bytes{i:03d}".encode(), 2, 777) for i in range(4)}

SCENES: dict[str, Callable[[Stage], Scene]] = {
    "set-new": setting(500, "fresh"),
    "set-smaller": setting(100),
    "set-equal": setting(600),
    "set-larger": setting(3000),
    "set-expired": setting(300, "gone"),
    "set-ttl": _till(LONGER_S, 2),
    "set-first-ttl": _first_deadline,
    "set-other-type": changing(lambda s: s.set(TARGET, 12), target=12),
    "add-new": changing(lambda s: s.add("fresh", b"a" * 70), fresh=b"a" * 70),
    "add-refused": changing(lambda s: s.add(TARGET, b"a" * 70)),
    "add-expired": changing(lambda s: s.add("gone", b"a" * 70), gone=b"a" * 70),
    "replace": changing(lambda s: s.replace(TARGET, b"r" * 70), target=b"r" * 70),
    "replace-refused": changing(lambda s: s.replace("fresh", b"r" * 70)),
    "cas": changing(_cas, target=b"swapped" * 50),
    "cas-refused": changing(_cas_refused),
    "delete": changing(lambda s: s.delete(TARGET), target=ABSENT),
    "delete-missing": changing(lambda s: s.delete("fresh")),
    "delete-expired": changing(lambda s: s.delete("gone")),
    "pop": changing(lambda s: s.pop(TARGET), target=ABSENT),
    "incr": changing(lambda s: s.incr("count"), count=42),
    "incr-new": changing(lambda s: s.incr("fresh", 7), fresh=7),
    "incr-new-ttl": _incr_with_ttl,
    "incr-expired": changing(lambda s: s.incr("count-gone"), count_gone=1),
    "incr-deadline": _incr_with_deadline,
    "incr-refused": changing(lambda s: s.incr(TARGET), raises=(TypeError,)),
    "touch-in-place": _touch("till", LONGER_S),
    "touch-rewrite": _touch("target", LONGER_S),
    "touch-never": _touch("till", None),
    "append": changing(lambda s: s.append(TARGET, b"tail" * 40), target=OLD + b"tail" * 40),
    "append-new": changing(lambda s: s.append("fresh", b"tail"), fresh=b"tail"),
    "rename": _rename("moved"),
    "rename-over": _rename("bytes003"),
    "rename-missing": changing(lambda s: s.rename("fresh", "moved"), raises=(KeyError,)),
    "set-many": changing(lambda s: s.set_many({**_many, **_over}), **_many, **_over),
    "delete-many": changing(
        lambda s: s.delete_many(["bytes001", "fresh", "bytes002", "gone"]),
        bytes001=ABSENT,
        bytes002=ABSENT,
    ),
    "clear": _clear,
    "extent-set": setting(60_000, "fresh"),
    "extent-overwrite": setting(70_000, "extent"),
    "extent-to-small": setting(70, "extent"),
    "small-to-extent": setting(70_000),
    "extent-delete": changing(lambda s: s.delete("extent"), extent=ABSENT),
    "extent-append": changing(
        lambda s: s.append("extent", b"t" * 9000),
        extent=value(b"extent", 1, 40_000) + b"t" * 9000,
    ),
    "too-large": changing(lambda s: s.set("fresh", b"x" * (1 << 20)), raises=(shmkv.TooLarge,)),
    "view": changing(_view),
    "get-long": changing(_get_long),
    "get": changing(lambda s: s.get(TARGET)),
    "scan": changing(_scan),
    "check": changing(lambda s: s.check()),
    "compact": changing(lambda s: s._compact()),
    "stats": changing(lambda s: s.stats()),
    "become-daemon": changing(lambda s: s._daemon(True)),
    "work-ahead": changing(lambda s: s._work(20)),
}
