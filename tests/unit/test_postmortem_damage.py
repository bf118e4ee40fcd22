"""Notes that are damaged, headers that lie, and how much is read of a segment.

Owns: that whatever the bytes are there is a report in plain words, or a DecodeError.

Does not: say what sound notes mean; see test_postmortem.py.
"""

from __future__ import annotations

import json
import random

import pytest

import shmkv
from shmkv.cli.postmortem import lines
from shmkv.inspect import DecodeError
from shmkv.inspect.blackbox import clocks, look
from shmkv.inspect.geometry import GIB
from shmkv.inspect.layout import (
    CONFIG,
    HEADER,
    HEADER_BYTES,
    LAYOUT_VERSION,
    MAGIC,
    ROW,
    STATUSES,
    fingerprint,
)
from shmkv.inspect.postmortem import postmortem
from shmkv.inspect.survey import ROW_LOCKS
from tests.conftest import MIB, segment_path
from tests.layout.notes import NOW, geometry, known_of, put, put_death, put_note, reported, row_at

MOSTLY_SMALL = bytes([0] * 128 + [*range(64)] + [*range(192, 256)])
DAMAGED_IMAGES = 15  # of 64 rows and 32 deaths with 8 notes each


@pytest.fixture
def image(store_name: str) -> bytearray:
    """A segment nobody is attached to."""
    with shmkv.open(store_name, size=2 * MIB, max_size=2 * MIB) as store:
        store.set("k", b"v")
    return bytearray(segment_path(store_name).read_bytes())


def test_damaged_notes_are_told_as_they_are(image: bytearray) -> None:
    """10,000 notes of random bytes, or with some: always a report in plain words."""
    g, rng = geometry(image), random.Random(54)
    begin, end, told_of = g.off_rows, g.off_board, 0
    for turn in range(DAMAGED_IMAGES):
        noise = rng.randbytes(end - begin)
        image[begin:end] = noise.translate(MOSTLY_SMALL) if turn % 3 else noise
        for row in range(g.rows):  # else it is not told of
            put(image, row_at(g, row), ROW, number=rng.randrange(1, 1 << 32), first=0)
        found = reported(image, clocks())
        told_of += sum(len(one.doing) + len(one.before) for one in found.attachments)
        json.dumps(found.as_dict(), default=repr, allow_nan=False)
        for one in found.attachments:
            text = "".join(lines(one, found.now))
            assert text.isprintable(), text
    assert told_of > 10_000


def test_a_damaged_header_raises_in_words(image: bytearray) -> None:
    rng = random.Random(54)
    sound, said = bytes(image), 0
    for _ in range(100):
        image[:HEADER_BYTES] = sound[:HEADER_BYTES]
        for _ in range(3):
            image[rng.randrange(80)] = rng.randrange(256)
        try:
            reported(image)
        except DecodeError as error:
            said += bool(str(error))
    assert 30 < said < 100
    for length in (0, 1, 4095):
        with pytest.raises(DecodeError, match="shorter than a header"):
            known_of(image[:length])
    assert known_of(bytearray(sound[:HEADER_BYTES])).deaths == ()


def test_every_status_has_a_name(image: bytearray) -> None:
    notes = put_death(image, 0)
    for i, ended in enumerate((1, 10, len(STATUSES), len(STATUSES) + 1, 255)):
        put_note(image, notes, 1 + i, "set", b"k", ended=ended)
    (one,) = reported(image).attachments
    results = [did.result for did in reversed(one.before)]
    assert results == ["ok", "busy", "os", "unknown 27", "unknown 254"]


def test_little_is_read_of_the_largest_store() -> None:
    header = bytearray(HEADER_BYTES)
    put(header, 0, HEADER, magic=MAGIC, layout_version=LAYOUT_VERSION, fingerprint=fingerprint())
    at = HEADER.fields["config"][0]
    put(header, at, CONFIG, size=64 * GIB, max_size=64 * GIB, options=1, appenders=8)
    asked = []

    def read(at: int, n: int) -> bytes:
        asked.append(n)
        return bytes(header[at : at + n]).ljust(n, b"\0")

    known, alive = look(read, lambda byte: False)
    assert len(known.rows) == 256
    assert not alive
    assert sum(asked) < MIB


def test_a_row_that_is_given_back_meanwhile_belongs_to_no_dead_one(image: bytearray) -> None:
    at = row_at(geometry(image), 7)
    put(image, at, ROW, number=71, pid=99)

    def held(byte: int) -> bool:
        assert byte == ROW_LOCKS + 7
        put(image, at, ROW, number=0)
        return False

    known, alive = look(lambda at, n: bytes(image[at : at + n]), held)
    assert postmortem(known, alive, NOW, living=True).attachments == ()
