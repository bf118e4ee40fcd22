"""The design's bars that this benchmark answers, and how far shmkv is from each.

A bar that names another store's absolute figure was set on another machine: it is judged beside
the peers of the same run, and the absolute figure stands next to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.peers.memory import Bytes
from tests.bench.report import Bar, at_least, at_most

OURS, PLAIN, LMDB = "shmkv", "dict", "lmdb"
CACHES = ("uWSGI cache", "APCu")  # Swoole\Table is no package of Debian's
BASE_BYTES = 100  # the bars are about values of this size

# (peer, mix, processes) -> median operations a second
Rates = Mapping[tuple[str, str, int], float]


@dataclass(frozen=True)
class Judged:
    """A bar, the figure, and the verdict."""

    what: str
    bar: Bar
    unit: str
    value: float | None  # None: what it needs was not measured
    note: str = ""

    def cells(self) -> tuple[str, str, str, str]:
        """A row of a table."""
        want = f"{self.bar.sense} {self.bar.limit:g}{self.unit}"
        if self.value is None:
            return self.what, "", want, f"not measured{self.note and f' ({self.note})'}"
        verdict = self.bar.verdict(self.value)
        value = f"{self.value:.0f}" if abs(self.value) >= 100 else f"{self.value:.2f}"
        return self.what, f"{value}{self.unit}", want, "; ".join(filter(None, [verdict, self.note]))


def over(rates: Rates, mix: str, processes: int, others: Sequence[str]) -> tuple[float | None, str]:
    """shmkv's rate in multiples of the best of these, and which that was."""
    found = {n: rates[n, mix, processes] for n in others if (n, mix, processes) in rates}
    ours = rates.get((OURS, mix, processes))
    if ours is None or not found:
        return None, ""
    best = max(found, key=lambda name: found[name])
    return ours / found[best], f"{best} {found[best] / 1e6:.2f} M/s, shmkv {ours / 1e6:.2f} M/s"


def beside_caches(rates: Rates, mix: str, processes: int, there: str) -> Judged:
    """At least the best shared-memory cache of this run."""
    value, who = over(rates, mix, processes, CACHES)
    note = "; ".join(filter(None, [who, f"the design names {there}"]))
    what = f"{mix}, {count_of(processes)}, over the best of uWSGI cache and APCu"
    return Judged(what, at_least(1), " x", value, note)


def count_of(processes: int) -> str:
    """In words."""
    return "1 process" if processes == 1 else f"{processes} processes"


def beside_lmdb(rates: Rates, processes: int) -> Judged:
    """Reads, in multiples of lmdb's."""
    value, who = over(rates, "read", processes, [LMDB])
    return Judged(f"read, {count_of(processes)}, over lmdb", at_least(2.2), " x", value, who)


def scaling(rates: Rates) -> Judged:
    """How much two processes are more than one, beside private dicts."""
    wanted = [(name, "90/10", count) for name in (OURS, PLAIN) for count in (2, 1)]
    value, note = None, ""
    if all(place in rates for place in wanted):
        two, one, plain_two, plain_one = (rates[place] for place in wanted)
        value = (two / one) / (plain_two / plain_one)
        note = f"shmkv {two / one:.2f} x, private dicts {plain_two / plain_one:.2f} x"
    what = "90/10, 2 processes over 1, of the scaling of private dicts"
    return Judged(what, at_least(0.9), " x", value, note)


def counter(rates: Rates) -> Judged:
    """Two processes on one key; a turn that loses an increment has failed and has no rate."""
    rate = rates.get((OURS, "incr", 2))
    value = None if rate is None else rate / 1e6
    return Judged("incr, 2 processes on one key", at_least(1.5), " M/s", value, "exact")


def memory(rows: Sequence[Bytes]) -> Judged:
    """Bytes for an entry."""
    by_name = {row.peer: row for row in reversed(rows)}  # of two rows the first: random order
    ours = by_name.get(OURS)
    others = [f"{name} {by_name[name].per_entry:.0f}" for name in by_name if name != OURS]
    what = "memory, 16 B + 100 B, whole segment"
    if ours is None:
        return Judged(what, at_most(165), " B", None)
    note = f"{ours.entries:,} entries; here {', '.join(sorted(others))}"
    return Judged(what, at_most(165), " B", ours.per_entry, note)


def judge(rates: Rates, rows: Sequence[Bytes]) -> list[Judged]:
    """Every bar, in the design's order."""
    return [
        beside_caches(rates, "read", 1, "3.2 M/s"),
        beside_caches(rates, "read", 2, "5.0 M/s"),
        beside_lmdb(rates, 1),
        beside_lmdb(rates, 2),
        beside_caches(rates, "90/10", 2, "Swoole\\Table's 4.2 M/s"),
        beside_caches(rates, "90/10", 8, "Swoole\\Table's 3.6 M/s"),
        scaling(rates),
        counter(rates),
        memory(rows),
    ]
