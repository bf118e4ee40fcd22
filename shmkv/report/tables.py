"""The memory map and the items of a report, ready to be shown: rows, bars, labels.

Owns: `MapView` and `ItemsView`, the labels of bounds, and how a sample is told as what it is.

Promises: shares add up to all that was seen; numbers of a whole store are exact, those reckoned
from a sample say "about". Keys are escaped and cut, with their length.

Does not: make HTML, or read stores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from shmkv.inspect import words
from shmkv.report import charts
from shmkv.report.items import Bin, Items, One, Prefix
from shmkv.report.pages import FREE, HELD, INDEX, LEVELS, QUEUED, UNTAKEN, Cell, Map
from shmkv.top.draw import count, percent, safe
from shmkv.top.model import queues
from shmkv.top.sample import Sample
from shmkv.types import Key

KEY_SHOWN, PREFIX_SHOWN = 96, 48  # characters of a key
PLAIN = {UNTAKEN: "not yet taken", FREE: "free", INDEX: "index", HELD: "held"}
OF_STATE = {"free": FREE, "index": INDEX, "held": HELD}
QUARTERS = ("up to a quarter", "a quarter to half", "half to three quarters", "over three quarters")


class MapRow(NamedTuple):
    """Pages of a kind."""

    name: str
    kind: str
    levels: Sequence[int]
    memory: str
    live: str
    garbage: str
    oldest: str


class MapView(NamedTuple):
    """The map, its legend, and what it is."""

    text: str
    svg: Markup
    note: str
    rows: tuple[MapRow, ...]


class Bar(NamedTuple):
    """Items between two bounds."""

    label: str
    width: str
    items: str
    bytes: str


class Bars(NamedTuple):
    """A table of them."""

    title: str
    of: str
    rows: tuple[Bar, ...]
    nothing: str = ""


class PrefixRow(NamedTuple):
    """Items whose keys begin alike."""

    name: str
    is_key: bool
    width: str
    items: str
    share: str
    bytes: str
    mean: str
    never: str


class Large(NamedTuple):
    """An item that is named."""

    key: str
    type: str
    bytes: str
    expires: str


class ItemsView(NamedTuple):
    """What a sample says."""

    text: str
    whole: bool
    tables: tuple[Bars, ...]
    prefixes: tuple[PrefixRow, ...]
    largest: tuple[Large, ...]


# ---- memory -------------------------------------------------------------------------------------


def memory(chart: Map, look: Sample | None) -> MapView:
    """The map and its legend."""
    ages = () if look is None else look.totals["ages"]
    size = words.about(chart.page_bytes)
    each = f"Each cell is a page of {size}"
    if chart.per_cell > 1:
        whole = words.about(chart.per_cell * chart.page_bytes)
        each = f"Each cell stands for {chart.per_cell} pages of {size}, {whole}, and shows what"
        each += " most of them are"
    text = f"{chart.pages:,} pages of {size}: {_taken(chart)}"
    note = f"{each}. The colour is its queue; the stronger, the more of it lives."
    svg = charts.map_svg(chart.cells, _cell_name, f"A map of {text}")
    return MapView(text, svg, note, tuple(_map_rows(chart, ages)))


def _taken(chart: Map) -> str:
    if not chart.untaken:
        return "all of them taken from the system."
    return (
        f"{chart.pages - chart.untaken:,} of them taken from the system, which gives the others"
        " when the store needs them."
    )


def _cell_name(cell: Cell) -> str:
    if cell.kind < QUEUED:
        return PLAIN[cell.kind]
    name = f"main queue {cell.kind - QUEUED}" if cell.kind > QUEUED else "small queue"
    return f"{name}, {QUARTERS[cell.level]} lives"


def queue_name(queue: int) -> str:
    """small queue; main queue 2, items under 1 KiB."""
    if not queue:
        return "small queue, new items"
    return f"main queue {queue}, items under {words.about(64 << 2 * queue)}"


def _map_rows(chart: Map, ages: Sequence[float | None]) -> list[MapRow]:
    rows = []
    for one in queues(chart.parts):
        if one.name in OF_STATE:
            kind = OF_STATE[one.name]
            memory = words.about(one.bytes)
            rows.append(MapRow(PLAIN[kind], f"k{kind}", (LEVELS - 1,), memory, "", "", ""))
            continue
        queue = int(one.name.removeprefix("main ")) if one.name.startswith("main") else 0
        age = ages[queue] if queue < len(ages) else None
        rows.append(
            MapRow(
                queue_name(queue),
                f"k{QUEUED + queue}",
                range(LEVELS),
                words.about(one.bytes),
                percent(one.live / one.bytes if one.bytes else 0.0),
                words.about(one.garbage),
                "-" if age is None else words.ago(age),
            )
        )
    if chart.untaken:
        size = words.about(chart.untaken * chart.page_bytes)
        rows.append(MapRow(PLAIN[UNTAKEN], f"k{UNTAKEN}", (LEVELS - 1,), size, "", "", ""))
    return rows


# ---- items --------------------------------------------------------------------------------------


def of_items(items: Items) -> ItemsView:
    """Tables of a sample."""
    never = (items.never,) if items.never.items and items.deadlines else ()
    deadlines = _bars(items, items.deadlines, _time, never)
    size, age = "Size of key and value", "Age, since written or moved"
    return ItemsView(
        text=_sampled(items),
        whole=items.whole,
        tables=(
            Bars(size, "size", _bars(items, items.sizes, words.about)),
            Bars(age, "age", _bars(items, items.ages, _time)),
            Bars("Time left to the deadline", "left", deadlines, "No item has a deadline."),
        )
        if items.seen
        else (),
        prefixes=tuple(_prefix(items, one) for one in items.prefixes),
        largest=tuple(map(_large, items.largest)),
    )


def _sampled(items: Items) -> str:
    if not items.seen:
        return "None could be read." if items.trouble else "There are none."
    mean = words.about(round(items.bytes / items.seen))
    if items.whole:
        return (
            f"All {items.seen:,} that had not expired were looked at: {words.about(items.bytes)} of"
            f" keys and values, {mean} each."
        )
    share = percent(items.seen / max(items.total, items.seen))
    return (
        f"What follows is reckoned from a random sample: {items.seen:,} of {items.total:,} items,"
        f" {share}. Key and value have {mean} on average."
    )


def _bars(
    items: Items, bins: Sequence[Bin], unit: Callable[..., str], others: Sequence[Bin] = ()
) -> tuple[Bar, ...]:
    """A row for each bin; the longest bar is as long as there is room."""
    most = max((one.items for one in (*bins, *others)), default=1)
    named = [(_between(one, unit), one) for one in bins] + [("never", one) for one in others]
    return tuple(
        Bar(
            label,
            f"{100 * one.items / max(most, 1):.1f}",
            part(one.items / items.seen),
            part(one.bytes / items.bytes),
        )
        for label, one in named
    )


def part(share: float) -> str:
    """A share of all; a small one is told from none."""
    return "< 0.1 %" if 0 < share < 0.0005 else percent(share)


def _between(one: Bin, unit: Callable[..., str]) -> str:
    if one.up_to is None:
        return f"over {unit(one.above)}"
    return f"to {unit(one.up_to)}"


def _time(seconds: float) -> str:
    """A bound: 10 s, 1 min, 6 h, 7 d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _prefix(items: Items, one: Prefix) -> PrefixRow:
    share, most = one.items / items.seen, max(other.items for other in items.prefixes)
    scale = 1.0 if items.whole else max(items.total, items.seen) / items.seen
    about = "" if items.whole else "~ "
    other = "others" if len(items.prefixes) > 1 else "no common prefix"
    return PrefixRow(
        name=other if one.begin is None else shown(one.begin, PREFIX_SHOWN),
        is_key=one.begin is not None,
        width=f"{100 * one.items / most:.1f}",
        items=about + count(one.items * scale),
        share=part(share),
        bytes=about + words.about(round(one.bytes * scale)),
        mean=words.about(round(one.bytes / one.items)),
        never=percent(one.never / one.items),
    )


def _large(one: One) -> Large:
    expires = "never" if one.ttl is None else _left(one.ttl)
    return Large(shown(one.key), one.type, words.about(one.bytes), expires)


def _left(seconds: float) -> str:
    return words.ago(seconds).removesuffix(" ago")


def shown(key: Key, most: int = KEY_SHOWN) -> str:
    """A key that can be seen; of a long one the beginning, and how long it is."""
    data = key if isinstance(key, bytes) else key.encode()
    text = safe(key[: 4 * most])
    return text if len(text) <= most else f"{text[:most]}… ({len(data):,} bytes)"
