"""Plays about the journal: every operation that marks, rounds, generations, and what breaks them.

Owns the furnished store with a journal and `PLAYS`, by name. Operations come twice, "everysec" and
"always"; in the second, a write leads the round it waits for. Where a first death is needed, it is
at a fixed fault point's first visit (`RELAPSES`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tests.crash.children import Child
from tests.crash.journal_play import JournalPlay, Step
from tests.crash.journal_stage import (
    BROKEN_AT,
    DUE_AT,
    LOOKED_AT,
    SYNCED_AT,
    WIPE,
    JournalStage,
)
from tests.crash.judge import ABSENT, Item, now_s
from tests.crash.stage import MIB, Action, value
from tests.journal_files import MODES

TARGET, LONG_S, LONGER_S = b"target", 100_000.0, 900_000.0
OLD, TILL = value(TARGET, 1, 600), value(b"till", 1, 300)
LARGE = 300_000  # in pieces
PLACES = 32  # that a mark may take
FAR_MS = 1 << 50
Builder = Callable[[int], JournalPlay]


def furnish(stage: JournalStage) -> tuple[bytes, ...]:
    """Items of every kind, on disk; keys of the target's stripe that are there, too."""
    near = tuple(itertools.islice(stage.keys("near", stage.stripe(TARGET)), 3))
    with stage.open() as store:
        store.set(TARGET, OLD)
        for i, key in enumerate((*near, *(f"bytes{i:03d}".encode() for i in range(10)))):
            store.set(key, value(key, 1, 40 + 90 * i))
        kinds: list[Any] = ["text", 17, -(1 << 90), 2.5, True, None, "", (1, "two"), {"a": [1]}]
        for i, kind in enumerate(kinds):
            store.set(f"kind{i}", kind)
        store.set("count", 41)
        store.set("till", TILL, ttl=LONG_S)
        store.set("extent", value(b"extent", 1, 40_000))
        store._journal_sync()
    return near


def one(act: Action, **after: Any) -> Step:
    """A step; `after` says what keys become, by name."""
    items = {}
    for name, what in after.items():
        items[name.encode()] = [what if isinstance(what, Item) else Item(what)]
    return Step(act, items)


def _clear() -> Step:
    names = [TARGET, b"count", b"till", b"extent", *(b"kind%d" % i for i in range(9))]
    names += [b"bytes%03d" % i for i in range(10)]
    return Step(lambda s: s.clear(), {name: [ABSENT] for name in names}, clears=True)


def _many() -> Step:
    new = {f"many{i}": value(f"many{i}".encode(), 1, 100 + 90 * i) for i in range(4)}
    new["bytes001"] = b"over"
    return one(lambda s: s.set_many(new), **new)


# Of each: its step, made when the play is made, and whether it can be done twice.
OPERATIONS: dict[str, tuple[Callable[[], Step], bool]] = {
    "set-new": (lambda: one(lambda s: s.set("fresh", b"f" * 500), fresh=b"f" * 500), True),
    "overwrite": (lambda: one(lambda s: s.set(TARGET, b"o" * 600), target=b"o" * 600), True),
    "larger": (lambda: one(lambda s: s.set(TARGET, b"l" * 3000), target=b"l" * 3000), True),
    "large": (lambda: one(lambda s: s.set("large", b"x" * LARGE), large=b"x" * LARGE), True),
    "delete": (lambda: one(lambda s: s.delete(TARGET), target=ABSENT), True),
    "incr": (lambda: one(lambda s: s.incr("count"), count=42), False),
    "incr-new": (lambda: one(lambda s: s.incr("fresh", 7), fresh=7), False),
    "touch": (
        lambda: one(lambda s: s.touch("till", LONGER_S), till=Item(TILL, now_s() + LONGER_S)),
        True,
    ),
    "touch-rewrite": (
        lambda: one(lambda s: s.touch(TARGET, LONGER_S), target=Item(OLD, now_s() + LONGER_S)),
        True,
    ),
    "append": (lambda: one(lambda s: s.append(TARGET, b"tail"), target=OLD + b"tail"), False),
    "rename": (lambda: one(lambda s: s.rename(TARGET, "moved"), target=ABSENT, moved=OLD), False),
    "clear": (_clear, True),
    "add": (lambda: one(lambda s: s.add("fresh", b"a" * 70), fresh=b"a" * 70), True),
    "set-many": (lambda: _many(), True),
}


def operation(name: str, mode: str) -> Builder:
    """One operation by a process that may lead."""

    def build(seed: int) -> JournalPlay:
        make, repeatable = OPERATIONS[name]
        stage = JournalStage(mode, seed=seed, size=(4 if name == "large" else 2) * MIB)
        near = furnish(stage)
        title = f"journal-{name}-{mode}"
        step = make()
        steps = [step._replace(after=_near_too(step.after, near, name))]
        return JournalPlay(stage, title, steps, near, repeatable=repeatable).prepare()

    return build


