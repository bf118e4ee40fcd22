"""Which points to kill at.

Owns the choice: `full` takes every point until the child finishes; `quick` takes for every name
that an operation visits its first and its last visit, and every k-th point. Where a name's visits
lie is not known beforehand; counting the visits up to a death tells it, so both are searched by
halving, and each step of the search is a kill as good as any other.

Does not: kill. `probe(n)` does, and returns the visits by name up to point n (all, when n is 0 or
the child finished).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

Counts = Mapping[str, int]


class Probe(NamedTuple):
    """One run of an armed child."""

    killed: bool
    visits: Counts


class Found(NamedTuple):
    """What exploring an operation yields: first and last point of each name, and all kills."""

    total: Counts
    first: dict[str, int]
    last: dict[str, int]
    kills: set[int]


class Explorer:
    """One operation in one state."""

    def __init__(self, probe: Callable[[int], Probe]) -> None:
        self._probe = probe
        self._seen: dict[int, Counts] = {}
        whole = probe(0)
        self._total = whole.visits
        self._points = sum(whole.visits.values())

    def _at(self, point: int) -> Counts:
        if point not in self._seen:
            run = self._probe(point)
            self._seen[point] = run.visits
            if not run.killed:
                self._points = min(self._points, point)
        return self._seen[point]

    def _least(self, name: str, wanted: int) -> int:
        """The least point at which `name` has been visited `wanted` times."""
        low, high = 0, self._points
        for point, visits in self._seen.items():
            if visits.get(name, 0) >= wanted:
                high = min(high, point)
            else:
                low = max(low, point)
        while high - low > 1:
            middle = (low + high) // 2
            if self._at(middle).get(name, 0) >= wanted:
                high = middle
            else:
                low = middle
        self._at(max(high, 1))
        return high

    def _every(self) -> None:
        bound = 4 * self._points + 100
        for point in range(1, bound):
            run = self._probe(point)
            if not run.killed:
                return
            self._seen[point] = run.visits
        raise AssertionError(f"the child did not finish within {bound} points")

    def explore(self, *, full: bool, spread: int) -> Found:
        """Kill; in the quick form at names' first and last visits and `spread` points more."""
        if full or self._points <= 2 * spread:
            self._every()
        else:
            for point in range(1, self._points + 1, max(1, self._points // spread)):
                self._at(point)
            self._probe(self._points + 1)
        first = {name: self._least(name, 1) for name in self._total}
        last = {name: self._least(name, n) for name, n in self._total.items()}
        return Found(self._total, first, last, set(self._seen))
