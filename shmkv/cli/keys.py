"""The verbs on keys: get, set, del, exists, incr, ttl.

Owns: how values are written and read on a command line. Text and bytes are themselves; everything
else is one line, for containers the JSON of `inspect/export.py`.

Promises: what goes in as bytes is stored and comes out byte for byte. A value of a codec other than
"safe" is never decoded here: no pickle is run.

Does not: create stores, or hold more than one value in memory.
"""

from __future__ import annotations

import os
import re
from typing import Any, NoReturn

import click

from shmkv.cli import output
from shmkv.cli.call import DURATION, NEVER, Call, flag, json_option, no, refuse, to_key, verb
from shmkv.cli.output import Failure, named
from shmkv.codec import Encoded
from shmkv.types import Key

TYPES = ("str", "bytes", "int", "float", "bool", "none", "json")
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
SCALARS = ("$decimal", "$uuid", "$date", "$datetime", "$time", "$timedelta")
DECIMAL_BITS = 2048  # larger ints are shown in hexadecimal, as in JSON
_INT = r"[+-]?[0-9]+"
_FLOAT = r"(?ai)[+-]?(nan|inf|(?=\.?[0-9])[0-9]*\.?[0-9]*(e[+-]?[0-9]+)?)"


def _miss(call: Call, key: Key) -> NoReturn:
    no(f"store {call.name!r} has no key {named(key)}")


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
    key = to_key(call.take("KEY")[0])
    with call.open(readonly=True) as store:
        try:
            value = store._get_encoded(key)
        except KeyError:
            _miss(call, key)
    if as_json:
        from shmkv.inspect import export

        ascii_only = path is None and output.to_terminal()
        data = export.dumps(export.to_json(value), ascii_only=ascii_only).encode() + b"\n"
    else:
        data = _shown(key, value, exact=raw or path is not None, any_codec=raw)
    with output.file(path) as stream:
        stream.write(data)


def _shown(key: Key, value: Any, *, exact: bool, any_codec: bool) -> bytes:
    """The bytes to write for a value."""
    if isinstance(value, Encoded):
        if not any_codec:
            raise Failure(
                f"the value of key {named(key)} was written by codec {value.codec!r}, which is not"
                " decoded here: --raw gives its bytes"
            )
        return bytes(value.data)
    if isinstance(value, bytes):
        if exact or not output.to_terminal():
            return value
        return output.visible(value.decode(errors="surrogateescape")).encode() + b"\n"
    if isinstance(value, str):
        text = value if exact or not output.to_terminal() else output.visible(value)
    else:
        text = _readable(value)
    return text.encode() + (b"" if exact else b"\n")


def _readable(value: Any) -> str:
    """A value that is neither text nor bytes, as one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= DECIMAL_BITS):
        return repr(value)
    if isinstance(value, int):
        return hex(value)
    from shmkv.inspect import export

    form = export.to_json(value)
    if isinstance(form, dict) and any(tag in form for tag in SCALARS):
        return str(value)
    return export.dumps(form, ascii_only=output.to_terminal())


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
            _miss(call, key)
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
                _miss(call, key)
        return
    with call.open(readonly=True) as store:
        try:
            left = store.ttl(key)
        except KeyError:
            _miss(call, key)
    if as_json:
        output.json(left)
    else:
        output.line("never" if left is None else f"{left:.3f}")
