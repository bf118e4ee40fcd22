"""What the records of all workers and the store at the end must say together.

Owns the judgement of one round. Of two operations on one key the later one counts when it began
after the other had returned. Therefore

  source   a value that was seen was written by somebody, who had begun before the read returned
  stale    and nobody replaced or removed it between: no acknowledged change of the key began after
           that write had returned and itself returned before the read began
  missing  without eviction, a miss has a deletion (or the beginning) for which the same holds
  expired  a value with a deadline is not seen after it
  counts   a counter is at least the acknowledged additions, at most those and the flying ones
  tails    without eviction, every acknowledged tail is there once, a flying one at most once; each
           writer's tails stand in his order

The final state is judged as one more read of every key after everything. Does not judge: whether a
single value is whole (workers.py, when they see it).
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import accumulate

import shmkv
from tests.stress import values
from tests.stress.oplog import Kind, OpLog, Record, Status
from tests.stress.storm_weather import Slow, Weather
from tests.stress.workers import (
    A_FIRST,
    A_KEYS,
    C_FIRST,
    C_KEYS,
    K_FIRST,
    K_KEYS,
    X_FIRST,
    X_KEYS,
    name,
    ttl_of,
)

_PUTS = {Kind.SET, Kind.ADD, Kind.REPLACE, Kind.CAS}
_DROPS = {Kind.DELETE, Kind.POP}
_NEVER = float("-inf")
SLACK_S = 0.02  # two clocks, and milliseconds rounded up


class KeyStory:
    """All that happened to one key."""

    def __init__(self, key: int, records: list[Record], evict: bool) -> None:
        self.key = key
        self.may_vanish = evict or ttl_of(key) > 0
        self.wrong: list[str] = []
        self._puts = {
            (r.writer, r.seq): r for r in records if r.kind in _PUTS and r.status != Status.NOTHING
        }
        self._drops = [r for r in records if r.kind in _DROPS and r.status != Status.NOTHING]
        sure = [r for r in (*self._puts.values(), *self._drops) if r.status == Status.DONE]
        self._changes = _LatestStart(sure)
        self._writes = _LatestStart([r for r in sure if r.kind in _PUTS])
        for record in records:
            self._judge(record)

    def _judge(self, r: Record) -> None:
        if r.kind in (Kind.GET, Kind.POP, Kind.CAS) and r.status == Status.DONE:
            self.saw(r.seen, r.start, r.end, str(r))
        missed = r.kind in (Kind.GET, Kind.POP, Kind.DELETE, Kind.TOUCH)
        if missed and r.status == Status.NOTHING:
            self.missed(r.start, r.end, str(r))

    def saw(self, stamp: tuple[int, int], start: float, end: float, who: str) -> None:
        """A read between start and end returned the value with this stamp."""
        put = self._puts.get(stamp)
        if put is None or put.start > end:
            self.wrong.append(f"source: {name(self.key)}: {who} was not written before")
            return
        later = self._changes.before(start)
        if later > put.end:
            self.wrong.append(f"stale: {name(self.key)}: {who}: {put} was replaced before")
        ttl = ttl_of(self.key)
        if ttl and start > put.end + ttl + SLACK_S:
            self.wrong.append(f"expired: {name(self.key)}: {who}: {put}")

    def missed(self, start: float, end: float, who: str) -> None:
        """A read between start and end found nothing."""
        if self.may_vanish:
            return
        gone = max((d.end for d in self._drops if d.start < end), default=_NEVER)
        later = self._writes.before(start)
        if later > gone:
            self.wrong.append(f"missing: {name(self.key)}: {who}: a write was acknowledged before")


class _LatestStart:
    """Of the records that had returned before a moment, the latest start."""

    def __init__(self, records: Iterable[Record]) -> None:
        ordered = sorted(records, key=lambda r: r.end)
        self._ends = [r.end for r in ordered]
        self._starts = list(accumulate((r.start for r in ordered), max))

    def before(self, moment: float) -> float:
        at = bisect.bisect_left(self._ends, moment)
        return self._starts[at - 1] if at else _NEVER


def _values(store: shmkv.Store, by_key: dict[int, list[Record]], evict: bool) -> list[str]:
    wrong: list[str] = []
    for key, records in by_key.items():
        if key >= C_FIRST:
            continue
        story = KeyStory(key, records, evict)
        last = max(r.end for r in records if r.end != float("inf"))
        value = store.get(name(key))
        if value is None:
            story.missed(last + 1, last + 2, "the end")
        else:
            stamp = values.parse(value)
            story.saw((stamp.writer, stamp.seq), last, last + 1, f"the end with {stamp}")
            if stamp.key != key:
                story.wrong.append(f"key: {name(key)} holds {stamp}")
        wrong += story.wrong
    return wrong


def _counts(store: shmkv.Store, by_key: dict[int, list[Record]], evict: bool) -> list[str]:
    wrong = []
    for key in (*range(C_FIRST, C_FIRST + C_KEYS), *range(K_FIRST, K_FIRST + K_KEYS)):
        status = Counter(r.status for r in by_key.get(key, ()))
        acked, flying = status[Status.DONE], status[Status.FLYING]
        value = store.get(name(key), 0)
        least = 0 if evict else acked
        if type(value) is not int or not least <= value <= acked + flying:
            wrong.append(f"counts: {name(key)} = {value!r}, {acked} acked, {flying} flying")
    return wrong


def _tails(store: shmkv.Store, by_key: dict[int, list[Record]], evict: bool) -> list[str]:
    wrong = []
    for key in range(A_FIRST, A_FIRST + A_KEYS):
        found = values.parse_tails(store.get(name(key), b""))
        records = {(r.writer, r.seq): r for r in by_key.get(key, ())}
        acked = {stamp for stamp, r in records.items() if r.status == Status.DONE}
        nothing = {stamp for stamp, r in records.items() if r.status == Status.NOTHING}
        strange = set(found) - records.keys() | set(found) & nothing
        lost = set() if evict else acked - set(found)
        by_writer = defaultdict(list)
        for writer, seq in found:
            by_writer[writer].append(seq)
        ordered = all(seqs == sorted(set(seqs)) for seqs in by_writer.values())
        if strange or lost or not ordered:
            wrong.append(
                f"tails: {name(key)}: strange {sorted(strange)[:3]}, lost {sorted(lost)[:3]}, "
                f"in order: {ordered}"
            )
    return wrong


def _anchors(store: shmkv.Store) -> list[str]:
    wrong = []
    for n in range(X_KEYS):
        value = store.get(name(X_FIRST + n))
        if value is None or values.parse(value) != (X_FIRST + n, 0, n):
            wrong.append(f"anchor {name(X_FIRST + n)} is lost")
    return wrong


def judge(
    store: shmkv.Store, logs: list[OpLog], evict: bool, weather: Weather
) -> tuple[list[str], int, float]:
    """(violations, number of operations, ms of the longest without what the machine caused)."""
    by_key: dict[int, list[Record]] = defaultdict(list)
    count, worst = 0, 0.0
    for log in logs:
        for record in log.records():
            by_key[record.key].append(record)
            count += 1
            if record.status != Status.FLYING and (record.end - record.start) * 1000 > worst:
                slow = Slow(int(record.start * 1e9), int(record.end * 1e9), 0)
                worst = max(worst, weather.store_ms(slow))
    wrong = _values(store, by_key, evict)
    wrong += _counts(store, by_key, evict)
    wrong += _tails(store, by_key, evict)
    wrong += [] if evict else _anchors(store)
    return wrong, count, worst
