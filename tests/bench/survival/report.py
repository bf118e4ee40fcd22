"""results.md: what the storms brought, in tables and plain words. Every figure is a count.

Owns: the words and the order. Says of each store what was found, and of those that were as good as
shmkv that they were. Does not: measure, nor leave out what it does not like.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.bench.survival.outcome import AFTER, BROKEN, HANG, LAST, STORM, Outcome
from tests.bench.survival.values import LOST, STALE, TORN

UNDER_KILLS = (STORM, AFTER, LAST)
HEAD = (
    "store", "kills (inside an operation)", "first standstill", "hangs", "broken",
    "errors afterwards", "torn values", "acknowledged writes lost",
    "worst pause of a survivor (machine alone)",
)  # fmt: skip
LONG_MS = 1000.0  # a pause that is told in words, if it is not the machine's
TOLD = 3  # messages of each store


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def duration(ms: float) -> str:
    """In the unit that fits."""
    return f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms:.0f} ms"


def stops(out: Outcome, kind: str) -> int:
    """How often it stopped so."""
    return sum(what == kind for what, _, _ in out.stops)


def lost(out: Outcome) -> str:
    """Values and increments."""
    values, counts = out.count(LOST, *UNDER_KILLS), out.increments["lost"]
    words = [f"{values}"] if values or not counts else []
    words += [f"{counts} increments"] if counts else []
    more = out.increments["too many"]
    words += [f"{more} increments too many"] if more else []
    return ", ".join(words) + ("; all out of reach when it stands still" if out.stops else "")


def standstill(out: Outcome) -> str:
    """How far it came."""
    return f"none in {out.kills} kills" if out.first_stop is None else f"at kill {out.first_stop}"


def row(out: Outcome) -> list[str]:
    """One line of the first table."""
    errors = sum(out.errors[part] for part in UNDER_KILLS) + out.crashes.total()
    pause = f"{duration(out.worst_ms)} ({duration(out.control_ms)})"
    return [
        f"**{out.name}**" if out.name == "shmkv" else out.name + (" *" if out.calm_wrong else ""),
        f"{out.kills} ({out.inside})",
        standstill(out),
        str(stops(out, HANG)),
        str(stops(out, BROKEN)),
        str(errors),
        str(out.count(TORN, *UNDER_KILLS)),
        lost(out),
        f"for ever; else {pause}" if out.stops else pause,
    ]


def long(out: Outcome) -> bool:
    """Did a survivor wait long, and not for the machine?"""
    return out.worst_ms > LONG_MS and out.worst_ms > 5 * out.control_ms


def times(count: int) -> str:
    """How often."""
    return "once" if count == 1 else f"{count} times"


def in_words(outs: Sequence[Outcome]) -> list[str]:
    """What the table says."""
    lines = []
    sound = [
        f"{out.name} (with a pause of {duration(out.worst_ms)})" if long(out) else out.name
        for out in outs
        if out.sound
    ]
    if sound:
        lines.append(
            f"* **Nothing went wrong** with {', '.join(sound)}: nobody stood still, no operation "
            "raised, nothing was torn, no acknowledged write was lost."
        )
    for out in outs:
        if out.stops:
            where = "; ".join(f"{kills} ({at})" for _, kills, at in out.stops)
            lines.append(
                f"* **{out.name}** stood still {times(len(out.stops))} in {out.kills} kills and "
                f"was made anew. Kills until then, and where the workers stood: {where}."
            )
        if out.calm_wrong:
            lines.append(
                f"* **{out.name}** * was wrong **before anybody was killed**: {out.calm_wrong} in "
                "the calm moment at the beginning. What stands in the table is therefore not the "
                "work of the kills alone."
            )
        for why, count in out.crashes.most_common(TOLD):
            lines.append(f"* **{out.name}**: {count} workers ended by themselves: {why}.")
        if out.failed:
            lines.append(f"* **{out.name}** could not be measured to the end: {out.failed}")
    return lines


def plain(message: str) -> str:
    """A message without what differs from one time to the next."""
    message = re.sub(r"\bb['\"].*", "…", message)
    return re.sub(r"0x[0-9a-f]+|\d+", "N", message).replace("|", "/")[:110]


def messages(out: Outcome) -> str:
    """The most frequent errors."""
    found: dict[str, int] = {}
    for part in UNDER_KILLS:
        for line, count in out.told.get(part, {}).items():
            found[plain(line)] = found.get(plain(line), 0) + count
    most = sorted(found.items(), key=lambda one: -one[1])[:TOLD]
    return "; ".join(f"`{line}` ({count})" for line, count in most)


def details(out: Outcome) -> list[str]:
    """One line of what else was seen."""
    seen = list(out.notes)
    if out.cleared:
        seen.insert(0, f"{out.cleared} slots of dead readers cleared by newcomers")
    if stale := out.count(STALE, *UNDER_KILLS):
        seen.append(f"{stale} reads showed others a value older than the acknowledged one")
    late = sum(out.errors[part] for part in (AFTER, LAST))
    if late:
        seen.append(f"{late} of the errors came after the last kill")
    if said := messages(out):
        seen.append(f"raised: {said}")
    return [
        out.name, f"{out.operations:,}", str(out.lives),
        "; ".join(seen) or "-",
    ]  # fmt: skip


def document(where: Mapping[str, Any], outs: Sequence[Outcome], absent: Mapping[str, str]) -> str:
    """The whole page."""
    lines = [
        "# Workers killed: shmkv and what else a user would take", "",
        f"{where['date']}, {where['machine']}, {where['memory']}, Python {where['python']}, "
        f"`{where['command']}`, {where['seconds']:.0f} s, load {where['load_before']} before and "
        f"{where['load_after']} afterwards (every count stands under any load, pauses do not). "
        "Made by the run; the method stands in [README.md](README.md).", "",
        f"Six workers; one is killed with SIGKILL every few milliseconds until {where['kills']} "
        f"were killed inside an operation or {where['limit']:g} s are over, and is replaced at "
        "once. Keys and values are the same for all; a value tells whose it is.", "",
        *table(HEAD, map(row, outs)), "",
        "*standstill*: no operation of anybody succeeded for "
        f"{where['hang']:g} s (*hang*; *broken*: operations raised meanwhile); the store was then "
        "made anew. *errors "
        "afterwards*: exceptions that operations of the living raised. *torn*: a mixture, or "
        "bytes that could not be decoded.", "",
        "## In words", "", *in_words(outs), "",
        "## How each was opened", "",
        *table(("store", "version", "set-up"), ([o.name, o.version, o.options] for o in outs)), "",
        "## What else was seen", "",
        *table(
            ("store", "operations", "times made", "seen"), map(details, outs)
        ), "",
        "*machine alone*: for how long at most a process that touches no store was kept from a "
        "processor during that storm. A pause of that size is the machine's, and where one waits "
        "for another, such times add up.",
    ]  # fmt: skip
    if absent:
        lines += ["", "## Not measured", ""]
        lines += [f"* {name}: {why}" for name, why in absent.items()]
    return "\n".join(lines) + "\n"
