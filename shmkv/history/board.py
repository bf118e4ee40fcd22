"""The board: what a daemon remembers, as the bytes it keeps in the segment.

Owns: the form of these bytes (`packed`, `unpacked`), and `read`, for everybody who shows them.

    0   4  "shmk"
    4   2  version, little-endian as everything
    6   2  number of moments
    8   4  bytes of what follows, when it is not compressed
    12  .  compressed (zlib):
           the curve: its number of points (2 B; 0: there is none), nine numbers, its points
           the moments: a column of 8-byte numbers for each field, the first bytes of all numbers,
           then the second ones, ... : most of them are zero and take no room

Times are whole milliseconds. The start of a moment is counted from the end of the one before it, a
gauge from the one before it; what may be negative has its sign in the lowest bit.

Promises: what does not fit is thinned until it does. Bytes of a newer version, or nonsense, read as
nothing; they never raise, and no length in them is believed.

Does not: know where the bytes lie, or whether they are whole: the core does.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from shmkv.history.moments import HALVINGS, MOST, thinned
from shmkv.history.remembered import NOTHING, Curve, Moment, Point, Remembered

MAGIC, VERSION = b"shmk", 1
HEAD = struct.Struct("<4sHHI")
CURVE_COUNT = struct.Struct("<H")
CURVE = struct.Struct("<dddQQQd")
POINT = struct.Struct("<Qd")
POINTS_MOST = 64
FIELDS = len(Moment._fields)
GAUGES = 8  # the first field that is one
WIDE = (1 << 64) - 1
TIME_MOST = 1 << 46  # milliseconds
LEVEL = 1  # of compression: the columns do most of it


class Board(Protocol):
    """What has a board: a store."""

    def _board_read(self) -> bytes | None: ...


def read(store: Board) -> Remembered:
    """What the store's daemon remembers, or nothing."""
    blob = store._board_read()
    return NOTHING if blob is None else unpacked(blob)


class Packed(NamedTuple):
    """Bytes for the board, and how often the past was halved until they fitted."""

    blob: bytes
    halvings: int


def packed(remembered: Remembered, room: int, now: float) -> Packed:
    """At most `room` bytes, with as much of the past as fits. No room for the curve: nothing."""
    for halvings in range(HALVINGS + 1):
        blob = _pack(remembered._replace(moments=thinned(remembered.moments, now, halvings)))
        if len(blob) <= room:
            return Packed(blob, halvings)
    moments = remembered.moments
    while len(blob) > room and moments:
        moments = moments[len(moments) // 2 + 1 :]
        blob = _pack(remembered._replace(moments=moments))
    return Packed(blob if len(blob) <= room else b"", HALVINGS)


def unpacked(blob: bytes) -> Remembered:
    """What bytes mean; nothing, where they mean nothing."""
    try:
        return _unpack(blob)
    except (struct.error, zlib.error, ValueError, OverflowError):
        return NOTHING


# ---- writing ------------------------------------------------------------------------------------


def _pack(remembered: Remembered) -> bytes:
    moments = remembered.moments[-MOST:]
    numbers = b"".join(
        struct.pack(f"<{len(column)}Q", *column) for column in _columns(list(moments))
    )
    plain = _pack_curve(remembered.curve) + b"".join(numbers[i::8] for i in range(8))
    return HEAD.pack(MAGIC, VERSION, len(moments), len(plain)) + zlib.compress(plain, LEVEL)


def _pack_curve(curve: Curve | None) -> bytes:
    if curve is None:
        return CURVE_COUNT.pack(0)
    points = [POINT.pack(*point) for point in curve.points[:POINTS_MOST]]
    return CURVE_COUNT.pack(len(points)) + CURVE.pack(*curve[:-1]) + b"".join(points)


def _columns(moments: list[Moment]) -> list[list[int]]:
    """Numbers of 64 bits, most of them small. Whole columns at once: it is done all the time."""
    if not moments:
        return []
    starts, seconds, *counts = zip(*moments, strict=True)
    begins = [round(start * 1000) for start in starts]
    ends = [round((start + long) * 1000) for start, long in zip(starts, seconds, strict=True)]
    gaps = [max(0, begin - end) for begin, end in zip(begins, [0, *ends], strict=False)]
    lengths = [max(1, end - begin) for begin, end in zip(begins, ends, strict=True)]
    gauges = counts[GAUGES - 2 :]
    return [
        gaps,
        lengths,
        *([min(count, WIDE) for count in column] for column in counts[: GAUGES - 2]),
        *(
            [_signed_out(new - old) for new, old in zip(column, (0, *column), strict=False)]
            for column in gauges
        ),
    ]


def _signed_out(number: int) -> int:
    return min(number << 1 if number >= 0 else (-number << 1) - 1, WIDE)


def _signed_in(number: int) -> int:
    return -(number + 1 >> 1) if number & 1 else number >> 1


# ---- reading ------------------------------------------------------------------------------------


def _unpack(blob: bytes) -> Remembered:
    magic, version, count, length = HEAD.unpack_from(blob)
    most = CURVE_COUNT.size + CURVE.size + POINTS_MOST * POINT.size + MOST * FIELDS * 8
    if magic != MAGIC or version != VERSION or count > MOST or length > most:
        raise ValueError
    plain = zlib.decompressobj().decompress(blob[HEAD.size :], length)
    curve, at = _unpack_curve(plain)
    if len(plain) != length or length - at != count * FIELDS * 8:
        raise ValueError
    return Remembered(tuple(_rows(plain[at:], count)), curve)


def _unpack_curve(plain: bytes) -> tuple[Curve | None, int]:
    (count,) = CURVE_COUNT.unpack_from(plain)
    at = CURVE_COUNT.size
    if count == 0:
        return None, at
    if count > POINTS_MOST:
        raise ValueError
    since, until, rate, keys, requests, size, measured = CURVE.unpack_from(plain, at)
    at += CURVE.size
    points = tuple(Point(*POINT.unpack_from(plain, at + i * POINT.size)) for i in range(count))
    curve = Curve(since, until, rate, keys, requests, size, measured, points)
    sizes = [point.size for point in points]
    shares = [curve.rate, curve.measured, *(point.hit_ratio for point in curve.points)]
    whole = all(0 <= share <= 1 for share in shares) and sizes == sorted(set(sizes))
    if not whole or not -math.inf < curve.since <= curve.until < math.inf:
        raise ValueError
    return curve, at + count * POINT.size


def _rows(numbers: bytes, count: int) -> Iterable[Moment]:
    """Moments of their columns."""
    width = count * FIELDS
    plain = bytearray(8 * width)
    for i in range(8):
        plain[i::8] = numbers[i * width : (i + 1) * width]
    columns = [struct.unpack_from(f"<{count}Q", plain, f * count * 8) for f in range(FIELDS)]
    end = 0
    gauges = [0] * (FIELDS - GAUGES)
    for row in zip(*columns, strict=True):
        start = end + row[0]
        end = start + row[1]
        gauges = [old + _signed_in(new) for old, new in zip(gauges, row[GAUGES:], strict=True)]
        if row[1] == 0 or end > TIME_MOST or min(gauges) < 0:
            raise ValueError
        yield Moment(start / 1000, row[1] / 1000, *row[2:GAUGES], *gauges)
