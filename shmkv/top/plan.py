"""How large a store must be for so many items.

    needed = plan(Items(1_000_000, Lengths(100), key=16))
    needed.size, needed.typed  # bytes, and what to write as size=

Owns: `plan`, the arithmetic of a store that is filled once: headers and rounding of items, ends of
pages that the next item did not fit into, extents, index segments and how full they are, withheld
pages, the ghost's share, tables. It fills pages with a sample of items by the core's rules.

Promises: the smallest size in which all the items stand, before any of them leaves, within 5 % (the
tests fill stores and count). Items that are overwritten or expire leave garbage behind; who does
much of that wants room on top.

Does not: open a store.
"""

from __future__ import annotations

import math
import os
import random
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from shmkv.config import GROWTH, SIZE_MAX, SIZE_MIN, SIZE_STEP
from shmkv.inspect.geometry import Config, Geometry, geometry_of
from shmkv.inspect.layout import GRANULE, ITEM, LINE, OPTION_EVICT, round_up

DEADLINE_BYTES = 12  # padding and the word
SAMPLE = 20_000  # items that are drawn
SAMPLE_BYTES = 1 << 31  # of them, where they are large
SPLIT_AT, SPLIT_SPREAD = 639, 38  # items a segment of the index holds when it must be split
SHAPES = ("fixed", "uniform", "exponential", "lognormal")
SIGMA = 1.6  # of a lognormal, unless said


class TooMuch(ValueError):
    """No store holds so much; the message says why."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of values, by their mean and their shape."""

    mean: float
    shape: str = "fixed"
    sigma: float = SIGMA

    def draw(self, n: int) -> list[int]:
        """So many lengths, the same ones each time."""
        if self.shape == "fixed":
            return [round(self.mean)] * n
        rnd = random.Random(1)
        if self.shape == "uniform":
            drawn = [rnd.random() for _ in range(n)]
        elif self.shape == "exponential":
            drawn = [rnd.expovariate(1.0) for _ in range(n)]
        else:
            drawn = [rnd.lognormvariate(0.0, self.sigma) for _ in range(n)]
        scale = self.mean * n / sum(drawn)  # the mean is what was asked for, whatever was drawn
        return [round(length * scale) for length in drawn]


@dataclass(frozen=True, slots=True)
class Items:
    """What is to be held."""

    count: int
    values: Lengths
    key: int = 16
    """Bytes of a key."""
    deadlines: bool = False
    """Have they a ttl?"""

    def sizes(self) -> list[int]:
        """Bytes of a sample of items in a log, each rounded up to granules."""
        many = int(SAMPLE_BYTES / max(self.values.mean, 1))
        n = max(min(self.count, SAMPLE, many), 64)
        words = ITEM.size + self.key + (DEADLINE_BYTES if self.deadlines else 0)
        return [round_up(words + length, GRANULE) for length in self.values.draw(n)]


@dataclass(frozen=True, slots=True)
class Plan:
    """A size, and where its bytes go."""

    size: int
    typed: str
    """The same for `size=`."""
    items: int
    bytes_payload: int
    """Keys and values."""
    bytes_headers: int
    """Headers of items, and their rounding to 16 B."""
    bytes_ends: int
    """Ends of pages that the next item did not fit into, and pages not yet full."""
    bytes_index: int
    bytes_withheld: int
    """Pages kept for cleaning, and the one begun with."""
    bytes_ghost: int
    bytes_tables: int
    """Header, rows, stripes, directories, the page table."""
    bytes_spare: int
    """What rounding the size up leaves."""

    @property
    def bytes_per_item(self) -> float:
        """Of the whole store."""
        return self.size / self.items

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"bytes_per_item": self.bytes_per_item}


