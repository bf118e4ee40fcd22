"""Moments: a store's totals, looked at now and then, as a bounded past.

Owns: `Totals`, `Moments`, and the rule by which older moments become coarser (`thinned`).

Promises: what happened between two looks is in exactly one moment, and thinning keeps every sum.
Time that nobody watched is a gap, which no moment covers. The past is bounded: ten seconds each for
an hour, five minutes for a day, an hour for two weeks; where there is less room, half as many, each
twice as long, the newest excepted. A wall clock that is set back moves the past back with it, so
moments never overlap.

Does not: look at a store (`watcher`), or keep anything (`board`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shmkv.history.remembered import Moment

FINE_S = 10.0  # between moments
LEVELS = ((FINE_S, 360), (300.0, 288), (3600.0, 336))
"""Seconds of a moment, and how many such there are; from new to old."""
MOST = sum(count for _, count in LEVELS) + len(LEVELS)
SEAM_S = 1.0  # moments so near to each other have no gap between them
HALVINGS = 8  # at most
SLACK = 30  # moments more than there should be, before they are thinned again


class Totals(NamedTuple):
    """What a store counts since it was made, and what it holds now."""

    hits: int
    misses: int
    sets: int
    deletes: int
    evicted: int
    expired: int
    items: int
    live_bytes: int
    backed_bytes: int


COUNTS = 6  # the first ones only rise while the store is the same


def joined(first: Moment, second: Moment) -> Moment:
    """Two moments, one after the other, as one."""
    counts = (a + b for a, b in zip(first.counts, second.counts, strict=True))
    return Moment(first.start, second.end - first.start, *counts, *second.gauges)


def _levels(halvings: int) -> list[tuple[float, float]]:
    """Seconds of a moment, and how old its end may be."""
    found, age = [], 0.0
    for at, (seconds, count) in enumerate(LEVELS):
        few = max(1, count >> halvings)
        wide = seconds * (1 << halvings) if at else seconds
        age += few * wide
        found.append((wide, age))
    return found


def thinned(moments: Iterable[Moment], now: float, halvings: int = 0) -> tuple[Moment, ...]:
    """The same past, coarser the older it is; what is too old is not in it any more."""
    levels = _levels(halvings)
    kept: list[Moment] = []
    before, end = (0.0, 0.0), 0.0
    for moment in moments:
        age = now - moment.end
        if age >= levels[-1][1]:
            continue
        wide = next((wide for wide, until in levels if age < until), levels[-1][0])
        cell = (wide, math.floor(moment.start / wide))
        if wide != FINE_S and cell == before and moment.start - end < SEAM_S:
            kept[-1] = joined(kept[-1], moment)
        else:
            kept.append(moment)
        before, end = cell, moment.end
    return tuple(kept[-MOST:])


def shifted(moments: Iterable[Moment], seconds: float) -> list[Moment]:
    """The same past at another time."""
    return [moment._replace(start=moment.start + seconds) for moment in moments]


class Moments:
    """The past of one store, as one watcher sees it. `now` is the wall clock, `clock` one that is
    never set: the first says when, the second how long."""

    def __init__(self, past: Sequence[Moment] = ()) -> None:
        self._past = list(past[-MOST:])
        self._last: tuple[float, Totals] | None = None
        self._thin_at = 0
        self.halvings = 0
        """How much coarser the past is kept, where nobody has room for more of it."""

    def take(self, totals: Totals, *, now: float, clock: float) -> None:
        """Look again. The first look is only what the next is compared with."""
        last, self._last = self._last, (clock, totals)
        if last is None:
            self._make_way(now)
            return
        seconds = clock - last[0]
        if seconds <= 0:
            self._last = last
            return
        self._make_way(now - seconds)
        rose = [new - old for new, old in zip(totals[:COUNTS], last[1][:COUNTS], strict=True)]
        if min(rose) < 0:  # a store made anew: all it counts is new
            rose = list(totals[:COUNTS])
        self._past.append(Moment(now - seconds, seconds, *rose, *totals[COUNTS:]))
        if len(self._past) > self._thin_at:
            self._past = list(thinned(self._past, now, self.halvings))
            self._thin_at = len(self._past) + SLACK

    def _make_way(self, start: float) -> None:
        """The past ends before what comes now."""
        if self._past and self._past[-1].end > start:
            self._past = shifted(self._past, start - self._past[-1].end)

    def all(self) -> tuple[Moment, ...]:
        """Oldest first."""
        return tuple(self._past)
