"""Notes and deaths put into the bytes of a segment by hand.

Owns: `put`, which writes fields of a structure by the decoder's table, and shorter ways for notes
and deaths.

Does not: know what a sound segment holds; what is put may be as wrong as a test wants it.
"""

from __future__ import annotations

import struct

from shmkv.inspect import Attachments, attachments
from shmkv.inspect.geometry import Config, Geometry, geometry_of
from shmkv.inspect.layout import (
    CONFIG,
    DEATH,
    HEADER,
    NOTE,
    NOTE_KEY,
    NOTED,
    NOTES,
    ROW,
    Record,
)
from shmkv.inspect.postmortem import Clocks, Postmortem, postmortem

NOW = Clocks(wall_ms=1_700_000_000_000.0, clock_ns=5_000_000_000_000, boot_s=6000.0)
NOTES_OF_ROW = ROW.fields["note"][0]
NOTES_OF_DEATH = DEATH.fields["note"][0]


def put(raw: bytearray, at: int, record: Record, **fields: int | bytes) -> None:
    """Write fields of the structure at an offset."""
    for name, value in fields.items():
        offset, code = record.fields[name]
        struct.pack_into("<" + code, raw, at + offset, value)


def put_note(
    raw: bytearray, notes_at: int, turn: int, what: str, key: bytes = b"", **fields: int
) -> None:
    """Write a note where its turn belongs."""
    kept = key[:NOTE_KEY]
    at = notes_at + turn % NOTES * NOTE.size
    given: dict[str, int | bytes] = {"turn": turn, "what": NOTED.index(what), "key": kept}
    put(raw, at, NOTE, **given | {"len": len(key)} | fields)


def row_at(g: Geometry, row: int) -> int:
    """Where a row lies; its notes are at `NOTES_OF_ROW` of it."""
    return g.off_rows + row * ROW.size


def death_at(g: Geometry, place: int) -> int:
    """Where a death lies; its notes are at `NOTES_OF_DEATH` of it."""
    return g.off_deaths + place * DEATH.size


def geometry(image: bytearray) -> Geometry:
    """Of a segment whose header is sound."""
    found = geometry_of(Config(**CONFIG.read(memoryview(image), HEADER.fields["config"][0])))
    assert found is not None
    return found


def known_of(image: bytearray) -> Attachments:
    """Who is known to it."""
    return attachments(lambda at, n: bytes(image[at : at + n]))


def reported(image: bytearray, now: Clocks = NOW) -> Postmortem:
    """The report, nobody being alive."""
    return postmortem(known_of(image), frozenset(), now)


def put_death(image: bytearray, place: int, **fields: int | bytes) -> int:
    """Write a death ten seconds before NOW; the offset of its notes."""
    at = death_at(geometry(image), place)
    usual: dict[str, int | bytes] = {
        "number": 100 + place,
        "pid": 4711,
        "pid_start": 200_000,
        "attached_ms": 1_699_999_000_000,
        "found_ms": 1_699_999_990_000,
        "clock_ns": 4_990_000_000_000,
    }
    put(image, at, DEATH, **usual | fields)
    return at + NOTES_OF_DEATH