def plan(
    items: Items, *, evict: bool = True, max_size: int | None = None, cpus: int | None = None
) -> Plan:
    """The smallest store that holds the items. TooMuch."""
    sizes = items.sizes()
    low, high = SIZE_MIN // SIZE_STEP, SIZE_MAX // SIZE_STEP
    if _fits(high * SIZE_STEP, items, sizes, evict, max_size, cpus) is None:
        raise TooMuch(
            f"{items.count} items do not fit into {SIZE_MAX >> 30} GiB, the largest store"
        )
    while low < high:
        middle = (low + high) // 2
        if _fits(middle * SIZE_STEP, items, sizes, evict, max_size, cpus) is None:
            low = middle + 1
        else:
            high = middle
    size = _rounded(low * SIZE_STEP)
    while (need := _fits(size, items, sizes, evict, max_size, cpus)) is None:
        size = _rounded(size + size // 128)  # geometry changes at some sizes
    geometry, log, index = need
    base = geometry.base_bytes
    withheld = _withheld(geometry, evict, sizes) * base
    ghost = geometry.ghost_within(size) * LINE
    stored = round(items.count * sum(sizes) / len(sizes))
    payload = round(items.count * (items.key + _mean_value(items, sizes)))
    spent = geometry.off_arena + ghost + (log + index) * base + withheld
    return Plan(
        size=size,
        typed=_typed(size),
        items=items.count,
        bytes_payload=payload,
        bytes_headers=stored - payload,
        bytes_ends=log * base - stored,
        bytes_index=index * base,
        bytes_withheld=withheld,
        bytes_ghost=ghost,
        bytes_tables=geometry.off_arena,
        bytes_spare=size - spent,
    )


def _mean_value(items: Items, sizes: list[int]) -> float:
    values = items.values.draw(len(sizes))
    return sum(values) / len(values)


def _rounded(size: int) -> int:
    """Up, by less than a hundredth, to what is easily typed."""
    step = max(SIZE_STEP, 1 << max(size.bit_length() - 8, 0))
    return min(round_up(size, step), SIZE_MAX)


def _typed(size: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size >> 10}KiB"


# ---- one size -----------------------------------------------------------------------------------


def _fits(
    size: int,
    items: Items,
    sizes: list[int],
    evict: bool,
    max_size: int | None,
    cpus: int | None,
) -> tuple[Geometry, int, int] | None:
    """The geometry, base pages of logs and extents, and of the index; None: not all fit."""
    geometry = _geometry(size, evict, max_size, cpus)
    if geometry is None or max(sizes) > geometry.bases * geometry.base_bytes // 8:
        return None
    log = _log_bases(geometry, items.count, tuple(sizes))
    index = _index_bases(geometry, items.count)
    if log + index + _withheld(geometry, evict, sizes) > geometry.bases_within(size):
        return None
    return geometry, log, index


def _geometry(size: int, evict: bool, max_size: int | None, cpus: int | None) -> Geometry | None:
    """What a store created with that size has."""
    many = cpus or os.cpu_count() or 1
    appenders = max(1, min(many, 2 if size < 16 << 20 else 8))
    most = max(max_size or min(GROWTH * size, SIZE_MAX), size)
    return geometry_of(Config(size, most, 0, OPTION_EVICT if evict else 0, appenders))


def _withheld(geometry: Geometry, evict: bool, sizes: list[int]) -> int:
    """Base pages nobody fills: those for cleaners; where items may leave, they do so a page early,
    and a page is as long as the items that open it want."""
    logged = max((size for size in sizes if not geometry.is_extent(size)), default=0)
    early = _run(geometry.base_shift, geometry.std_run, geometry.log_run_max, logged)
    return 2 * geometry.cleaners * geometry.std_run + (early if evict and logged else 0)


def _run(base_shift: int, std_run: int, log_run_max: int, size: int) -> int:
    """Base pages of a log page that an item of so many bytes opens."""
    run = std_run
    while run < log_run_max and run << base_shift < 8 * size:
        run *= 2
    return min(run, log_run_max)


def _log_bases(geometry: Geometry, count: int, sizes: tuple[int, ...]) -> int:
    """Base pages of the items of one writer."""
    shape = (geometry.base_shift, geometry.std_run, geometry.log_run_max)
    if count <= len(sizes):
        return _filled(sizes[:count], shape)[0]
    bases, unused = _filled(sizes, shape)
    return math.ceil((bases - unused) * count / len(sizes) / geometry.std_run) * geometry.std_run


@lru_cache(maxsize=64)
def _filled(sizes: tuple[int, ...], shape: tuple[int, int, int]) -> tuple[int, float]:
    """Base pages that a log takes by the rules of arena.c, and the part of the last still open."""
    base_shift, std_run, log_run_max = shape
    base = 1 << base_shift
    bases = room = 0
    for size in sizes:
        need = -(-size // base)
        if size > 4 * base or need > log_run_max:
            bases += need
        elif size <= room:
            room -= size
        else:
            run = _run(base_shift, std_run, log_run_max, size)
            bases += run
            room = run * base - size
    return bases, room / base


def _index_bases(geometry: Geometry, count: int) -> int:
    """Base pages of the index: a segment is split when an item finds no place near its own."""
    stripes, here = geometry.stripes, count / geometry.stripes
    segments, depth = 1.0, 0
    while depth < geometry.dir_bits:
        mean = here / (1 << depth)
        spread = math.sqrt(mean + SPLIT_SPREAD**2)
        split = 0.5 * math.erfc((SPLIT_AT - mean) / spread / math.sqrt(2))
        segments += (1 << depth) * split
        depth += 1
        if split < 1e-6:
            break
    return math.ceil(segments * stripes / geometry.index_per_base)
