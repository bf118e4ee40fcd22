"""The verb get without its options: reads one item and writes it out.

Owns: how a value is shown. Text and bytes are themselves; everything else is one line, for
containers the JSON of `inspect/export.py`. `quick` answers a line that is nothing but
`get NAME KEY`, or `get KEY`: by the same functions as the verb, without click, whose import takes
longer than all the rest. A line with an option, and one that is wrong, is click's.

Promises: bytes come out as they went in. A value of a codec other than "safe" is never decoded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from shmkv.cli import ends, output
from shmkv.cli.output import Failure, named
from shmkv.cli.target import MODE, Call, Misuse, no, to_key
from shmkv.codec import Encoded
from shmkv.types import Key

SCALARS = ("$decimal", "$uuid", "$date", "$datetime", "$time", "$timedelta")
DECIMAL_BITS = 2048  # larger ints are shown in hexadecimal, as in JSON


def quick(args: Sequence[str]) -> None:
    """Answer `get` with these arguments, none of them an option, and end the process; come back,
    with nothing done, if they are no right ones: click says it better."""
    try:
        with ends.settled(Misuse):
            get(Call(args, None, None, MODE))
    except Misuse:
        return
    sys.exit(0)


def get(call: Call, *, raw: bool = False, as_json: bool = False, path: str | None = None) -> None:
    """Write the value to standard output or to a file."""
    key = to_key(call.take("KEY")[0])
    with call.open(readonly=True) as store:
        try:
            value = store._get_encoded(key)
        except KeyError:
            miss(call, key)
    if as_json:
        from shmkv.inspect import export

        ascii_only = path is None and output.to_terminal()
        data = export.dumps(export.to_json(value), ascii_only=ascii_only).encode() + b"\n"
    else:
        data = _shown(key, value, exact=raw or path is not None, any_codec=raw)
    with output.file(path) as stream:
        stream.write(data)


def miss(call: Call, key: Key) -> NoReturn:
    """End with 1, for want of the key."""
    no(f"store {call.name!r} has no key {named(key)}")


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
