"""Keys and values of the storm, and the words in shared memory in which workers say what they did.

Owns: which keys there are and whose; the bytes that belong to (key, writer, seq); `Desk`, the words
of one slot. They live in an anonymous shared mapping made before every fork, each word is stored by
one aligned store of the slot's only worker, so that a death leaves all of them readable.

    key   crc32 of the rest, of the length too:4, key number:2, writer:4 bits | seq:28 bits, filler

A key that a slot owns goes through the states seq = 0, 1, 2 …: absent where seq is a multiple of 8,
else the value of that seq. `begun` is raised before a change is asked for, `acked` when it has
returned. So whoever reads `acked`, then the key, then `begun`, knows what he may find.

Does not: judge whether what was found is right for the moment (storm_worker.py).
"""

from __future__ import annotations

import mmap
import random
import struct
import zlib
from typing import NamedTuple

SLOTS = 16  # eight workers at a time; the others' last worker is just dying
OWN, INCRS, BUMPS, BOARDS = 60, 12, 4, 16
COUNTERS = INCRS + BUMPS
BOARD_FIRST = SLOTS * OWN
CYCLE = 8

FLYING, OPS, VANISHED, FULLS, SLOW = range(5)  # words of Desk.misc
SLOW_MOST = 100  # a ring: whoever replaces workers reads it between

_HEADER = struct.Struct("<IHI")
_BLOCK = random.Random(20261122).randbytes(1 << 18)


class Torn(Exception):
    """Bytes that nobody wrote, or under a key that they do not belong to."""


class Stamp(NamedTuple):
    """Whose value it is."""

    key: int
    writer: int
    seq: int


def own_name(number: int) -> str:
    """The key with this number; slot number // OWN owns it."""
    return f"o{number:04d}"


def counter_name(index: int) -> str:
    """The first INCRS are counted by incr, the others by gets and cas."""
    return f"c{index:02d}"


def board_name(index: int) -> str:
    """A key that everybody sets."""
    return f"w{index:02d}"


def present(seq: int) -> bool:
    """Is an owned key there in this state?"""
    return seq % CYCLE != 0


def length_of(stamp: Stamp) -> int:
    """10 B to 8 KB, mostly short; every fortieth key now and then an extent."""
    mix = zlib.crc32(struct.pack("<III", *stamp))
    if stamp.key % 40 == 0 and mix % 4 == 0:
        return 40_000 + (mix >> 8) % 80_000
    if mix & 0x30:
        return 10 + (mix >> 8) % 190
    return 200 + (mix >> 8) % 8000


def _crc(rest: bytes | memoryview, stamp: Stamp) -> int:
    return zlib.crc32(rest, zlib.crc32(struct.pack("<IIII", *stamp, len(rest))))


def make(stamp: Stamp) -> bytes:
    """The value that belongs to this stamp."""
    rest = length_of(stamp) - _HEADER.size
    start = (stamp.writer * 7919 + stamp.seq * 104729 + stamp.key * 31) % (1 << 16)
    filler = _BLOCK[start : start + rest]
    word = stamp.writer << 28 | stamp.seq
    return _HEADER.pack(_crc(filler, stamp), stamp.key, word) + filler


def parse(value: bytes | memoryview, key: int) -> Stamp:
    """Whose it is; `Torn` if it is not whole, or not of this key."""
    if len(value) < _HEADER.size:
        raise Torn(f"key {key}: {len(value)} bytes: {bytes(value)!r}")
    crc, found, word = _HEADER.unpack_from(value)
    stamp = Stamp(found, word >> 28, word & 0x0FFF_FFFF)
    filler = value[_HEADER.size :]
    if _crc(filler, stamp) != crc or len(value) != length_of(stamp):
        raise Torn(f"key {key}: {stamp}, {len(value)} bytes: crc32 or length differs")
    if found != key:
        raise Torn(f"key {key} holds {stamp}")
    return stamp


def item_bytes(key: str, value: bytes | int) -> int:
    """What the item takes in its page."""
    words, length = (24, 0) if isinstance(value, int) else (12, len(value))
    return (words + len(key) + length + 15) // 16 * 16


class Desk:
    """The words of one slot."""

    WORDS = 3 * OWN + 4 * COUNTERS + 8 + 3 * SLOW_MOST

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._at = 0
        self.acked, self.begun = self._take(OWN), self._take(OWN)
        self.gone = self._take(OWN)  # = acked: that value was evicted
        self.counted, self.started = self._take(COUNTERS), self._take(COUNTERS)
        self.posted, self.posting = self._take(BOARDS), self._take(BOARDS)
        self.misc = self._take(8)
        self.slow = self._take(3 * SLOW_MOST)

    def _take(self, n: int) -> memoryview:
        self._at += n
        return self._words[self._at - n : self._at]


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

    def slow(self, slot: int, since: int) -> list[tuple[int, int, int]]:
        """The slow operations of a slot from number `since` on."""
        desk = self.desks[slot]
        places = [3 * (n % SLOW_MOST) for n in range(since, desk.misc[SLOW])]
        return [(desk.slow[at], desk.slow[at + 1], desk.slow[at + 2]) for at in places]

    def total(self, word: int) -> int:
        """The sum of one word of `misc` over all slots."""
        return sum(desk.misc[word] for desk in self.desks)
