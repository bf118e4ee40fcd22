"""The design's bars that the harness answers, and how far the store is from each.

Recorded traces are judged; made ones where there are no others, and it is said. What a quick run
finds is printed beside the same bars and is not judged: caches are too small in it.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.hitratio.corpus import RECORDED
from tests.bench.hitratio.memory import MIXES, Used
from tests.bench.hitratio.ratios import LARGE, Row
from tests.bench.hitratio.rivals import Beside
from tests.bench.report import Bar, at_least, at_most


@dataclass(frozen=True)
class Judged:
    """A bar and the figure, None if what it needs did not run."""

    name: str
    bar: Bar
    value: float | None
    note: str = ""

    @property
    def missed(self) -> bool:
        """Measured, and not reached."""
        return self.value is not None and not self.bar.reached(self.value)

    def line(self) -> str:
        """One row of a table."""
        value = "-" if self.value is None else f"{self.value:.3f}"
        verdict = "not measured" if self.value is None else self.bar.verdict(self.value)
        limit = f"{self.bar.sense} {self.bar.limit:g}"
        note = f" ({self.note})" if self.note else ""
        return f"  {self.name:<58}{value:>8}  {limit:<8} {verdict}{note}"

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "name": self.name,
            "sense": self.bar.sense,
            "limit": self.bar.limit,
            "value": self.value,
            "reached": None if self.value is None else not self.missed,
            "note": self.note,
        }


def geometric(values: Iterable[float]) -> float | None:
    """The geometric mean; None of nothing."""
    logs = [math.log(max(value, 1e-9)) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def largest(rows: Iterable[Row]) -> tuple[float | None, str]:
    """The worst row for misses, and its name."""
    worst = max(rows, key=lambda row: row.misses, default=None)
    return (None, "") if worst is None else (worst.misses, f"{worst.trace}, {worst.share:.0%}")


def of_ratios(rows: Sequence[Row]) -> list[Judged]:
    """Who stays."""
    recorded = [row for row in rows if row.recorded]
    judged = recorded or list(rows)
    note = "" if recorded else "made traces only"
    plain = [row for row in judged if not row.overwrites]
    over = [row for row in judged if row.overwrites]
    worst, where = largest(plain)
    found = [
        Judged(
            "misses / LRU, geometric mean", at_most(0.90), geometric(r.misses for r in plain), note
        ),
        Judged("misses / LRU, worst", at_most(1.03), worst, where),
    ]
    for work in RECORDED:
        if work.limit is not None:
            at = [r.misses for r in plain if r.trace == work.name and r.share == LARGE]
            name = f"misses / LRU, {work.name}, 10 %"
            found.append(Judged(name, at_most(work.limit), at[0] if at else None))
    name = "misses / LRU with overwrites, geometric mean"
    found.append(Judged(name, at_most(0.93), geometric(r.misses for r in over), note))
    name = "byte misses / LRU, geometric mean"
    found.append(Judged(name, at_most(0.99), geometric(r.byte_misses for r in plain), note))
    return found


def of_memory(mixes: Sequence[Used], phases: Sequence[Used]) -> list[Judged]:
    """How memory is used."""
    by_name = {used.name: used for used in mixes}
    found = []
    for mix in MIXES:
        value = by_name[mix.name].utilisation if mix.name in by_name else None
        found.append(Judged(f"utilisation, {mix.name}", at_least(mix.least), value))
    lowest = min((used.lowest for used in [*mixes, *phases]), default=None)
    found.append(Judged("utilisation, lowest", at_least(0.62), lowest))
    failed = sum(used.failed for used in phases) if phases else None
    name = "failed sets over seven phases"
    found.append(Judged(name, at_most(0), None if failed is None else float(failed)))
    return found


def of_rivals(rows: Sequence[Beside]) -> list[Judged]:
    """Servers with the same resident memory, on the same requests."""
    ratios = [r.ours_to_lru / r.misses_to_lru for r in rows if r.who != "shmkv"]
    who = ", ".join(sorted({row.who for row in rows} - {"shmkv"}))
    name = "misses / those of servers, geometric mean"
    return [Judged(name, at_most(0.80), geometric(ratios), who)]


def of_copies(rows: Sequence[Row], mixes: Sequence[Used], phases: Sequence[Used]) -> list[Judged]:
    """What cleaning costs, over everything that ran."""
    copied = [float(row.result["copied"]) for row in rows]
    copied += [used.copied for used in [*mixes, *phases]]
    name = "bytes copied for a byte written"
    return [
        Judged(f"{name}, median", at_most(1.2), statistics.median(copied) if copied else None),
        Judged(f"{name}, worst", at_most(2.0), max(copied, default=None)),
    ]
