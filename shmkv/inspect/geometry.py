"""Where the parts of a segment begin, and where a key and an item belong.

Owns: the geometry as a pure function of a store's configuration, the meaning of the bits of a key's
hash, and the main queue of a size. An attacher trusts no stored offset but computes these; so does
the decoder.

Promises: the same numbers as `_csrc/layout.c` and `_csrc/hash.h`, by a writing of its own.

Does not: read a segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from shmkv.inspect.layout import (
    BUCKETS,
    CLEANERS,
    DEATH,
    DEATHS,
    GHOST_SHARE,
    GRANULE,
    HEADER_BYTES,
    INDEX_BYTES,
    LINE,
    MAINS,
    MARKS,
    OPTION_EVICT,
    OPTION_JOURNAL,
    PAGE,
    QUEUES,
    ROW,
    STRIPE,
    round_up,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SIZE_MIN, SIZE_MAX = 2 * MIB, 64 * GIB
ITEMS_PER_SEGMENT = 660  # 0.86 of 64 x 12 slots


# ---- hashes -------------------------------------------------------------------------------------


class Hash(NamedTuple):
    """What the bits of a key's hash say."""

    stripe: int
    directory: int
    bucket: int
    stride: int
    tag: int
    ghost: int  # its fingerprint there
    ghost_line: int  # of as many lines as are in use

    @classmethod
    def of(cls, key: bytes, seed: int, geometry: Geometry) -> Hash:
        """The place of a key."""
        h = xxhash.xxh64_intdigest(key, seed=seed)
        bits = geometry.dir_bits
        return cls(
            stripe=h >> geometry.stripe_shift,
            directory=h >> (56 - bits) & (1 << bits) - 1,
            bucket=h >> 8 & BUCKETS - 1,
            stride=(h >> 14 & 31) << 1 | 1,
            tag=h & 0xFF,
            ghost=h >> 20 & 0xFFFF or 1,
            ghost_line=h >> 36,
        )

    def path(self) -> list[int]:
        """The buckets in the order a search visits them."""
        return [(self.bucket + i * self.stride) % BUCKETS for i in range(BUCKETS)]


# ---- geometry -----------------------------------------------------------------------------------


class Config(NamedTuple):
    """What a store's creator chose."""

    size: int
    max_size: int
    seed: int
    options: int
    appenders: int


