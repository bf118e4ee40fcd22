"""The verbs that watch a store live: top, hot, watch, plan.

Owns: their options, their lines and their JSON, and how they end: watching ends with 0 when a
person presses Ctrl-C, and says when the store was removed or made again.

Promises: they attach read-only, but for `hot --count`. Only `top` on the whole screen needs another
library (`shmkv[top]`), and it is imported when that is asked for.

Does not: look or compute (`shmkv/top`).
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import click

import shmkv
from shmkv import config
from shmkv.cli import output
from shmkv.cli.call import DURATION, NEVER, flag, json_option, refuse, verb
from shmkv.cli.output import Failure, size
from shmkv.cli.target import Call, to_key
from shmkv.types import MISSING, Key

if TYPE_CHECKING:
    from shmkv.top.hot import Heat
    from shmkv.top.plan import Plan
    from shmkv.top.watch import Change

NEEDS = "top on the whole screen needs {}: pip install 'shmkv[top]' (--once needs nothing)"
WIDTH = 80  # of text that goes into no terminal


def _interval(default: str, text: str) -> click.Option:
    return click.Option(
        ["--interval"], type=DURATION, default=default, metavar="TIME", help=f"{text} ({default})."
    )


def _prefix() -> click.Option:
    return click.Option(["--prefix"], metavar="TEXT", help="Keys that begin so.")


def _seconds(interval: float) -> float:
    if interval == NEVER:
        refuse("--interval never would show nothing: write 1s, 500ms")
    return interval


def _bytes_of(prefix: str | None) -> bytes | None:
    if not prefix:
        return None
    key = to_key(prefix)
    return key.encode() if isinstance(key, str) else key


def _uid(call: Call) -> int:
    return os.geteuid() if call.owner is None else call.owner


def _key(key: Key) -> object:
    from shmkv.inspect.export import to_json

    return to_json(key)


def _hot_forms(heat: Heat) -> list[dict[str, Any]]:
    return [one._asdict() | {"key": _key(one.key)} for one in heat.hottest]


# ---- top ----------------------------------------------------------------------------------------


@verb(
    "top",
    "",
    flag("--once", help="Two looks, print, end. Needs no other library."),
    _interval("1s", "Between two looks"),
    _prefix(),
    json_option(),
)
def top_(call: Call, once: bool, interval: float, prefix: str | None, as_json: bool) -> None:
    """Show live what happens in a store: rates, memory, processes, hot keys.

    Keys: q quits, s sorts processes, k sorts hot keys, / asks for a prefix of
    keys, p pauses. It only reads. --json goes with --once.
    """
    call.take("")
    seconds = _seconds(interval)
    if as_json and not once:
        refuse("--json needs --once: a screen that goes on is no document")
    with call.open(readonly=True) as store:
        if once:
            _top_once(store, seconds, _bytes_of(prefix), as_json)
            return
        try:
            from shmkv.top.screen import Top
        except ImportError as error:
            raise Failure(NEEDS.format(error.name)) from error
        if not (output.to_terminal() and sys.stdin is not None and sys.stdin.isatty()):
            raise Failure("top needs a terminal: add --once, or --once --json")
        Top(store, uid=_uid(call), interval=seconds, prefix=prefix or "").run()


def _top_once(store: shmkv.Store, seconds: float, prefix: bytes | None, as_json: bool) -> None:
    from shmkv.top import Meter
    from shmkv.top.draw import View, screen_lines
    from shmkv.top.hot import ranked

    meter = Meter(store)
    meter.look()
    time.sleep(seconds)  # rates are of the time between two looks
    frame = meter.look()
    heat, note = None, ""
    try:
        heat = ranked(store, 20, prefix=prefix)
    except shmkv.Corrupt as error:
        note = str(error)
    if as_json:
        form = frame.as_dict(store.name, heat)
        output.json(form | {"hottest": _hot_forms(heat) if heat else None, "problem": note or None})
        return
    shown = b"" if prefix is None else prefix
    view = View(prefix=shown.decode(errors="backslashreplace"), note=note)
    width = shutil.get_terminal_size((WIDTH, 24)).columns if output.to_terminal() else WIDTH
    for line in screen_lines(store.name, frame, meter.histories, heat, width=width, view=view):
        output.line(line.text)


# ---- hot ----------------------------------------------------------------------------------------


@verb(
    "hot",
    "",
    click.Option(
        ["-n"], type=click.IntRange(1, 10_000), default=20, metavar="N", help="So many keys (20)."
    ),
    _prefix(),
    flag("--count", "count", help="Count reads for a moment; it writes counters."),
    _interval("1s", "How long --count counts"),
    json_option(),
)
def hot_(
    call: Call, n: int, prefix: str | None, count: bool, interval: float, as_json: bool
) -> None:
    """List the keys that are read most.

    READS is the counter that reads leave at an item, 0 to 3+: it tells warm
    keys from cold ones, and costs readers nothing. Keys at 3+ it cannot tell
    apart: those in the youngest pages come first. --count can: for a moment it
    lowers the counters of warm keys, looks how fast they rise, and raises them
    again; readers of these keys pay a little meanwhile.
    """
    call.take("")
    from shmkv.top.draw import hot_lines
    from shmkv.top.hot import counted, ranked

    seconds, begin = _seconds(interval), _bytes_of(prefix)
    with call.open(readonly=not count) as store:
        if count:
            heat = counted(store, n, prefix=begin, seconds=seconds)
        else:
            heat = ranked(store, n, prefix=begin)
    if as_json:
        output.json({"counters": list(heat.items), "keys": _hot_forms(heat)})
        return
    width = shutil.get_terminal_size((WIDTH, 24)).columns if output.to_terminal() else 1 << 17
    for line in hot_lines(heat, "heat", width):
        output.line(line.text)


# ---- watch --------------------------------------------------------------------------------------


@verb(
    "watch",
    "KEY",
    _interval("100ms", "Between two looks"),
    click.Option(
        ["--count"], type=click.IntRange(min=1), metavar="N", help="End after so many changes."
    ),
    json_option(),
)
def watch_(call: Call, interval: float, count: int | None, as_json: bool) -> None:
    """Print what becomes of a key, a line a change, until Ctrl-C.

    The first line tells what is there. Looks again and again and only reads:
    changes between two looks are seen as one. Ends with 0, or with 3 when the
    store is removed.
    """
    key = to_key(call.take("KEY")[0])
    seconds = _seconds(interval)
    with call.open(readonly=True) as store:
        try:
            _watch(store, _uid(call), key, seconds, count, as_json)
        except KeyboardInterrupt:
            return


def _watch(
    store: shmkv.Store, uid: int, key: Key, seconds: float, count: int | None, as_json: bool
) -> None:
    from shmkv.top.sample import fate
    from shmkv.top.watch import Watch

    watch, seen = Watch(store, key), -1  # the first line is no change
    while True:
        change = watch.look()
        if change is not None:
            _tell(key, change, as_json)
            output.flush()
            seen += 1
            if count is not None and seen >= count:
                return
        gone = fate(store, uid)
        if gone is not None:
            again = " and made again: watch it anew" if gone == "remade" else ""
            raise Failure(f"store {store.name!r} was removed{again}")
        time.sleep(seconds)  # what is read without a trace wakes nobody: it is looked at again


def _tell(key: Key, change: Change, as_json: bool) -> None:
    now = time.time()
    if as_json:
        output.json(
            {
                "time": now,
                "key": _key(key),
                "what": change.what,
                "old": _form(change.old),
                "new": _form(change.new),
                "ttl": change.ttl,
            }
        )
        return
    clock = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"
    words = [clock, change.what]
    if change.what in ("changed", "deleted", "expired", "evicted", "gone"):
        words.append(_shown(change.old))
    if change.what == "changed":
        words.append("->")
    if change.what in ("found", "set", "changed"):
        words.append(_shown(change.new))
    if change.what == "gone":
        words.append("(deleted or evicted)")
    if change.ttl is not None:
        words.append(f"(ttl {change.ttl:.1f} s)")
    elif change.what == "deadline":
        words.append("(never expires)")
    output.line(" ".join(words))


def _form(value: Any) -> Any:
    """A value in the forms of `export`; null: there was none; else what is known of it."""
    from shmkv.inspect.export import to_json

    if value is MISSING:
        return None
    return to_json(value)


def _shown(value: Any) -> str:
    """A value in a line, cut."""
    text = output.printable(repr(value))
    return text if len(text) <= 200 else f"{text[:199]}…"


# ---- plan ---------------------------------------------------------------------------------------


def _length(text: str) -> int:
    """Bytes from nothing on: 100, 4KiB, 1.5MiB."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)):
        number = text.removesuffix(unit)
        if text.endswith(unit) and number.replace(".", "", 1).isdecimal() and number.isascii():
            return round(float(number) * factor)
    raise ValueError(f"{text!r} is no length: write bytes, 4KiB, 1.5MiB")


