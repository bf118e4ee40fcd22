"""Whose segments are trusted: owner, mode, type, links, size, magic; and half-made ones.

A segment that cannot be what it claims is refused before it is used; one whose creator died is
finished by the next who comes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from tests.conftest import MIB, SHM, segment_path

NOBODY = 65_534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs the right to give files away")


@pytest.fixture
def made(store_name: str) -> Path:
    """The file of a good store, nobody attached."""
    with shmkv.open(store_name, size=2 * MIB) as store:
        store.set("k", b"v")
    return segment_path(store_name)


def test_the_file_is_where_it_is_said_to_be(made: Path) -> None:
    assert made.is_file()
    assert made.stat().st_nlink == 1
    assert made.stat().st_uid == os.getuid()


@pytest.mark.parametrize("size", [0, 2 * MIB, 8 * MIB])
def test_a_half_made_segment_is_finished(store_name: str, size: int) -> None:
    path = segment_path(store_name)
    path.touch(mode=0o600)
    os.truncate(path, size)
    with shmkv.open(store_name, size=2 * MIB) as store:
        store.set("k", b"v")
        assert store.size == 2 * MIB
        assert store.check().ok
        with shmkv.open(store_name, create=False) as again:
            assert again["k"] == b"v"


def test_a_stranger_is_refused(store_name: str) -> None:
    path = segment_path(store_name)
    path.touch(mode=0o600)
    content = os.urandom(4 * MIB)
    path.write_bytes(content)
    with pytest.raises((shmkv.Corrupt, shmkv.Mismatch), match=store_name):
        shmkv.open(store_name, size=2 * MIB)
    with pytest.raises((shmkv.Corrupt, shmkv.Mismatch), match=store_name):
        shmkv.open(store_name, create=False)
    assert path.read_bytes() == content


@pytest.mark.parametrize("left", [1, 100, 4096, 65_536, MIB])
def test_a_cut_segment_is_refused(made: Path, store_name: str, left: int) -> None:
    os.truncate(made, left)
    with pytest.raises((shmkv.Corrupt, shmkv.Mismatch), match=store_name):
        shmkv.open(store_name, create=False)


def test_on_corrupt_recreate(made: Path, store_name: str) -> None:
    content = bytearray(made.read_bytes())
    content[:4096] = os.urandom(4096)
    made.write_bytes(content)
    with shmkv.open(store_name, size=2 * MIB, on_corrupt="recreate") as store:
        assert len(store) == 0
        store.set("k", b"new")
        with shmkv.open(store_name, create=False) as again:
            assert again["k"] == b"new"


def test_a_second_link_is_refused(made: Path, store_name: str) -> None:
    second = made.with_name(made.name + ".link")
    os.link(made, second)
    try:
        with pytest.raises(shmkv.Error, match="link"):
            shmkv.open(store_name, create=False)
    finally:
        second.unlink()
    shmkv.open(store_name, create=False).close()


def test_a_symbolic_link_is_refused(new_name: Callable[[], str], made: Path) -> None:
    name = new_name()
    segment_path(name).symlink_to(made)
    for options in ({}, {"create": False}):
        with pytest.raises((shmkv.Error, OSError)):
            shmkv.open(name, **options)  # type: ignore[arg-type]
    assert segment_path(name).is_symlink()


def test_what_is_no_file_is_refused(store_name: str) -> None:
    path = segment_path(store_name)
    path.mkdir()
    try:
        with pytest.raises((shmkv.Error, OSError)):
            shmkv.open(store_name, size=2 * MIB)
    finally:
        path.rmdir()


@as_root
def test_the_segment_of_another_owner_is_refused(made: Path, store_name: str) -> None:
    os.chown(made, NOBODY, NOBODY)
    with pytest.raises(shmkv.Denied, match=store_name):
        shmkv.open(store_name, create=False)


@pytest.mark.parametrize("mode", [0o666, 0o602, 0o777])
def test_a_segment_open_to_the_world_is_refused(made: Path, store_name: str, mode: int) -> None:
    made.chmod(mode)
    with pytest.raises(shmkv.Denied, match=store_name):
        shmkv.open(store_name, create=False)


@as_root
def test_root_can_make_a_store_for_its_workers(store_name: str) -> None:
    path = SHM / f"shmkv.{NOBODY}.{store_name}"
    try:
        with shmkv.open(store_name, size=2 * MIB, owner=NOBODY) as store:
            store.set("k", 1)
            assert path.stat().st_uid == NOBODY
            assert not segment_path(store_name).exists()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                with shmkv.open(store_name, create=False) as worker:
                    code = 0 if worker.incr("k") == 2 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        shmkv.unlink(store_name, owner=NOBODY)
        assert not path.exists()
    finally:
        path.unlink(missing_ok=True)


@as_root
def test_a_store_of_another_uid_draws_a_warning(store_name: str) -> None:
    path = SHM / f"shmkv.{NOBODY}.{store_name}"
    try:
        shmkv.open(store_name, size=2 * MIB, owner=NOBODY).close()
        with pytest.warns(UserWarning, match=str(NOBODY)):
            shmkv.open(store_name, size=2 * MIB).close()
    finally:
        path.unlink(missing_ok=True)
