"""Trace files: every format and compression, and words for what is damaged."""

import gzip
import lzma
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from shmkv.replay import FileTrace, Fixed, NoSizes, TraceError, survey
from shmkv.replay.requests import CHUNK, DELETE, GET, SET, Chunk

TEXT = b"""# a comment
a 100
b 200 get

c 0 set 1.5
a 100 del
d 7 get -
"""


def plain(data: bytes) -> bytes:
    """Not compressed."""
    return data


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": plain,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def whole(trace: FileTrace) -> Chunk:
    """The only chunk."""
    (chunk,) = trace.chunks()
    return chunk


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"requests.txt{suffix}"
    path.write_bytes(COMPRESSORS[suffix](TEXT))
    trace = FileTrace.of(path)
    chunk = whole(trace)
    assert chunk.keys == [b"a", b"b", b"c", b"a", b"d"]
    assert chunk.sizes == [100, 200, 0, 100, 7]
    assert chunk.ops == [GET, GET, SET, DELETE, GET]
    assert chunk.ttls == [None, None, 1.5, None, None]
    assert chunk.position == trace.length == path.stat().st_size
    assert list(trace.chunks()) == [chunk]  # from the beginning again


def test_reads_alone_have_no_columns_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"a 1\nb 2")
    chunk = whole(FileTrace.of(path))
    assert (chunk.ops, chunk.ttls) == (None, None)


def test_an_empty_trace_has_no_chunks(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"# nothing\n")
    assert list(FileTrace.of(path).chunks()) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"a", "1 words where `key size"),
        (b"a 1 get 1 more", "5 words"),
        (b"a -1", "'-1' is no size"),
        (b"a 4294967296", "is no size"),
        (b"a 1 put", "'put' is neither get, set nor del"),
        (b"a 1 set soon", "'soon' is no ttl"),
        (b"a 1 set 0", "'0' is no ttl"),
        (b"a 1 set nan", "'nan' is no ttl"),
        (b"k" * 65_536 + b" 1", "a key of 65536 bytes"),
        (b"\xff\x00 \x80\x81", r"'\\x80\\x81' is no size"),
        (b"x" * 100_000, "a line of more than"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: bytes, words: str) -> None:
    path = tmp_path / "bad"
    path.write_bytes(b"good 1\n# fine\n" + line + b"\ngood 2\n")
    with pytest.raises(TraceError) as caught:
        list(FileTrace.of(path).chunks())
    assert str(caught.value).startswith(f"{path}:3: ")
    assert words in str(caught.value)


def test_the_longest_key_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"k" * 65_535 + b" 4294967295 set 3600\n")
    chunk = whole(FileTrace.of(path))
    assert len(chunk.keys[0]) == 65_535
    assert chunk.sizes == [4294967295]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_compression_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    lines = b"".join(b"key-%d %d\n" % (i * 7919 % 10_007, i) for i in range(40_000))
    packed = bytearray(COMPRESSORS[suffix](lines))
    if damage == "cut":
        del packed[len(packed) // 2 :]
    else:
        packed[: len(packed) // 2] = bytes(b ^ 0x5A for b in packed[: len(packed) // 2])
    path = tmp_path / f"t.txt{suffix}"
    path.write_bytes(packed)
    with pytest.raises(TraceError) as caught:
        list(FileTrace.of(path).chunks())
    assert str(path) in str(caught.value)


def test_arc_runs_are_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "blocks.lis"
    path.write_bytes(b"7 3 0 0\n100 1 0 1\n8 2 0 2\n")
    chunk = whole(FileTrace.of(path, sizing=Fixed(512)))
    assert chunk.keys == [b"%016x" % number for number in (7, 8, 9, 100, 8, 9)]
    assert chunk.sizes == [512] * 6


def test_arc_runs_longer_than_a_chunk(tmp_path: Path) -> None:
    path = tmp_path / "blocks.lis.gz"
    count = 3 * CHUNK + 5
    path.write_bytes(gzip.compress(b"5 %d 0 0\n1 1 0 1\n" % count))
    chunks = list(FileTrace.of(path, sizing=Fixed(512)).chunks())
    assert max(len(chunk.keys) for chunk in chunks) == CHUNK
    keys = [key for chunk in chunks for key in chunk.keys]
    assert keys == [b"%016x" % number for number in (*range(5, 5 + count), 1)]


@pytest.mark.parametrize("line", [b"1 2 3", b"x 1 0 0", b"1 0 0 0", b"1 99999999999 0 0"])
def test_a_wrong_run_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "blocks.lis"
    path.write_bytes(b"1 1 0 0\n" + line)
    with pytest.raises(TraceError, match=":2: "):
        list(FileTrace.of(path, sizing=Fixed(512)).chunks())


def test_int32(tmp_path: Path) -> None:
    path = tmp_path / "web.trace.xz"
    path.write_bytes(lzma.compress(struct.pack(">4i", 1, 258, 1, -1)))
    chunk = whole(FileTrace.of(path, sizing=Fixed(10)))
    assert chunk.keys == [b"%016x" % number for number in (1, 258, 1, 0xFFFFFFFF)]


def test_int32_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "web.trace"
    path.write_bytes(b"\0\0\0\1\0\0")
    with pytest.raises(TraceError, match="cut short at byte 6"):
        list(FileTrace.of(path, sizing=Fixed(10)).chunks())


def test_an_expanded_trace_asks_for_several_objects_in_a_row(tmp_path: Path) -> None:
    path = tmp_path / "web.trace"
    path.write_bytes(struct.pack(">3i", 4, 5, 4))
    chunk = whole(FileTrace.of(path, sizing=Fixed(10), expand=2))
    assert chunk.keys == [b"%016x" % number for number in (8, 9, 10, 11, 8, 9)]


def test_sizes_must_be_said_and_text_cannot_be_expanded(tmp_path: Path) -> None:
    with pytest.raises(NoSizes, match="has no sizes"):
        FileTrace.of(tmp_path / "a.lis.zst")
    with pytest.raises(TraceError, match="only traces of numbered objects"):
        FileTrace.of(tmp_path / "a.txt", expand=2)


def test_the_name_tells_the_format_unless_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "odd.name"
    path.write_bytes(b"7 3 0 0\n")
    assert FileTrace.of(path).format == "text"
    assert len(whole(FileTrace.of(path, format="arc", sizing=Fixed(1))).keys) == 3


def test_memory_does_not_grow_with_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "long.txt.zst"
    lines = b"".join(b"key-%08d %d\n" % (number, number % 1000) for number in range(100_000))
    path.write_bytes(zstandard.ZstdCompressor().compress(lines))
    tracemalloc.start()
    try:
        count = sum(len(chunk.keys) for chunk in FileTrace.of(path).chunks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < 3 << 20  # all keys together would be 5 MB


def test_survey_counts_each_key_once(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"a 100\nb 200\na 100\n")
    seen = survey(FileTrace.of(path).chunks())
    assert (seen.requests, seen.keys, seen.payload) == (3, 2, 302)
