"""The bytes of a file on disk: its header, the headers of its blocks, BEGIN and END.

Owns: version 1 of the format that README.md draws: constants, packing, and parsing with every
field judged. Bytes in, values out: no file is touched here.

Promises: whatever the bytes are, parsing gives values within their bounds or raises FormatError.
`Foreign` is raised for bytes that may be good, but not for this program: no file of ours, a newer
version, another byte order.

Does not: read or write files (`blocks`), or know what is in an item (`items`).
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple

import xxhash

Bytes = bytes | bytearray | memoryview

MAGIC = b"SHMKVDSK"
BLOCK_MAGIC = b"SVKB"
VERSION = 1
ORDER, SWAPPED = 0x0102, 0x0201
TYPE_CODES = 1
RAW_MAX = (1 << 20) + (256 << 10)  # bytes of a payload
EMPTY, ALONE = 0, (1 << 64) - 1  # `previous`: after an empty store, after the snapshot alone
OPT_EVICT, OPT_JOURNAL, OPT_ALWAYS = 1, 2, 4  # bits of `options`, on disk

FILE_BYTES = BLOCK_BYTES = 32
_FILE = struct.Struct("<8sHHIQ")  # and the sum
_BLOCK = struct.Struct("<4sBBHIIII")  # and the sum
_SUM = struct.Struct("<Q")
_BEGIN = struct.Struct("<QQQQQQIIH")
_END = struct.Struct("<QQQQ")
HEAD_MOST = FILE_BYTES + BLOCK_BYTES + _BEGIN.size + 100  # bytes of a file that has only BEGIN
END_BYTES = BLOCK_BYTES + _END.size


class FormatError(Exception):
    """Bytes that no writer of ours leaves."""


class Foreign(FormatError):
    """Bytes that are not for this program."""


class What(IntEnum):
    """What a file is."""

    SNAPSHOT = 1
    JOURNAL = 2


class Kind(IntEnum):
    """What a block holds."""

    BEGIN = 1
    ITEMS = 2
    PIECE = 3
    ROUND = 4
    END = 5


class Flag(IntFlag):
    """What is said of a block."""

    LAST = 1
    ROUND_END = 2


# What may be in a file, and what may be said of it there.
_ALLOWED = {
    What.SNAPSHOT: {Kind.BEGIN: 0, Kind.ITEMS: 0, Kind.PIECE: Flag.LAST, Kind.END: 0},
    What.JOURNAL: {
        Kind.BEGIN: 0,
        Kind.PIECE: Flag.LAST | Flag.ROUND_END,
        Kind.ROUND: Flag.ROUND_END,
    },
}


class File(NamedTuple):
    """The header of a file."""

    what: What
    id: int


class Block(NamedTuple):
    """The header of a block."""

    kind: Kind
    compression: int
    flags: int
    stored: int
    raw: int
    many: int
    place: int
    sum: int


class Begin(NamedTuple):
    """The first block of a file: whose it is, and what the store was made with."""

    generation: int
    previous: int
    ms: int
    seed: int
    size: int
    max_size: int
    options: int
    name: str


class End(NamedTuple):
    """The last block of a snapshot: what came before it."""

    items: int
    bytes: int
    blocks: int
    ms: int


# ---- the file -----------------------------------------------------------------------------------


def pack_file(file: File) -> bytes:
    """The first 32 bytes of a file."""
    head = _FILE.pack(MAGIC, VERSION, ORDER, file.what, file.id)
    return head + _SUM.pack(xxhash.xxh64_intdigest(head, 0))


def parse_file(data: Bytes) -> File:
    """The header of a file, judged."""
    if len(data) < FILE_BYTES:
        raise FormatError(f"{len(data)} bytes are shorter than the header of a file")
    magic, version, order, what, number = _FILE.unpack_from(data)
    (wanted,) = _SUM.unpack_from(data, _FILE.size)
    if not any(data[:FILE_BYTES]):
        raise FormatError("its header was never written")
    if magic != MAGIC:
        raise Foreign(f"it begins with {bytes(magic)!r}: this is no file of shmkv")
    if order == SWAPPED:
        raise Foreign("it was written by a machine of the other byte order: restore it on such one")
    whole = xxhash.xxh64_intdigest(data[: _FILE.size], 0) == wanted
    if whole and version != VERSION:
        raise Foreign(
            f"it has version {version} of the format, this shmkv reads up to {VERSION}: use the"
            " version that wrote it"
        )
    if not whole or order != ORDER:
        raise FormatError("the sum of its header is wrong")
    if what not in (What.SNAPSHOT, What.JOURNAL):
        raise FormatError(f"it is neither a snapshot nor a journal ({what})")
    return File(What(what), number)


# ---- a block ------------------------------------------------------------------------------------


def seal(head: Bytes, payload: Bytes, number: int) -> int:
    """The sum of a block in the file of this id; `head` is the header, with or without a sum."""
    return xxhash.xxh64_intdigest(payload, xxhash.xxh64_intdigest(head[: _BLOCK.size], number))


def pack_block(
    kind: Kind,
    payload: Bytes,
    number: int,
    place: int,
    *,
    compression: int = 0,
    raw: int | None = None,
    flags: int = 0,
    count: int = 0,
) -> bytes:
    """The header of a block of the file `number` that begins at `place`."""
    raw = len(payload) if raw is None else raw
    stored, low = len(payload), place & 0xFFFFFFFF
    head = _BLOCK.pack(BLOCK_MAGIC, kind, compression, flags, stored, raw, count, low)
    return head + _SUM.pack(seal(head, payload, number))


def parse_block(data: Bytes, what: What, place: int) -> Block:
    """The header of a block, judged; the sum is not: the payload is not here yet."""
    magic, kind, compression, flags, stored, raw, count, low = _BLOCK.unpack_from(data)
    (wanted,) = _SUM.unpack_from(data, _BLOCK.size)
    if magic != BLOCK_MAGIC:
        raise FormatError(f"no block begins here ({bytes(magic)!r})")
    allowed = _ALLOWED[what]
    if kind not in allowed:
        raise FormatError(f"a {what.name.lower()} has no blocks of kind {kind}")
    if flags & ~allowed[Kind(kind)]:
        raise FormatError(f"unknown flags {flags:#x}")
    if kind == Kind.PIECE and flags & Flag.ROUND_END and not flags & Flag.LAST:
        raise FormatError("a round ends in the middle of an entry")
    if low != place & 0xFFFFFFFF:
        raise FormatError(f"it belongs to byte {low}, modulo 2^32")
    if raw > RAW_MAX or stored > RAW_MAX:
        raise FormatError(f"a payload of {stored} bytes ({raw} raw) is too long")
    plain = what is What.JOURNAL or kind in (Kind.BEGIN, Kind.END)
    if compression > 1 or (compression and plain):
        raise FormatError(f"unknown compression {compression}")
    if not compression and raw != stored:
        raise FormatError(f"{stored} bytes are stored for {raw}")
    return Block(Kind(kind), compression, flags, stored, raw, count, low, wanted)


# ---- BEGIN and END ------------------------------------------------------------------------------


def pack_begin(begin: Begin) -> bytes:
    """The payload of BEGIN."""
    name = begin.name.encode()
    return _BEGIN.pack(*begin[:7], TYPE_CODES, len(name)) + name


def parse_begin(data: Bytes) -> Begin:
    """What BEGIN says, judged as far as it can be here."""
    if len(data) < _BEGIN.size:
        raise FormatError(f"BEGIN has {len(data)} bytes only")
    *numbers, codes, length = _BEGIN.unpack_from(data)
    if codes != TYPE_CODES:
        raise Foreign(f"its types are numbered as in version {codes}, this shmkv reads 1")
    if len(data) != _BEGIN.size + length:
        raise FormatError(f"BEGIN has {len(data)} bytes for a name of {length}")
    try:
        name = bytes(data[_BEGIN.size :]).decode("ascii")
    except UnicodeDecodeError:
        raise FormatError("the name of the store is no name") from None
    return Begin._make([*numbers, name])


def pack_end(end: End) -> bytes:
    """The payload of END."""
    return _END.pack(*end)


def parse_end(data: Bytes) -> End:
    """What END says."""
    if len(data) != _END.size:
        raise FormatError(f"END has {len(data)} bytes, not {_END.size}")
    return End(*_END.unpack_from(data))