@dataclass(frozen=True)
class Geometry:
    """What follows from the configuration."""

    size: int
    max_size: int
    off_rows: int
    off_deaths: int
    off_board: int
    off_samples: int
    off_stripes: int
    off_dirs: int
    off_pages: int
    off_arena: int
    off_journal: int
    off_ghost: int
    rows: int
    stripes: int
    stripe_shift: int
    dir_bits: int
    base_shift: int
    bases_max: int
    bases: int
    std_run: int
    log_run_max: int
    appenders: int
    mains: int
    cleaners: int
    zone: int
    index_per_base: int
    words: int
    board: int
    samples: int

    @property
    def base_bytes(self) -> int:
        """Bytes of a base page."""
        return 1 << self.base_shift

    @property
    def base_granules(self) -> int:
        """Granules of a base page."""
        return self.base_bytes // GRANULE

    def base_ref(self, base: int) -> int:
        """The ref of a base page's first byte."""
        return (self.off_arena + base * self.base_bytes) // GRANULE

    def base_of(self, at: int) -> int:
        """The base page that holds a byte of the arena."""
        return (at - self.off_arena) >> self.base_shift

    def bases_within(self, size: int) -> int:
        """Base pages within a size of the segment, without the ghost's share and the journal's."""
        end = size - _ghost(size, self.mains) * LINE - _journal(self.words)
        return min(max(end - self.off_arena, 0) >> self.base_shift, self.bases_max)

    @property
    def journal_bytes(self) -> int:
        """Of the journal's marks and the hints before them; 0 without one."""
        return _journal(self.words)

    def ghost_within(self, size: int) -> int:
        """Lines of the ghost that a store of this size may use."""
        return _ghost(size, self.mains)

    @property
    def appender_own(self) -> int:
        """The cleaners' own appender, the last."""
        return self.appenders + self.mains

    def appender_queue(self, appender: int) -> int:
        """The queue of an appender's pages."""
        main = self.appenders <= appender < self.appender_own
        return appender - self.appenders + 1 if main else 0

    def is_extent(self, size: int) -> bool:
        """Does an item of so many bytes have pages of its own?"""
        bases = -(-size // self.base_bytes)
        return size > 4 * self.base_bytes or bases > self.log_run_max

    def main_of(self, size: int) -> int:
        """The main queue for an item of so many bytes; 0 in a store that has none."""
        most = QUEUES - 1 if self.is_extent(size) else self.mains
        return min(queue_of(size), most) if self.mains else 0


def geometry_of(c: Config) -> Geometry | None:
    """The geometry, or None when the numbers are out of range."""
    if not _in_range(c):
        return None
    small, middle = c.size < 16 * MIB, c.size < 64 * MIB
    rows = 64 if small else 128 if middle else 256
    stripes = _clamp(_power_below(c.size // (256 * KIB)), 8, 256)
    dir_bits = _dir_bits(c.max_size, stripes)
    base_shift = 14 if c.size < 4 * MIB else 15 if small else 16
    people = _people(c, rows)
    off_dirs = people["off_stripes"] + stripes * STRIPE.size
    off_pages = round_up(off_dirs + (stripes << dir_bits) * 4, LINE)
    off_arena = round_up(off_pages + (c.max_size >> base_shift) * PAGE.size, 1 << base_shift)
    mains = MAINS if c.options & OPTION_EVICT else 0
    off_ghost = (c.max_size - _ghost(c.max_size, mains) * LINE) // 4096 * 4096
    words = _words(c)
    off_journal = off_ghost - _journal(words)
    bases_max = (off_journal - off_arena) >> base_shift
    end = c.size - _ghost(c.size, mains) * LINE - _journal(words) - off_arena
    bases = min(max(end, 0) >> base_shift, bases_max)
    std_run = _clamp(_power_near(bases // 256), 1, 16)
    index_per_base = (1 << base_shift) // INDEX_BYTES
    zone = max(bases // 16, -(-stripes // index_per_base))
    if bases < 32 + zone:
        return None
    return Geometry(
        size=c.size,
        max_size=c.max_size,
        off_rows=HEADER_BYTES,
        off_dirs=off_dirs,
        off_pages=off_pages,
        off_arena=off_arena,
        off_journal=off_journal,
        off_ghost=off_ghost,
        rows=rows,
        stripes=stripes,
        stripe_shift=64 - (stripes.bit_length() - 1),
        dir_bits=dir_bits,
        base_shift=base_shift,
        bases_max=bases_max,
        bases=bases,
        std_run=std_run,
        log_run_max=_clamp(bases // 64, std_run, 16),
        appenders=c.appenders,
        mains=mains,
        cleaners=_clamp(bases // std_run // 256, 2, CLEANERS),
        zone=zone,
        index_per_base=index_per_base,
        words=words,
        **people,
    )


def _people(c: Config, rows: int) -> dict[str, int]:
    """Where and how large what lies between rows and stripes is."""
    board = _clamp(_power_below(c.size // 1024), 4096, 1 << 16)
    samples = _clamp(_power_below(c.size // 4096), 512, 1 << 16)
    off_deaths = HEADER_BYTES + rows * ROW.size
    off_board = off_deaths + DEATHS * DEATH.size
    off_samples = off_board + 2 * board
    return {
        "off_deaths": off_deaths,
        "off_board": off_board,
        "off_samples": off_samples,
        "off_stripes": off_samples + samples * 8,
        "board": board,
        "samples": samples,
    }


def queue_of(size: int) -> int:
    """The main queue for items of so many bytes: groups four times apart, the first below 256."""
    group = (max(size, 64).bit_length() - 7) // 2
    return min(1 + group, QUEUES - 1)


def _ghost(size: int, mains: int) -> int:
    return size // GHOST_SHARE // LINE if mains else 0


def _in_range(c: Config) -> bool:
    sizes = SIZE_MIN <= c.size <= c.max_size <= SIZE_MAX and 1 <= c.appenders <= 8
    return sizes and c.size % 4096 == c.max_size % 4096 == 0


def _words(c: Config) -> int:
    return _clamp(_power_below(c.size // 512), 512, 1 << 17) if c.options & OPTION_JOURNAL else 0


def _journal(words: int) -> int:
    return round_up(words // MARKS + words * 8, 4096)


def _dir_bits(max_size: int, stripes: int) -> int:
    segments = max_size // 32 // stripes // ITEMS_PER_SEGMENT
    bits = 1
    while bits < 16 and 1 << bits < 2 * segments:
        bits += 1
    return bits


def _power_below(n: int) -> int:
    return 1 << max(n.bit_length() - 1, 0)


def _power_near(n: int) -> int:
    p = _power_below(n)
    return p * 2 if n * 2 > p * 3 else p


def _clamp(n: int, low: int, high: int) -> int:
    return max(low, min(n, high))
