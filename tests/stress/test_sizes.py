"""Sizes at every boundary: keys, values of each kind of storage, segments beyond 4 GiB, counters.

A segment is as large as its file, and its file is sparse: by planting `size`, the watermark and the
hint where to take memory, items come to lie at any offset, up to the last page of 64 GiB, while
memory is used for what is touched only. unit/test_store_keys.py and test_store_limits.py hold the
ordinary sizes. SHMKV_TORTURE=1 adds values beyond 2 GiB (4.5 GB of memory).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import shmkv
from shmkv.inspect.layout import HEADER, ROW, STRIPE
from tests.conftest import MIB, segment_path

GIB = 1 << 30
NO_RESERVE = 0x4000  # MAP_NORESERVE, which Python 3.11 does not name
TORTURE = os.environ.get("SHMKV_TORTURE") == "1"
OVERHEAD = 64  # of an item at most, and of rounding

Opener = Callable[..., shmkv.Store]


def around(*borders: int) -> list[int]:
    """One less, itself, one more."""
    return sorted({max(n + d, 0) for n in borders for d in (-17, -16, -15, -1, 0, 1, 15, 16, 17)})


def plant(name: str, fmt: str, at: int, number: int) -> None:
    """A number of a living segment."""
    with segment_path(name).open("r+b") as file:
        file.seek(at)
        file.write(struct.pack(f"<{fmt}", number))


def lot(length: int, salt: int) -> bytes:
    """Bytes that follow from both numbers, quickly."""
    block = random.Random(salt).randbytes(997)
    return (block * (length // 997 + 1))[:length]


# ---- keys and values ----------------------------------------------------------------------------

KEY_LENGTHS = around(1, 7, 8, 16, 32, 255, 256, 4096, 32_768, 65_519)


def test_keys_of_every_border(open_store: Opener) -> None:
    """With values that make the item end at a granule, before it and behind it."""
    store = open_store(size=64 * MIB)
    lengths = [n for n in KEY_LENGTHS if 1 <= n <= 65_535] + [65_534, 65_535]
    for n in lengths:
        for more in (0, 1, 15, 16):
            value = lot(more, n)
            store.set(lot(n, 1), value)
            assert store.get(lot(n, 1)) == value, (n, more)
    assert sorted(len(key) for key in store) == sorted(set(lengths))
    for n in (0, 65_536, 65_537, 131_072):
        with pytest.raises(ValueError, match=str(n)):
            store.set(bytes(n), 1)
    assert store.check().ok


def storage_borders(store: shmkv.Store) -> list[int]:
    """Value lengths where something changes: buffers, pins, pages, extents, the largest."""
    g = store._geometry()
    base = 1 << g["base_shift"]
    pages = [base * n for n in (1, 2, 4, 8)] + [base * g["std_run"], base * g["log_run_max"]]
    eighth = (g["bases"] * base) // 8
    eighths = [n // 8 for n in pages]
    return around(0, 256, 4096, 32_768, *pages, *eighths, 4 * base - 36, eighth // 2)


@pytest.mark.parametrize("size", [2 * MIB, 4 * MIB, 16 * MIB, 64 * MIB])
def test_values_of_every_border(open_store: Opener, size: int) -> None:
    store = open_store(size=size, max_size=size)
    reader = open_store(readonly=True)
    g = store._geometry()
    most = (g["bases"] << g["base_shift"]) // 8
    for n in storage_borders(store):
        if n + OVERHEAD > most:
            continue
        value = lot(n, n)
        store.set("k", value)
        assert store["k"] == value, n
        assert reader["k"] == value, n
        with store.view("k") as memory:
            assert memory == value, n
        store.set("s", "é" * (n // 2))
        assert store["s"] == "é" * (n // 2)
    assert store.check().ok


@pytest.mark.parametrize("evict", [True, False])
def test_the_largest_value_is_an_eighth_to_the_byte(open_store: Opener, evict: bool) -> None:
    """One border, found by halving: below it everything fits, above it everything is too large."""
    store = open_store(size=4 * MIB, max_size=4 * MIB, evict=evict)
    g = store._geometry()
    low, high = 0, g["bases"] << g["base_shift"]

    def fits(n: int) -> bool:
        try:
            store.set("k", bytes(n))
        except shmkv.TooLarge:
            return False
        return True

    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    eighth = (g["bases"] << g["base_shift"]) // 8
    assert eighth - 2 * OVERHEAD < low <= eighth
    for n in range(low - 40, low + 41):
        assert fits(n) == (n <= low)
        assert len(store["k"]) == min(n, low)
    assert store.check().ok


# ---- beyond 4 GiB -------------------------------------------------------------------------------


def blind(name: str, taken: list[int]) -> None:
    """Take the descriptor away with which the store would see that the memory is not there."""
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{entry}") == str(segment_path(name)):
                nothing = os.open("/dev/null", os.O_RDWR)
                taken.append(os.dup2(nothing, int(entry)))
                os.close(nothing)


@pytest.fixture
def vast(open_store: Opener) -> Iterator[Callable[[int], shmkv.Store]]:
    """A store of 64 GiB whose next items lie from an offset on; little of it is memory."""
    taken: list[int] = []

    def make(offset: int) -> shmkv.Store:
        store = open_store(size=GIB, max_size=64 * GIB, evict=False)  # items up to the last byte
        g = store._geometry()
        base = (offset - g["off_arena"]) >> g["base_shift"]
        plant(store.name, "Q", HEADER.fields["size"][0], 64 * GIB)
        plant(store.name, "Q", HEADER.fields["watermark"][0], 64 * GIB)
        plant(store.name, "I", HEADER.fields["take_hint"][0], base)
        blind(store.name, taken)
        return store

    if os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize < GIB:
        pytest.skip("NOT RUN: /dev/shm has less than 1 GiB")
    yield make
    for fd in taken:
        os.close(fd)


def lies_at(store: shmkv.Store, offset: int) -> int:
    """Where the first written byte at or behind an offset is."""
    with segment_path(store.name).open("rb") as file:
        return os.lseek(file.fileno(), offset, os.SEEK_DATA)


def work(store: shmkv.Store) -> None:
    """Everything that makes, moves and frees items."""
    values: dict[Any, Any] = {f"k{i}": lot(i * 31 % 3000, i) for i in range(3000)}
    values |= {"n": 5, "f": 1.5, "t": "é" * 5000, "large": lot(900_000, 3), "none": None}
    for key, value in values.items():
        store.set(key, value, ttl=1000)
    store.incr("n")
    store.append("k5", b"tail")
    store.rename("k6", "moved")
    store.touch("k7", None)
    for i in range(100, 400):
        store.set(f"k{i}", lot(i, i + 1))
    values |= {"n": 6, "k5": values["k5"] + b"tail", "moved": values.pop("k6")}
    values |= {f"k{i}": lot(i, i + 1) for i in range(100, 400)}
    with store.view("large") as memory:
        assert memory == values["large"]
    assert store.get_many(list(values)) == values
    assert set(store) == set(values)
    for i in range(1000, 2000):
        assert store.delete(f"k{i}")
    report = store.check()
    assert report.ok, report.problems[:3]
    assert report.items == len(values) - 1000


@pytest.mark.parametrize("offset", [4 * GIB - 3 * MIB, 32 * GIB - 3 * MIB, 64 * GIB - 40 * MIB])
def test_items_at_any_offset(vast: Callable[[int], shmkv.Store], offset: int) -> None:
    """Across 2^32 and 2^35 bytes, and up to the last granule but a few."""
    store = vast(offset)
    work(store)
    assert lies_at(store, offset) < offset + 2 * MIB
    assert segment_path(store.name).stat().st_blocks * 512 < GIB
    if offset > 60 * GIB:  # the last page of all, its last granule
        g = store._geometry()
        plant(store.name, "I", HEADER.fields["take_hint"][0], g["bases_max"] - 16)
        store.set("last", lot(16 << g["base_shift"], 9)[: (16 << g["base_shift"]) - 64])
        assert store["last"] == lot(16 << g["base_shift"], 9)[: (16 << g["base_shift"]) - 64]
        assert lies_at(store, 64 * GIB - 64 * 1024) < 64 * GIB
        assert store.check().ok


def test_lengths_of_32_bits_and_more_are_refused(vast: Callable[[int], shmkv.Store]) -> None:
    """In a store whose eighth is 8 GiB: nothing is cut to 32 bits, nothing is touched."""
    store = vast(8 * GIB)
    store.set("k", b"old")
    for length in ((1 << 32) - 1, 1 << 32, (1 << 32) + 1, (1 << 32) + 5, 1 << 33):
        with mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | NO_RESERVE) as none:
            if length > 0xFFFFFFFF:
                with memoryview(none) as value:
                    for call in (store.set, store.add, store.replace, store.append):
                        with pytest.raises(shmkv.TooLarge):
                            call("k" if call != store.add else "new", value)
    assert store["k"] == b"old"
    small_blocks = segment_path(store.name).stat().st_blocks * 512
    assert small_blocks < GIB


@pytest.mark.parametrize("length", [(1 << 31) - 1, 1 << 31, 1 << 32, (1 << 32) + 1])
def test_large_lengths_in_a_small_store(store: shmkv.Store, length: int) -> None:
    store.set("k", b"old")
    with (
        mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | NO_RESERVE) as none,
        memoryview(none) as value,
    ):
        for call in (store.set, store.append, store.replace):
            with pytest.raises(shmkv.TooLarge):
                call("k", value)
        key = bytes(length) if length <= 1 << 31 else None  # never touched: no memory
        if key is not None:
            with pytest.raises(ValueError, match=str(length)):
                store.get(key)
    assert store["k"] == b"old"


@pytest.mark.skipif(not TORTURE, reason="NOT RUN: needs SHMKV_TORTURE=1 and 4.5 GB of memory")
@pytest.mark.parametrize("length", [(1 << 31) - 1, 1 << 31, (1 << 31) + 1])
def test_values_across_2_to_the_31(vast: Callable[[int], shmkv.Store], length: int) -> None:
    store = vast(20 * GIB)
    with (
        mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | NO_RESERVE) as none,
        memoryview(none) as value,
    ):
        store.set("k", value)
    assert store.info("k").size == length
    with store.view("k") as memory:
        assert len(memory) == length
        assert not any(memory[-1000:])
    store.delete("k")
    assert store.check().ok


# ---- counters near their end --------------------------------------------------------------------


@pytest.mark.parametrize("version", [(1 << 32) - 40, (1 << 31) - 40, (1 << 64) - 40])
def test_versions_wrap(store: shmkv.Store, version: int) -> None:
    """Readers, cas, clear: the version passes 2^31, 2^32, 2^64 while they work."""
    g = store._geometry()
    for i in range(g["stripes"]):
        at = g["off_stripes"] + i * STRIPE.size + STRIPE.fields["ver"][0]
        plant(store.name, "Q", at, version)
    for round_ in range(200):
        for i in range(40):
            store.set(f"k{i}", round_)
            value, token = store.gets(f"k{i}")
            assert value == round_
            assert store.cas(f"k{i}", -round_, token)
            assert not store.cas(f"k{i}", 99, token)
        if round_ % 7 == 0:
            store.clear()
            assert len(store) == 0
            store.set("kept", round_)
        assert store["kept"] == round_ - round_ % 7
    assert store.check().ok


def test_other_counters_wrap(store: shmkv.Store, open_store: Opener) -> None:
    """Birth stamps, attachment numbers, sums of a row, refusals: nothing is lost when they pass."""
    g = store._geometry()
    fields = HEADER.fields
    plant(store.name, "Q", fields["next_birth"][0], (1 << 64) - 5)
    plant(store.name, "I", fields["next_number"][0], (1 << 31) - 3)
    plant(store.name, "I", fields["nospace"][0], (1 << 32) - 1)
    for i in range(16):
        plant(
            store.name,
            "Q",
            g["off_rows"] + ROW.size * (store._number() % g["rows"]) + 256 + 8 * i,
            (1 << 64) - 20,
        )
    for i in range(60_000):
        store.set(f"k{i % 9000}", b"v" * (i % 700))
    for _ in range(8):
        with open_store(create=False) as more:
            assert 0 < more._number() < 1 << 31
            more["n"] = 1
    last = [f"k{i % 9000}" for i in range(59_900, 60_000)]
    assert sum(key in store for key in last) >= 95
    stats = store.stats()
    assert stats.sets < 1 << 20
    assert store.check().ok
