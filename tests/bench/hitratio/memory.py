"""How memory is used: payload of the whole segment for steady mixes and across shifts of size.

A mix is a trace like any other, with 20 % overwrites. The phases write 1.3 times the store each,
one kind of size after another, to a store that is never emptied: everything must be stored.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from shmkv.replay import (
    Chunk,
    Fixed,
    Lognormal,
    MadeTrace,
    Sizing,
    numbered,
    overwriting,
    own_store,
    payload,
    replay,
)
from shmkv.replay.models import Logarithmic, Mixture, Phase, Zipf
from shmkv.replay.run import StoreCache
from tests.bench.hitratio.corpus import MIB

OVERWRITES = 20
LARGE = Logarithmic(1_000_000, 64_000_000)
SMALL = Fixed(100)
MIDDLE = Lognormal(2000, 1.5, 100, 100_000)
SHIFTING_SIZE = 512 * MIB
TURNS = 1.3  # of the store that a phase writes
LOOKED_AT = (0.7, 0.85, 1.0)  # of a phase


@dataclass(frozen=True)
class Mix:
    """A steady workload."""

    name: str
    size: int
    sizing: Sizing
    model: Zipf
    batch: int
    least: float
    """The bar for utilisation."""


MIXES = (
    Mix("16 B + 100 B", 64 * MIB, SMALL, Zipf(4_000_000, 2_000_000, 0.9, seed=21), 8192, 0.70),
    Mix(
        "lognormal 100 B - 100 KB",
        64 * MIB,
        MIDDLE,
        Zipf(400_000, 60_000, 0.9, seed=22),
        2048,
        0.82,
    ),
    Mix("1 - 64 MB", 1024 * MIB, LARGE, Zipf(1_500, 300, 0.7, period=300, seed=23), 20, 0.88),
)


@dataclass(frozen=True)
class Used:
    """What a mix or a phase found."""

    name: str
    size: int
    utilisation: float
    lowest: float
    """Of the looks that count."""
    copied: float
    sets: int
    failed: int
    errors: dict[str, int]
    ns_per_operation: float

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def run_mix(mix: Mix, quick: bool) -> Used:
    """Replay a mix."""
    part = 4 if quick else 1
    size = mix.size // part
    model = Zipf(
        mix.model.requests // part,
        mix.model.objects // part,
        mix.model.exponent,
        period=mix.model.period,
        seed=mix.model.seed,
    )
    sizing = mix.sizing
    if quick and sizing == LARGE:
        sizing = Logarithmic(1_000_000, size // 17)

    def chunks() -> Iterator[Chunk]:
        return overwriting(numbered(model.batches(mix.batch), sizing), OVERWRITES)

    result = replay(MadeTrace(mix.name, chunks), size, compare=False)
    count = result.store
    return Used(
        mix.name,
        size,
        result.utilisation,
        result.utilisation,
        result.copied,
        count.sets,
        count.failed + count.too_large,
        count.errors,
        result.ns_per_operation,
    )


def phases(size: int) -> list[Phase]:
    """Seven kinds of size; the rare large values are as large as fit."""
    volume = int(size * TURNS)
    large = Logarithmic(1_000_000, min(64_000_000, size // 9))
    with_large = Mixture(MIDDLE, ((0.0005, large),))
    mixed = Mixture(SMALL, ((0.05, MIDDLE), (0.00003, large)))
    return [
        Phase("116 B", SMALL, volume),
        Phase("lognormal, 2 KB", MIDDLE, volume),
        Phase("lognormal, 300 B", Lognormal(300, 1.5, 100, 100_000), volume),
        Phase("2 KB and 0.05 % of 1-64 MB", with_large, volume),
        Phase("116 B, 5 % of 2 KB, 0.003 % of 1-64 MB", mixed, volume),
        Phase("1-64 MB", large, volume),
        Phase("116 B again", SMALL, volume),
    ]


def run_phases(quick: bool) -> list[Used]:
    """All phases in one store."""
    size = SHIFTING_SIZE // (16 if quick else 1)
    with own_store(size) as store:
        found = []
        for number, phase in enumerate(phases(size)):
            found.append(_phase(StoreCache(store), phase, number))
    return found


def _phase(cache: StoreCache, phase: Phase, number: int) -> Used:
    store = cache.store
    before = store.stats()
    looks: list[float] = []
    written = 0
    for chunk in phase.chunks(number << 32, seed=number + 1):
        cache.run(chunk)
        written += sum(size for size, op in zip(chunk.sizes, chunk.ops or (), strict=True) if op)
        if len(looks) < len(LOOKED_AT) and written >= LOOKED_AT[len(looks)] * phase.volume:
            looks.append(payload(store) / store.size)
    after = store.stats()
    count = cache.count
    return Used(
        phase.name,
        store.size,
        sum(looks) / len(looks),
        min(looks),
        (after.bytes_copied - before.bytes_copied)
        / max(after.bytes_written - before.bytes_written, 1),
        count.sets,
        count.failed + count.too_large,
        count.errors,
        cache.nanoseconds / max(cache.calls, 1),
    )