class Length(click.ParamType):  # type: ignore[type-arg]  # older ones are not generic
    """Bytes."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        if isinstance(value, int):
            return value
        try:
            return _length(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("plan")
@click.option("--items", type=click.IntRange(1, 1 << 36), required=True, help="So many items.")
@click.option("--avg", type=Length(), required=True, metavar="BYTES", help="Mean of their values.")
@click.option("--key", type=click.IntRange(1, 65_535), default=16, help="Bytes of a key (16).")
@click.option(
    "--values",
    default="fixed",
    metavar="SHAPE",
    help="fixed, uniform, exponential, lognormal or lognormal:SIGMA.",
)
@click.option("--ttl", "deadlines", is_flag=True, help="The items have deadlines.")
@click.option("--no-evict", is_flag=True, help="For a store with evict=False.")
@click.option("--max-size", metavar="SIZE", help="Room to grow to; else four times the size.")
@click.option("--bytes", "exact", is_flag=True, help="Print sizes in bytes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan_(
    items: int,
    avg: int,
    key: int,
    values: str,
    deadlines: bool,
    no_evict: bool,
    max_size: str | None,
    exact: bool,
    as_json: bool,
) -> None:
    """Tell how large a store must be for so many items.

    The size in which all stand before one must leave, written once by one
    process. Items that are overwritten or expire leave garbage behind: who
    does that all the time adds a tenth to a fifth.
    """
    from shmkv.top.plan import SHAPES, SIGMA, Items, Lengths, TooMuch, plan

    shape, _, more = values.partition(":")
    try:
        if shape not in SHAPES or (more and shape != "lognormal"):
            raise ValueError(f"it is one of {', '.join(SHAPES)}, or lognormal:SIGMA")
        sigma = float(more) if more else SIGMA
        if not 0 <= sigma <= 5:
            raise ValueError("SIGMA is between 0 and 5")
        most = None if max_size is None else config.parse_size(max_size, "--max-size")
    except ValueError as error:
        raise click.UsageError(f"{values!r}: {error}" if max_size is None else str(error)) from None
    asked = Items(items, Lengths(avg, shape, sigma), key=key, deadlines=deadlines)
    try:
        found = plan(asked, evict=not no_evict, max_size=most)
    except TooMuch as error:
        raise Failure(str(error)) from error
    if as_json:
        output.json(found.as_dict())
    else:
        _plan_shown(found, exact)


def _plan_shown(found: Plan, exact: bool) -> None:
    parts = (
        ("keys and values", found.bytes_payload),
        ("headers, rounding to 16 B", found.bytes_headers),
        ("ends of pages", found.bytes_ends),
        ("index", found.bytes_index),
        ("kept for cleaning", found.bytes_withheld),
        ("ghost", found.bytes_ghost),
        ("tables", found.bytes_tables),
        ("spare", found.bytes_spare),
    )
    rows = [
        (name, size(number, exact), f"{100 * number / found.size:.1f} %") for name, number in parts
    ]
    output.line(f"size={found.typed}  ({found.bytes_per_item:.1f} B an item)")
    output.table((), rows, right=(1, 2))
