"""Where random damage goes: classes of places in a living segment, weighted, and single bits.

Owns: `Plan`, made from a sound image of a segment: for each class the words it lies in, and `pick`,
which chooses a word and a bit; `flip`, which turns that bit in a mapping by one store of a word.

Promises: the same image and the same random numbers give the same flips. What matters most to the
core (page words, refs, lengths, lock words) is hit far more often than its share of the bytes.

Does not: know what damage does, or who works meanwhile.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from shmkv.inspect import decode
from shmkv.inspect.layout import HEADER, INDEX_BYTES, PAGE, ROW, STRIPE, State

WORD = 8
WEIGHTS = {
    "identity": 2,  # line 0 of the header: magic, version, fingerprint, configuration
    "header": 12,  # its living lines: size, watermark, hints, cleaner and appender locks
    "rows": 10,
    "for people": 4,  # notes, deaths, the board, samples
    "stripes": 12,
    "directories": 10,
    "page words": 16,
    "page fields": 12,
    "buckets": 16,
    "item headers": 20,
    "keys and values": 6,
    "anywhere": 4,
}


class Flip(NamedTuple):
    """One bit of one word, and the class it was chosen for."""

    what: str
    word: int
    bit: int


class Plan:
    """Places of every class."""

    def __init__(self, image: bytes) -> None:
        segment = decode(image)
        g = segment.geometry
        fields = HEADER.fields
        pages = range(g.off_pages, g.off_pages + g.bases * PAGE.size, PAGE.size)
        indexes = [
            page.base for page in segment.pages if page.state == State.INDEX and page.base < g.bases
        ]
        items = [item.ref * 16 for page in segment.pages for item in page.items]
        self._places: dict[str, list[range]] = {
            "identity": [range(64)],
            "header": [range(64, 192), range(512, 1024), range(1024, fields["appenders"][0] + 576)],
            "rows": [
                range(at, at + 256)
                for at in range(g.off_rows, g.off_rows + g.rows * ROW.size, ROW.size)
            ],
            "for people": [
                range(g.off_deaths, g.off_stripes),
                *(
                    range(at + ROW.fields["note"][0], at + ROW.size)
                    for at in range(g.off_rows, g.off_deaths, ROW.size)
                ),
            ],
            "stripes": [range(g.off_stripes, g.off_stripes + g.stripes * STRIPE.size)],
            "directories": [range(g.off_dirs, g.off_dirs + (g.stripes << g.dir_bits) * 4)],
            "page words": [range(at, at + 8) for at in pages],
            "page fields": [range(at + 8, at + 64) for at in pages],
            "buckets": [
                range(at, at + INDEX_BYTES)
                for base in indexes
                for at in range(
                    g.off_arena + base * g.base_bytes,
                    g.off_arena + (base + 1) * g.base_bytes,
                    INDEX_BYTES,
                )
            ],
            "item headers": [range(at, at + 16) for at in items],
            "keys and values": [range(at + 16, at + 64) for at in items],
            "anywhere": [range(len(image))],
        }
        self._classes = [what for what in WEIGHTS if self._places[what]]
        self._weights = [WEIGHTS[what] for what in self._classes]
        self._words = len(image) // WORD

    def pick(self, rng: random.Random) -> Flip:
        """A bit to turn."""
        what = rng.choices(self._classes, self._weights)[0]
        where = rng.choice(self._places[what])
        at = where.start + rng.randrange(len(where))
        return Flip(what, min(at // WORD, self._words - 1), rng.randrange(64))


def flip(words: memoryview, one: Flip) -> None:
    """Turn the bit: one load, one store of the whole word, whatever others do meanwhile."""
    words[one.word] ^= 1 << one.bit
