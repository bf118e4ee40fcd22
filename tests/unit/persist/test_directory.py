"""Directories: who may use them, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv import filling, segment
from shmkv.persist.directory import Directory
from shmkv.persist.save import prune
from tests.unit.persist.byhand import Hand
from tests.unit.persist.conftest import Opener


def test_a_new_directory_is_its_users_alone(folder: Path, open_store: Opener) -> None:
    open_store(path=folder / "a" / "b")
    assert (folder / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_paths_are_absolute(
    tmp_path: Path, open_store: Opener, reborn: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(path="here")
    monkeypatch.chdir("/")
    store["a"] = 1
    assert store.snapshot() == tmp_path / "here" / "snapshot-0000000001.shmkv"
    assert dict(reborn(store, path=tmp_path / "here")) == {"a": 1}


@pytest.mark.parametrize("mode", [0o777, 0o702, 0o720, 0o1777])
def test_others_may_write(folder: Path, open_store: Opener, store_name: str, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(shmkv.PersistError, match="others may write to it"):
        open_store(path=folder)
    assert store_name not in shmkv.names()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_directory(folder: Path, open_store: Opener, store_name: str) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 12_345, -1)
    with pytest.raises(shmkv.PersistError, match="belongs to user 12345"):
        open_store(path=folder)
    assert store_name not in shmkv.names()


def test_a_file_is_no_directory(tmp_path: Path, open_store: Opener, store_name: str) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(shmkv.PersistError, match=rf"shmkv restore {path} NAME"):
        open_store(path=path)
    with pytest.raises(shmkv.PersistError, match="a part of it is a file"):
        open_store(path=path / "below")
    assert (path.read_text(), store_name in shmkv.names()) == ("mine", False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(folder: Path, open_store: Opener) -> None:
    folder.mkdir(mode=0o500)
    with pytest.raises(shmkv.PersistError, match="Permission denied"):
        open_store(path=folder)


def test_another_stores_directory(
    folder: Path, open_store: Opener, new_name: Any, store_name: str
) -> None:
    store, other = open_store(path=folder), new_name()
    store["a"] = 1
    store.snapshot()
    before = Hand(folder).seen()
    with pytest.raises(shmkv.PersistError, match=f"belongs to the store {store_name!r}"):
        open_store(other, path=folder)
    assert other not in shmkv.names()
    open_store(other)["b"] = 1
    for how in ({}, {"readonly": True}):
        with pytest.raises(shmkv.PersistError, match=f"belongs to the store {store_name!r}"):
            open_store(other, path=folder, **how)
    assert Hand(folder).seen() == before


def test_the_wrong_directory_of_a_store_with_a_journal(
    folder: Path, tmp_path: Path, open_store: Opener
) -> None:
    open_store(path=folder, journal="always")
    with pytest.raises(shmkv.Mismatch, match="writes its journal elsewhere"):
        open_store(path=tmp_path / "elsewhere")
    other = open_store(path=folder)
    other["led"] = 1  # with `always` this takes somebody who knows the directory
    assert other._journal_state()["done"] > 0


def test_another_journal_is_a_mismatch(folder: Path, open_store: Opener) -> None:
    store = open_store(path=folder, journal="everysec")
    with pytest.raises(shmkv.Mismatch, match="its journal is everysec, journal=always was asked"):
        open_store(path=folder, journal="always")
    same = open_store(path=folder, journal="always", on_mismatch="attach")
    assert same._journal_state()["mode"] == 1
    store["a"] = 1
    store._journal_sync()
    again = open_store(path=folder, journal="always", on_mismatch="recreate")
    assert (again._journal_state()["mode"], dict(again)) == (2, {"a": 1})


def test_a_store_without_a_journal_gets_none_later(folder: Path, open_store: Opener) -> None:
    open_store(path=folder)
    with pytest.raises(shmkv.Mismatch, match="its journal is none, journal=always was asked"):
        open_store(path=folder, journal="always")


def test_create_new_and_create_false(folder: Path, open_store: Opener, store_name: str) -> None:
    with pytest.raises(shmkv.NotFound):
        open_store(path=_made(folder), create=False)
    store = open_store(path=folder, create="new")
    store["a"] = 1
    store.snapshot()
    with pytest.raises(shmkv.Exists):
        open_store(path=folder, create="new")
    store.close()
    shmkv.unlink(store_name)
    assert open_store(path=folder, create="new")["a"] == 1
    assert open_store(path=folder, create=False)["a"] == 1
    assert open_store(path=folder, readonly=True)["a"] == 1


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def test_a_damaged_store_comes_back_from_disk(folder: Path, open_store: Opener) -> None:
    store = open_store(path=folder)
    store["a"] = 1
    store.snapshot()
    path = segment.file_path(store.name, os.geteuid())
    store.close()
    with open(path, "r+b") as file:
        file.write(b"\xff" * 64)
    assert open_store(path=folder, on_corrupt="recreate")["a"] == 1


def test_it_travels(folder: Path, open_store: Opener, started: list[dict[str, Any]]) -> None:
    import pickle

    store = open_store(path=folder, journal="always")
    assert [call["path"] for call in started] == [str(folder)]
    with pickle.loads(pickle.dumps(store)) as other:
        other["a"] = 1
        assert other._journal_state()["done"] > 0
    assert store["a"] == 1


# ---- does not fit -------------------------------------------------------------------------------


def test_too_small_a_store(
    folder: Path, open_store: Opener, reborn: Opener, store_name: str
) -> None:
    store = open_store(size="16MiB", path=folder, evict=False)
    store.set_many({f"k{i}": bytes(1000) for i in range(10_000)})
    store.snapshot()
    before = Hand(folder).seen()
    with pytest.raises(shmkv.PersistError, match=r"does not fit into store .* larger size="):
        reborn(store, path=folder, size="4MiB")
    assert (store_name in shmkv.names(), Hand(folder).seen() == before) == (False, True)
    assert len(reborn(path=folder)) == 10_000


def test_too_large_an_item(folder: Path, open_store: Opener, reborn: Opener) -> None:
    store = open_store(size="32MiB", path=folder)
    store["large"] = bytes(3 << 20)
    store.snapshot()
    with pytest.raises(shmkv.PersistError, match=r"does not fit"):
        reborn(store, path=folder, size="8MiB")
    with pytest.raises(shmkv.PersistError, match=r"does not fit"):
        reborn(path=folder, size="2MiB")


# ---- files --------------------------------------------------------------------------------------


def test_saving_over_something_else(tmp_path: Path, open_store: Opener) -> None:
    store, other = open_store(), tmp_path / "other"
    other.write_text("mine")
    for path, words in [
        (other, "exists and is no snapshot"),
        (tmp_path, "is a directory"),
        (tmp_path / "no" / "such", "No such file"),
        (other / "below", "Not a directory"),
    ]:
        with pytest.raises(shmkv.PersistError, match=words):
            store.snapshot(path)
    (tmp_path / "link").symlink_to(other)
    with pytest.raises(shmkv.PersistError, match="symbolic link"):
        store.snapshot(tmp_path / "link")
    assert (other.read_text(), len(list(tmp_path.iterdir()))) == ("mine", 2)


def test_arguments_of_snapshot(tmp_path: Path, open_store: Opener) -> None:
    store = open_store()
    for error, words, args, how in [
        (ValueError, "without path=", (), {}),
        (ValueError, "compression='gzip'", (tmp_path / "x",), {"compression": "gzip"}),
        (ValueError, "less than 1", (), {"keep": 0}),
        (TypeError, "keep must be", (), {"keep": "2"}),
        (TypeError, "path must be", (b"x",), {}),
    ]:
        with pytest.raises(error, match=words):
            store.snapshot(*args, **how)
    store.close()
    with pytest.raises(shmkv.Closed):
        store.snapshot(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_does_not_begin_a_journal(folder: Path, open_store: Opener) -> None:
    open_store(path=folder, journal="always")
    with pytest.raises(shmkv.ReadOnly, match="name a file"):
        open_store(path=folder, readonly=True).snapshot()


def test_only_the_last_snapshots_stay(hand: Hand) -> None:
    for generation in range(1, 8):
        hand.journal(generation, [{"a": generation}], after=generation - 1 or None)
    for generation in (2, 4, 6, 7):
        hand.snapshot(generation, {"a": 1}, options=3)
    whole = hand.snapshot_path(7).read_bytes()
    hand.snapshot_path(7).write_bytes(whole[:-3])  # it does not count: it may need an older one
    (hand.path / "snapshot-0000000001.shmkv").write_text("mine")
    with Directory(str(hand.path)) as folder:
        prune(folder, 3)
        assert "journal-0000000001.shmkv" not in hand.seen()
        prune(folder, 2)
        wanted = {hand.snapshot_path(n).name for n in (1, 4, 6, 7)}
        wanted |= {hand.journal_path(n).name for n in (4, 5, 6, 7)}
        assert set(hand.seen()) == wanted
        hand.snapshot_path(7).write_bytes(whole)
        prune(folder, 1)
        assert set(hand.seen()) == {
            hand.snapshot_path(1).name,
            hand.snapshot_path(7).name,
            hand.journal_path(7).name,
        }


def test_what_dead_savers_left_goes(hand: Hand, reborn: Opener) -> None:
    hand.snapshot(1, {"a": 1})
    left, living = (hand.path / f"snapshot-000000000{n}.part" for n in (2, 3))
    left.write_bytes(b"SHMKVDSK half of it")
    import fcntl

    with living.open("wb") as saver:
        fcntl.flock(saver, fcntl.LOCK_EX)
        assert dict(reborn(path=hand.path)) == {"a": 1}
        assert (left.exists(), living.exists()) == (False, True)


# ---- who comes meanwhile ------------------------------------------------------------------------


def test_others_wait_for_who_restores(
    hand: Hand, open_store: Opener, store_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand.snapshot(1, {"a": 1})
    began, go_on = threading.Event(), threading.Event()
    publish = shmkv.Store._publish

    def slowly(store: shmkv.Store) -> None:
        began.set()
        assert go_on.wait(60)
        publish(store)

    monkeypatch.setattr(shmkv.Store, "_publish", slowly, raising=False)
    found: list[Any] = []

    def opened(**how: Any) -> None:
        try:
            with shmkv.open(store_name, lock_timeout=0.05, **how) as store:
                found.append(dict(store))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            found.append(error)

    others: list[dict[str, Any]] = [{}, {"create": False}, {"readonly": True}]
    others += [{"path": hand.path}] * 2
    threads = [threading.Thread(target=opened, kwargs={"path": hand.path})]
    threads[0].start()
    assert began.wait(60)
    assert filling.going_on(store_name, os.geteuid())
    threads += [threading.Thread(target=opened, kwargs=how) for how in others]
    for thread in threads[1:]:
        thread.start()
    end = time.monotonic() + 0.3  # six times what they wait for locks
    while time.monotonic() < end:
        assert found == []
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert found == [{"a": 1}] * 6
    assert not filling.going_on(store_name, os.geteuid())


def test_a_restorer_that_dies_leaves_nothing_in_the_way(
    hand: Hand, reborn: Opener, store_name: str
) -> None:
    hand.snapshot(1, {"a": 1})
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            shmkv.Store._publish = lambda store: os.write(writer, b"!") and os.kill(os.getpid(), 9)
            shmkv.open(store_name, path=hand.path)
        os._exit(1)
    os.close(writer)
    assert os.read(reader, 1) == b"!"
    os.close(reader)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert store_name in shmkv.names()
    with pytest.raises(shmkv.NotFound, match="half made"):
        shmkv.open(store_name, create=False)
    assert dict(shmkv.open(store_name, path=hand.path)) == {"a": 1}


def test_the_directory_is_locked(hand: Hand, reborn: Opener, store_name: str) -> None:
    with (
        Directory(str(hand.path)) as folder,
        folder.locked(0),
        Directory(str(hand.path)) as other,
        pytest.raises(shmkv.Busy, match=f"in use: process {os.getpid()} restores"),
        other.locked(0.02),
    ):
        pass
    assert store_name not in shmkv.names()


def test_importing_knows_nothing_of_it(folder: Path) -> None:
    import subprocess
    import sys

    words = "import sys, shmkv; sys.exit(any(m.startswith('shmkv.persist') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", words], timeout=30).returncode == 0
