"""What the command line prints: bytes as they are, text that is safe to see, tables, sizes, JSON.

Owns: `Failure` and `Negative` (`ends` makes exit codes of them), standard output as a stream of
bytes, and the rules of what people see. A key or a text that could be mistaken or do something to a
terminal is *quoted*: in double quotes, with the escapes of C. It is so if it holds anything but
printable characters, is no UTF-8, or begins with a double quote.

Promises: colour only on a terminal that NO_COLOR does not forbid. Files appear whole or not at all.

Does not: know verbs or stores; click only where it colours, for `get` does without.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

FILE_MODE = 0o600  # what was in a store that only its owner may read stays so


class Failure(Exception):
    """The store or the system refused: one line, exit code 3."""


class Negative(Exception):
    """A miss or a no: exit code 1. A person at a terminal is told why."""


def tell(text: str) -> None:
    """A line for people, on standard error."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"shmkv: {printable(text)}", file=sys.stderr, flush=True)


def of_system(error: OSError) -> str:
    """The words for a refused system call."""
    words = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {words}" if isinstance(error.filename, str) else words


# ---- bytes --------------------------------------------------------------------------------------


def stdout() -> BinaryIO:
    """Standard output."""
    if sys.stdout is None:
        raise Failure("standard output is closed")
    return sys.stdout.buffer


def stdin() -> BinaryIO:
    """Standard input."""
    if sys.stdin is None:
        raise Failure("standard input is closed")
    return sys.stdin.buffer


def put(data: bytes) -> None:
    """Write bytes to standard output, exactly."""
    stdout().write(data)


def line(text: str) -> None:
    """Write a line of text to standard output."""
    put(text.encode(errors="surrogateescape") + b"\n")


def flush() -> None:
    """Write out what is kept; if that fails, nothing is tried again when the process ends."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
        raise


def to_terminal() -> bool:
    """Does a person see standard output?"""
    return sys.stdout is not None and sys.stdout.isatty()


@contextlib.contextmanager
def file(path: str | None) -> Iterator[BinaryIO]:
    """A file to write, or standard output. A regular file is replaced when all went well."""
    if path is None or path == "-":
        yield stdout()
        return
    target = os.path.realpath(path)
    made = f"{target}.{os.getpid()}.part"
    try:
        special = not stat.S_ISREG(os.stat(target).st_mode)
    except FileNotFoundError:
        special = False
    if special:  # a device or a pipe
        with open(target, "wb") as stream:
            yield stream
        return
    try:
        fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with open(fd, "wb") as stream:
            yield stream
        os.replace(made, target)
    finally:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            os.unlink(made)


# ---- text ---------------------------------------------------------------------------------------

_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def printable(text: str) -> str:
    """A text with everything escaped that is not printable."""
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def visible(text: str) -> str:
    """A text for a terminal: its lines and tabs stay, what else is not printable is escaped."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text
    )


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return _ESCAPES.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted(value: str | bytes) -> str:
    """A key or a text as it is, or quoted."""
    text = value if isinstance(value, str) else value.decode(errors="surrogateescape")
    if text.isprintable() and not text.startswith('"'):
        return text
    quoted = (_ESCAPES[char] if char in '"\\' else printable(char) for char in text)
    return '"' + "".join(quoted) + '"'


def named(key: str | bytes) -> str:
    """A key within a sentence."""
    text = quoted(key)
    return text if text.startswith('"') else f"'{text}'"


def size(number: int | None, exact: bool = False) -> str:
    """Bytes for people: 1.5 MiB; or exactly."""
    if number is None:
        return "-"
    if exact:
        return str(number)
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= factor:
            return f"{number / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{number} B"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int]) -> None:
    """Aligned columns; those numbered in `right` end together."""
    lines = [header, *rows] if header else list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        parts = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        line("  ".join(parts).rstrip())


def colour(text: str, name: str) -> str:
    """Coloured on a terminal, else as it is."""
    if not to_terminal() or os.environ.get("NO_COLOR"):
        return text
    import click

    return click.style(text, fg=name)


def json(form: Any) -> None:
    """One line of JSON."""
    import json as library

    ascii_only = to_terminal()
    line(library.dumps(form, ensure_ascii=ascii_only, allow_nan=False, separators=(",", ":")))