def _near_too(
    after: dict[bytes, list[Item]], near: tuple[bytes, ...], name: str
) -> dict[bytes, list[Item]]:
    return after | {key: [ABSENT] for key in near} if name == "clear" else after


LOST = {b"lost%d" % i: Item(value(b"lost", i, 90 + i)) for i in range(3)}


def _loser(mode: str, seed: int, size: int = 2 * MIB) -> tuple[JournalStage, tuple[bytes, ...]]:
    """A store that may evict, and has: some items are on disk only."""
    stage = JournalStage(mode, size=size, seed=seed, evict=True)
    stage.lose({key: item.value for key, item in LOST.items()})
    return stage, furnish(stage)


def clearing(mode: str) -> Builder:
    """A clear, of what is on disk only, too; and what is stored after it."""

    def build(seed: int) -> JournalPlay:
        stage, near = _loser(mode, seed)
        step = _clear()
        steps = [step._replace(after=_near_too(step.after, near, "clear"))]
        steps += [OPERATIONS["set-new"][0](), OPERATIONS["set-many"][0]()]
        return JournalPlay(stage, f"journal-wipe-{mode}", steps, near, lost=LOST).prepare()

    return build


def wiping(seed: int) -> JournalPlay:
    """A leader after a clear; since that began, items were stored, most of them on disk already."""
    stage, near = _loser("everysec", seed, 4 * MIB)
    with stage.open() as store:
        for i in range(4):
            store.set(f"large{i}", b"%d" % i * LARGE)
        store._journal_sync()
        store.set("since", b"dirty")
    _quiet(stage)
    stage.poke(DUE_AT, WIPE)
    steps = [Step(_sync, {})]
    return JournalPlay(stage, "journal-wiping", steps, near, settled=False).prepare()


def sequence(seed: int) -> JournalPlay:
    """Several writes one after the other, each acknowledged before the next."""
    stage = JournalStage("always", seed=seed)
    near = furnish(stage)
    steps = [OPERATIONS[name][0]() for name in ("set-new", "incr", "delete", "touch")]
    steps.append(one(lambda s: s.set("fresh", 5), fresh=5))
    return JournalPlay(stage, "journal-sequence", steps, near, repeatable=False).prepare()


def following(seed: int) -> JournalPlay:
    """A writer that waits for others to lead."""

    def beside(survivor: Any, child: Child) -> None:
        while child.running():
            survivor._journal_round()
            survivor._journal_listen(1)

    stage = JournalStage("always", seed=seed)
    near = furnish(stage)
    steps = [OPERATIONS["overwrite"][0](), OPERATIONS["incr"][0]()]
    play = JournalPlay(stage, "journal-following", steps, near, repeatable=False, leads=False)
    play.beside = beside
    return play.prepare()


# --- rounds and generations -----------------------------------------------------------------------


def _quiet(stage: JournalStage) -> None:
    """No time that passes makes a round, or makes one sync."""
    stage.poke(LOOKED_AT, FAR_MS)
    stage.poke(SYNCED_AT, FAR_MS)


def _dirty(stage: JournalStage) -> tuple[bytes, ...]:
    """Marks of all kinds, and no round since."""
    near = furnish(stage)
    with stage.open() as store:
        store.set("fresh", b"f" * 500)
        store.set(TARGET, b"l" * 3000)
        store.incr("count")
        store.touch("till", LONGER_S)
        store.touch("bytes000", LONG_S)
        store.append("bytes001", b"tail")
        store.rename("bytes002", "moved")
        store.delete("bytes003")
        for i in range(4):
            store.set(f"large{i}", b"%d" % i * LARGE)
            store.set(f"between{i}", i)
        store.delete("large1")
    _quiet(stage)
    return near


def leading(title: str, act: Action) -> Builder:
    """What a leader does about many marks."""

    def build(seed: int) -> JournalPlay:
        stage = JournalStage("everysec", seed=seed, size=4 * MIB)
        near = _dirty(stage)
        return JournalPlay(stage, title, [Step(act, {})], near, settled=False).prepare()

    return build


def overdue(seed: int) -> JournalPlay:
    """Nobody has looked for a second: the next write does."""
    stage = JournalStage("everysec", seed=seed)
    near = furnish(stage)
    stage.poke(LOOKED_AT, 0)
    steps = [OPERATIONS["overwrite"][0]()]
    return JournalPlay(stage, "journal-overdue", steps, near, settled=False).prepare()


def beginning(seed: int) -> JournalPlay:
    """The first file of a store."""
    stage = JournalStage("everysec", seed=seed, begun=False)
    near = tuple(itertools.islice(stage.keys("near", stage.stripe(TARGET)), 3))
    steps = [Step(lambda s: s._journal_begin(1, 0), {})]
    return JournalPlay(
        stage, "journal-begin", steps, near, repeatable=False, settled=False, begun=False
    ).prepare()


