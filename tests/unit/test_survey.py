"""Segments seen from outside: each state by a made-up file, real stores by their real files."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from shmkv.inspect import survey as states
from shmkv.inspect.survey import Found, survey
from tests.conftest import MIB, SHM, segment_path

ME = os.getuid()
NOBODY = 65_534
as_root = pytest.mark.skipif(ME != 0, reason="needs the right to give files away")
not_root = pytest.mark.skipif(ME == 0, reason="nothing is unreadable for root")


@pytest.fixture
def image(store_name: str) -> bytes:
    """The bytes of a good, small segment."""
    with shmkv.open(store_name, size=2 * MIB, max_size=2 * MIB) as store:
        store.set("k", b"v")
    return segment_path(store_name).read_bytes()


def put(folder: Path, content: bytes, name: str = "web", uid: int = ME, mode: int = 0o600) -> Path:
    path = folder / f"shmkv.{uid}.{name}"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def patched(image: bytes, at: int, code: str, value: int) -> bytes:
    raw = bytearray(image)
    struct.pack_into("<" + code, raw, at, value)
    return bytes(raw)


def only(folder: Path) -> Found:
    (one,) = survey(folder)
    return one


def test_a_good_store(open_store: Callable[..., shmkv.Store]) -> None:
    store = open_store(size=2 * MIB, max_size=4 * MIB, evict=False)
    (one,) = survey(SHM, name=store.name)
    stats = store.stats()
    assert (one.state, one.why, one.uid, one.owner, one.mode) == ("ok", "", ME, ME, 0o600)
    assert (one.size, one.max_size, one.backed) == (2 * MIB, 4 * MIB, stats.bytes_backed)
    assert (one.evict, one.rows, one.attached, one.dead) == (False, stats.rows, 1, 0)
    assert one.created == pytest.approx(stats.created)
    assert one.path == segment_path(store.name)


def test_dead_attachments_are_told_from_living_ones(open_store: Callable[..., shmkv.Store]) -> None:
    store = open_store()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        store.set("child", 1)
        os.write(write, b"x")
        signal.pause()
    try:
        assert os.read(read, 1) == b"x"
        (one,) = survey(SHM, name=store.name)
        assert (one.attached, one.dead) == (2, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
    (one,) = survey(SHM, name=store.name)
    assert (one.attached, one.dead) == (1, 1)
    assert store.check().dead_rows == 1
    (one,) = survey(SHM, name=store.name)
    assert (one.attached, one.dead) == (1, 0)


def test_a_copy_is_good_and_nobody_is_attached(tmp_path: Path, image: bytes) -> None:
    put(tmp_path, image)
    one = only(tmp_path)
    assert (one.state, one.attached, one.dead, one.name) == ("ok", 0, 0, "web")


@pytest.mark.parametrize("size", [0, 2 * MIB])
def test_half_made(tmp_path: Path, size: int) -> None:
    os.truncate(put(tmp_path, b""), size)
    assert only(tmp_path).state == states.HALF_MADE


@pytest.mark.parametrize("left", [1, 100, 4096, MIB, 2 * MIB - 4096])
def test_cut(tmp_path: Path, image: bytes, left: int) -> None:
    put(tmp_path, image[:left])
    one = only(tmp_path)
    assert one.state == states.DAMAGED
    assert "bytes" in one.why


@pytest.mark.parametrize(
    ("at", "code", "value", "state"),
    [
        (0, "Q", 1, states.DAMAGED),
        (8, "I", 99, states.OTHER_VERSION),
        (12, "I", 99, states.OTHER_MACHINE),
        (16, "Q", 5, states.DAMAGED),
        (24, "Q", 1 << 60, states.DAMAGED),
        (40, "I", 0x80, states.DAMAGED),
        (44, "I", 99, states.DAMAGED),
        (64, "Q", 1, states.DAMAGED),
        (72, "Q", 1 << 62, states.DAMAGED),
    ],
)
def test_a_header_that_lies(
    tmp_path: Path, image: bytes, at: int, code: str, value: int, state: str
) -> None:
    put(tmp_path, patched(image, at, code, value))
    one = only(tmp_path)
    assert one.state == state
    assert one.why


def test_garbage(tmp_path: Path) -> None:
    for _ in range(20):
        put(tmp_path, os.urandom(2 * MIB))
        assert only(tmp_path).state == states.DAMAGED


def test_what_is_no_regular_file(tmp_path: Path, image: bytes) -> None:
    (tmp_path / f"shmkv.{ME}.folder").mkdir()
    os.mkfifo(tmp_path / f"shmkv.{ME}.pipe")
    target = tmp_path / "target"
    target.write_bytes(image)
    (tmp_path / f"shmkv.{ME}.link").symlink_to(target)
    os.link(target, tmp_path / f"shmkv.{ME}.twice")
    found = survey(tmp_path)
    assert [one.name for one in found] == ["folder", "link", "pipe", "twice"]
    assert {one.state for one in found} == {states.REFUSED}
    assert "symbolic link" in found[1].why
    assert "2 hard links" in found[3].why


@as_root
def test_a_squatter_is_refused(tmp_path: Path, image: bytes) -> None:
    os.chown(put(tmp_path, image), NOBODY, -1)
    assert f"belongs to user {NOBODY}" in only(tmp_path).why


@not_root
def test_unreadable(tmp_path: Path, image: bytes) -> None:
    put(tmp_path, image, mode=0)
    assert only(tmp_path).state == states.UNREADABLE


def test_only_segments_are_listed(tmp_path: Path) -> None:
    for name in ("sem.x", "shmkv", "shmkv.x.web", "shmkv.5.", "shmkv.-1.web", "shmkv.²5.web"):
        (tmp_path / name).touch()
    assert survey(tmp_path) == []


def test_choosing_by_user_and_name(tmp_path: Path) -> None:
    for uid, name in ((7, "a"), (7, "b.c"), (8, "a")):
        put(tmp_path, b"", name, uid)
    assert [(one.uid, one.name) for one in survey(tmp_path)] == [(7, "a"), (7, "b.c"), (8, "a")]
    assert [one.name for one in survey(tmp_path, uid=7)] == ["a", "b.c"]
    assert [one.uid for one in survey(tmp_path, name="a")] == [7, 8]
    assert survey(tmp_path / "missing") == []
