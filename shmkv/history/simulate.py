"""A store of another size, in miniature: which of a sample's reads would hit there.

Owns: the steps of a request as it is simulated, and `Miniature`, the eviction policy of a store
entry by entry: a small queue, main queues by size, counters of two bits, the ghost, and the choice
among main queues by age x sqrt(size), as `_csrc/README.md` ("Who stays") says it of pages.

The idea is that of miniature simulations (Waldspurger, Saemundsson, Ahmad, Park: "Cache Modeling
and Optimization using Miniature Simulations", USENIX ATC 2017): a cache that sees only a share of
the keys, chosen by their hash, and has only that share of the memory, hits as often as the whole
one. Any policy can be asked so, not only one that has stacks.

What is simulated is what the program would have done. It saw a store of another size:

* `READ` with a size: it hit there. Where it misses here, the program would have fetched the value
  and stored it: it is stored.
* `READ` without a size: it missed there. Where it hits here nothing else would have happened:
  the `FILL` that follows stores nothing.
* `WRITE` would have happened in any case, and so would `DELETE`.

Does not: choose the sample, its share or the capacities (`sampling`, `capacity`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import TypeAlias

from shmkv.inspect.geometry import queue_of

SMALL_SHARE = 10  # the small queue has a tenth
COUNTER_MOST = 3
EMPTY_LEAST = 64
LARGEST = 2  # an item is at most this part of the capacity
QUEUES = queue_of(1 << 62) + 1


READ, FILL, WRITE, DELETE = 0, 1, 2, 3
STRANGER = 4
"""A read that hit a key nobody knows here: it is older than the simulation. A larger store would
have it, too; of a smaller one nobody can tell."""

Request: TypeAlias = tuple[int, int, int]
"""Step, key, bytes of the item; 0: unknown."""
Entry: TypeAlias = list[int]
"""Key, bytes, counter, queue, birth."""


class Miniature:
    """One store. Capacities are of what it holds: in bytes of items, and in fingerprints."""

    def __init__(self, capacity: float, ghosts: float, *, is_larger: bool) -> None:
        self.capacity = capacity
        self.ghosts = ghosts
        self.hits = self.reads = 0.0
        self._before = (0.0, 0.0)
        self.items: dict[int, Entry] = {}
        self.ghost: OrderedDict[int, None] = OrderedDict()
        self.used = 0
        self._small = 0
        self._empty = 0  # places in queues whose item is gone
        self._log = 0  # bytes ever written, and moved: ages are lengths of it
        self._queues: list[deque[Entry]] = [deque() for _ in range(QUEUES)]
        self._mains = list(enumerate(self._queues[1:]))
        self._is_larger = is_larger

    def run(self, requests: Iterable[Request]) -> None:
        """Take requests."""
        find = self.items.get
        hits = reads = 0
        for step, key, size in requests:
            entry = find(key)
            if entry is None:
                if step == READ:
                    reads += 1
                elif step == DELETE:
                    continue
                elif step == STRANGER and self._is_larger:
                    hits += 1
                    reads += 1
                if size:
                    self._add(key, size)
            elif step == READ:
                reads += 1
                hits += 1
                if entry[2] < COUNTER_MOST:
                    entry[2] += 1
            elif step == WRITE:
                self._replace(entry, size)
            elif step == DELETE:
                self._forget(entry)
        self.hits += hits
        self.reads += reads

    def turn(self) -> None:
        """What was counted so far is the last window's."""
        self._before = self.hits, self.reads
        self.hits = self.reads = 0.0

    def counted(self) -> tuple[float, float]:
        """Hits and reads of the present window and the last."""
        return self.hits + self._before[0], self.reads + self._before[1]

    def restrict(self, mask: int, below: int, share: float) -> None:
        """Fewer keys are in the sample: those with `key & mask` below. So much less is the memory,
        and so much less would have been counted."""
        self.capacity *= share
        self.ghosts *= share
        self.hits *= share
        self.reads *= share
        self._before = self._before[0] * share, self._before[1] * share
        for key in [key for key in self.items if key & mask >= below]:
            self._forget(self.items[key])
        for key in [key for key in self.ghost if key & mask >= below]:
            del self.ghost[key]
        while len(self.ghost) > self.ghosts:
            self.ghost.popitem(last=False)
        self._tidy()
        self._make_room()

    # ---- items ------------------------------------------------------------------------------

    def _add(self, key: int, size: int) -> None:
        """What the ghost remembers goes to a main queue at once. An item that would throw out most
        of a small sample is not taken, nor is one whose size is nonsense."""
        if size * LARGEST > self.capacity:
            return
        queue = 0
        if key in self.ghost:
            del self.ghost[key]
            queue = queue_of(size)
        else:
            self._small += size
        entry = self.items[key] = [key, size, 0, queue, self._log]
        self._log += size
        self._queues[queue].append(entry)
        self.used += size
        if self.used > self.capacity:
            self._make_room()

    def _replace(self, entry: Entry, size: int) -> None:
        """It stays in its queue, as its youngest, and counts as read."""
        key, old, counter, queue, _ = entry
        if size * LARGEST > self.capacity:
            self._forget(entry)
            return
        if queue:
            queue = queue_of(size)
        else:
            self._small += size - old
        counter = min(counter + 1, COUNTER_MOST)
        entry = self.items[key] = [key, size, counter, queue, self._log]
        self._log += size
        self._queues[queue].append(entry)
        self.used += size - old
        self._gone()
        if self.used > self.capacity:
            self._make_room()

    def _forget(self, entry: Entry) -> None:
        """Its place in its queue stays: whoever comes there sees that it is gone."""
        del self.items[entry[0]]
        self.used -= entry[1]
        if entry[3] == 0:
            self._small -= entry[1]
        self._gone()

    def _gone(self) -> None:
        """A place in a queue is empty: there are never more of those than items."""
        self._empty += 1
        if self._empty > len(self.items) + EMPTY_LEAST:
            self._tidy()

    def _tidy(self) -> None:
        for queue in self._queues:
            alive = [entry for entry in queue if self.items.get(entry[0]) is entry]
            queue.clear()
            queue.extend(alive)
        self._empty = 0

    # ---- who leaves -------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Items leave, or go on: the oldest of the small queue if that is too large, else of the
        main queue whose oldest has the largest age x sqrt(size)."""
        items, queues, small = self.items, self._queues, self._queues[0]
        while self.used > self.capacity:
            queue = small
            if self._small * SMALL_SHARE <= self.capacity:
                queue = self._oldest() or small
            entry = queue.popleft()
            key, size, counter, at, _ = entry
            if items.get(key) is not entry:
                self._empty -= 1
                continue
            if at == 0:
                self._small -= size
            if counter > 0:
                entry[2] = counter - 1 if at else 0
                entry[3] = at = at or queue_of(size)
                entry[4] = self._log
                self._log += size
                queues[at].append(entry)
                continue
            del items[key]
            self.used -= size
            if at == 0:
                self._remember(key)

    def _oldest(self) -> deque[Entry] | None:
        found, best, log = None, -1, self._log
        for shift, queue in self._mains:
            if queue:
                age = (log - queue[0][4]) << shift
                if age > best:
                    found, best = queue, age
        return found

    def _remember(self, key: int) -> None:
        ghost = self.ghost
        ghost[key] = None
        if len(ghost) > self.ghosts:
            ghost.popitem(last=False)
