"""Who stays: misses as a multiple of LRU's, over traces, sizes and overwrites."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shmkv.replay import Chunk, MadeTrace, Survey, Trace, overwriting, replay, survey
from tests.bench.hitratio.corpus import MIB, Work, factor

LARGE, SMALL = 0.1, 0.01  # of the footprint
SMALL_LEAST = 16 * MIB
QUICK = 400_000  # requests
EXPANDED = 8_000_000  # requests of an expanded trace at most


@dataclass(frozen=True)
class Task:
    """One replay."""

    work: Work
    share: float
    overwrites: int
    size: int
    footprint: int
    expand: int = 1
    most: int | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.work.name}, {self.share:.0%}, {self.overwrites} % overwrites"


@dataclass(frozen=True)
class Row:
    """What a replay found."""

    trace: str
    recorded: bool
    share: float
    overwrites: int
    expand: int
    result: dict[str, Any]

    @property
    def misses(self) -> float:
        """As a multiple of LRU's."""
        return float(self.result["misses_to_lru"])

    @property
    def byte_misses(self) -> float:
        """As a multiple of LRU's."""
        return float(self.result["byte_misses_to_lru"])


def look(work: Work, folder: Path | None, quick: bool) -> Survey:
    """The survey of a trace, whole or its beginning."""
    return survey(work.trace(folder, most=QUICK if quick else None).chunks())


def tasks(
    work: Work, seen: Survey, *, percents: Sequence[int], quick: bool, small: bool
) -> list[Task]:
    """The replays of a trace. `small`: a size of 1 % is made large enough by expansion."""
    found = []
    most = QUICK if quick else None
    for percent in percents:
        size = int(seen.footprint * LARGE)
        found.append(Task(work, LARGE, percent, size, seen.footprint, most=most))
        size = int(seen.footprint * SMALL)
        if size >= SMALL_LEAST:
            found.append(Task(work, SMALL, percent, size, seen.footprint, most=most))
        elif small and work.recorded:
            times = factor(size, SMALL_LEAST)
            cut = min(most or EXPANDED, EXPANDED)
            found.append(
                Task(work, SMALL, percent, size * times, seen.footprint * times, times, cut)
            )
    return found


def run(task: Task, folder: Path | None) -> Row:
    """Replay one."""
    trace: Trace = task.work.trace(folder, expand=task.expand, most=task.most)
    if task.overwrites:
        plain = trace

        def chunks() -> Iterator[Chunk]:
            return overwriting(plain.chunks(), task.overwrites)

        trace = MadeTrace(plain.name, chunks)
    result = replay(trace, task.size).as_dict() | {"footprint": task.footprint}
    work = task.work
    return Row(work.name, work.recorded, task.share, task.overwrites, task.expand, result)
