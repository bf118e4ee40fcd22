"""What a report says: the figures and the sentences of its page.

Owns: `View`, everything the template is given, and how it follows from what was seen.

Promises: figures carry their units; what is not known is said, with what to do about it; what is
reckoned from a sample says so. Keys and names are escaped so that nothing in them is invisible; the
template escapes what would be markup. No store is touched.

Does not: make HTML (`page`), or reckon with items (`items`, `tables`).
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

import shmkv
from shmkv.config import show_size
from shmkv.history import Curve, Moment
from shmkv.inspect import words
from shmkv.report import charts, tables
from shmkv.report.gather import Seen
from shmkv.report.tables import ItemsView, MapView
from shmkv.top.draw import WHY_LEFT, count, percent, safe
from shmkv.top.model import Frame, state_lines

PROCESSES = 24  # that are named
FROM = {"small": "small queue", "main": "main queues", "index": "the index", "expired": "any queue"}
COUNTED = {"small": "evicted", "main": "evicted_main", "index": "evicted_index"}
UNREAD = "This could not be looked at: see above what is wrong."
ALIKE = 0.0005  # hit ratios that are shown as the same


class Figure(NamedTuple):
    """A figure of the head."""

    label: str
    value: str
    note: str


class Told(NamedTuple):
    """A sentence, and what shows it."""

    text: str
    pictures: Sequence[Markup] = ()
    note: str = ""
    command: str = ""
    """To be typed, where nothing is known."""


class Left(NamedTuple):
    """Items that left."""

    why: str
    items: str
    words: str


class State(NamedTuple):
    """A line on what state the store is in."""

    name: str
    text: str
    bad: bool


class Process(NamedTuple):
    """A process that is attached to write."""

    pid: str
    program: str
    since: str
    ended: bool


@dataclass(frozen=True, slots=True)
class View:
    """The page, before it is HTML."""

    name: str
    version: str
    lead: str
    troubles: tuple[str, ...]
    figures: tuple[Figure, ...]
    past: Told
    what_if: Told
    map: MapView | None
    items: ItemsView | None
    left: tuple[Left, ...]
    states: tuple[State, ...]
    processes: tuple[Process, ...]
    attached: str
    made: str
    more: str
    command: str
    """To be typed for that."""
    unread: str = UNREAD


def view(seen: Seen, zone: dt.tzinfo) -> View:
    """What is said of a store, with the clock of a zone."""
    frame = None if seen.sample is None else Frame.of(None, seen.sample)
    return View(
        name=seen.found.name,
        version=shmkv.__version__,
        lead=_lead(seen, zone),
        troubles=tuple(seen.troubles),
        figures=tuple(_figures(seen, frame)),
        past=_past(seen, zone),
        what_if=_what_if(seen, zone),
        map=None if seen.map is None else tables.memory(seen.map, seen.sample),
        items=None if seen.items is None else tables.of_items(seen.items),
        left=tuple(_left(seen, frame)),
        states=tuple(_states(seen)),
        processes=tuple(_processes(seen)),
        attached=_attached(seen),
        made=_made(seen),
        more="to see it live" if frame is not None else "what to do about it",
        command=f"shmkv {'doctor' if frame is None else 'top'} {seen.found.name}",
    )


# ---- the head -----------------------------------------------------------------------------------


def clock(when: float, zone: dt.tzinfo) -> str:
    """A moment, to the minute, in one piece."""
    return _one_piece(dt.datetime.fromtimestamp(when, zone).strftime("%d %b %Y, %H:%M"))


def _one_piece(text: str) -> str:
    return text.removeprefix("0").replace(" ", "\u00a0")


def _lead(seen: Seen, zone: dt.tzinfo) -> str:
    at = dt.datetime.fromtimestamp(seen.when, zone).strftime("%d %b %Y, %H:%M:%S %Z").strip()
    at = _one_piece(at)
    if seen.sample is None:
        return f"What is left of a shmkv store, as it lay in its file on {at}."
    totals = seen.sample.totals
    born = words.ago(seen.when - totals["created"])
    return f"A shmkv store of {_size(totals['size'])}, created {born}, as it was on {at}."


def _size(number: int) -> str:
    """A size as it was asked for."""
    return show_size(number).replace("GiB", " GiB").replace("MiB", " MiB").replace("KiB", " KiB")


def _figures(seen: Seen, frame: Frame | None) -> list[Figure]:
    if frame is None:
        return _salvaged(seen)
    totals = frame.now.totals
    reads = totals["hits"] + totals["misses"]
    live, size = totals["bytes_live"], totals["size"]
    room = f"it may grow to {words.about(totals['max_size'])}"
    return [
        Figure(
            "Hit ratio",
            percent(frame.hit_ratio_total),
            f"of {plural(reads, 'read')}" if reads else "nothing was read yet",
        ),
        Figure("Items", count(totals["items"]), f"{totals['items']:,} in the index"),
        Figure("Live bytes", words.about(live), f"{percent(live / size)} of {words.about(size)}"),
        Figure("Memory taken", words.about(totals["bytes_backed"]), room),
        Figure("Evicted", count(totals["evictions"]), f"{count(totals['expired'])} more expired"),
        Figure("Attached", str(totals["attached"]), f"to write; {totals['rows']} can be"),
    ]


def _salvaged(seen: Seen) -> list[Figure]:
    """What the file of a damaged store tells."""
    figures = [
        Figure("State", seen.found.state, "as its header tells"),
        Figure("File", words.about(seen.found.file_bytes), f"mode {seen.found.mode:04o}"),
        Figure("Memory taken", words.about(seen.found.memory), "by its file"),
    ]
    if seen.counts is not None:
        hits, misses = seen.counts["hits"], seen.counts["misses"]
        ratio = hits / (hits + misses) if hits + misses else None
        note = f"of {plural(hits + misses, 'read')}"
        figures.insert(0, Figure("Hit ratio", percent(ratio), note))
        figures.append(Figure("Sets", count(seen.counts["sets"]), "since it was created"))
    return figures


def plural(number: int, word: str) -> str:
    """1 read, 12.3k reads."""
    return f"{count(number)} {word}{'' if number == 1 else 's'}"


# ---- time, and other sizes ----------------------------------------------------------------------


def _past(seen: Seen, zone: dt.tzinfo) -> Told:
    moments = [one for one in seen.past.moments if one.seconds > 0]
    if not moments:
        return _not_kept(seen, "history")
    text = past_words(moments, zone)
    return Told(text, charts.past(moments, zone, f"A chart of the past: {text}"))


def past_words(moments: Sequence[Moment], zone: dt.tzinfo) -> str:
    """The past in a sentence or two."""
    last = moments[-1]
    span = _span(last.start + last.seconds - moments[0].start)
    hits, misses = sum(one.hits for one in moments), sum(one.misses for one in moments)
    if not hits + misses:
        return f"Nothing was read in the {span} that the daemon remembers."
    ratio = percent(hits / (hits + misses))
    text = f"{ratio} of {plural(hits + misses, 'read')} hit in the {span} that the daemon"
    return f"{text} remembers.{_lowest(moments, zone)}"


def _lowest(moments: Sequence[Moment], zone: dt.tzinfo) -> str:
    """When fewest reads hit, of moments with a share of the reads that says something."""
    most = max(one.hits + one.misses for one in moments)
    busy = [one for one in moments if (one.hits + one.misses) * 10 >= most]
    low = min(busy, key=lambda one: one.hits / (one.hits + one.misses))
    if len(busy) < 2:
        return ""
    ratio = percent(low.hits / (low.hits + low.misses))
    return f" Fewest did from {clock(low.start, zone)}, for {_span(low.seconds)}: {ratio}."


def _span(seconds: float) -> str:
    return words.ago(seconds).removesuffix(" ago")


def _not_kept(seen: Seen, what: str) -> Told:
    """Why there is no history or curve."""
    if seen.sample is None:
        return Told(UNREAD)
    if seen.sample.has_daemon:
        return Told(f"The daemon of this store has kept no {what} yet.")
    text = f"No daemon has kept a {what}. One does from the moment it is started:"
    return Told(text, command=f"shmkv daemon {seen.found.name}")


def _what_if(seen: Seen, zone: dt.tzinfo) -> Told:
    curve = seen.past.curve
    if curve is None or not curve.points or seen.sample is None:
        return _not_kept(seen, "curve of hit ratio over size")
    now: int = seen.sample.totals["size"]
    text = what_if_words(curve, now)
    since, until = clock(curve.since, zone), clock(curve.until, zone)
    note = (
        f"Reckoned from {plural(curve.requests, 'request')} for {plural(curve.keys, 'key')},"
        f" {_share(curve.rate)} of all keys, between {since} and {until}; the store itself, of"
        f" {words.about(curve.size)} then, hit {percent(curve.measured)} in that time."
    )
    label = f"A chart of hit ratio over size. {text}"
    return Told(text, charts.what_if(curve, now, label), note)


def what_if_words(curve: Curve, now: int) -> str:
    """What half and twice the present size would bring."""
    here = hit_ratio_at(curve, now)
    half, twice = _other(curve, now, here, 0.5), _other(curve, now, here, 2.0)
    text = " ".join(filter(None, (half, twice)))
    return text or f"The curve does not reach half or twice the present {words.about(now)}."


def _share(ratio: float) -> str:
    return percent(ratio) if ratio >= 0.001 else f"{ratio * 100:.2g} %"


def hit_ratio_at(curve: Curve, size: int) -> float | None:
    """The curve at a size, on a scale of doublings; None: it does not reach there."""
    points = curve.points
    for low, high in itertools.pairwise(points):
        if low.size <= size <= high.size and low.size < high.size:
            along = math.log(size / low.size) / math.log(high.size / low.size)
            return low.hit_ratio + along * (high.hit_ratio - low.hit_ratio)
    return next((one.hit_ratio for one in points if one.size == size), None)


def _other(curve: Curve, now: int, here: float | None, times: float) -> str:
    """A sentence on another size."""
    word, size = "half" if times < 1 else "twice", int(times * now)
    there = hit_ratio_at(curve, size)
    if there is None or here is None:
        return ""
    text = f"With {word} the memory ({words.about(size)}) {percent(there)} of reads would hit"
    more = there - here
    if abs(more) < ALIKE:
        return f"{text}, as with the present {words.about(now)}."
    points = f"{abs(more) * 100:.1f} points {'more' if more > 0 else 'fewer'}"
    return f"{text}, {points} than with the present {words.about(now)}."


# ---- lists --------------------------------------------------------------------------------------


def _left(seen: Seen, frame: Frame | None) -> list[Left]:
    if frame is not None:
        totals = {why: total for why, (_, total) in frame.leaving().items()}
    else:
        counts = seen.counts or {}
        totals = {why: counts.get(COUNTED.get(why, why), 0) for why in FROM} if counts else {}
    return [
        Left(FROM[why], f"{totals[why]:,}" if why in totals else "not known", WHY_LEFT[why])
        for why in FROM
    ]


def _states(seen: Seen) -> list[State]:
    found = seen.found
    if seen.sample is None:
        return [
            State("file", str(found.path), False),
            State("state", f"{found.state}: {found.why}" if found.why else found.state, True),
        ]
    lines = [State(*line) for line in state_lines(seen.sample)]
    known = {line.name for line in lines}
    if "journal" not in known:
        lines.insert(1, State("journal", "none", False))
    if "snapshot" not in known:
        lines.insert(2, State("snapshot", "none: what is in memory ends with it", False))
    leave = "items leave to make room" if found.evict else "a full store refuses writes"
    return [*lines, State("when full", leave, False), State("file", str(found.path), False)]


def _processes(seen: Seen) -> list[Process]:
    rows = () if seen.sample is None else seen.sample.attachments[:PROCESSES]
    return [
        Process(
            str(one.pid),
            "ended" if not one.alive else "daemon" if one.is_daemon else safe(one.program) or "-",
            words.ago(seen.when - one.since),
            not one.alive,
        )
        for one in rows
    ]


def _attached(seen: Seen) -> str:
    if seen.sample is None:
        return f"{seen.found.attached} living, as far as its header tells."
    many = len(seen.sample.attachments)
    if not many:
        return "Nobody is attached to write. Who only reads leaves no trace."
    more = f"And {many - PROCESSES} more. " if many > PROCESSES else ""
    return f"{more}Who only reads leaves no trace."


def _made(seen: Seen) -> str:
    sampled, took = "", f"{seen.took:.1f} s" if seen.took >= 1 else f"{seen.took * 1000:.0f} ms"
    if seen.items is not None and not seen.items.whole:
        share = percent(seen.items.seen / max(seen.items.total, seen.items.seen, 1))
        sampled = f" {seen.items.seen:,} items, {share} of all, were looked at."
    return (
        f"Made by shmkv {shmkv.__version__}, which read the store for {took} without a lock and"
        f" changed nothing.{sampled}"
    )
