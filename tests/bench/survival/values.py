"""Keys and values that tell whose they are, and the words in which workers say what they did.

Owns: the bytes that belong to (key, seq); `Desk`, the words of one slot; `Table`, all of them. They
live in an anonymous shared mapping made before every fork, and each word is stored by one aligned
store of the slot's only worker: a death leaves all of them readable.

    value   crc32 of the rest and its length:4, key number:4, seq:4, filler; 16 B to 8 KiB

A key belongs to one slot and goes through the states seq = 0, 1, 2 …: absent where seq is a
multiple of 8, else the value of that seq. `begun` is raised before a change is asked for, `acked`
when it has returned; whoever reads `acked`, then the key, then `begun`, knows what he may find.

Does not: judge what was found (worker.py).
"""

import mmap
import random
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

SLOTS = 10  # six workers at a time; the last workers of the others are just dying
OWN, COUNTERS, CYCLE = 12, 4, 8
LONGEST = 8192

# Words of Desk.misc.
FLYING, WHAT, TOOK, LIFE, DONE, FAILED, WORST, EVENTS, CLEARED, UNREAD = range(10)
# What was asked, in WHAT; what was found, in an event.
ASKED = ("attach", "get", "set", "delete", "incr")
ATTACH, GET, SET, DELETE, INCR = range(5)
TORN, LOST, STALE = range(3)
EVENTS_MOST = 512  # a ring: who watches the workers reads it between

_HEADER = struct.Struct("<III")
_BLOCK = random.Random(20261122).randbytes(1 << 17)


class Torn(Exception):
    """Bytes that nobody wrote, or under a key that they do not belong to."""


def key_name(key: int) -> str:
    """The key with this number; slot number // OWN owns it."""
    return f"k{key:04d}"


def counter_name(index: int) -> str:
    """A key that everybody counts."""
    return f"c{index:02d}"


def present(seq: int) -> bool:
    """Is a key there in this state?"""
    return seq % CYCLE != 0


def length_of(key: int, seq: int) -> int:
    """Three of four are short."""
    mix = zlib.crc32(struct.pack("<II", key, seq))
    if mix & 0x30:
        return 16 + (mix >> 8) % 184
    return 200 + (mix >> 8) % (LONGEST - 200)


def make(key: int, seq: int) -> bytes:
    """The value that belongs to this state of this key."""
    rest = length_of(key, seq) - _HEADER.size
    start = (seq * 104729 + key * 7919) % (1 << 16)
    filler = _BLOCK[start : start + rest]
    return _HEADER.pack(_crc(filler, key, seq), key, seq) + filler


def _crc(filler: bytes, key: int, seq: int) -> int:
    return zlib.crc32(filler, zlib.crc32(struct.pack("<III", key, seq, len(filler))))


def parse(value: object, key: int) -> int:
    """The state it belongs to; `Torn` if it is not whole, or not of this key."""
    if not isinstance(value, bytes) or len(value) < _HEADER.size:
        raise Torn(f"{key_name(key)}: {value!r:.60}")
    crc, found, seq = _HEADER.unpack_from(value)
    if found != key or crc != _crc(value[_HEADER.size :], found, seq):
        raise Torn(f"{key_name(key)}: {len(value)} bytes of ({found}, {seq}) do not fit")
    if len(value) != length_of(key, seq):
        raise Torn(f"{key_name(key)}: {len(value)} bytes, {length_of(key, seq)} were written")
    return int(seq)


class Event(NamedTuple):
    """Something wrong: what (TORN, LOST, STALE), which key, in which state."""

    kind: int
    key: int
    seq: int


class Desk:
    """The words of one slot."""

    WORDS = 3 * OWN + 2 * COUNTERS + 16 + 3 * EVENTS_MOST

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._at = 0
        self.acked, self.begun = self._take(OWN), self._take(OWN)
        self.unsure = self._take(OWN)  # 1: something wrong was found there and not yet replaced
        self.counted, self.started = self._take(COUNTERS), self._take(COUNTERS)
        self.misc = self._take(16)
        self.events = self._take(3 * EVENTS_MOST)

    def _take(self, n: int) -> memoryview:
        self._at += n
        return self._words[self._at - n : self._at]

    def note(self, event: Event) -> None:
        """One entry more in the ring."""
        at = 3 * (self.misc[EVENTS] % EVENTS_MOST)
        self.events[at], self.events[at + 1], self.events[at + 2] = event
        self.misc[EVENTS] += 1


class Table:
    """All desks, and the word that tells the workers to end."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, (1 + SLOTS * Desk.WORDS) * 8)
        words = memoryview(self._memory).cast("q")
        self.stop = words[:1]
        self.desks = [
            Desk(words[1 + slot * Desk.WORDS : 1 + (slot + 1) * Desk.WORDS])
            for slot in range(SLOTS)
        ]
        self._told = [0] * SLOTS

    def total(self, word: int) -> int:
        """Of all slots."""
        return int(sum(desk.misc[word] for desk in self.desks))

    def fresh(self) -> Iterator[Event]:
        """Events that were not asked for before; only the latest, if they are too many."""
        for slot, desk in enumerate(self.desks):
            now = desk.misc[EVENTS]
            for number in range(max(self._told[slot], now - EVENTS_MOST), now):
                at = 3 * (number % EVENTS_MOST)
                yield Event(*desk.events[at : at + 3])
            self._told[slot] = now
