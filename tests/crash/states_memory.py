"""Scenes in which memory has to be found: pages, cleaning, eviction, index segments, extents.

Owns stores filled to the brink: `Stage.brink` replays what was done until a named fault point was
visited, and hands back the one action that visits it. So each scene is about exactly that operation
which opens a page, cleans one, splits an index segment …, whatever the geometry is.

Items of 2 KiB keep the walks short: eight to a page of 16 KiB.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Callable, Iterator
from typing import Any

import shmkv
from shmkv import _core
from tests.crash.judge import ABSENT, Item
from tests.crash.scene import OFFSET_MS, Scene
from tests.crash.stage import Action, Stage, value

LONG_S = 1000.0
SHORT_S = 20.0  # over when the scene is played, by any span of a page's histogram, not before
assert 4000 * SHORT_S < OFFSET_MS
HEAD, KEY = 12, 8
PAGE_ITEM = 2048


def body(key: bytes, generation: int, item_bytes: int = PAGE_ITEM) -> bytes:
    """A value that makes the item of this key `item_bytes` long."""
    return value(key, generation, item_bytes - HEAD - KEY)


def putting(key: bytes, what: Any, ttl: float | None = None) -> Action:
    """An action that can be told from others: it carries its key."""

    def put(store: Any) -> None:
        store.set(key, what, ttl=ttl)

    put.__dict__["key"], put.__dict__["value"] = key, what
    return put


def fill(
    keys: Iterator[bytes], item_bytes: int = PAGE_ITEM, limit: int = 100_000
) -> Iterator[Action]:
    """New keys without end."""
    for key in itertools.islice(keys, limit):
        yield putting(key, body(key, 1, item_bytes))


def mixed(stage: Stage, n: int) -> Iterator[Action]:
    """n items of 2 KiB; with every eighth a counter and a counter with a deadline; and with every
    fifth a value with a deadline."""
    for i, key in enumerate(itertools.islice(stage.keys("m"), n)):
        yield putting(key, body(key, 1), LONG_S if i % 5 == 0 else None)
        if i % 8 == 0:
            yield putting(b"count%03d" % i, i)
            yield putting(b"until%03d" % i, i, LONG_S)


def last(stage: Stage, action: Action, *, near: tuple[bytes, ...] = (), **more: Any) -> Scene:
    """The scene about the action that a brink handed back."""
    key = action.__dict__["key"]
    found = near or tuple(itertools.islice(stage.keys("near", stage.stripe(key)), 2))
    after = {key: [Item(action.__dict__["value"])]}
    return Scene(stage, action, after, target=key, near=found, repeatable=True, **more)


# --- pages ---------------------------------------------------------------------------------------


def page_full(stage: Stage) -> Scene:
    """The appender's page is full: another is taken, stamped, opened, made current."""
    filler = fill(stage.keys("f", 0))
    return last(stage, stage.brink(filler, "page_closed"))


def long_pages(stage: Stage) -> Scene:
    """Items that want log pages of several base pages."""
    filler = fill(stage.keys("f", 0), item_bytes=6000)
    return last(stage, stage.brink(filler, "run_interior", 3))


def growth(stage: Stage) -> Scene:
    """The page that is taken lies beyond the watermark."""
    return last(stage, stage.brink(fill(stage.keys("f")), "segment_allocated"))


# --- cleaning ------------------------------------------------------------------------------------


def _with_garbage(stage: Stage, n: int, spread: int) -> Iterator[Action]:
    """Items of all kinds; then one of `spread` of the long ones is written again."""
    yield from mixed(stage, n)
    for key in itertools.islice(stage.keys("m"), 0, n, spread):
        yield putting(key, body(key, 2))


def clean_garbage(stage: Stage) -> Scene:
    """A page with a quarter of garbage is cleaned: six items, counters, deadlines move on."""
    actions = itertools.chain(_with_garbage(stage, 520, 4), fill(stage.keys("x")))
    return last(stage, stage.brink(actions, "relocate_copied"), loses=True)


def clean_kept(stage: Stage) -> Scene:
    """The same where nothing may leave."""
    actions = itertools.chain(_with_garbage(stage, 520, 4), fill(stage.keys("x")))
    return last(stage, stage.brink(actions, "relocate_copied"))


