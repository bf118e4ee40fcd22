"""The view as lines of text, for a screen of any width from 40 columns.

Owns: what stands where and how figures are written; `screen_lines` is all of it, in sections.

Promises: no line is longer than the width. Narrower screens lose columns in the order of their
worth, never a figure in the middle. Keys are escaped: what others stored cannot act on a terminal.

Does not: colour, scroll, or know a library for screens. Lines that tell of something bad say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shmkv.top.hot import Heat
from shmkv.top.model import (
    Frame,
    History,
    Process,
    ordered,
    ordered_keys,
    queues,
    sparkline,
    state_lines,
)
from shmkv.types import Key

WIDTH_LEAST = 36  # a screen of 40 columns, less what surrounds the text
WIDE = 64  # columns from which a list shows all it has
ROWS_SHOWN = 12  # processes; of the others the number is told
WHY_LEFT = {
    "small": "not read in the small queue",
    "main": "read too seldom in a main queue",
    "index": "index segment full",
    "expired": "deadline passed",
}


class Line(NamedTuple):
    """A line, and how it is to be shown: plain, head, bad or dim."""

    text: str
    style: str = "plain"


class View(NamedTuple):
    """What a person has chosen to see."""

    order: str = "reads"
    key_order: str = "heat"
    prefix: str = ""
    note: str = ""
    """Something that must be seen: the store was removed, bytes are damaged."""


# ---- figures ------------------------------------------------------------------------------------


def count(number: float) -> str:
    """At most five characters: 0, 0.3, 42, 9,999, 12.3k, 4.2M."""
    if 0 < number < 9.95:
        return f"{number:.1f}".removesuffix(".0")
    for unit, factor in (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)):
        scaled = number / factor
        if scaled < 999.5 or unit == "T":
            return (f"{scaled:.0f}" if not unit or scaled >= 99.95 else _short(scaled)) + unit
        if not unit and scaled < 9_999.5:
            return f"{scaled:,.0f}"
    raise AssertionError(number)


def _short(scaled: float) -> str:
    return f"{scaled:.1f}".removesuffix(".0")


def size(number: float) -> str:
    """Bytes in at most six characters: 512 B, 1.5 K, 240 M."""
    for unit, factor in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if number >= factor:
            scaled = number / factor
            return (f"{scaled:.0f}" if scaled >= 99.95 else _short(scaled)) + f" {unit}"
    return f"{number:.0f} B"


def percent(ratio: float | None) -> str:
    """At most six characters."""
    if ratio is None:
        return "-"
    return "100 %" if ratio >= 0.9995 else f"{ratio * 100:.1f} %"


def duration(seconds: float) -> str:
    """At most four characters: 9s, 12m, 3h, 400d."""
    for unit, factor, most in (("s", 1, 100), ("m", 60, 6000), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds / factor:.0f}{unit}"
    return f"{min(seconds / 86_400, 999):.0f}d"


def safe(key: Key) -> str:
    """A key that cannot act on a terminal."""
    text = key if isinstance(key, str) else key.decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def fitted(text: str, width: int) -> str:
    """Cut at the right, with a sign that it was."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


# ---- sections -----------------------------------------------------------------------------------


def screen_lines(
    name: str,
    frame: Frame,
    histories: dict[str, History],
    heat: Heat | None,
    *,
    width: int,
    view: View | None = None,
) -> list[Line]:
    """All of it."""
    seen, width = view or View(), max(width, WIDTH_LEAST)
    lines = [
        *_head(name, frame, seen, width),
        Line(""),
        *_rates(frame, histories, width),
        Line(""),
        *_memory(frame, width),
        Line(""),
        *_leaving(frame, width),
        *_states(frame, width),
        Line(""),
        *_processes(ordered(frame.processes, seen.order), seen.order, width),
        Line(""),
        *_hottest(heat, seen, width),
    ]
    return [line._replace(text=fitted(line.text.rstrip(), width)) for line in lines]


def _head(name: str, frame: Frame, seen: View, width: int) -> list[Line]:
    totals = frame.now.totals
    words = [
        f"{count(totals['items'])} items",
        size(totals["size"]),
        f"{totals['attached']} of {totals['rows']} attached",
    ]
    head = f"{name}  {'  '.join(words)}"
    if len(head) > width:
        room = width - len("  ".join(words[:2])) - 2
        head = f"{fitted(name, max(room, 8))}  {'  '.join(words[:2])}"
    lines = [Line(head, "head")]
    if seen.note:
        lines += [Line(text, "bad") for text in _wrapped(seen.note, width)]
    return lines


def _wrapped(text: str, width: int) -> Iterable[str]:
    import textwrap

    return textwrap.wrap(text, width)


def _rates(frame: Frame, histories: dict[str, History], width: int) -> list[Line]:
    named = (
        ("reads/s", "reads", count(frame.reads), None),
        ("hit ratio", "hit_ratio", percent(frame.hit_ratio), 1.0),
        ("writes/s", "writes", count(frame.writes), None),
        ("evicted/s", "evictions", count(frame.rates["evictions"]), None),
    )
    room = width - 20
    lines = [
        Line(f"{title:<10}{figure:>8}  {histories[what].line(room, most=most)}")
        for title, what, figure, most in named
    ]
    total = frame.hit_ratio_total
    if total is not None:
        lines.append(Line(f"{'since made':<10}{percent(total):>8}  of all reads hit", "dim"))
    return lines


