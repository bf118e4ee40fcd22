"""The verbs snapshot, restore and verify."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmkv
from tests.unit.cli.conftest import Run, finished, run, start
from tests.unit.disk.byhand import Hand
from tests.unit.disk.conftest import Opener

__all__ = ["finished", "run", "start"]  # fixtures of the command line


@pytest.fixture
def filled(open_store: Opener) -> shmkv.Store:
    """A store with some items."""
    store = open_store()
    store.set_many({f"k{i}": i for i in range(100)})
    return store


def test_there_and_back(
    run: Run, filled: shmkv.Store, tmp_path: Path, new_name: Callable[[], str]
) -> None:
    path, other = tmp_path / "copy.shmkv", new_name()
    said = run("snapshot", filled.name, str(path)).stdout
    assert said.startswith(f"{path}: ")
    assert run("verify", str(path)).stdout.splitlines()[-1] == "ok"
    assert "100 items" in run("restore", str(path), other).stdout
    with shmkv.open(other, create=False) as store:
        assert dict(store) == dict(filled)


def test_json(run: Run, filled: shmkv.Store, tmp_path: Path, new_name: Callable[[], str]) -> None:
    path, other = tmp_path / "copy.shmkv", new_name()
    said = json.loads(run("snapshot", filled.name, str(path), "--compress", "--json").stdout)
    assert said["path"] == str(path)
    assert (said["items"], said["bytes"]) == (100, path.stat().st_size)
    said = json.loads(run("restore", "--json", str(path), other, "--size", "4MiB").stdout)
    assert said == {"store": other, "items": 100, "expired": 0, "size": 4 << 20, "notes": []}
    said = json.loads(run("verify", "--json", str(path)).stdout)
    assert (said["ok"], said["problems"], said["files"][0]["items"]) == (True, [], 100)


def test_directories(run: Run, filled: shmkv.Store, folder: Path, reborn: Opener) -> None:
    for _ in range(4):
        run("snapshot", filled.name, "--path", str(folder), "--keep", "3")
    assert len(list(folder.glob("snapshot-*"))) == 3
    said = run("verify", str(folder)).stdout.splitlines()
    assert said[-2:] == [f"comes back from {folder}/snapshot-0000000004.shmkv", "ok"]
    assert len(reborn(filled, path=folder)) == 100


def test_a_store_with_a_journal(
    run: Run, open_store: Opener, folder: Path, new_name: Callable[[], str]
) -> None:
    store, other = open_store(path=folder, journal="always"), new_name()
    store["a"] = 1
    run("snapshot", store.name, "--path", str(folder))
    store["a"] = 2
    run("restore", str(folder), other)
    with shmkv.open(other, create=False) as copy:
        assert (dict(copy), copy._journal_state()) == ({"a": 2}, None)


def test_replacing(run: Run, filled: shmkv.Store, tmp_path: Path) -> None:
    path = tmp_path / "copy.shmkv"
    run("snapshot", filled.name, str(path))
    filled["k0"] = "changed"
    assert "add --replace" in run("restore", str(path), filled.name, code=3).stderr
    damaged = bytearray(path.read_bytes())
    damaged[300] ^= 1
    (tmp_path / "bad").write_bytes(damaged)
    said = run("restore", "--replace", str(tmp_path / "bad"), filled.name, code=3).stderr
    assert "is damaged at byte" in said
    with shmkv.open(filled.name, create=False) as store:
        assert store["k0"] == "changed"
    names = shmkv.names()
    run("restore", "--replace", str(path), filled.name)
    assert shmkv.names() == names
    with shmkv.open(filled.name, create=False) as store:
        assert store["k0"] == 0
    assert filled["k0"] == "changed"  # who has the old one goes on with it


def test_usage(run: Run, filled: shmkv.Store, tmp_path: Path) -> None:
    name, file = filled.name, str(tmp_path / "x")
    assert "name a file" in run("snapshot", name, code=2).stderr
    run("snapshot", name, file, "--path", str(tmp_path), code=2)
    run("snapshot", name, file, "--keep", "3", code=2)
    run("snapshot", name, "--path", str(tmp_path), "--keep", "0", code=2)
    run("restore", file, name, code=2)
    run("verify", file, code=2)
    run("restore", str(tmp_path), "no/name", code=2)
    run("restore", str(tmp_path), name, "--size", "lots", code=2)
    assert list(tmp_path.iterdir()) == []


def test_refusals(run: Run, filled: shmkv.Store, tmp_path: Path, store_name: str) -> None:
    other = tmp_path / "other.txt"
    other.write_text("mine, and longer than the header of a file of ours is")
    assert "no file of shmkv" in run("restore", str(other), "new", code=3).stderr
    assert "no file of shmkv" in run("verify", str(other), code=1).stdout
    assert "is no snapshot" in run("snapshot", store_name, str(other), code=3).stderr
    assert "is a directory" in run("snapshot", store_name, str(tmp_path), code=3).stderr
    assert "does not exist" in run("snapshot", "nosuchstore", str(tmp_path / "x"), code=3).stderr
    said = run("restore", str(tmp_path), "new", code=3).stderr
    assert "holds no snapshot and no journal" in said
    assert "new" not in shmkv.names()


def test_problems_of_a_directory(run: Run, hand: Hand) -> None:
    hand.snapshot(1, {"a": 1}, options=3)
    hand.journal(1, [{"a": 2}], previous=(1 << 64) - 1)
    path = hand.journal(2, [{"a": 3}, {"a": 4}], after=1)
    path.write_bytes(path.read_bytes()[:-1])
    said = run("verify", str(hand.path)).stdout
    assert "bytes at its end are no whole round" in said
    assert said.splitlines()[-1] == "ok"
    whole = hand.journal_path(1).read_bytes()
    hand.journal_path(1).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    said = run("verify", str(hand.path), code=1).stdout
    assert "it is whole up to" in said
    assert said.splitlines()[-1] == "1 problem"
    hand.journal_path(1).unlink()
    assert "journal-0000000001.shmkv is missing" in run("verify", str(hand.path), code=1).stdout


def test_a_journal_alone(run: Run, hand: Hand) -> None:
    path = hand.journal(1, [{"a": 2}])
    assert run("verify", str(path)).stdout.endswith("ok\n")
    assert "name the directory" in run("restore", str(path), "new", code=3).stderr


def test_a_bar_on_a_terminal(start: Any, filled: shmkv.Store, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = start("snapshot", filled.name, str(tmp_path / "x"), stderr=slave)
    os.close(slave)
    out, _ = process.communicate(timeout=60)
    said = os.read(master, 1 << 16)
    os.close(master)
    assert (process.returncode, b"saving" in said) == (0, True)
    assert b"saving" not in out
