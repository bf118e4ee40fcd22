"""The scan and the decoder agree: what the scan lets through, the library can read.

Owns the comparison of packed_scan (compiled alone, called with exact lengths) with ormsgpack: bytes
that are plain to the scan raise nothing but over text that is no UTF-8; whatever the library reads
and would write in the same way the scan accepts, if it is not too deep; and so with what the codec
makes.
"""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import ormsgpack
import pytest

from shmkv import _core, packed
from tests.stress.support import seed
from tests.unit.codec_values import CONTAINERS, DEPTH, SCALARS

CORE = Path(__file__).parents[2] / "shmkv" / "_csrc"
BAD, DEEP, PLAIN, EXT = range(4)
HEADS = bytes(range(0x80, 0x90)) + bytes(range(0x90, 0xA0)) + bytes(range(0xC0, 0xE0))
Scan = Callable[[bytes], int]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """packed_scan as it stands in the sources."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("NOT RUN: no C compiler")
    made = tmp_path_factory.mktemp("packed") / "packed.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-std=c11", str(CORE / "packed.c"), "-o", made]
    subprocess.run(command, check=True, timeout=60)
    call = ctypes.CDLL(str(made)).packed_scan
    call.argtypes, call.restype = [ctypes.c_char_p, ctypes.c_uint64], ctypes.c_int
    return lambda data: int(call(data, len(data)))


def judge(scan: Scan, data: bytes) -> int:
    """What the scan says; an AssertionError if the library disagrees."""
    said = scan(data)
    try:
        value = ormsgpack.unpackb(data)
        refused = ""
    except ValueError as error:
        refused = str(error)
    if said == PLAIN:
        assert refused in ("", "invalid UTF-8 string"), f"{data!r}: {refused}"
    elif said != DEEP and not refused:  # the library overlooks what follows a value
        assert ormsgpack.packb(value) != data, f"refused, but it is {value!r}: {data!r}"
    return said


def samples() -> list[bytes]:
    """What the codec makes of every type."""
    return [packed.pack(value) for value in [*SCALARS, *CONTAINERS]]


def test_what_the_codec_makes_is_accepted(scan: Scan) -> None:
    for data in samples():
        assert scan(data) in (PLAIN, EXT)
        assert scan(data[:-1]) == BAD
        assert scan(data + b"\0") == BAD


def test_every_short_value(scan: Scan) -> None:
    """All values of one and two bytes, and of three that begin with a head."""
    for first in range(256):
        judge(scan, bytes([first]))
        for second in range(256):
            judge(scan, bytes([first, second]))
    for head in HEADS:
        for rest in range(1 << 16):
            if rest % 31 == head % 31:
                judge(scan, bytes([head]) + rest.to_bytes(2, "big"))


def test_mutations_and_noise(scan: Scan) -> None:
    chosen = seed()
    rng = random.Random(chosen)
    small = [data for data in samples() if len(data) < 200]
    counts = [0, 0, 0, 0]
    for n in range(100_000):
        data = (
            bytearray(rng.choice(small)) if n % 3 else bytearray(rng.randbytes(rng.randrange(24)))
        )
        for _ in range(rng.randrange(3) if data else 0):
            data[rng.randrange(len(data))] = rng.choice(HEADS) if n % 2 else rng.randrange(256)
        try:
            counts[judge(scan, bytes(data))] += 1
        except AssertionError as error:
            raise AssertionError(f"SHMKV_SEED={chosen}: {error}") from None
    assert min(counts[BAD], counts[PLAIN], counts[EXT]) > 1000, counts


def test_the_limits_are_one(scan: Scan) -> None:
    """What the writer refuses as too deep, the reader refuses, and the library could read."""
    assert scan(b"\x91" * DEPTH + b"\x90") == DEEP
    assert scan(b"\x91" * (DEPTH - 1) + b"\x90") == PLAIN
    assert ormsgpack.unpackb(b"\x91" * (DEPTH - 1) + b"\x90")
    assert _core.DEPTH_MAX == 64