def _memory(frame: Frame, width: int) -> list[Line]:
    whole = frame.now.totals["size"]
    wide = width >= WIDE
    states = f"  {'open':>7}{'closed':>8}{'cleaning':>10}" if wide else ""
    lines = [Line(f"{'memory':<10}{'bytes':>8}{'live':>8}{'garbage':>9}{states}", "head")]
    for one in queues(frame.now.memory):
        if one.name in ("free", "index", "held"):
            text = f"{one.name:<10}{size(one.bytes):>8}"
        else:
            text = f"{one.name:<10}{size(one.bytes):>8}{size(one.live):>8}{size(one.garbage):>9}"
            if wide:
                text += "  " + "".join(
                    f"{size(one.states[state]) if state in one.states else '-':>{room}}"
                    for state, room in (("open", 7), ("closed", 8), ("cleaning", 10))
                )
        bar = sparkline([one.bytes / whole], most=1.0) if not wide else ""
        room = width - 64
        if room >= 10:
            bar = "█" * round(one.bytes / whole * room)
        lines.append(Line(f"{text:<{63 if wide else 36}} {bar}"))
    return lines


def _leaving(frame: Frame, width: int) -> list[Line]:
    lines = [Line(f"{'left':<10}{'/s':>8}{'in all':>9}", "head")]
    for why, (rate, total) in frame.leaving().items():
        text = f"{why:<10}{count(rate):>8}{count(total):>9}"
        if width >= WIDE:
            text += f"  {WHY_LEFT[why]}"
        lines.append(Line(text))
    return lines


def _states(frame: Frame, width: int) -> list[Line]:
    lines = []
    for name, text, bad in state_lines(frame.now):
        first, *rest = list(_wrapped(text, width - 10)) or [""]
        style = "bad" if bad else "plain"
        lines.append(Line(f"{name:<10}{first}", style))
        lines += [Line(f"{'':<10}{more}", style) for more in rest]
    return lines


def _processes(found: Sequence[Process], order: str, width: int) -> list[Line]:
    wide = width >= WIDE
    room = (9, 9, 8, 9) if wide else (7, 7, 7, 7)
    words = ("process", "reads/s", "hits", "writes/s") if wide else ("pid", "reads", "hits", "sets")
    head = _columns(words, room)
    head += f"{'evicts/s':>10}{'age':>6}  program (by {order})" if wide else f"  by {order}"
    lines = [Line(head, "head")]
    for one in found[:ROWS_SHOWN]:
        who = "daemon" if one.is_daemon else one.program
        figures = (str(one.pid), count(one.reads), percent(one.hit_ratio), count(one.writes))
        text = _columns(figures, room)
        text += f"{count(one.evictions):>10}{duration(one.age):>6}" if wide else ""
        who = safe(who) if one.alive else "ended"
        lines.append(Line(f"{text}  {who}", "plain" if one.alive else "bad"))
    if len(found) > ROWS_SHOWN:
        lines.append(Line(f"{'':>9}and {len(found) - ROWS_SHOWN} more", "dim"))
    if not found:
        lines.append(Line("nobody is attached to write", "dim"))
    return lines


def _columns(words: Sequence[str], room: Sequence[int]) -> str:
    return "".join(f"{word:>{width}}" for word, width in zip(words, room, strict=True))


def _hottest(heat: Heat | None, seen: View, width: int) -> list[Line]:
    by = "" if seen.key_order == "heat" else f" (by {seen.key_order})"
    with_prefix = f" beginning {safe(seen.prefix)}" if seen.prefix else ""
    if heat is None:
        return [Line(f"hottest keys{with_prefix}: not looked yet", "head")]
    lines = hot_lines(heat, seen.key_order, width)
    lines[0] = Line(f"{lines[0].text}{with_prefix}{by}", "head")
    return lines


def hot_lines(heat: Heat, order: str, width: int) -> list[Line]:
    """Hot keys, one a line, under how many items there are of each warmth."""
    wide, counted = width >= WIDE, any(one.rate is not None for one in heat.hottest)
    head = f"{'reads/s' if counted else 'reads':>7}" + (f"{'age':>6}{'bytes':>8}" if wide else "")
    lines = [Line(f"{head}  hottest key", "head")]
    for one in ordered_keys(heat.hottest, order):
        reads = "3+" if one.counter == 3 else str(one.counter)
        if one.rate is not None:
            reads = (">" if one.beyond else "") + count(one.rate)
        text = f"{reads:>7}" + (f"{duration(one.age):>6}{size(one.size):>8}" if wide else "")
        lines.append(Line(f"{text}  {fitted(safe(one.key), width - len(text) - 2)}"))
    if not heat.hottest:
        lines.append(Line("no items", "dim"))
    elif heat.items[3] > len(heat.hottest) and not counted:
        lines.append(Line(f"{'':>7}  {count(heat.items[3])} items stand at 3+", "dim"))
    return lines
