"""What is printed and written: tables in Markdown, made of medians over the rounds.

Owns: the words and the order of the tables. A figure is `median (min..max)` over rounds; a ratio is
one of medians. The raw figures of every turn are in the JSON, not here.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tests.bench.peers.bars import OURS, PLAIN, Rates, count_of, judge
from tests.bench.peers.kv import Measured
from tests.bench.peers.memory import Bytes
from tests.bench.peers.peer import Peer
from tests.bench.peers.work import MIXES, PERCENTILES

Place = tuple[str, str, int]  # peer, mix, processes
Spread = tuple[float, float, float]  # median, min, max
# Which latencies are shown: (mix, processes); all are in the JSON.
LATENCIES = (("read", 1), ("write", 1), ("90/10", 1), ("90/10", 2), ("90/10", 8))
OVERVIEW = (("read", 1), ("read", 2), ("90/10", 2), ("90/10", 8), ("write", 2), ("incr", 2))
SAID = {
    "read": "Reads",
    "90/10": "90 % reads, 10 % writes",
    "write": "Writes",
    "incr": "Increments of one key",
}


def spread(values: Sequence[float]) -> Spread:
    """Of the rounds."""
    return statistics.median(values), min(values), max(values)


def gather(measured: Iterable[Measured], key: str) -> dict[Place, Spread]:
    """One figure of all turns, place by place."""
    found = defaultdict[Place, list[float]](list)
    for each in measured:
        found[each.peer, each.figures["mix"], each.processes].append(each.figures[key])
    return {place: spread(values) for place, values in found.items()}


def rates_of(measured: Iterable[Measured]) -> Rates:
    """Medians."""
    return {place: found[0] for place, found in gather(measured, "rate").items()}


# ---- words --------------------------------------------------------------------------------------


def rate(value: float) -> str:
    """Operations a second, three digits."""
    for unit, letter in ((1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:#.3g}".rstrip(".") + letter
    return f"{value:.0f}"


def duration(value: float) -> str:
    """Nanoseconds, in the unit that fits."""
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if value >= unit:
            return f"{value / unit:#.3g}".rstrip(".") + f" {name}"
    return f"{value:.0f} ns"


def ranged(found: Spread | None, say: Callable[[float], str]) -> str:
    """median (min..max)."""
    return "" if found is None else f"{say(found[0])} ({say(found[1])}..{say(found[2])})"


def ratio(value: float) -> str:
    """Two digits, more where they are before the point."""
    if value >= 10:
        return f"{value:,.0f} x"
    return f"{value:#.2g} x" if value >= 0.1 else f"{value:.1g} x"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


# ---- tables -------------------------------------------------------------------------------------


def best_peer(rates: Rates, mix: str, processes: int, references: set[str]) -> str | None:
    """The fastest that shares something and is not shmkv."""
    found = {
        peer: value
        for (peer, of_mix, count), value in rates.items()
        if (of_mix, count) == (mix, processes) and peer != OURS and peer not in references
    }
    return max(found, key=lambda peer: found[peer]) if found else None


def overview(measured: Sequence[Measured], rows: Sequence[Bytes]) -> list[str]:
    """The medians that say most, a line for each peer."""
    rates = rates_of(measured)
    held = {row.peer: f"{row.per_entry:.0f}" for row in reversed(rows)}  # random order of keys
    first = {peer: rates.get((peer, *OVERVIEW[0]), 0.0) for peer, _, _ in rates}
    lines = []
    for peer in sorted(first, key=lambda peer: -first[peer]):
        found = [rates.get((peer, *place)) for place in OVERVIEW]
        cells = ["-" if value is None else rate(value) for value in found]
        lines.append([f"**{peer}**" if peer == OURS else peer, *cells, held.get(peer, "-")])
    head = ["", *(f"{mix}, {count_of(count)}" for mix, count in OVERVIEW), "bytes for an entry"]
    return ["## At a glance: operations a second", "", *table(head, lines)]


def rate_table(
    measured: Sequence[Measured], mix: str, counts: Sequence[int], references: set[str]
) -> list[str]:
    """Operations a second by count of processes, and shmkv in multiples of each peer."""
    found = gather(measured, "rate")
    middle = {place: each[0] for place, each in found.items()}
    names = sorted(
        {peer for peer, of_mix, _ in found if of_mix == mix},
        key=lambda peer: -middle.get((peer, mix, counts[0]), 0),
    )
    rows = []
    for peer in names:
        row = [f"**{peer}**" if peer == OURS else peer]
        row += [ranged(found.get((peer, mix, count)), rate) for count in counts]
        times = []
        for count in counts:
            ours, theirs = middle.get((OURS, mix, count)), middle.get((peer, mix, count))
            times.append(ratio(ours / theirs) if ours and theirs else "-")
        row.append("" if peer == OURS else " / ".join(times))
        rows.append(row)
    head = ["", *map(count_of, counts), f"shmkv over it, at {' / '.join(map(str, counts))}"]
    lines = [f"### {SAID[mix]}, operations a second", "", *table(head, rows)]
    said = []
    for count in counts:
        best, ours = best_peer(middle, mix, count, references), middle.get((OURS, mix, count))
        if best is not None and ours:
            more = ratio(ours / middle[best, mix, count])
            plain = middle.get((PLAIN, mix, count))
            dicts = f", {ratio(ours / plain)} of {PLAIN}" if plain else ""
            said.append(f"{count_of(count)}: {more} of the best peer, {best}{dicts}")
    return [*lines, f"shmkv, {'; '.join(said)}.", ""] if said else lines


def latency_table(measured: Sequence[Measured], mix: str, processes: int) -> list[str]:
    """Percentiles, medians over the rounds; the largest is the largest of all rounds."""
    found = {name: gather(measured, name) for name in (*PERCENTILES, "max")}
    names = [peer for peer, m, n in found["p50"] if (m, n) == (mix, processes)]
    rows = []
    for peer in sorted(names, key=lambda peer: found["p50"][peer, mix, processes][0]):
        place = (peer, mix, processes)
        cells = [f"**{peer}**" if peer == OURS else peer]
        cells += [duration(found[name][place][0]) for name in PERCENTILES]
        rows.append([*cells, duration(found["max"][place][2])])
    head = ["", *PERCENTILES, "largest"]
    return [f"### {SAID[mix]}, {count_of(processes)}", "", *table(head, rows)] if rows else []


def memory_table(rows: Sequence[Bytes]) -> list[str]:
    """Bytes for an entry."""
    if not rows:
        return []
    ordered = sorted(rows, key=lambda row: row.per_entry)
    cells = [
        (
            f"**{row.peer}**" if row.peer == OURS else row.peer,
            f"{row.per_entry:.0f}",
            f"{row.entries:,}",
            row.how,
        )
        for row in ordered
    ]
    head = ("", "bytes for an entry", "entries", "what is counted")
    title = "## Memory: keys of 16 B, values of 100 B"
    return [title, "", *table(head, cells)]


def bar_table(rates: Rates, rows: Sequence[Bytes]) -> list[str]:
    """The design's bars."""
    head = ("bar", "here", "want", "")
    return ["## The design's bars", "", *table(head, (each.cells() for each in judge(rates, rows)))]