def healing(seed: int) -> JournalPlay:
    """The generation after a change that was not logged."""
    stage = JournalStage("everysec", seed=seed)
    near = furnish(stage)
    _quiet(stage)
    with stage.open() as store:
        store.set("logged", b"l" * 99)
    stage.poke(BROKEN_AT, 1)
    with stage.open() as store:
        store.set("unlogged", b"u" * 99)
    steps = [Step(lambda s: s._saved(0, s._journal_next()), {})]
    return JournalPlay(
        stage, "journal-heal", steps, near, settled=False, saved=True, repeatable=False
    ).prepare()


def _full(stage: JournalStage) -> tuple[tuple[bytes, ...], bytes]:
    """No place for the mark of the key that is returned."""
    near = furnish(stage)
    keys = list(itertools.islice(stage.crowded("full"), PLACES + 1))
    _quiet(stage)
    with stage.open() as store:
        for key in keys[:-1]:
            store.set(key, b"one of many")
        assert store._journal_state()["dirty"] >= PLACES
    return near, keys[-1]


def crowding(seed: int) -> JournalPlay:
    """A write that has to make room for its mark."""
    stage = JournalStage("everysec", seed=seed)
    near, key = _full(stage)
    steps = [Step(lambda s: s.set(key, b"the last"), {key: [Item(b"the last")]})]
    return JournalPlay(stage, "journal-crowded", steps, near, settled=False).prepare()


def breaking(seed: int) -> JournalPlay:
    """The same by somebody who may not lead, and nobody else does."""
    stage = JournalStage("everysec", seed=seed)
    near, key = _full(stage)
    steps = [Step(lambda s: s.set(key, b"the last"), {key: [Item(b"the last")]})]
    return JournalPlay(
        stage, "journal-break", steps, near, settled=False, saved=True, leads=False, timeout=0.004
    ).prepare()


def _round(store: Any) -> None:
    store._journal_round()


def _sync(store: Any) -> None:
    store._journal_sync()


def _next(store: Any) -> None:
    store._journal_next()


PLAYS: dict[str, Builder] = {
    f"journal-{name}-{mode}": operation(name, mode) for name in OPERATIONS for mode in MODES
}
PLAYS |= {f"journal-wipe-{mode}": clearing(mode) for mode in MODES}
PLAYS |= {
    "journal-wiping": wiping,
    "journal-sequence": sequence,
    "journal-following": following,
    "journal-round": leading("journal-round", _round),
    "journal-sync": leading("journal-sync", _sync),
    "journal-next": leading("journal-next", _next),
    "journal-overdue": overdue,
    "journal-begin": beginning,
    "journal-heal": healing,
    "journal-crowded": crowding,
    "journal-break": breaking,
}


def _come(store: Any) -> None:
    """The first operation of a process: it takes a row, and folds dead ones."""
    store.get(b"a key that is never there")


# The play whose child dies, the name at whose first visit it does, what a second child does then,
# and dies of. Full form: every name that the play meets, all acts.
RELAPSES: list[tuple[str, str, Action]] = [
    ("journal-sync", "journal_unhinted", _sync),
    ("journal-sync", "journal_claimed", _round),
    ("journal-sync", "journal_appended", _sync),
    ("journal-sync", "journal_counted", _next),
    ("journal-sync", "journal_counted", _come),
    ("journal-sync", "journal_released", _round),
    ("journal-next", "journal_created", _next),
    ("journal-next", "journal_placed", _sync),
    ("journal-heal", "journal_healed", _next),
    ("journal-wiping", "journal_wish_kept", _sync),
    ("journal-wiping", "journal_wish_taken", _sync),
    ("journal-wiping", "journal_appended", _sync),
    ("journal-wiping", "journal_walked", _next),
    ("journal-wiping", "journal_counted", _round),
    ("journal-wiping", "journal_due_met", _sync),
]
# What else there may be to do after a first death, in the full form.
ACTS: list[Action] = [_round, _sync, _next, _come]


def relapse(base: str, point: int, act: Action, seed: int) -> JournalPlay:
    """A first child dies at that point of a play; a second one, there already or coming then, acts,
    and dies of that."""
    play = PLAYS[base](seed)

    first_act = play.steps[0].act

    def spoil(again: JournalPlay, survivor: Any) -> None:
        first = Child(lambda: first_act(survivor), lambda: survivor.get(b"never there"))
        try:
            first.go(point)
            first.wait()
        finally:
            first.end()

    play.spoil = spoil
    play.early, play.warm = act is not _come, act is not _come
    play.steps = [Step(act, {})]
    play.deaths = 2
    play.repeatable = False
    play.name = f"{base}@{point}+{act.__name__.strip('_')}"
    return play
