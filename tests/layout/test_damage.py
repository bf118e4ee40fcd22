"""Damage is found: by the decoder always, by the core's `check` where it looks for it.

Owns: damage of every kind that damage_*.py plants, headers that are no segment's, random bytes. The
decoder must name the damage; whatever the bytes, it ends, and with nothing but `DecodeError`.

Does not: ask the core to survive damage; that is the unit tests' matter.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shmkv
from shmkv.inspect import DecodeError, Segment, decode, problems
from shmkv.inspect.layout import CONFIG, HEADER
from tests.conftest import MIB, Clock, segment_path, unique_name
from tests.layout import damage_index, damage_pages
from tests.layout.damage import Edit, edit
from tests.layout.workload import Workload

DAMAGES = damage_index.DAMAGES | damage_pages.DAMAGES


@contextlib.contextmanager
def a_store(**options: Any) -> Iterator[shmkv.Store]:
    """A store for several tests of this module."""
    name = unique_name()
    with contextlib.ExitStack() as stack:
        stack.callback(shmkv.unlink, name, missing_ok=True)
        yield stack.enter_context(shmkv.open(name, create="new", **options))


def content_of(store: shmkv.Store) -> bytes:
    """The segment's bytes."""
    return segment_path(store.name).read_bytes()


@pytest.fixture(scope="module")
def store() -> Iterator[shmkv.Store]:
    """A sound store with a past that leaves everything a kind of damage needs."""
    with a_store(size=2 * MIB) as store:
        workload = Workload(store, Clock(), seed=8, keys=600)
        workload.run(5000)
        for i in range(20_000):  # hot ones go to main queues, cold ones leave
            store.set(f"cold {i}", b"c" * 100)
            store.set(f"hot {i % 500}", b"h" * 100) if i < 500 else store.get(f"hot {i % 500}")
        for i in range(4500):  # so many that buckets overflow
            store.set(f"s{i}", i)
        for i in range(5):
            store.set(f"extent {i}", b"x" * (store.size // 12))
        workload.run(500)
        yield store


@pytest.fixture(scope="module")
def sound(store: shmkv.Store) -> Segment:
    """The store's segment."""
    return decode(content_of(store))


@pytest.fixture(scope="module")
def small() -> Iterator[bytes]:
    """The bytes of a small, sound segment."""
    with a_store(size=2 * MIB, max_size=2 * MIB) as store:
        for i in range(300):
            store.set(f"k{i}", b"v" * i)
        yield content_of(store)


def damaged(content: bytes, *edits: Edit) -> bytes:
    """A copy with other bytes."""
    copy = bytearray(content)
    for one in edits:
        copy[one.at : one.at + len(one.data)] = one.data
    assert copy != content, "the damage is what was there"
    return bytes(copy)


def test_what_is_damaged_was_sound(sound: Segment, small: bytes) -> None:
    assert problems(sound) == []
    assert problems(decode(small)) == []


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_decoder_finds(store: shmkv.Store, sound: Segment, kind: str) -> None:
    one = DAMAGES[kind]
    found = problems(decode(damaged(content_of(store), one.plant(sound))))
    assert any(re.search(one.says, text) for text in found), found


@pytest.mark.parametrize("kind", [kind for kind, one in DAMAGES.items() if one.core])
def test_check_finds(store: shmkv.Store, sound: Segment, kind: str) -> None:
    """And finds nothing any more when the bytes are put back."""
    planted = DAMAGES[kind].plant(sound)
    before = write(store, planted)
    try:
        with contextlib.suppress(shmkv.Corrupt):
            report = store.check()
            assert not report.ok
            assert report.problems
    finally:
        write(store, before)
    assert store.check().ok


def write(store: shmkv.Store, planted: Edit) -> Edit:
    """Into the living segment; what was there."""
    with segment_path(store.name).open("r+b") as file:
        file.seek(planted.at)
        before = file.read(len(planted.data))
        file.seek(planted.at)
        assert file.write(planted.data) == len(planted.data)
    return Edit(planted.at, before)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("magic", 0, "magic"),
        ("layout_version", 2, "layout version 2"),
        ("fingerprint", 1, "fingerprint"),
        ("size", 1, "size 1 is not"),
        ("size", 1 << 50, "is not between"),
        ("watermark", 4096, "watermark"),
        ("watermark", 1 << 50, "watermark"),
    ],
)
def test_headers_that_are_no_segments(small: bytes, field: str, value: int, says: str) -> None:
    with pytest.raises(DecodeError, match=says):
        decode(damaged(small, edit(HEADER, 0, field, value)))


@pytest.mark.parametrize(
    ("field", "more", "says"),
    [("size", 1, "configuration"), ("max_size", 4096, "bytes"), ("options", 4, "options")],
)
def test_configurations_of_no_store(small: bytes, field: str, more: int, says: str) -> None:
    at = HEADER.fields["config"][0] + CONFIG.fields[field][0]
    number = int.from_bytes(small[at : at + 4], "little") + more
    with pytest.raises(DecodeError, match=says):
        decode(damaged(small, Edit(at, number.to_bytes(4, "little"))))


@pytest.mark.parametrize("left", [0, 1, 4095, 4096, MIB])
def test_cut_off(small: bytes, left: int) -> None:
    with pytest.raises(DecodeError, match="bytes"):
        decode(small[:left])


def test_zeros_and_noise() -> None:
    for content in (bytes(2 * MIB), random.Random(1).randbytes(2 * MIB)):
        with pytest.raises(DecodeError, match="magic"):
            decode(content)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 2000), first=st.integers(0, 1 << 21))
def test_random_bytes_end_in_a_verdict(small: bytes, seed: int, count: int, first: int) -> None:
    """Anywhere beyond the identity: noise, zeros, ones, copies of other places."""
    rng = random.Random(seed)
    copy = bytearray(small)
    start = max(64, first % len(copy))
    end = min(len(copy), start + rng.choice([64, 4096, 100_000, len(copy)]))
    for _ in range(count):
        at = rng.randrange(start, end)
        noise = rng.choice([rng.randbytes(4), b"\0" * 4, b"\xff" * 4])
        copy[at : at + 4] = noise if rng.random() < 0.7 else copy[64 : 64 + 4]
    del copy[len(small) :]
    copy += small[len(copy) :]
    with contextlib.suppress(DecodeError):
        assert all(type(text) is str for text in problems(decode(copy)))
