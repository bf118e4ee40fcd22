"""What the demo found, in words: the table, and the judgement. Pure: figures in, text out.

Owns the careful part, the counter. The application counts a request before it answers it. A
request whose connection died with the killed worker may or may not have been counted, so

    answered <= counted <= answered + lost with the killed worker

must hold exactly; anything outside is a lost or a doubled increment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from examples.webapp.app import CLIENT_LIMIT
from examples.webapp.load import Failure, Tally
from examples.webapp.server import Memory

# A connection that no worker had answered yet may have been accepted by the killed one.
KILL_SECONDS = 2.0


class Counters(NamedTuple):
    """What stands in the store at the end."""

    requests: int
    visits: int  # the sum over all pages
    ok: bool
    check_problems: str


@dataclass(frozen=True)
class Run:
    """One server under load, then crawled. `killed` is a process id, 0 when nobody was."""

    kind: str
    load: Tally
    walk: Tally
    memory: Memory
    killed: int
    moment: float

    @property
    def pages_per_second(self) -> float:
        """Pages the ordinary clients got, in each second of the load."""
        return (self.load.pages - self.load.greedy_pages) / self.load.seconds

    @property
    def hit_ratio(self) -> float:
        """Hits of the ordinary clients, over all workers, from a cold start."""
        return self.load.hits / max(1, self.load.pages - self.load.greedy_pages)

    @property
    def greedy_per_second(self) -> float:
        """Answers the greedy client got in each second of the clock."""
        return self.load.greedy_pages / max(1, self.load.greedy_seconds)

    @property
    def answered(self) -> int:
        """Answers to requests that are counted, over the life of the server."""
        return self.load.answered + self.walk.answered

    @property
    def pages(self) -> int:
        """Pages answered over the life of the server."""
        return self.load.pages + self.walk.pages

    def lost(self) -> tuple[list[Failure], list[Failure]]:
        """Failures the kill explains, and all others."""
        explained: list[Failure] = []
        strange: list[Failure] = []
        for failure in self.load.failures + self.walk.failures:
            since = failure.when - self.moment
            own = failure.worker == self.killed and since >= 0
            unknown = failure.worker == 0 and 0 <= since <= KILL_SECONDS
            (explained if self.killed and (own or unknown) else strange).append(failure)
        return explained, strange


def problems(run: Run, counters: Counters | None) -> list[str]:
    """Broken promises, a sentence each. `counters` for the run with shmkv."""
    explained, strange = run.lost()
    found = [f"{run.kind}: a request failed: {failure.error}" for failure in strange]
    found += [f"{run.kind}: {text}" for text in run.load.other + run.walk.other]
    if run.load.pages == 0:
        found.append(f"{run.kind}: not one page was answered")
    if counters is None:
        return found
    for what, counted, answered in (
        ("requests", counters.requests, run.answered),
        ("page visits", counters.visits, run.pages),
    ):
        if not answered <= counted <= answered + len(explained):
            found.append(
                f"{what} counted {counted:,}, answered {answered:,},"
                f" lost with the killed worker {len(explained)}"
            )
    allowed = CLIENT_LIMIT * run.load.greedy_seconds
    if run.load.greedy_pages > allowed:
        found.append(f"the limited client got {run.load.greedy_pages} pages of {allowed} allowed")
    if not counters.ok:
        found.append(f"check() found {counters.check_problems}")
    return found


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def table(runs: list[Run], *, store_size: str, cpus: int) -> str:
    """The figures of all runs side by side."""
    base = runs[0].pages_per_second
    rows: list[tuple[str, list[str]]] = [
        ("pages answered a second", [f"{run.pages_per_second:,.0f}" for run in runs]),
        ("  compared with no cache", [f"{run.pages_per_second / base:.1f} x" for run in runs]),
        ("hit ratio over all workers, from cold", [f"{run.hit_ratio:.1%}" for run in runs]),
        ("memory of the 4 workers (sum of PSS)", [_mb(run.memory.pss) for run in runs]),
        (
            "  beyond the one without a cache",
            [_mb(r.memory.pss - runs[0].memory.pss) for r in runs],
        ),
        ("  of this, shared memory", [_mb(run.memory.shmem) for run in runs]),
        (
            f"a client limited to {CLIENT_LIMIT}/s got",
            [f"{r.greedy_per_second:.1f}/s" for r in runs],
        ),
        ("requests lost with the killed worker", [_lost_cell(run) for run in runs]),
    ]
    names = {"none": "no cache", "dict": "dict per worker", "shmkv": "shmkv"}
    lines = [f"\n{'':<40}" + "".join(f"{names.get(run.kind, run.kind):>17}" for run in runs)]
    lines += [f"{name:<40}" + "".join(f"{cell:>17}" for cell in cells) for name, cells in rows]
    lines.append(
        f"\nFigures of this run alone, {cpus} CPUs shared by server and load: compare the columns,"
        " they say\nnothing about another machine. 2,000 pages of 9-25 KB that take 20 ms to make;"
        " zipf choice; memory\nafter every worker has answered every page (without a cache: after"
        f" the load); store of {store_size}."
    )
    return "\n".join(lines)


def _lost_cell(run: Run) -> str:
    return str(len(run.lost()[0])) if run.killed else "nobody killed"


def summary(run: Run, counters: Counters) -> str:
    """The counter and the check of the run with shmkv, in sentences."""
    lost = len(run.lost()[0])
    verdict = "exact" if run.answered <= counters.requests <= run.answered + lost else "OFF"
    return (
        f"\nshmkv: {run.answered:,} requests answered by 4 workers and a replacement,"
        f" {lost} lost with worker {run.killed}, which was killed;"
        f"\nthe shared counter says {counters.requests:,}: {verdict}"
        f" ({run.answered:,} <= {counters.requests:,} <= {run.answered + lost:,})."
        f"\ncheck() of the store: {'ok' if counters.ok else counters.check_problems}."
    )
