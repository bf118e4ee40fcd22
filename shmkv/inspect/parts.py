"""The parts of a segment as values: what `decode` gives.

Owns: the classes, one per structure, named by the words of the design. Numbers are as they lie in
memory; what could not be read stands as `Damaged` in its place, with the reason.

Does not: read bytes or judge what was read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from shmkv.inspect.geometry import Config, Geometry, Hash
from shmkv.inspect.layout import GHOST_LINE, LINE, STATS, Flag, State, Type


class Appender(NamedTuple):
    """An open log page and its lock."""

    lock: int
    current: int  # base of the open page's head + 1, 0 = none


class Journal(NamedTuple):
    """Who leads its rounds, and how far they have come; all zero without one."""

    lock: int
    wanted: int
    broken: int
    due: int
    started: int
    done: int
    place: int  # generation << 40 | bytes of whole rounds in its file
    saved_ms: int
    looked_ms: int
    synced_ms: int


@dataclass(frozen=True)
class Header:
    """Identity and the live lines."""

    config: Config
    created_ms: int
    size: int
    watermark: int
    next_number: int
    index_high: int
    index_hint: int
    take_hint: int
    next_id: int
    nospace: int
    damage: int
    tidy_hint: int
    ghost: int  # lines in use
    daemon: int  # number of the attachment that was the daemon last, for messages
    ahead: int  # 0: enough memory is free; 1: it is not; else the head of a page begun with, + 2
    next_birth: int
    sampled: int  # keys whose hash has a low half below this are sampled
    next_sample: int
    tick_ns: int  # CLOCK_MONOTONIC of notes
    mortal: int  # 1: some item has, or had, a deadline
    deaths: int  # recorded ever
    journal: Journal
    wait: tuple[int, ...]
    cleaners: tuple[int, ...]
    appenders: tuple[Appender, ...]


class Note(NamedTuple):
    """What an attachment began to do, and how it ended; for people, and perhaps torn."""

    turn: int  # of the attachment's notes; 0 = none
    what: int  # layout.NOTED
    ended: int  # 1 + the status; 0 = it has not
    len: int  # of the key
    at_ns: int  # CLOCK_MONOTONIC: it did not begin before
    place: int  # of the lock word it waited for last; below HEADER_BYTES also layout.AWAITED
    owner: int  # the attachment that had it; 0 = not known
    waited_us: int
    key: bytes  # its first bytes


@dataclass(frozen=True)
class Death:
    """An attachment that ended without saying so, as it was found."""

    number: int
    pid: int
    pid_start: int
    pid_namespace: int
    attached_ms: int
    found_ms: int
    finder: int  # the attachment that folded it; 0 = one that had no number yet
    locks: int  # it held so many
    lock: tuple[int, ...]  # offsets of the first of them
    reservations: int
    pins: int
    clock_ns: int  # CLOCK_MONOTONIC at found_ms
    note: tuple[Note, ...]  # the oldest first


@dataclass(frozen=True)
class Row:
    """An attachment."""

    index: int
    number: int
    pid: int
    pid_start: int
    pid_namespace: int
    attached_ms: int
    first: int  # number of the process's first row; 0 = this is it
    reservation: tuple[int, ...]
    replaced: tuple[int, ...]
    pin: tuple[int, ...]
    stat: tuple[int, ...]
    note: tuple[Note, ...]  # the oldest first


class Damaged(NamedTuple):
    """A place where no item can be read."""

    ref: int
    why: str


class Item(NamedTuple):
    """An item as it lies in memory."""

    ref: int
    size: int  # bytes in the segment, rounded up to granules
    type: int
    flags: int
    version: int
    namespace: int | None
    deadline_ms: int  # the segment's clock; 0 = never
    counter: int | None  # the raw word
    key: bytes
    value: memoryview

    @property
    def is_str(self) -> bool:
        """Was the key a str when it was stored?"""
        return bool(self.flags & Flag.KEY_STR)

    def plain(self) -> object:
        """The Python value; of types that need a codec the bytes they are stored in.

        UnicodeDecodeError, if a str is damaged.
        """
        if self.type in (Type.INT, Type.FLOAT):
            raw = struct.pack("<Q", self.counter or 0)
            return struct.unpack("<q" if self.type == Type.INT else "<d", raw)[0]
        if self.type == Type.STR:
            return str(self.value, "utf-8")
        if self.type == Type.BIGINT:
            return int.from_bytes(self.value, "little", signed=True)
        if self.type == Type.BOOL:
            return bytes(self.value) == b"\1"
        return None if self.type == Type.NONE else bytes(self.value)


class Slot(NamedTuple):
    """A slot of the index that is in use."""

    bucket: int
    nth: int  # of the bucket's slots
    tag: int
    counter: int  # two-bit access counter
    ref: int
    item: Item | Damaged


@dataclass(frozen=True)
class IndexSegment:
    """4 KiB of buckets; its slots are read only where `owner` is the stripe that names it."""

    number: int
    entry: int  # the first directory entry that names it
    depth: int
    owner: int | None  # 0 = free, else stripe + 1; None: no index segment lies there
    overflow: tuple[int, ...]
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Stripe:
    """A part of the index."""

    index: int
    lock: int
    txn: int
    ver: int
    live: int
    count: int
    directory: tuple[int, ...]
    segments: tuple[IndexSegment, ...]  # each once, in the order of the directory


@dataclass(frozen=True)
class Page:
    """A run, by its head; or a base page that stands alone."""

    base: int
    word: int
    run: int  # base pages, at least 1, whatever the word says
    tail: int
    dead: int
    birth: int
    suspect: int
    walked: int  # granules already emptied << 1, and 1 if items may leave; 0: not begun with
    opened_ms: int
    expiry: tuple[int, ...]
    interior: tuple[int, ...]  # words of the run's other base pages
    owners: tuple[int, ...]  # INDEX: of its index segments, stripe + 1; 0 = free
    items: tuple[Item, ...]  # OPEN, CLOSED, CLEANING: up to the tail or to the damage
    damage: Damaged | None

    @property
    def state(self) -> int:
        """`State`, or a number that is none."""
        return self.word & 15

    @property
    def queue(self) -> int:
        """The queue it belongs to: 0 the small one, from 1 the main ones by size."""
        return self.word >> 4 & 15

    @property
    def owner(self) -> int:
        """An attachment's number or an appender, as the state says."""
        return self.word >> 32


