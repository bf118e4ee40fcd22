"""The verbs on keys: get, set, del, exists, incr, ttl.

Owns: how values are read from a command line; how they are shown is in `getting`.

Promises: what goes in as bytes is stored byte for byte.

Does not: create stores, or hold more than one value in memory.
"""

from __future__ import annotations

import os
import re
from typing import Any

import click

from shmkv.cli import getting, output
from shmkv.cli.call import DURATION, NEVER, flag, json_option, refuse, verb
from shmkv.cli.getting import miss
from shmkv.cli.output import Failure, named
from shmkv.cli.target import Call, no, to_key

TYPES = ("str", "bytes", "int", "float", "bool", "none", "json")
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_INT = r"[+-]?[0-9]+"
_FLOAT = r"(?ai)[+-]?(nan|inf|(?=\.?[0-9])[0-9]*\.?[0-9]*(e[+-]?[0-9]+)?)"


def _ttl_option(help: str) -> click.Option:
    return click.Option(["--ttl"], type=DURATION, metavar="TIME", help=help)


def _seconds(ttl: float | None) -> float | None:
    return None if ttl == NEVER else ttl


# ---- get ----------------------------------------------------------------------------------------


@verb(
    "get",
    "KEY",
    flag("--raw", help="Exactly the bytes of the value, of whatever codec."),
    json_option(),
    click.Option(["-o", "--output", "path"], metavar="FILE", help="Write the exact value to FILE."),
)
def get_(call: Call, raw: bool, as_json: bool, path: str | None) -> None:
    """Print a value. Exit code 1 if there is none.

    Text ends with a newline of its own, bytes do so only on a terminal; with
    --raw or -o neither does. Other values are one readable line; --json gives
    every type a form of its own, as in `export`. On a terminal, characters that
    are not printable are escaped unless --raw is given.
    """
    if raw and as_json:
        refuse("--raw and --json exclude each other")
    getting.get(call, raw=raw, as_json=as_json, path=path)


# ---- set ----------------------------------------------------------------------------------------


@verb(
    "set",
    "KEY [VALUE]",
    click.Option(
        ["--type", "kind"], type=click.Choice(TYPES), default="str", help="What VALUE is; str."
    ),
    click.Option(["--file", "path"], metavar="FILE", help="The value is what FILE holds."),
    _ttl_option("It expires after this time: 90, 500ms, 15m, 2h, 7d; else never."),
    flag("--nx", help="Only if the key is new; else exit code 1."),
    flag("--xx", help="Only if the key is there; else exit code 1."),
)
def set_(call: Call, kind: str, path: str | None, ttl: float | None, nx: bool, xx: bool) -> None:
    """Store a value, and replace its deadline.

    VALUE is text unless --type says otherwise; `-` is standard input, exactly as
    it is. `--type json` reads the forms of `get --json` and `export`;
    `--type none` takes no VALUE.
    """
    if nx and xx:
        refuse("--nx and --xx exclude each other")
    if kind == "none" and path is not None:
        refuse("--type none takes no value, so no --file")
    given = call.take("KEY" if kind == "none" or path is not None else "KEY VALUE")
    key = to_key(given[0])
    value = _value(kind, _data(given[1] if len(given) > 1 else None, path))
    with call.open() as store:
        if nx:
            done = store.add(key, value, ttl=_seconds(ttl))
        elif xx:
            done = store.replace(key, value, ttl=_seconds(ttl))
        else:
            store.set(key, value, ttl=_seconds(ttl))
            done = True
    if not done:
        no(f"store {call.name!r} has {'a' if nx else 'no'} key {named(key)}")


def _data(arg: str | None, path: str | None) -> bytes:
    """The bytes of the value as given: from the line, from a file, from standard input."""
    if path is None and arg is None:
        return b""
    if path is None and arg is not None and arg != "-":
        return os.fsencode(arg)
    if path is None or path == "-":
        return output.stdin().read()
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        refuse(f"cannot read {output.of_system(error)}")


