"""The verb replay: how a cache trace would fare with a store of some size.

Owns: the words of the command line for traces, sizes and shares, the progress bar, and how results
are shown. It replays against a store of its own that nobody else can see and that is gone
afterwards; stores that exist are not touched.

Does not: replay by itself (`shmkv/replay`), which needs numpy and is imported when it is needed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shmkv import config
from shmkv.cli import output
from shmkv.cli.output import Failure

if TYPE_CHECKING:
    from shmkv.replay import Result, Sizing, Survey, Trace

NEEDS = "replay needs {}: pip install 'shmkv[replay]'"
PICTURES = (".png", ".svg", ".pdf")


class Amount(click.ParamType):  # type: ignore[type-arg]  # older ones are not generic
    """A share such as 10%, or what `number` reads."""

    def __init__(self, name: str, number: Callable[[str], int]) -> None:
        self.name = name
        self._number = number

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | int:
        """A share is a float, a number an int."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # converted before
        try:
            if not value.endswith("%"):
                return self._number(value)
            share = float(value[:-1]) / 100
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 0 <= share <= 10:
            self.fail(f"{value} is out of range", param, ctx)
        return share


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is neither a number of requests nor a share such as 20%")
    return int(text)


def _sizing(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Sizing | None:
    """8KiB; lognormal; lognormal:MEDIAN,SIGMA."""
    if value is None:
        return None
    from_room = _room()
    kind, _, rest = value.partition(":")
    try:
        if kind == "lognormal":
            median, sigma = (float(word) for word in rest.split(",")) if rest else (400, 1.6)
            if not (0 < median < 1e9 and 0 <= sigma < 10):
                raise ValueError("out of range")
            made: Sizing = from_room.Lognormal(median, sigma)
            return made
        size = _bytes(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r}: write bytes, 8KiB, lognormal or lognormal:MEDIAN,SIGMA ({error})"
        ) from None
    fixed: Sizing = from_room.Fixed(size)
    return fixed


