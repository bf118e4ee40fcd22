"""What processes were doing when they died, as far as their notes tell.

Each attachment keeps notes of its last operations that changed something, or waited; who folds the
row of a dead one copies them among the last deaths. `postmortem()` makes a report of both, and of
the living, too.

Owns: the report and its form in JSON, the names of locks, and the times: notes bear the monotonic
clock, which is told in wall-clock time by a moment at which both were read (that of the death; the
present, for rows). `at_ns` of a note is a lower bound, and so is every time made of it.

Promises: reads nothing by itself and asks no clock. Whatever the bytes are, there is a report:
notes may be torn or damaged, numbers that make no sense stand as they are.

Does not: open files or ask who lives (`blackbox.py`), or speak to people (`cli/postmortem.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from shmkv.inspect.geometry import Geometry
from shmkv.inspect.layout import (
    APPENDER,
    APPENDERS,
    AWAITED,
    CLEANER,
    CLEANERS,
    HEADER,
    NOTE_LOOKS,
    NOTE_LOOKS_FROM,
    NOTED,
    NUMBER_MASK,
    STATUSES,
    STRIPE,
)
from shmkv.inspect.parts import Attachments, Death, Header, Note, Row

SCHEMA = 1  # of the JSON form: raised when a field changes its meaning or goes
State = Literal["dead", "unfolded", "living"]
DEAD: State = "dead"
UNFOLDED: State = "unfolded"
LIVING: State = "living"

_CLEANERS_AT = HEADER.fields["cleaners"][0]
_APPENDERS_AT = HEADER.fields["appenders"][0]
_JOURNAL_AT = HEADER.fields["journal"][0]


class Clocks(NamedTuple):
    """One moment on three clocks."""

    wall_ms: float
    clock_ns: int
    """CLOCK_MONOTONIC."""
    boot_s: float
    """CLOCK_BOOTTIME: seconds since the machine started."""
    ticks_per_s: int = 100
    """Of the kernel's start times of processes."""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock word."""

    name: str
    at: int
    """Its offset in the segment."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What an operation waited for last."""

    what: str
    at: int
    """Offset of the lock word; 1: memory, 2: the journal."""
    holder: int
    """The attachment that had it; 0: not known."""
    holder_pid: int | None
    """None: that attachment is not known any more."""
    waited_us: int
    """In all its waits, as far as they had ended."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A note."""

    turn: int
    what: str
    """Of layout.NOTED, or "unknown N"."""
    key: bytes
    """Its first bytes."""
    key_length: int
    began: float | None
    """Unix time before which it did not begin; None: not known."""
    result: str | None
    """Of layout.STATUSES, or "unknown N"; None: it had not ended."""
    exact: bool
    """It looked at a clock itself: `began` is when it began."""
    wait: Wait | None


@dataclass(frozen=True, slots=True)
class Attachment:
    """One that died, or lives, and what it did last."""

    state: State
    """dead: it was folded; unfolded: its process has ended; living."""
    number: int
    pid: int
    pid_start: int
    """The kernel's start time of the process, in ticks since the machine started."""
    pid_namespace: int
    started: float | None
    """The same as Unix time."""
    attached: float
    found: float | None
    """Unix time at which it was found dead; None: its row was not folded yet."""
    finder: int
    """The attachment that found it; 0: one that had no number yet, or none did."""
    finder_pid: int | None
    is_daemon: bool
    locks_held: int
    locks: tuple[Lock, ...]
    """The first of them."""
    reservations: int
    """Pages it was writing into."""
    pins: int
    """Items whose bytes it was reading in place."""
    doing: tuple[Operation, ...]
    """What had not ended, the newest first; more than one: of several threads."""
    before: tuple[Operation, ...]
    """What had ended, the newest first."""


@dataclass(frozen=True, slots=True)
class Postmortem:
    """All of a store."""

    now: float
    deaths: int
    """Recorded since the store was made; the last 32 are remembered."""
    attachments: tuple[Attachment, ...]
    """Dead ones that hold their rows first, then the deaths, newest first; then the living."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values; keys are bytes."""
        return {"schema": SCHEMA} | asdict(self)


def postmortem(
    known: Attachments, alive: AbstractSet[int], clocks: Clocks, *, living: bool = False
) -> Postmortem:
    """The report. `alive`: indexes of rows whose process lives; with `living` they are told of.

    `clocks` is a moment after `known` was read.
    """
    reporter = _Reporter(known, clocks)
    recorded = {(death.number, death.attached_ms) for death in known.deaths}
    rows = [
        row
        for row in known.rows
        if row.number and row.first == 0 and (row.number, row.attached_ms) not in recorded
    ]
    dead = [row for row in rows if row.index not in alive]
    lives = [row for row in rows if row.index in alive] if living else []
    found = [
        *(reporter.row(row, UNFOLDED) for row in sorted(dead, key=_newest)),
        *map(reporter.death, reversed(known.deaths)),
        *(reporter.row(row, LIVING) for row in sorted(lives, key=_newest)),
    ]
    return Postmortem(clocks.wall_ms / 1000, known.header.deaths, tuple(found))


def _newest(row: Row) -> int:
    """Of what is not known to have died sooner or later: by its last sign of life."""
    return -max((note.at_ns for note in row.note), default=0)


