"""The bytes of files: headers, blocks, BEGIN, END; what is refused, and with which words."""

from __future__ import annotations

import struct

import pytest
import xxhash

from shmkv.disk import format
from shmkv.disk.format import Begin, End, File, Foreign, FormatError, Kind, What

ID = 0x1122334455667788
FILE = format.pack_file(File(What.SNAPSHOT, ID))
BLOCK = format.pack_block(Kind.ITEMS, b"payload", ID, 4096, count=3)
BEGIN = Begin(7, 5, 1_700_000_000_123, 99, 4 << 20, 16 << 20, 3, "web")


def test_the_header_of_a_file_lies_as_drawn() -> None:
    assert FILE[:24] == b"SHMKVDSK" + struct.pack("<HHIQ", 1, 0x0102, 1, ID)
    assert FILE[24:] == struct.pack("<Q", xxhash.xxh64_intdigest(FILE[:24]))
    assert format.parse_file(FILE) == File(What.SNAPSHOT, ID)


def test_the_header_of_a_block_lies_as_drawn() -> None:
    assert BLOCK[:24] == b"SVKB" + struct.pack("<BBHIIII", 2, 0, 0, 7, 7, 3, 4096)
    inner = xxhash.xxh64_intdigest(BLOCK[:24], ID)
    assert BLOCK[24:] == struct.pack("<Q", xxhash.xxh64_intdigest(b"payload", inner))
    found = format.parse_block(BLOCK, What.SNAPSHOT, 4096)
    assert found[:7] == (Kind.ITEMS, 0, 0, 7, 7, 3, 4096)
    assert found.sum == format.seal(BLOCK, b"payload", ID) != format.seal(BLOCK, b"payload", ID + 1)


def test_begin_and_end_come_back() -> None:
    data = format.pack_begin(BEGIN)
    assert data == struct.pack("<6QIIH", *BEGIN[:7], 1, 3) + b"web"
    assert format.parse_begin(data) == BEGIN
    end = End(1, 2, 3, 4)
    assert format.pack_end(end) == struct.pack("<4Q", 1, 2, 3, 4)
    assert format.parse_end(format.pack_end(end)) == end


def resealed(data: bytes) -> bytes:
    """The same header with a right sum."""
    return data[:24] + struct.pack("<Q", xxhash.xxh64_intdigest(data[:24]))


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"SQLite format 3\0" + FILE[16:], Foreign, "no file of shmkv"),
        (resealed(FILE[:8] + b"\2\0" + FILE[10:]), Foreign, "version 2 of the format"),
        (FILE[:10] + b"\1\2" + FILE[12:], Foreign, "other byte order"),
        (FILE[:8] + b"\2\0" + FILE[10:], FormatError, "sum"),
        (resealed(FILE[:12] + b"\3\0\0\0" + FILE[16:]), FormatError, "neither"),
        (FILE[:31], FormatError, "shorter"),
        (b"", FormatError, "shorter"),
    ],
)
def test_what_is_no_header_of_a_file(data: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        format.parse_file(data)
    assert type(caught.value) is error


def block(offset: int, data: bytes) -> bytes:
    """The header of the block with some bytes replaced."""
    return BLOCK[:offset] + data + BLOCK[offset + len(data) :]


@pytest.mark.parametrize(
    ("data", "what", "words"),
    [
        (block(0, b"BKVS"), What.SNAPSHOT, "no block begins here"),
        (block(4, b"\0"), What.SNAPSHOT, "no blocks of kind 0"),
        (block(4, b"\4"), What.SNAPSHOT, "no blocks of kind 4"),
        (BLOCK, What.JOURNAL, "no blocks of kind 2"),
        (block(4, b"\5"), What.JOURNAL, "no blocks of kind 5"),
        (block(5, b"\2"), What.SNAPSHOT, "unknown compression"),
        (block(4, b"\1\1"), What.SNAPSHOT, "unknown compression"),
        (block(4, b"\4\1"), What.JOURNAL, "unknown compression"),
        (block(6, b"\1"), What.SNAPSHOT, "unknown flags"),
        (block(4, b"\3\0\2"), What.JOURNAL, "middle of an entry"),
        (block(8, b"\xff\xff\xff\xff"), What.SNAPSHOT, "too long"),
        (block(12, struct.pack("<I", format.RAW_MAX + 1)), What.SNAPSHOT, "too long"),
        (block(12, b"\6"), What.SNAPSHOT, "7 bytes are stored for 6"),
        (block(20, b"\1"), What.SNAPSHOT, "belongs to byte"),
    ],
)
def test_what_is_no_header_of_a_block(data: bytes, what: What, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        format.parse_block(data, what, 4096)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes only"),
        (format.pack_begin(BEGIN)[:-1], "for a name of 3"),
        (format.pack_begin(BEGIN) + b"x", "for a name of 3"),
        (format.pack_begin(BEGIN)[:-1] + b"\xe9", "no name"),
        (struct.pack("<6QIIH", *BEGIN[:7], 2, 0), "version 2"),
    ],
)
def test_what_is_no_begin(data: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        format.parse_begin(data)


def test_a_place_beyond_4_gib_is_its_low_half() -> None:
    far = (1 << 32) + 4096
    data = format.pack_block(Kind.ITEMS, b"x", ID, far)
    assert format.parse_block(data, What.SNAPSHOT, far).place == 4096
    with pytest.raises(FormatError, match="belongs to byte 4096"):
        format.parse_block(data, What.SNAPSHOT, far + 64)
