"""Trace files: formats, compression, and clear words for what is damaged.

Owns: `FileTrace`. The formats, which the file's name tells unless the caller does:

    text    a request a line: `key size [op] [ttl]`, separated by blanks. The key has 1 to 65535
            bytes other than white space; size is the value's bytes; op is get (the default), set or
            del; ttl is seconds, - for none. Empty lines and lines that begin with # are skipped.
    arc     `*.lis`: a line is `start count ignored ignored`, for `count` blocks from `start`, as
            the authors of ARC published theirs. No sizes.
    int32   `*.trace`: big-endian 32-bit numbers of objects, as cache2k's traces. No sizes.

`.gz`, `.xz` and `.zst` after the name mean that the file is compressed.

Promises: files are read as streams; memory does not grow with them. What is damaged raises
`TraceError`, which names the file and the line (or the byte), and what was expected.

Does not: replay, or guess the sizes of a trace that has none: the caller says them.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

import numpy as np

from shmkv.replay.requests import CHUNK, DELETE, GET, SET, Chunk, Numbers, Sizing, numbered

try:
    import zstandard
except ImportError:  # its traces are refused by name
    zstandard = None  # type: ignore[assignment]

Format: TypeAlias = Literal["text", "arc", "int32"]
FORMATS: tuple[Format, ...] = ("text", "arc", "int32")
_SUFFIXES: dict[str, Format] = {".lis": "arc", ".trace": "int32"}
_COMPRESSED = {".gz", ".xz", ".zst"}
_OPS = {b"get": GET, b"set": SET, b"del": DELETE}
KEY_MAX = 65_535
SIZE_MAX = (1 << 32) - 1
LINE_MAX = KEY_MAX + 200
SHORT = 40_000  # a key of a shorter line cannot be too long
RUN_MAX = 1 << 24  # blocks of one line of an arc trace
NUMBER_MAX = 1 << 48


class TraceError(ValueError):
    """A trace that cannot be read; the message names the file and the place."""


class NoSizes(TraceError):
    """A trace that numbers objects, and nobody said how large they are."""


@dataclass(frozen=True)
class FileTrace:
    """A trace in a file."""

    path: Path
    format: Format
    sizing: Sizing | None = None
    expand: int = 1

    @classmethod
    def of(
        cls,
        path: str | os.PathLike[str],
        *,
        format: Format | None = None,
        sizing: Sizing | None = None,
        expand: int = 1,
    ) -> FileTrace:
        """The trace in `path`, its format by the name unless it is given."""
        file = Path(path)
        inner = file.with_suffix("") if file.suffix in _COMPRESSED else file
        found = format or _SUFFIXES.get(inner.suffix, "text")
        if found == "text" and expand != 1:
            raise TraceError(f"{file}: only traces of numbered objects can be expanded")
        if found != "text" and sizing is None:
            raise NoSizes(f"{file}: a trace of format {found} has no sizes of values")
        return cls(file, found, sizing, expand)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def length(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def chunks(self) -> Iterator[Chunk]:
        """All requests. TraceError, OSError."""
        with open(self.path, "rb") as raw:
            try:
                if self.format == "text":
                    yield from self._text(raw)
                elif self.sizing is not None:
                    batches = self._arc(raw) if self.format == "arc" else self._int32(raw)
                    yield from numbered(batches, self.sizing, expand=self.expand)
            except _DAMAGE as error:
                raise TraceError(
                    f"{self.path}: the compressed data is damaged or cut short near byte"
                    f" {raw.tell()}: {error}"
                ) from error

    # ---- text -----------------------------------------------------------------------------------

    def _text(self, raw: BinaryIO) -> Iterator[Chunk]:
        keys: list[bytes] = []
        sizes: list[int] = []
        ops: list[int] = []
        ttls: list[float | None] = []
        for number, line in self._lines(raw):
            words = line.split()
            if not words or words[0].startswith(b"#"):
                continue
            if len(words) == 2 and len(line) < SHORT and words[1].isdigit() and len(words[1]) < 10:
                keys.append(words[0])
                sizes.append(int(words[1]))
                ops.append(GET)
                ttls.append(None)
            else:
                self._request(number, words, keys, sizes, ops, ttls)
            if len(keys) == CHUNK:
                yield _chunk(keys, sizes, ops, ttls, raw.tell())
                keys, sizes, ops, ttls = [], [], [], []
        if keys:
            yield _chunk(keys, sizes, ops, ttls, raw.tell())

    def _request(
        self,
        number: int,
        words: list[bytes],
        keys: list[bytes],
        sizes: list[int],
        ops: list[int],
        ttls: list[float | None],
    ) -> None:
        """A line with more than the least, or a wrong one."""
        if not 2 <= len(words) <= 4:
            raise self._wrong(number, f"{len(words)} words where `key size [op] [ttl]` is expected")
        if len(words[0]) > KEY_MAX:
            raise self._wrong(number, f"a key of {len(words[0])} bytes: {KEY_MAX} is the most")
        if not words[1].isdigit() or int(words[1]) > SIZE_MAX:
            raise self._wrong(number, f"{_shown(words[1])} is no size of a value in bytes")
        op = _OPS.get(words[2]) if len(words) > 2 else GET
        if op is None:
            raise self._wrong(number, f"{_shown(words[2])} is neither get, set nor del")
        ttl = None
        if len(words) > 3 and words[3] != b"-":
            try:
                ttl = float(words[3])
            except ValueError:
                ttl = 0.0
            if not 0.001 <= ttl <= 2.8e11:
                raise self._wrong(number, f"{_shown(words[3])} is no ttl: seconds, or -")
        keys.append(words[0])
        sizes.append(int(words[1]))
        ops.append(op)
        ttls.append(ttl)

    # ---- numbered objects -----------------------------------------------------------------------

    def _arc(self, raw: BinaryIO) -> Iterator[tuple[Numbers, int]]:
        starts: list[int] = []
        runs: list[int] = []
        blocks = 0
        for number, line in self._lines(raw):
            words = line.split()
            if not words:
                continue
            if len(words) != 4 or not (words[0].isdigit() and words[1].isdigit()):
                raise self._wrong(number, "no `start count ignored ignored`")
            start, run = int(words[0]), int(words[1])
            if start > NUMBER_MAX or not 1 <= run <= RUN_MAX:
                raise self._wrong(number, f"a run of {run} blocks from {start} is out of range")
            starts.append(start)
            runs.append(run)
            blocks += run
            if blocks >= CHUNK:
                yield _unfold(starts, runs), raw.tell()
                starts, runs, blocks = [], [], 0
        if starts:
            yield _unfold(starts, runs), raw.tell()

    def _int32(self, raw: BinaryIO) -> Iterator[tuple[Numbers, int]]:
        stream = self._plain(raw)
        done = 0
        while data := stream.read(CHUNK * 4):
            done += len(data)
            if len(data) % 4:
                raise TraceError(
                    f"{self.path}: cut short at byte {done}: numbers have four bytes each"
                )
            yield np.frombuffer(data, ">u4").astype(np.uint64), raw.tell()

    # ---- bytes ----------------------------------------------------------------------------------

    def _plain(self, raw: BinaryIO) -> BinaryIO:
        """The uncompressed bytes; `read` is whole until the end."""
        suffix = self.path.suffix
        if suffix == ".gz":
            inner: Any = gzip.GzipFile(fileobj=raw)
        elif suffix == ".xz":
            inner = lzma.LZMAFile(raw)  # noqa: SIM115 - it goes with raw
        elif suffix == ".zst":
            if zstandard is None:
                raise TraceError(f"{self.path}: reading .zst needs pip install 'shmkv[replay]'")
            inner = zstandard.ZstdDecompressor().stream_reader(
                raw, read_across_frames=True, closefd=False
            )
        else:
            return raw
        return cast(BinaryIO, io.BufferedReader(inner, 1 << 18))

    def _lines(self, raw: BinaryIO) -> Iterator[tuple[int, bytes]]:
        read = self._plain(raw).readline
        number = 0
        while line := read(LINE_MAX):
            number += 1
            if len(line) == LINE_MAX and not line.endswith(b"\n"):
                raise self._wrong(number, f"a line of more than {LINE_MAX} bytes")
            yield number, line

    def _wrong(self, number: int, what: str) -> TraceError:
        return TraceError(f"{self.path}:{number}: {what}")


_DAMAGE: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
if zstandard is not None:
    _DAMAGE += (zstandard.ZstdError,)


def _chunk(
    keys: list[bytes], sizes: list[int], ops: list[int], ttls: list[float | None], position: int
) -> Chunk:
    return Chunk(
        keys,
        sizes,
        ops if any(ops) else None,
        ttls if any(ttl is not None for ttl in ttls) else None,
        position,
    )


def _unfold(starts: list[int], runs: list[int]) -> Numbers:
    """The blocks of runs."""
    counts = np.array(runs)
    ends = np.cumsum(counts)
    numbers = np.repeat(np.array(starts, np.uint64), counts)
    within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    return cast(Numbers, numbers + within.astype(np.uint64))


def _shown(word: bytes) -> str:
    return repr(word[:40].decode(errors="backslashreplace"))
