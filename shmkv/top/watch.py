"""One key watched: what becomes of it, change by change.

    watch = Watch(store, "k")
    watch.look()  # Change("found", MISSING, 1, None), or what else is there; later None: no change

Owns: `Watch.look`, which compares an item with what it was: set, changed, another deadline, gone,
and why.

Promises: reads only; looks at version and deadline, and reads the value only where these changed.
Changes between two looks are seen as one. Why an item went is told as far as it can be known: its
deadline had passed; nothing was evicted meanwhile, or nothing deleted; else both are named.

Does not: wait, or print.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from shmkv import _core
from shmkv.store import Store
from shmkv.types import MISSING, Key

State = tuple[int, int, int]  # version, counter, deadline_ms


class Change(NamedTuple):
    """What happened to the key between two looks."""

    what: str
    """found, missing; set, changed, deadline; deleted, expired, evicted, gone."""
    old: Any
    """MISSING: there was none."""
    new: Any
    ttl: float | None
    """Seconds left; None: it never expires, or is not there."""


class Watch:
    """A key under watch."""

    def __init__(self, store: Store, key: Key) -> None:
        self._store = store
        self._key = key
        self._state: State | None = None
        self._value: Any = MISSING
        self._first = True
        self._totals = store._stats()

    def look(self) -> Change | None:
        """What changed since the last look; the first look tells what is there."""
        state, totals = self._store._state(self._key), self._totals
        self._totals = self._store._stats()
        if state == self._state and not self._first:
            return None
        old, was = self._value, self._state
        value: Any = MISSING
        if state is not None:
            value = old if was is not None and state[:2] == was[:2] else self._read()
        if value is MISSING:
            state = None
        self._value, self._state = value, state
        what = self._what(was, state, totals)
        self._first = False
        if what is None:
            return None
        left = None if state is None or state[2] == 0 else (state[2] - _core.clock_ms()) / 1000
        return Change(what, old, value, None if left is None else max(left, 0.0))

    def _read(self) -> Any:
        try:
            return self._store._get_encoded(self._key)
        except KeyError:
            return MISSING

    def _what(self, was: State | None, state: State | None, before: dict[str, Any]) -> str | None:
        if self._first:
            return "missing" if state is None else "found"
        if state is None:
            return None if was is None else self._why(was, before)
        if was is None:
            return "set"
        if state[:2] != was[:2]:
            return "changed"
        return "deadline" if state[2] != was[2] else None

    def _why(self, was: State, before: dict[str, Any]) -> str:
        if was[2] and _core.clock_ms() >= was[2]:
            return "expired"
        evicted = self._totals["evictions"] > before["evictions"]
        deleted = self._totals["deletes"] > before["deletes"]
        if evicted == deleted:
            return "gone"
        return "evicted" if evicted else "deleted"