def lock_name(geometry: Geometry, at: int) -> str:
    """What the lock word at an offset locks."""
    g = geometry
    if at == _JOURNAL_AT:
        return "the journal"
    cleaner, rest = divmod(at - _CLEANERS_AT, CLEANER.size)
    if 0 <= cleaner < CLEANERS and not rest:
        return f"cleaner {cleaner}"
    appender, rest = divmod(at - _APPENDERS_AT, APPENDER.size)
    if 0 <= appender < APPENDERS and not rest:
        return _appender_name(g, appender)
    stripe, rest = divmod(at - g.off_stripes, STRIPE.size)
    if 0 <= stripe < g.stripes and not rest:
        return f"stripe {stripe}"
    return f"no lock (offset {at})"


def _appender_name(g: Geometry, appender: int) -> str:
    if appender < g.appenders:
        return f"appender {appender}" + (" of the small queue" if g.mains else "")
    if appender < g.appender_own:
        return f"the appender of main queue {g.appender_queue(appender)}"
    return "the cleaners' appender" if appender == g.appender_own else f"appender {appender}"


def held_locks(known: Attachments, number: int) -> tuple[Lock, ...]:
    """The locks whose words bear this number."""
    return tuple(
        Lock(lock_name(known.geometry, at), at)
        for at, word in _words(known.header, known.geometry, known.stripe_locks)
        if word & NUMBER_MASK == number
    )


def _words(header: Header, g: Geometry, stripes: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Offset and lock word, in the order in which a fold looks at them."""
    for i, word in enumerate(stripes):
        yield g.off_stripes + i * STRIPE.size, word
    for i, appender in enumerate(header.appenders):
        yield _APPENDERS_AT + i * APPENDER.size, appender.lock
    yield _JOURNAL_AT, header.journal.lock
    for i, word in enumerate(header.cleaners):
        yield _CLEANERS_AT + i * CLEANER.size, word


def _named(names: tuple[str, ...], code: int) -> str:
    return names[code] if code < len(names) and names[code] else f"unknown {code}"


class _Reporter:
    """Makes attachments of rows and deaths of one segment."""

    def __init__(self, known: Attachments, clocks: Clocks) -> None:
        self.known = known
        self.clocks = clocks
        self.pids = {death.number: death.pid for death in known.deaths}
        self.pids |= {row.number: row.pid for row in known.rows if row.number}

    def death(self, death: Death) -> Attachment:
        """One that was folded."""
        g = self.known.geometry
        held = min(death.locks, len(death.lock))
        return self._made(
            death,
            Clocks(death.found_ms, death.clock_ns, 0),
            state=DEAD,
            found=death.found_ms / 1000,
            finder=death.finder,
            finder_pid=self.pids.get(death.finder),
            locks_held=death.locks,
            locks=tuple(Lock(lock_name(g, at), at) for at in death.lock[:held]),
            reservations=death.reservations,
            pins=death.pins,
        )

    def row(self, row: Row, state: State) -> Attachment:
        """One whose row bears its number; it may have taken further rows for more pins."""
        mine = [one for one in self.known.rows if one.number and one.first == row.number]
        locks = held_locks(self.known, row.number)
        return self._made(
            row,
            self.clocks,
            state=state,
            found=None,
            finder=0,
            finder_pid=None,
            locks_held=len(locks),
            locks=locks,
            reservations=sum(ref != 0 for ref in row.reservation),
            pins=sum(ref != 0 for one in (row, *mine) for ref in one.pin),
        )

    def _made(self, one: Row | Death, clocks: Clocks, **more: Any) -> Attachment:
        noted = [self._operation(note, clocks) for note in reversed(one.note)]
        started = None
        if one.pid_start:
            up_s = self.clocks.boot_s - one.pid_start / self.clocks.ticks_per_s
            started = self.clocks.wall_ms / 1000 - up_s
        return Attachment(
            number=one.number,
            pid=one.pid,
            pid_start=one.pid_start,
            pid_namespace=one.pid_namespace,
            started=started,
            attached=one.attached_ms / 1000,
            is_daemon=one.number == self.known.header.daemon,
            doing=tuple(did for did in noted if did.result is None),
            before=tuple(did for did in noted if did.result is not None),
            **more,
        )

    def _operation(self, note: Note, clocks: Clocks) -> Operation:
        ago_ns = clocks.clock_ns - note.at_ns
        known = note.at_ns != 0 and ago_ns >= 0
        return Operation(
            turn=note.turn,
            what=_named(NOTED, note.what),
            key=note.key,
            key_length=note.len,
            began=(clocks.wall_ms - ago_ns / 1e6) / 1000 if known else None,
            exact=note.turn % NOTE_LOOKS == 1 or note.what >= NOTE_LOOKS_FROM,
            result=_named(STATUSES, note.ended - 1) if note.ended else None,
            wait=self._wait(note) if note.place else None,
        )

    def _wait(self, note: Note) -> Wait:
        named = note.place < len(AWAITED)
        return Wait(
            what=AWAITED[note.place] if named else lock_name(self.known.geometry, note.place),
            at=note.place,
            holder=note.owner,
            holder_pid=self.pids.get(note.owner) if note.owner else None,
            waited_us=note.waited_us,
        )
