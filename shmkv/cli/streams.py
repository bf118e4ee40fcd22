"""The verbs that walk a store: scan, export, import.

Owns: how many keys or items go in and out of the process one after the other.

Promises: memory does not grow with the store. An export that could not be finished leaves no file.
An import says how far it came, whatever happens, and never skips a line unasked.

Does not: know the forms of values (`inspect/export.py`) or of lines (`inspect/lines.py`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from typing import BinaryIO

import click

import shmkv
from shmkv.cli import output
from shmkv.cli.call import (
    exact_option,
    flag,
    from_variable,
    json_option,
    refuse,
    table_option,
    verb,
)
from shmkv.cli.output import Failure, named, size, tell
from shmkv.cli.target import Call, to_key
from shmkv.types import Key


def _choice() -> list[click.Option]:
    """Which keys."""
    return [
        click.Option(["--prefix"], metavar="TEXT", help="Keys that begin so."),
        click.Option(["--match"], metavar="PATTERN", help="Keys that fit a pattern: * ? [a-z]."),
        click.Option(["--limit"], type=click.IntRange(min=0), metavar="N", help="At most so many."),
    ]


def _keys(
    store: shmkv.Store, prefix: str | None, match: str | None, limit: int | None
) -> Iterator[Key]:
    begin = to_key(prefix) if prefix else None
    return itertools.islice(store.scan(prefix=begin, match=match), limit)


# ---- scan ---------------------------------------------------------------------------------------


@verb(
    "scan",
    "",
    *_choice(),
    flag("-0", "--null", help="Keys exactly, each followed by a zero byte, as xargs -0 reads."),
    flag("-l", "--long", help="With type, size and seconds to live."),
    exact_option(),
    json_option(),
)
def scan_(
    call: Call,
    prefix: str | None,
    match: str | None,
    limit: int | None,
    null: bool,
    long: bool,
    exact: bool,
    as_json: bool,
) -> None:
    """List keys, one a line, in no order.

    A key that is not printable text, or begins with a double quote, is shown in
    double quotes with escapes; -0 gives every key as it is. --json prints one
    line of JSON a key. A key may come twice while the store's index grows.
    """
    if null and (long or as_json):
        refuse("-0 excludes --long and --json")
    call.take("")
    with call.open(readonly=True) as store:
        for key in _keys(store, prefix, match, limit):
            if null:
                output.put((key.encode() if isinstance(key, str) else key) + b"\0")
            elif long:
                with contextlib.suppress(KeyError):  # it went meanwhile
                    _long(key, store.info(key), exact, as_json)
            elif as_json:
                output.json(_form(key))
            else:
                output.line(output.quoted(key))


def _form(key: Key) -> object:
    if isinstance(key, str):
        return key
    from shmkv.inspect.export import to_json

    return to_json(key)


def _long(key: Key, info: shmkv.Info, exact: bool, as_json: bool) -> None:
    if as_json:
        output.json({"key": _form(key)} | info._asdict())
        return
    ttl = "never" if info.ttl is None else f"{info.ttl:.0f}"
    output.line(f"{info.type:<10} {size(info.size, exact):>12} {ttl:>10}  {output.quoted(key)}")


# ---- export -------------------------------------------------------------------------------------


@verb(
    "export",
    "",
    click.Option(["-o", "--output", "path"], metavar="FILE", help="Write to FILE, mode 600."),
    *_choice(),
)
def export_(
    call: Call, path: str | None, prefix: str | None, match: str | None, limit: int | None
) -> None:
    """Write items as lines of JSON: key, value, and when it expires.

    Types are kept, deadlines as wall-clock time. FILE appears when all is
    written. Items that come or go meanwhile may be in it or not.
    """
    call.take("")
    from shmkv.inspect import lines

    with call.open(readonly=True) as store, _opened(path) as stream:
        for line in lines.dump(store, _keys(store, prefix, match, limit)):
            try:
                text = lines.write(line)
            except ValueError as error:
                raise Failure(f"key {named(line.key)}: {error}") from None
            stream.write(text.encode() + b"\n")


@contextlib.contextmanager
def _opened(path: str | None) -> Iterator[BinaryIO]:
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(output.file(path))
        except OSError as error:
            refuse(f"cannot write {output.of_system(error)}")
        yield stream


# ---- import -------------------------------------------------------------------------------------


@verb(
    "import",
    "[FILE]",
    flag("--skip-bad", help="Report lines that are no items and go on; then exit code 1."),
    flag("--create", help="Create the store if it does not exist."),
    table_option("size", "Of a store to create: 256MiB, 1g; 64MiB."),
    json_option(),
)
def import_(call: Call, skip_bad: bool, create: bool, size: int | None, as_json: bool) -> None:
    """Store the items that `export` wrote, from FILE or standard input.

    Items replace those of the same key; those whose time has passed are left
    out. Prints how many lines were stored, expired, refused by the store and
    bad. A bad line ends it with its number and exit code 3.
    """
    size = None if from_variable("size") else size
    if size is not None and not create:
        refuse("--size goes with --create: a store that exists keeps its size")
    given = call.take("[FILE]")
    from shmkv.inspect import lines

    def bad(error: lines.BadLine) -> None:
        tell(str(error))

    def refused(number: int, key: Key, error: Exception) -> None:
        tell(f"line {number}: key {named(key)}: {error}")

    counts = lines.Loaded()
    try:
        with _input(given) as stream, _target(call, create, size) as store:
            lines.load(store, stream, counts, on_bad=bad if skip_bad else None, on_refused=refused)
    except lines.BadLine as error:
        raise Failure(f"{error}; nothing after it was read") from None
    finally:
        if call.name:
            _report(counts, as_json)
    if counts.refused:
        raise Failure(f"{counts.refused} items were refused")
    if counts.bad:
        raise click.exceptions.Exit(1)


def _report(counts: object, as_json: bool) -> None:
    found = dataclasses.asdict(counts)  # type: ignore[call-overload]
    if as_json:
        output.json(found)
    else:
        output.line(", ".join(f"{what} {count}" for what, count in found.items()))


def _target(call: Call, create: bool, size: int | None) -> shmkv.Store:
    if not create:
        return call.open()
    try:
        return call.open(create=True, size=size)
    except ValueError as error:
        if isinstance(error, shmkv.Error):
            raise
        refuse(str(error))


@contextlib.contextmanager
def _input(given: list[str]) -> Iterator[BinaryIO]:
    if not given or given[0] == "-":
        yield output.stdin()
        return
    try:
        stream = open(given[0], "rb")  # noqa: SIM115 - errors of opening only
    except OSError as error:
        refuse(f"cannot read {output.of_system(error)}")
    with stream:
        yield stream
