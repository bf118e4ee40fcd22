"""What follows from looks at a store: rates, ratios, histories, orders. No drawing, no store.

    frame = Frame.of(before, now)
    frame.rates["hits"], frame.hit_ratio

Owns: `Frame` (what is between two looks), `Meter` (looks again and again and keeps histories),
`History` and `sparkline`, the orders and the filter of the lists.

Promises: a rate is what came between two looks over the time between them; a counter that went back
(another store, another owner of a row) gives no negative rate. Before the second look rates are
zero and ratios None.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shmkv.inspect import words
from shmkv.store import Store
from shmkv.top.hot import Heat, Hot
from shmkv.top.sample import Attachment, Part, Sample, take

COUNTED = (
    "hits",
    "misses",
    "sets",
    "deletes",
    "expired",
    "evictions",
    "evictions_small",
    "evictions_main",
    "evictions_index",
    "promoted",
    "returned",
    "refused_full",
    "refused_large",
    "lock_recoveries",
    "retries",
    "bytes_written",
    "bytes_copied",
    "pages_cleaned",
)
ON_DISK = ("journal", "journal_broken", "journal_pending", "snapshot_time")
KEPT = 240  # looks a history remembers
BARS = "▁▂▃▄▅▆▇█"
REASONS = ("small", "main", "index", "expired")
ORDERS = ("reads", "writes", "hits", "pid", "age")  # of processes
KEY_ORDERS = ("heat", "key", "size", "age")


# ---- histories ----------------------------------------------------------------------------------


class History:
    """The last values of a figure; None where there was none."""

    def __init__(self, kept: int = KEPT) -> None:
        self.values: deque[float | None] = deque(maxlen=kept)

    def add(self, value: float | None) -> None:
        """The next one."""
        self.values.append(value)

    def line(self, width: int, *, most: float | None = None) -> str:
        """The last `width` of them as a sparkline."""
        return sparkline(list(self.values)[-width:] if width > 0 else [], most=most)


def sparkline(values: Sequence[float | None], *, most: float | None = None) -> str:
    """A bar for each value, of `most` (else of the largest); a blank where there is none."""
    top = most if most is not None else max((v for v in values if v is not None), default=0.0)
    if top <= 0:
        return "".join(" " if value is None else BARS[0] for value in values)
    last = len(BARS) - 1
    return "".join(
        " " if value is None else BARS[max(0, min(last, round(value / top * last)))]
        for value in values
    )


# ---- two looks ----------------------------------------------------------------------------------


class Process(NamedTuple):
    """An attachment, and what it does a second."""

    pid: int
    program: str
    number: int
    reads: float
    writes: float
    hit_ratio: float | None
    evictions: float
    age: float
    """Seconds since it attached."""
    alive: bool
    is_daemon: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """A store between two looks."""

    now: Sample
    seconds: float
    """Between the looks; 0: there was one only."""
    rates: dict[str, float]
    """Of `COUNTED`, a second."""
    processes: tuple[Process, ...]

    @classmethod
    def of(cls, before: Sample | None, now: Sample) -> Frame:
        """What happened between; `before` None: nothing is known."""
        seconds = 0.0 if before is None else max(now.at - before.at, 1e-6)
        old = now.totals if before is None else before.totals
        rates = {name: _rate(old[name], now.totals[name], seconds) for name in COUNTED}
        known = {} if before is None else {one.number: one for one in before.attachments}
        return cls(
            now=now,
            seconds=seconds,
            rates=rates,
            processes=tuple(
                _process(known.get(one.number), one, seconds, now.when) for one in now.attachments
            ),
        )

    @property
    def hit_ratio(self) -> float | None:
        """Of the reads between the looks."""
        return _ratio(self.rates["hits"], self.rates["misses"])

    @property
    def hit_ratio_total(self) -> float | None:
        """Of all reads since the store was created."""
        return _ratio(self.now.totals["hits"], self.now.totals["misses"])

    @property
    def reads(self) -> float:
        """A second."""
        return self.rates["hits"] + self.rates["misses"]

    @property
    def writes(self) -> float:
        """Sets and deletes a second."""
        return self.rates["sets"] + self.rates["deletes"]

    def leaving(self) -> dict[str, tuple[float, int]]:
        """Items that left without being asked to, by reason: a second, and in all."""
        names = {reason: f"evictions_{reason}" for reason in REASONS} | {"expired": "expired"}
        return {why: (self.rates[name], self.now.totals[name]) for why, name in names.items()}

    def as_dict(self, store: str, heat: Heat | None) -> dict[str, Any]:
        """Ready for JSON."""
        totals = self.now.totals
        gauges = ("items", "size", "max_size", "attached", "rows", "nospace", "damage")
        return {
            "store": store,
            "time": self.now.when,
            "seconds": self.seconds,
            **{name: totals[name] for name in gauges},
            **{name: totals[name] for name in totals if name.startswith("bytes_")},
            "reads": self.reads,
            "writes": self.writes,
            "rates": self.rates,
            "hit_ratio": self.hit_ratio,
            "hit_ratio_total": self.hit_ratio_total,
            "evictions": {
                why: {"rate": rate, "total": total} for why, (rate, total) in self.leaving().items()
            },
            "memory": [part._asdict() for part in self.now.memory],
            "processes": [one._asdict() for one in self.processes],
            "daemon": self.now.has_daemon,
            **{name: totals[name] for name in ON_DISK},
            "counters": None if heat is None else list(heat.items),
        }


def _rate(before: int, now: int, seconds: float) -> float:
    return max(now - before, 0) / seconds if seconds else 0.0


def _ratio(hits: float, misses: float) -> float | None:
    return hits / (hits + misses) if hits + misses else None


def _process(before: Attachment | None, now: Attachment, seconds: float, when: float) -> Process:
    old = now.totals if before is None else before.totals

    def rate(*names: str) -> float:
        return sum(_rate(old[name], now.totals[name], seconds) for name in names)

    return Process(
        pid=now.pid,
        program=now.program,
        number=now.number,
        reads=rate("hits", "misses"),
        writes=rate("sets", "deletes"),
        hit_ratio=_ratio(rate("hits"), rate("misses")),
        evictions=rate("evicted", "evicted_main", "evicted_index"),
        age=max(when - now.since, 0.0),
        alive=now.alive,
        is_daemon=now.is_daemon,
    )


class Meter:
    """Looks at a store again and again."""

    HISTORIES = ("reads", "writes", "hit_ratio", "evictions")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: Sample | None = None
        self.histories = {name: History() for name in self.HISTORIES}

    def look(self) -> Frame:
        """What happened since the last look."""
        now = take(self._store)
        frame = Frame.of(self._last, now)
        if self._last is not None:
            self.histories["reads"].add(frame.reads)
            self.histories["writes"].add(frame.writes)
            self.histories["hit_ratio"].add(frame.hit_ratio)
            self.histories["evictions"].add(frame.rates["evictions"])
        self._last = now
        return frame


# ---- lists --------------------------------------------------------------------------------------


class Queue(NamedTuple):
    """Memory of one queue; or, without a number, of what belongs to none."""

    name: str
    bytes: int
    live: int
    """Of these: items that are not known to be dead."""
    garbage: int
    states: dict[str, int]
    """Bytes by the state of their pages."""


def queues(memory: Iterable[Part]) -> list[Queue]:
    """Memory by queue: small, main ones by size, then free, index and what is on its way."""
    found: dict[tuple[int, str], Queue] = {}
    for part in memory:
        held = part.state in ("open", "closed", "cleaning")
        if held:
            name = f"main {part.queue}" if part.queue else "small"
        else:
            name = part.state if part.state in ("free", "index") else "held"
        place = (part.queue if held else 100 + ("free", "index", "held").index(name), name)
        one = found.get(place, Queue(name, 0, 0, 0, {}))
        states = one.states | {part.state: one.states.get(part.state, 0) + part.bytes}
        found[place] = Queue(
            name,
            one.bytes + part.bytes,
            one.live + max(part.filled - part.garbage, 0),
            one.garbage + part.garbage,
            states,
        )
    return [found[place] for place in sorted(found)]


def ordered(processes: Iterable[Process], order: str) -> list[Process]:
    """Processes, the busiest first; by pid and age the smallest."""
    keys = {
        "reads": lambda one: (-one.reads, one.pid),
        "writes": lambda one: (-one.writes, one.pid),
        "hits": lambda one: (-(one.hit_ratio or 0.0), one.pid),
        "pid": lambda one: (one.pid, one.number),
        "age": lambda one: (one.age, one.pid),
    }
    return sorted(processes, key=keys[order])


def ordered_keys(hottest: Iterable[Hot], order: str) -> list[Hot]:
    """Keys as they come, hottest first, or by name, size or age."""
    found = list(hottest)
    if order == "key":
        found.sort(key=lambda one: one.key if isinstance(one.key, bytes) else one.key.encode())
    elif order == "size":
        found.sort(key=lambda one: -one.size)
    elif order == "age":
        found.sort(key=lambda one: one.age)
    return found


def next_of(orders: Sequence[str], now: str) -> str:
    """The order after this one, around."""
    return orders[(orders.index(now) + 1) % len(orders)]


def state_lines(sample: Sample) -> list[tuple[str, str, bool]]:
    """What else a person should know: a word, a text, and whether it is bad."""
    helper = next((one for one in sample.attachments if one.is_daemon), None)
    totals = sample.totals
    said = "none (none is needed)" if totals["journal"] is None else "none: writers do its work"
    if sample.has_daemon:
        said = "works" if helper is None else f"works, process {helper.pid}"
    lines = [("daemon", said, False)]
    journal, saved = words.journal(totals), words.snapshot(totals, sample.when)
    if journal is not None:
        lines.append(("journal", *journal))
    if saved is not None:
        lines.append(("snapshot", saved, False))
    dead = sum(not one.alive for one in sample.attachments)
    for name, number, text in (
        ("damage", totals["damage"], "damaged bytes met {n} times: shmkv check"),
        ("memory", totals["nospace"], "the system refused memory {n} times: shmkv doctor"),
        ("full", totals["refused_full"], "{n} writes were refused"),
        ("rows", dead, "{n} ended processes still hold a row: shmkv check --fold"),
    ):
        if number:
            lines.append((name, text.format(n=number), True))
    return lines
