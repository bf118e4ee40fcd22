"""What a daemon sees of its store over time, kept where it outlives the daemon: on the board.

Owns: `Watcher`: when moments are taken, when the sample ring is drained, when the board is written.

Promises: a new daemon goes on with what the board holds. Nothing that fails here ends the daemon or
delays its work: it is said once a minute, and begun again after one. Time and memory are bounded
(`history/sampling.py`). A daemon that is killed leaves a threshold behind: writers fill a ring
that nobody drains, which costs them nothing more, and the next daemon drains it.

Does not: count (`history`), or know segments: the board and the ring are the core's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from shmkv.history import Curve, Remembered, read
from shmkv.history.board import packed
from shmkv.history.moments import FINE_S, Moments, Totals
from shmkv.history.sampling import KEYS, Sampler
from shmkv.inspect.geometry import Config
from shmkv.inspect.layout import CONFIG, HEADER, HEADER_BYTES
from shmkv.store import Store

AGAIN_S = 60.0  # after a failure
QUIET_S = 60.0  # between writes of the board, while nothing happens
KEPT_S = 86_400.0  # a curve, until there is a better one

log = logging.getLogger("shmkv.daemon")


def totals_of(numbers: dict[str, Any]) -> Totals:
    """From what the core counts."""
    return Totals(
        hits=numbers["hits"],
        misses=numbers["misses"],
        sets=numbers["sets"],
        deletes=numbers["deletes"],
        evicted=numbers["evictions"],
        expired=numbers["expired"],
        items=numbers["items"],
        live_bytes=numbers["bytes_live"],
        backed_bytes=numbers["bytes_backed"],
    )


def config_of(store: Store) -> Config:
    """What its creator chose."""
    with store._raw() as raw, raw[:HEADER_BYTES] as header:
        return Config(**CONFIG.read(memoryview(HEADER.read(header, 0)["config"]), 0))


class Watcher:
    """Of one store. `now` is the wall clock, `clock` one that is never set, both in seconds."""

    def __init__(
        self, store: Store, *, worked: Callable[[], float] = time.thread_time, keys: int = KEYS
    ) -> None:
        self._store = store
        self._worked = worked
        self._keys = keys
        self._moments: Moments | None = None
        self._sampler: Sampler | None = None
        self._curve: Curve | None = None
        self._due = 0.0
        self._written: Totals | None = None
        self._written_at = 0.0
        self._rests_until = 0.0
        self._below = 0

    def turn(self, *, now: float, clock: float) -> None:
        """Drain the ring; look and write, if it is time."""
        if clock < self._rests_until:
            return
        try:
            self._turn(now, clock)
        except Exception as error:  # noqa: BLE001 - the daemon has other work
            self._rests_until = clock + AGAIN_S
            self._moments = self._sampler = None
            log.error("the past is not recorded: %s: %s", type(error).__name__, error)

    def close(self, *, now: float, clock: float) -> None:
        """The last moment; nobody listens any more."""
        if clock < self._rests_until or self._moments is None:
            return
        try:
            self._due, self._written = clock, None
            self._turn(now, clock)
            self._store._sampling(0)
        except Exception as error:  # noqa: BLE001 - it ends anyway
            log.error("the past is not recorded: %s: %s", type(error).__name__, error)

    def _turn(self, now: float, clock: float) -> None:
        if self._moments is None:
            self._begin(now, clock)
        if self._sampler is not None:
            words, lost = self._store._samples()
            if words or lost:
                self._sampler.feed(words, lost, now=now)
                self._listen()
        if clock >= self._due:
            self._due = clock + FINE_S
            self._look(now, clock)

    def _begin(self, now: float, clock: float) -> None:
        remembered = read(self._store)
        numbers = self._store._stats()
        totals = totals_of(numbers)
        self._curve = remembered.curve
        self._moments = Moments(remembered.moments)
        self._moments.take(totals, now=now, clock=clock)
        self._due = clock + FINE_S
        if self._store.evict:  # else nobody leaves, whatever the size
            self._store._samples()  # what was left there
            self._sampler = Sampler(
                config_of(self._store),
                numbers["size"],
                totals,
                now=now,
                worked=self._worked,
                keys=self._keys,
            )
            self._below = 0
            self._listen()

    def _listen(self) -> None:
        """Writers and readers compare with what the sampler wants."""
        if self._sampler is not None and self._sampler.below != self._below:
            self._below = self._sampler.below
            self._store._sampling(self._below)

    def _look(self, now: float, clock: float) -> None:
        assert self._moments is not None
        numbers = self._store._stats()
        totals = totals_of(numbers)
        self._moments.take(totals, now=now, clock=clock)
        if self._sampler is not None:
            self._sampler.review(totals, numbers["size"], now=now)
            self._listen()
            curve = self._sampler.curve(totals, now=now)
            if curve is not None and not (self._sampler.is_warming and self._is_current(curve)):
                self._curve = curve
        if totals == self._written and clock < self._written_at + QUIET_S:
            return
        self._written, self._written_at = totals, clock
        remembered = Remembered(self._moments.all(), self._curve)
        board = packed(remembered, self._store._board_room(), now)
        self._moments.halvings = max(self._moments.halvings, board.halvings)
        if board.blob:
            self._store._board_write(board.blob)

    def _is_current(self, other: Curve) -> bool:
        """Is the last curve still better than one of which the beginning is not known?"""
        last = self._curve
        return last is not None and last.size == other.size and other.until - last.until < KEPT_S