def _bytes(text: str) -> int:
    """A size of a value: from nothing on, unlike that of a store."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)):
        number = text.removesuffix(unit)
        if text.endswith(unit) and number.isdecimal():
            return int(number) * factor
    raise ValueError("no size")


def _room() -> Any:
    """The room, which needs numpy."""
    try:
        import shmkv.replay as room
    except ImportError as error:
        raise Failure(NEEDS.format(error.name)) from error
    return room


@dataclass(frozen=True)
class Asked:
    """The options that say what is replayed."""

    trace: Trace
    overwrite: float
    limit: int | None

    def prepared(self) -> Trace:
        """The trace, cut and with overwrites."""
        room, plain = _room(), self.trace
        if not self.overwrite and self.limit is None:
            return plain

        def chunks() -> Iterator[Any]:
            found = plain.chunks() if self.limit is None else room.cut(plain.chunks(), self.limit)
            return room.overwriting(found, self.overwrite) if self.overwrite else found

        made: Trace = room.MadeTrace(plain.name, chunks, plain.length)
        return made


@contextlib.contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[int], None] | None]:
    """A bar for people: on standard error, if that is a terminal."""
    if length == 0 or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:

        def at(position: int) -> None:
            bar.update(position - bar.pos)

        yield at


def _survey(trace: Trace) -> Survey:
    """Go through the trace once, with a bar."""
    room = _room()
    with _progress("reading", trace.length) as at:

        def watched() -> Iterator[Any]:
            for chunk in trace.chunks():
                if at is not None:
                    at(chunk.position)
                yield chunk

        found: Survey = room.survey(watched())
    return found


@click.command("replay")
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--size",
    type=Amount("size", config.parse_size),
    help="The store: 64MiB, or 10% of what a cache of everything would need.",
)
@click.option("--format", type=click.Choice(["text", "arc", "int32"]), help="Else by the name.")
@click.option(
    "--value-size",
    "sizing",
    callback=_sizing,
    metavar="SIZE",
    help="For traces without sizes: 8KiB, lognormal, lognormal:MEDIAN,SIGMA.",
)
@click.option(
    "--overwrite",
    type=click.FloatRange(0, 100),
    default=0,
    metavar="PERCENT",
    help="Turn so many of a hundred reads into writes.",
)
@click.option(
    "--warmup",
    type=Amount("amount", _count),
    default=0,
    help="Requests that are not counted: a number, or 20%.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N requests.")
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Let time pass as if N requests came a second: what a ttl in the trace needs.",
)
@click.option("--lru/--no-lru", default=True, help="Beside LRU with the same memory (it is).")
@click.option(
    "--curve",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw hit ratio over size into a .png, .svg or .pdf.",
)
@click.option("--points", type=click.IntRange(2, 40), default=8, help="Sizes of a curve (8).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay_(
    trace: Path,
    size: float | int | None,
    format: Any,
    sizing: Sizing | None,
    overwrite: float,
    warmup: float | int,
    limit: int | None,
    rate: float | None,
    lru: bool,
    curve: Path | None,
    points: int,
    as_json: bool,
) -> None:
    """Replay a cache trace against a store and tell how it fared.

    Every read that misses is followed by a write, as in a program with a cache.
    The store is made for this and gone afterwards.

    \b
    A trace is a file of lines `key size [op] [ttl]`, or one of the published
    kinds; .gz, .xz and .zst are read as they are:
      text    key size [get|set|del] [seconds]       any other name
      arc     start count ignored ignored            *.lis
      int32   big-endian 32-bit numbers of objects   *.trace
    """
    if size is None and curve is None:
        raise click.UsageError("say --size, or --curve FILE for many sizes")
    if curve is not None and curve.suffix not in PICTURES:
        raise click.UsageError(f"--curve draws {', '.join(PICTURES)}")
    room = _room()
    try:
        found = room.FileTrace.of(trace, format=format, sizing=sizing)
        prepared = Asked(found, overwrite, limit).prepared()
        shares = isinstance(size, float) or isinstance(warmup, float) or curve is not None
        seen = _survey(prepared) if shares else None
        if seen is not None and isinstance(warmup, float):
            warmup = int(seen.requests * warmup)
        options = {"compare": lru, "warmup": warmup, "rate": rate}
        if size is not None:
            _one(prepared, _absolute(size, seen), as_json, options)
        if curve is not None and seen is not None:
            _many(prepared, room.sizes(seen.footprint, points), curve, as_json, options)
    except room.NoSizes as error:
        raise Failure(f"{error}: give --value-size, such as 8KiB or lognormal") from None
    except room.TraceError as error:
        raise Failure(str(error)) from None


def _absolute(size: float | int, seen: Survey | None) -> int:
    """Bytes; a share is one of the footprint."""
    if isinstance(size, int) or seen is None:
        return int(size)
    try:
        return config.parse_size(int(size * seen.footprint))
    except ValueError:
        wanted = output.size(int(size * seen.footprint))
        raise Failure(
            f"{size:.3%} of the footprint ({output.size(seen.footprint)}) is {wanted}: a store has"
            " 2 MiB to 64 GiB"
        ) from None


def _one(trace: Trace, size: int, as_json: bool, options: dict[str, Any]) -> None:
    with _progress("replaying", trace.length) as at:
        result = _room().replay(trace, size, progress=at, **options)
    if as_json:
        output.json(result.as_dict())
    else:
        _show(result)


def _many(
    trace: Trace, sizes: list[int], path: Path, as_json: bool, options: dict[str, Any]
) -> None:
    try:
        from shmkv.replay.curve import draw
    except ImportError as error:
        raise Failure(NEEDS.format(error.name)) from error
    results = []
    with _progress("replaying", trace.length * len(sizes)) as at:
        for number, size in enumerate(sizes):
            base = number * trace.length

            def moved(position: int, base: int = base) -> None:
                if at is not None:
                    at(base + position)

            results.append(_room().replay(trace, size, progress=moved, **options))
    with output.file(str(path)) as stream:
        draw(results, stream, format=path.suffix[1:])
    if as_json:
        output.json([result.as_dict() for result in results])
    else:
        _table(results)


# ---- what is shown ------------------------------------------------------------------------------


def _percent(value: float) -> str:
    return f"{value:.2%}".replace("%", " %")


def _show(result: Result) -> None:
    ours, lru = result.store, result.lru
    output.line(f"{output.printable(result.trace)}: {result.requests:,} requests")
    rows = [
        ["hit ratio", _percent(ours.hit_ratio), _percent(lru.hit_ratio) if lru else ""],
        [
            "byte hit ratio",
            _percent(ours.byte_hit_ratio),
            _percent(lru.byte_hit_ratio) if lru else "",
        ],
        ["misses", f"{ours.misses:,}", f"{lru.misses:,}" if lru else ""],
        ["refused as too large", f"{ours.too_large:,}", f"{lru.too_large:,}" if lru else ""],
        ["failed sets", f"{ours.failed:,}", ""],
        ["utilisation", _percent(result.utilisation), ""],
        ["items", f"{result.items:,}", ""],
        ["copied, bytes per byte written", f"{result.copied:.2f}", ""],
        ["ns per operation", f"{result.ns_per_operation:.0f}", ""],
    ]
    header = ["", f"shmkv {output.size(result.size)}", "LRU" if lru else ""]
    output.table(header, rows, right=[1, 2])
    if result.misses_to_lru is not None:
        output.line(f"misses as a multiple of LRU's: {result.misses_to_lru:.3f}")


def _table(results: list[Result]) -> None:
    rows = [
        [
            output.size(result.size),
            _percent(result.store.hit_ratio),
            _percent(result.lru.hit_ratio) if result.lru else "",
            _percent(result.store.byte_hit_ratio),
            _percent(result.utilisation),
            f"{result.copied:.2f}",
            f"{result.ns_per_operation:.0f}",
        ]
        for result in results
    ]
    header = ["size", "hits", "LRU's", "byte hits", "utilisation", "copied", "ns"]
    output.table(header, rows, right=range(7))