def clean_expired(stage: Stage) -> Scene:
    """Half of each page has expired; the cleaner takes it out."""

    def later(store: Any) -> None:
        _core.set_clock_offset(OFFSET_MS)

    def half() -> Iterator[Action]:
        for i, key in enumerate(itertools.islice(stage.keys("h"), 860)):
            yield putting(key, body(key, 1, 2032), SHORT_S if i % 2 else LONG_S)
        yield later
        yield from fill(stage.keys("x"))

    try:
        return last(stage, stage.brink(half(), "relocate_copied"), loses=True)
    finally:
        _core.set_clock_offset(0)


def full(stage: Stage) -> Scene:
    """`evict=False` and nothing to clean: `Full`, nothing is lost."""
    with stage.open() as store:
        for action in fill(stage.keys("f")):
            try:
                action(store)
            except shmkv.Full:
                break
    keys = tuple(itertools.islice(stage.keys("f", stage.stripe(b"fresh")), 24))
    fresh = body(b"fresh", 1)
    return Scene(
        stage,
        lambda s: s.set(b"fresh", fresh),
        {b"fresh": [Item(fresh), ABSENT]},
        target=b"fresh",
        near=keys,
        raises=(shmkv.Full,),
        cramped=True,
    )


def evict(stage: Stage) -> Scene:
    """Memory is full of live items: the oldest page is cleaned, read items stay, others leave."""

    def reading() -> Iterator[Action]:
        for i, action in enumerate(fill(stage.keys("f"))):
            yield action
            if i % 3 == 0:
                yield lambda store, key=action.__dict__["key"]: store.get(key)

    return last(stage, stage.brink(reading(), "page_cleaning"), loses=True)


def evict_part(stage: Stage) -> Scene:
    """Little is free: the write empties a part of a page, the next ones go on with it."""
    return last(stage, stage.brink(fill(stage.keys("f"), 256), "page_walked"), loses=True)


def evict_overwrite(stage: Stage) -> Scene:
    """The same by a write to a key that is there: the newest one."""
    stage.brink(fill(stage.keys("f")), "page_cleaning", 3)
    with stage.open() as store:
        keys = sorted(k if isinstance(k, bytes) else k.encode() for k in store.scan())
    key = keys[-1]
    actions = (putting(key, body(key, g)) for g in itertools.count(2))
    action = stage.brink(actions, "page_cleaning")
    scene = last(stage, action, loses=True)
    return scene


def returned(stage: Stage) -> Scene:
    """A key that left unread a moment ago comes back: it goes to a main queue."""
    twice = itertools.chain(fill(stage.keys("f"), limit=1200), fill(stage.keys("f")))
    return last(stage, stage.brink(twice, "ghost_taken"), loses=True)


def compact_mixed(stage: Stage) -> Scene:
    """A whole round of cleaning over items of all kinds."""
    with stage.open() as store:
        for action in _with_garbage(stage, 48, 3):
            action(store)
    key = b"m0000001"
    near = tuple(itertools.islice(stage.keys("near", stage.stripe(key)), 2))
    return Scene(stage, lambda s: s._compact(), target=key, near=near)


# --- extents -------------------------------------------------------------------------------------


def _extent(stage: Stage, size: int, **more: Any) -> Scene:
    return last(stage, putting(b"extent", value(b"extent", 1, size)), **more)


def window_evicting(stage: Stage) -> Scene:
    """No adjacent pages for an extent: a window is emptied, items leave."""
    stage.brink(fill(stage.keys("f")), "page_cleaning", 3)
    return _extent(stage, 90_000, loses=True)


def window_keeping(stage: Stage) -> Scene:
    """A window is emptied by moving everything that lives there."""
    stage.brink(fill(stage.keys("f")), "page_cleaning")
    with stage.open() as store:
        for i, key in enumerate(sorted(store.scan())):
            if i % 8 not in (0, 5):
                store.delete(key)
    return _extent(stage, 90_000)


def extent_over_extent(stage: Stage) -> Scene:
    """The memory of an overwritten extent is found again when there is no other."""

    def rounds() -> Iterator[Action]:
        for i in itertools.count():
            key = b"extent%02d" % (i % 6)
            yield putting(key, value(key, i, 90_000))

    return last(stage, stage.brink(rounds(), "page_cleaning"), loses=True)


def extent_spared(stage: Stage) -> Scene:
    """Memory is full of extents that were read: the oldest becomes the youngest where it lies."""

    def reading() -> Iterator[Action]:
        for key in stage.keys("f"):
            yield putting(key, value(key, 1, 90_000))
            yield lambda store, key=key: store.get(key)

    return last(stage, stage.brink(reading(), "spare_cleaning"), loses=True)


