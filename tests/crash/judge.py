"""What a survivor may see after a death, and what it must be able to do.

Owns the verdict. `Expectation` says which items there are before an operation and after it; `Judge`
compares the store with it through an attachment that was there before the death:

  value     a key that the operation changes has the old item or the new one (value and deadline);
            when the operation was not killed: the new one
  others    every other key has its item; in a scene that evicts as many may be missing as the
            store's own counts say, and one more for each death
  time      every operation ends within LIMIT_MS, the one that meets the dead owner included; of
            one that never went to sleep by itself, the time it had a processor
  check     no problem is found
  memory    after one round of compaction no page is held, no garbage is left, and free, index, log
            and extent pages are all there are
  row       nobody but the survivor is attached

Does not: kill, prepare, or know which operation it was.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import shmkv
from shmkv import _core

LIMIT_MS = 50.0
DEADLINE_SLACK_S = 3000.0  # old and new deadlines of the scenes are further apart


class Item(NamedTuple):
    """What a key holds; `until` is the deadline in seconds of the segment's clock."""

    value: Any
    until: float | None = None


ABSENT = Item("there is no such key")


@dataclass(frozen=True)
class Expectation:
    """The items before an operation, and for each key it changes what it may become, the last being
    what it is when the operation has finished."""

    before: dict[bytes, Item]
    after: dict[bytes, list[Item]] = field(default_factory=dict)
    loses: bool = False  # live items may be evicted
    unsure: frozenset[bytes] = frozenset()  # may be old even when the last child finished
    never_all_missing: frozenset[bytes] = frozenset()  # an item that moves is somewhere

    def allowed(self, key: bytes, finished: bool) -> list[Item]:
        """What the survivor may find."""
        old = self.before.get(key, ABSENT)
        new = self.after.get(key)
        if new is None:
            return [old]
        return new[-1:] if finished and key not in self.unsure else [old, *new]


def now_s() -> float:
    """The segment's clock."""
    return _core.clock_ms() / 1000


def read(store: Any, key: bytes) -> Item:
    """The item of a key."""
    try:
        found = store[key]
        ttl = None if store.readonly else store.ttl(key)
    except KeyError:
        return ABSENT
    return Item(found, None if ttl is None else now_s() + ttl)


def everything(store: Any) -> dict[bytes, Item]:
    """All items of a store at rest."""
    keys = [key if isinstance(key, bytes) else key.encode() for key in store.scan()]
    return {key: read(store, key) for key in keys}


def same(found: Item, wanted: Item) -> bool:
    """Equal value and type, and the same deadline."""
    if type(found.value) is not type(wanted.value) or found.value != wanted.value:
        return False
    if found.until is None or wanted.until is None:
        return found.until is wanted.until
    return abs(found.until - wanted.until) < DEADLINE_SLACK_S


def brief(item: Item) -> str:
    """An item in a message."""
    text = repr(item.value)
    return f"{text[:60]}{'…' if len(text) > 60 else ''} until {item.until}"


