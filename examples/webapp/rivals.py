"""What the application would use without shmkv: a dict in every worker, or no cache at all.

Owns `Cache`, the calls the application makes, and two stand-ins for a store that answer them from
the memory of one process. Both keep time to live as a store does, so that the comparison is about
where the data lives and nothing else. They bound nothing: that is one of the differences.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

_SWEEP_EVERY = 2048  # writes


class Figures(Protocol):
    """What `stats()` returns."""

    def as_dict(self) -> dict[str, Any]:
        """Name to value."""


class Cache(Protocol):
    """The calls of a shmkv store that the application makes."""

    def get(self, key: str, default: Any = None, /) -> Any:
        """The value, or `default`."""

    def set(self, key: str, value: Any, /, *, ttl: float | None = None) -> None:
        """Store `value`; it is gone after `ttl` seconds."""

    def incr(self, key: str, /, *, ttl: float | None = None) -> int:
        """Add one and return the sum; `ttl` counts when the key is made."""

    def stats(self) -> Figures:
        """Figures about the cache."""


class Counts(dict[str, Any]):
    """Figures that are a dict already."""

    def as_dict(self) -> dict[str, Any]:
        """Itself."""
        return self


class Dict:
    """A private dict: every worker has its own, and a worker that dies takes it along."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._items: dict[str, tuple[Any, float]] = {}
        self._lock = threading.Lock()
        self._clock = clock
        self._writes = 0

    def get(self, key: str, default: Any = None, /) -> Any:
        """The value, or `default`."""
        value, deadline = self._items.get(key, (default, float("inf")))
        return value if deadline > self._clock() else default

    def set(self, key: str, value: Any, /, *, ttl: float | None = None) -> None:
        """Store `value`; it is gone after `ttl` seconds."""
        with self._lock:
            self._put(key, value, self._deadline(ttl))

    def incr(self, key: str, /, *, ttl: float | None = None) -> int:
        """Add one and return the sum; `ttl` counts when the key is made."""
        with self._lock:
            value, deadline = self._items.get(key, (0, float("-inf")))
            if deadline <= self._clock():
                value, deadline = 0, self._deadline(ttl)
            self._put(key, value + 1, deadline)
        total: int = value + 1
        return total

    def stats(self) -> Counts:
        """The number of items."""
        return Counts(items=len(self._items))

    def _deadline(self, ttl: float | None) -> float:
        return float("inf") if ttl is None else self._clock() + ttl

    def _put(self, key: str, value: Any, deadline: float) -> None:
        self._items[key] = (value, deadline)
        self._writes += 1
        if self._writes % _SWEEP_EVERY == 0:
            now = self._clock()
            self._items = {k: item for k, item in self._items.items() if item[1] > now}


class NoPages(Dict):
    """Counters alone, per worker: every page is rendered for every request."""

    def set(self, key: str, value: Any, /, *, ttl: float | None = None) -> None:
        """Forget it."""
