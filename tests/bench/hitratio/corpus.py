"""The traces the harness replays: recorded ones from a folder, and made ones.

The folder is an argument or SHMKV_TRACES. Recorded traces are not part of the checkout; `WHERE`
says where they come from. What is not there is left out by name.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shmkv.replay import Chunk, FileTrace, Fixed, Lognormal, MadeTrace, Sizing, Trace, cut, numbered
from shmkv.replay.models import Zipf

WHERE = """Recorded traces (give their folder as SHMKV_TRACES or --traces):
  orm-busy.trace.xz  web12.trace.xz      headissue GmbH, Jens Wilke (cache2k), CC BY 4.0:
      https://github.com/ben-manes/caffeine, simulator/src/main/resources/.../cache2k
  arc-OLTP.lis.zst  arc-P3.lis.zst       Megiddo and Modha, ARC, USENIX FAST 2003:
      https://github.com/moka-rs/cache-trace, folder arc (OLTP.lis.zst, P3.lis.zst)"""

MIB = 1 << 20


@dataclass(frozen=True)
class Work:
    """A trace and how it is given sizes."""

    name: str
    sizing: Sizing = field(compare=False)
    file: str | None = None
    model: Zipf | None = None
    limit: float | None = None
    """The bar for misses as a multiple of LRU's, at 10 % of the footprint."""

    @property
    def recorded(self) -> bool:
        """Or made."""
        return self.file is not None

    def trace(self, folder: Path | None, *, expand: int = 1, most: int | None = None) -> Trace:
        """The trace itself, or its first requests."""
        if self.file is not None:
            assert folder is not None
            whole: Trace = FileTrace.of(folder / self.file, sizing=self.sizing, expand=expand)
        else:
            assert self.model is not None
            model = self.model
            whole = MadeTrace(self.name, lambda: numbered(model.batches(), self.sizing))
        if most is None:
            return whole

        def first() -> Iterator[Chunk]:
            return cut(whole.chunks(), most)

        return MadeTrace(whole.name, first)


RECORDED = (
    Work("orm-busy", Lognormal(), file="orm-busy.trace.xz", limit=0.73),
    Work("arc-OLTP", Fixed(512), file="arc-OLTP.lis.zst", limit=0.98),
    Work("arc-P3", Fixed(512), file="arc-P3.lis.zst", limit=0.82),
    Work("web12", Fixed(8192), file="web12.trace.xz", limit=0.94),
)
MADE = (
    Work("zipf-shift", Lognormal(), model=Zipf(3_000_000, 1_000_000, shift=0.001, seed=11)),
    Work(
        "zipf-scan",
        Fixed(1024),
        model=Zipf(2_000_000, 200_000, exponent=0.9, scan=4_000, seed=12),
    ),
)


def available(folder: Path | None) -> tuple[list[Work], list[str]]:
    """The recorded traces in a folder, and the files that are not there."""
    if folder is None:
        return [], [str(work.file) for work in RECORDED]
    there = [work for work in RECORDED if (folder / str(work.file)).is_file()]
    return there, [str(work.file) for work in RECORDED if work not in there]


def factor(size: int, least: int) -> int:
    """By how much a trace is expanded so that a store of `size` has `least` bytes."""
    return max(1, math.ceil(least / size))