def _value(kind: str, data: bytes) -> Any:
    """The value of a type that bytes spell."""
    if kind == "bytes":
        return data
    if kind == "none":
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        refuse(f"the value is no text (UTF-8), as --type {kind} needs: use --type bytes")
    if kind == "str":
        return text
    text = text.strip()
    if kind == "json":
        from shmkv.inspect import export

        try:
            return export.from_json(export.loads(text))
        except ValueError as error:
            refuse(f"the value: {error}")
    try:
        if kind == "int" and re.fullmatch(_INT, text):
            return int(text)
        if kind == "float" and re.fullmatch(_FLOAT, text):
            return float(text)
    except ValueError as error:
        refuse(f"the value: {error}")
    if kind == "bool" and text.lower() in WORDS:
        return WORDS[text.lower()]
    refuse(f"{text[:60]!r} is no {kind}")


# ---- del, exists --------------------------------------------------------------------------------


@verb("del", "KEY...", json_option())
def del_(call: Call, as_json: bool) -> None:
    """Delete keys and print how many there were. Exit code 1 if none."""
    keys = [to_key(arg) for arg in call.take("KEY...")]
    with call.open() as store:
        count = store.delete_many(keys)
    if as_json:
        output.json({"deleted": count})
    else:
        output.line(str(count))
    if not count:
        raise click.exceptions.Exit(1)


@verb("exists", "KEY...", json_option())
def exists_(call: Call, as_json: bool) -> None:
    """Say by the exit code whether all of the keys are there.

    0: all of them; 1: one is missing. Prints nothing; --json says which.
    """
    keys = [to_key(arg) for arg in call.take("KEY...")]
    with call.open(readonly=True) as store:
        found = [key in store for key in keys]
    if as_json:
        from shmkv.inspect import export

        pairs = zip(keys, found, strict=True)
        output.json([{"key": export.to_json(key), "exists": there} for key, there in pairs])
    if not all(found):
        raise click.exceptions.Exit(1)


# ---- incr, ttl ----------------------------------------------------------------------------------


@verb(
    "incr",
    "KEY [DELTA]",
    _ttl_option("Lifetime of the counter; counts only when this creates it."),
    click.Option(
        ["--default", "start"],
        metavar="N",
        default="0",
        help="What a new counter starts from (0); none: a missing key is exit code 1.",
    ),
    json_option(),
)
def incr_(call: Call, ttl: float | None, start: str, as_json: bool) -> None:
    """Add DELTA (1) to a counter, in one step, and print the sum."""
    first, *more = call.take("KEY [DELTA]")
    key, delta = to_key(first), _whole(more[0], "DELTA") if more else 1
    default = None if start == "none" else _whole(start, "--default")
    with call.open() as store:
        try:
            total = store.incr(key, delta, default=default, ttl=_seconds(ttl))
        except KeyError:
            miss(call, key)
        except (TypeError, OverflowError) as error:
            raise Failure(f"key {named(key)}: {error}") from None
    if as_json:
        output.json(total)
    else:
        output.line(str(total))


def _whole(text: str, what: str) -> int:
    if not re.fullmatch(_INT, text) or len(text) > 20:
        refuse(f"{what} must be a whole number of 64 bits, not {text[:60]!r}")
    return int(text)


@verb("ttl", "KEY [TIME]", json_option())
def ttl_(call: Call, as_json: bool) -> None:
    """Print the seconds until a key expires, or `never`; or set them.

    TIME is seconds, or 500ms, 15m, 2h, 7d, or never. Exit code 1 if the key is
    missing. --json prints a number or null.
    """
    first, *more = call.take("KEY [TIME]")
    key = to_key(first)
    if more:
        ttl = DURATION.convert(more[0], None, click.get_current_context())
        with call.open() as store:
            if not store.touch(key, _seconds(ttl)):
                miss(call, key)
        return
    with call.open(readonly=True) as store:
        try:
            left = store.ttl(key)
        except KeyError:
            miss(call, key)
    if as_json:
        output.json(left)
    else:
        output.line("never" if left is None else f"{left:.3f}")