@dataclass(frozen=True)
class Attachments:
    """Who is attached and who died: what lies in front, without index and items."""

    header: Header
    geometry: Geometry
    rows: tuple[Row, ...]
    deaths: tuple[Death, ...]  # the oldest first
    stripe_locks: tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """Everything."""

    header: Header
    geometry: Geometry
    rows: tuple[Row, ...]
    deaths: tuple[Death, ...]  # the oldest first
    stripes: tuple[Stripe, ...]
    pages: tuple[Page, ...]  # heads, in the order of memory, up to the present size
    ghost: memoryview  # its lines in use; empty too if their number makes no sense

    def attachments(self) -> Attachments:
        """The part of it that tells of processes."""
        locks = tuple(stripe.lock for stripe in self.stripes)
        return Attachments(self.header, self.geometry, self.rows, self.deaths, locks)

    def slots(self) -> Iterator[Slot]:
        """All slots in use, each once."""
        for stripe in self.stripes:
            for segment in stripe.segments:
                yield from segment.slots

    def items(self) -> Iterator[Item]:
        """All items indexed; expired ones too."""
        return (slot.item for slot in self.slots() if isinstance(slot.item, Item))

    def totals(self) -> dict[str, int]:
        """Sums over the rows' counters, by name."""
        columns = zip(*(row.stat[: len(STATS)] for row in self.rows), strict=True)
        return dict(zip(STATS, map(sum, columns), strict=True))

    def remembers(self, key: bytes) -> bool:
        """Does the ghost hold the fingerprint of this key? Another's may be the same."""
        if not self.ghost:
            return False
        home = Hash.of(key, self.header.config.seed, self.geometry)
        at = home.ghost_line % (len(self.ghost) // LINE) * LINE
        return home.ghost in struct.unpack_from(f"<{GHOST_LINE}H", self.ghost, at)

    def bases(self, *states: State) -> int:
        """Base pages whose heads are in one of these states."""
        return sum(page.run for page in self.pages if page.state in states)