def _sleeps() -> int:
    """How often this thread gave up its processor by itself."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


class Lost(NamedTuple):
    """Counts of live items that left to make room."""

    evicted: int

    @classmethod
    def of(cls, store: Any) -> Lost:
        stats = store.stats()
        return cls(stats.evictions)


class Judge:
    """The survivor's eyes and hands after one death."""

    def __init__(self, store: Any, wanted: Expectation, deaths: int) -> None:
        self.store = store
        self.wanted = wanted
        self.deaths = deaths
        self.problems: list[str] = []
        self.worst_ms = 0.0
        self._lost = Lost.of(store)

    def say(self, text: str) -> None:
        """One violation."""
        self.problems.append(text)

    def timed(self, what: str, call: Callable[[], object]) -> object:
        """Do it and note how long it took; an exception is a violation.

        Who waits for somebody sleeps. Who never slept and took long was kept from its processor by
        others of a busy machine, or worked; only the work is its own.
        """
        start, cpu, slept = time.perf_counter(), time.thread_time(), _sleeps()
        try:
            return call()
        except (shmkv.Error, KeyError) as error:
            self.say(f"{what}: {type(error).__name__}: {error}")
            return None
        finally:
            worked, took = time.thread_time() - cpu, time.perf_counter() - start
            own = took if _sleeps() > slept else worked
            self.worst_ms = max(self.worst_ms, own * 1000)

    # --- items -----------------------------------------------------------------------------

    def look(self, key: bytes, store: Any, finished: bool, by: str) -> None:
        """One key, as it must or may be; a read-only attachment does not compare deadlines."""
        found = self.timed(f"{by} reads {key!r}", lambda: read(store, key))
        allowed = self.wanted.allowed(key, finished)
        if store.readonly:
            allowed = [item._replace(until=None) for item in allowed]
        if isinstance(found, Item) and not any(same(found, item) for item in allowed):
            wanted = " or ".join(brief(item) for item in allowed)
            self.say(f"{by} finds {key!r} = {brief(found)}, wanted {wanted}")

    def wrote(self, key: bytes, item: Item) -> None:
        """From now on this key holds this item."""
        self.wanted.before[key] = item
        self.wanted.after.pop(key, None)

    def look_at_all(self, finished: bool) -> None:
        """Every key there was or may be, and what a scan shows."""
        found = everything(self.store)
        missing = 0
        for key in self.wanted.before.keys() | self.wanted.after.keys() | found.keys():
            item, allowed = found.get(key, ABSENT), self.wanted.allowed(key, finished)
            if any(same(item, one) for one in allowed):
                continue
            if item == ABSENT and self.wanted.loses and key not in self.wanted.after:
                missing += 1
                continue
            wanted = " or ".join(brief(one) for one in allowed)
            self.say(f"{key!r} = {brief(item)}, wanted {wanted}")
        moving = self.wanted.never_all_missing
        if moving and not moving & found.keys():
            self.say(f"none of {sorted(moving)} is there: the item is lost")
        left = Lost.of(self.store).evicted - self._lost.evicted
        if missing > left + self.deaths:
            self.say(f"{missing} items are missing, {left} were evicted, {self.deaths} died")

    # --- the whole store -------------------------------------------------------------------

    def check(self, when: str) -> Any:
        """No problems."""
        report = self.store.check()
        if not report.ok:
            self.say(f"check {when}: {'; '.join(list(report.problems)[:4])}")
        return report

    def memory(self) -> None:
        """One round of compaction, then every page is accounted for."""
        self.store._compact()
        report = self.check("after compaction")
        pages = report.pages_free + report.pages_index + report.pages_log + report.pages_extent
        if report.pages_held or pages != report.pages:
            self.say(f"of {report.pages} pages {report.pages_held} are held, {pages} accounted for")
        if report.items_garbage:
            self.say(f"{report.items_garbage} garbage items are left by compaction")
        stats = self.store.stats()
        if stats.attached != 1:
            self.say(f"{stats.attached} rows are in use, wanted the survivor's alone")

    def work(self, keys: Iterable[bytes]) -> None:
        """The survivor goes on: delete, count, write, read, on keys of the stripe that was hit."""
        keys = list(keys)
        for key in keys:
            self.timed(f"delete {key!r}", lambda key=key: self.store.delete(key))
        for key in keys[:4]:
            if self.timed(f"incr {key!r}", lambda key=key: self.store.incr(key, 3)) != 3:
                self.say(f"{key!r} does not count from zero")
            self.timed(f"set {key!r}", lambda key=key: self.store.set(key, b"s" * 64))
            if self.timed(f"get {key!r}", lambda key=key: self.store.get(key)) != b"s" * 64:
                self.say(f"{key!r} does not hold what the survivor has just written")