def extent_kept(stage: Stage) -> Scene:
    """`evict=False`, and memory for one more such extent: the dead writer has it in hand."""

    def act(store: Any) -> None:
        for action in fill(stage.keys("f")):
            action(store)

    with stage.open() as store, contextlib.suppress(shmkv.Full):
        act(store)
    with stage.open() as store:
        for key in itertools.islice(stage.keys("f"), 70):
            store.delete(key)
        store._compact()
    return _extent(stage, 90_000)


# --- index ---------------------------------------------------------------------------------------


def _small(keys: Iterator[bytes]) -> Iterator[Action]:
    for key in keys:
        yield putting(key, value(key, 1, 12))


def split_first(stage: Stage) -> Scene:
    """The first split of a stripe; no index segment is free, so an index page is made, too."""
    return last(stage, stage.brink(_small(stage.keys("s", 3)), "halves_built"))


def split_deeper(stage: Stage) -> Scene:
    """A split one level down: half of the directory is left alone."""
    return last(stage, stage.brink(_small(stage.keys("s", 3)), "halves_built", 2))


def split_expired(stage: Stage) -> Scene:
    """A split that leaves out what has expired."""

    def later(store: Any) -> None:
        _core.set_clock_offset(OFFSET_MS)

    def actions() -> Iterator[Action]:
        for i, key in enumerate(itertools.islice(stage.keys("s", 3), 500)):
            yield putting(key, value(key, 1, 12), SHORT_S if i % 3 else None)
        yield later
        yield from itertools.islice(_small(stage.keys("s", 3)), 500, None)

    try:
        return last(stage, stage.brink(actions(), "halves_built"))
    finally:
        _core.set_clock_offset(0)


def index_page_cleaned(stage: Stage) -> Scene:
    """An index page is made of a page that must be cleaned for it."""
    actions = itertools.chain(fill(stage.keys("f"), limit=860), _small(stage.keys("s", 3)))
    return last(stage, stage.brink(actions, "index_made"), loses=True)


def index_full(stage: Stage) -> Scene:
    """Keys that no split can part: one of the home bucket leaves."""
    keys = stage.colliding_keys("c", 3)
    return last(stage, stage.brink(_small(keys), "ref_removed"), loses=True)


# --- damage --------------------------------------------------------------------------------------


def damaged(stage: Stage) -> Scene:
    """A header is overwritten: the cleaner sweeps every ref into the page out of the index."""
    with stage.open() as store:
        for action in itertools.islice(fill(stage.keys("d")), 40):
            action(store)
    image = bytearray(stage.save())
    items = {key: body(key, 1) for key in itertools.islice(stage.keys("d"), 40)}
    page = {key: image.index(what) >> stage.geometry["base_shift"] for key, what in items.items()}
    hit = b"d0000011"
    struct.pack_into("<IHBB", image, image.index(items[hit]) - HEAD - KEY, 0, 0, 0, 0)
    stage.restore(bytes(image))
    swept = {key for key in items if page[key] == page[hit]}
    return Scene(
        stage,
        lambda s: s._compact(),
        {key: [ABSENT] for key in swept},
        target=hit,
        near=tuple(itertools.islice(stage.keys("near", stage.stripe(hit)), 2)),
        damaged=True,
        preset={key: Item(what) for key, what in items.items()},
        unsure=frozenset(swept),
    )


SCENES: dict[str, Callable[[Stage], Scene]] = {
    "page-full": page_full,
    "growth": growth,
    "clean-garbage": clean_garbage,
    "clean-expired": clean_expired,
    "evict": evict,
    "evict-part": evict_part,
    "evict-overwrite": evict_overwrite,
    "returned": returned,
    "compact-mixed": compact_mixed,
    "window-evicting": window_evicting,
    "window-keeping": window_keeping,
    "extent-over-extent": extent_over_extent,
    "extent-spared": extent_spared,
    "split-first": split_first,
    "split-deeper": split_deeper,
    "split-expired": split_expired,
    "index-page-cleaned": index_page_cleaned,
    "index-full": index_full,
    "damaged": damaged,
}
KEEPING: dict[str, Callable[[Stage], Scene]] = {
    "clean-kept": clean_kept,
    "full": full,
    "extent-kept": extent_kept,
    "split-kept": split_first,
}
LARGE: dict[str, Callable[[Stage], Scene]] = {"long-pages": long_pages}
