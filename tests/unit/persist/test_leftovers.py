"""What the dead leave on disk and in memory goes, and what the living have stays."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from shmkv.persist.directory import Directory, swept
from shmkv.persist.restore import Brought
from tests.conftest import segment_path
from tests.unit.persist.byhand import ALONE, Hand
from tests.unit.persist.conftest import Opener


def test_a_save_removes_what_dead_savers_left(folder: Path, open_store: Opener) -> None:
    store = open_store(path=folder)
    (folder / "snapshot-0000000007.part").write_bytes(b"SHMKVDSK and more")
    living = os.open(folder / "snapshot-0000000008.part", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(living, fcntl.LOCK_EX)
    store.snapshot()
    assert [one.name for one in folder.glob("*.part")] == ["snapshot-0000000008.part"]
    os.close(living)


def test_a_save_to_a_file_removes_what_savers_of_it_left(
    tmp_path: Path, store: shmkv.Store
) -> None:
    (tmp_path / ".a.shmkv.12.0123abcd.part").write_bytes(b"")
    others = [".b.shmkv.12.0123abcd.part", ".axshmkv.12.0123abcd.part", ".a.shmkv.part"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    store.snapshot(tmp_path / "a.shmkv")
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([*others, "a.shmkv"])


def test_nobody_sweeps_under_a_name_what_another_file_bears(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("no file of ours")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with Directory(str(tmp_path), mode=0o022) as directory:
        assert not swept(directory.fd, "mine")
        assert not swept(directory.fd, "link")
        assert not swept(directory.fd, "missing")


def test_replacing_removes_half_made_stores_of_the_dead(
    hand: Hand, bring: Callable[..., Brought], store_name: str, new_name: Callable[[], str]
) -> None:
    hand.snapshot(1, {"a": 1})
    names = [f".{store_name}.12.{n:08x}" for n in range(2)]
    kept = shmkv.open(names[0], size="2MiB", create="new")
    shmkv.open(names[1], size="2MiB", create="new").close()
    try:
        bring(hand.path, replace=True)
        assert segment_path(names[0]).exists()
        assert not segment_path(names[1]).exists()
    finally:
        kept.close()
        for name in names:
            shmkv.unlink(name, missing_ok=True)


@pytest.mark.parametrize("starts", [1, 5])
def test_starts_leave_one_journal(hand: Hand, reborn: Opener, starts: int) -> None:
    hand.snapshot(1, {"a": 1}, options=3)
    hand.journal(1, [{"a": 2}], previous=ALONE)
    store = reborn(path=hand.path)
    for _ in range(starts):
        store = reborn(store, path=hand.path)
    found = sorted(one.name for one in hand.path.glob("journal-*"))
    assert found == [f"journal-000000000{n}.shmkv" for n in (1, starts + 2)]
    store["a"] = 3
    store._journal_sync()
    store = reborn(store, path=hand.path)
    assert dict(store) == {"a": 3}
