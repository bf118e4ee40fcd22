"""Values that say who wrote them and whether they are whole.

A value is a header {magic, key number, writer, seq, length, crc32 of all that} and a filler that
follows from writer and seq, so that a mixture of two values, a value under the wrong key, and bytes
that nobody wrote are all found. `parse` raises `Torn` for anything else than a value of `make`.
"""

from __future__ import annotations

import random
import struct
import zlib
from typing import NamedTuple

_HEADER = struct.Struct("<4sIIIII")
_MAGIC = b"SELF"
LARGE = 300 * 1024
_BLOCK = random.Random(20261122).randbytes(LARGE + (1 << 16))
TAIL = struct.Struct("<III")  # writer, seq, crc32: what append adds


class Torn(Exception):
    """Bytes that nobody wrote."""


class Stamp(NamedTuple):
    """Who wrote a value, and which of his."""

    key: int
    writer: int
    seq: int


def _filler(writer: int, seq: int, length: int) -> bytes:
    start = (writer * 7919 + seq * 104729) % (1 << 16)
    return _BLOCK[start : start + length]


def length_of(rng: random.Random, large: float) -> int:
    """A filler length: mostly small, up to 64 KiB, with probability `large` 300 KiB."""
    pick = rng.random()
    if pick < large:
        return LARGE
    return rng.randrange(200) if pick < 0.6 else int(65536 * rng.random() ** 2)


def make(stamp: Stamp, length: int) -> bytes:
    """The value number `seq` of `writer` for a key."""
    filler = _filler(stamp.writer, stamp.seq, length)
    crc = zlib.crc32(filler, zlib.crc32(struct.pack("<4I", *stamp, length)))
    return _HEADER.pack(_MAGIC, *stamp, length, crc) + filler


def parse(value: bytes | memoryview) -> Stamp:
    """Whose it is; `Torn` if it is not whole."""
    if len(value) < _HEADER.size:
        raise Torn(f"{len(value)} bytes: {bytes(value)!r}")
    magic, key, writer, seq, length, crc = _HEADER.unpack_from(value)
    stamp = Stamp(key, writer, seq)
    filler = value[_HEADER.size :]
    if magic != _MAGIC or length != len(filler):
        raise Torn(f"magic {magic!r}, {stamp}, length {length} of {len(filler)}")
    if zlib.crc32(filler, zlib.crc32(struct.pack("<4I", *stamp, length))) != crc:
        raise Torn(f"{stamp}, length {length}: crc32 differs")
    if filler != _filler(writer, seq, length):
        raise Torn(f"{stamp}, length {length}: not its writer's filler")
    return stamp


def make_tail(writer: int, seq: int) -> bytes:
    """What `writer` appends as his number `seq`."""
    return TAIL.pack(writer, seq, zlib.crc32(struct.pack("<II", writer, seq)))


def parse_tails(value: bytes) -> list[tuple[int, int]]:
    """(writer, seq) of all tails in order."""
    if len(value) % TAIL.size:
        raise Torn(f"{len(value)} bytes of tails")
    tails = []
    for writer, seq, crc in TAIL.iter_unpack(value):
        if zlib.crc32(struct.pack("<II", writer, seq)) != crc:
            raise Torn(f"tail {writer}:{seq}")
        tails.append((writer, seq))
    return tails