def peer_table(peers: Sequence[Peer], about: Mapping[str, Any]) -> list[str]:
    """Who took part, and how."""
    rows = [(peer.name, about["versions"][peer.name], peer.options) for peer in peers]
    return ["## Peers", "", *table(("", "version", "set up as"), rows)]


def preface(about: Mapping[str, Any]) -> list[str]:
    """Where, when, how."""
    rounds = ", ".join(f"{size} B {count}" for size, count in about["rounds"].items())
    return [
        "# shmkv beside its peers",
        "",
        f"{about['machine']}, {about['memory']}; CPython {about['python']}; {about['date']}; "
        f"load {about['load_before']} before, {about['load_after']} after.",
        "",
        f"    {about['command']}",
        "",
        f"took {about['seconds']:.0f} s: rounds by value size: {rounds}; "
        f"{about['turn_seconds']:g} s of throughput and {about['latency_seconds']:g} s of latency "
        "for each mix and turn.",
        "",
        f"Keys of 13 B, zipf 0.99 over {about['keys']:,}. Figures are `median (min..max)` over the "
        "rounds, ratios are those of medians. `dict` shares nothing: every process has its own. "
        "uWSGI's and APCu's loops run inside their hosts. README.md says how it is measured.",
        "",
    ]


def document(
    about: Mapping[str, Any],
    peers: Sequence[Peer],
    measured: Sequence[Measured],
    rows: Sequence[Bytes],
    failures: Sequence[str],
) -> str:
    """Everything, as one page."""
    lines = preface(about)
    references = {peer.name for peer in peers if peer.reference}
    sizes = sorted({each.value_bytes for each in measured})
    first = [each for each in measured if each.value_bytes == sizes[0]] if sizes else []
    lines += overview(first, rows) + bar_table(rates_of(first), rows)
    for size in sizes:
        of_size = [each for each in measured if each.value_bytes == size]
        counts = sorted({each.processes for each in of_size})
        lines += [f"## Values of {size:,} B", ""]
        for mix in MIXES:
            if any(each.figures["mix"] == mix for each in of_size):
                lines += rate_table(of_size, mix, counts, references)
        lines += [f"## Latencies, values of {size:,} B", ""]
        clock = about["clock_ns"]
        lines += [f"Each operation timed alone; two looks at the clock ({clock} ns) are in it.", ""]
        for mix, processes in LATENCIES:
            lines += latency_table(of_size, mix, processes)
    lines += memory_table(rows) + peer_table(peers, about)
    absent = [f"- {name}: {why}" for name, why in about["absent"].items()]
    if absent or failures:
        lines += ["## Not measured", "", *absent, *(f"- {failure}" for failure in failures), ""]
    return "\n".join(lines).rstrip() + "\n"
