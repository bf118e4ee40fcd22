"""Options of a daemon that saves: what is refused and when, and what holds without them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from shmkv import launch
from shmkv.daemon import saver
from tests.unit.cli.conftest import Run, run
from tests.unit.daemon.test_saving import Daemon, asked, saving, told
from tests.unit.persist.conftest import Opener, folder, started

__all__ = ["folder", "run", "saving", "started"]  # no daemon is started by open(journal=...)


def test_usage(run: Run, store: shmkv.Store, folder: Path) -> None:
    at = ["--path", str(folder)]
    said = run("daemon", store.name, *at, "--save", "x", code=2).stderr
    assert 'write "SECONDS CHANGES", as in "300 100"' in said
    run("daemon", store.name, *at, "--save", "never", "--save", "1 1", code=2)
    run("daemon", store.name, *at, "--keep", "0", code=2)
    for option in (["--save", "1 1"], ["--save", "never"], ["--keep", "2"], ["--compress"]):
        said = run("daemon", store.name, *option, code=2).stderr
        assert "--path DIR" in said
    assert not store._daemon(False)


@pytest.mark.parametrize(
    ("options", "rules"),
    [
        ([], saver.USUAL),
        (["--save", "never"], ()),
        (["--save", "1 2", "--save", "30 4"], (saver.Rule(1, 2), saver.Rule(30, 4))),
    ],
)
def test_what_open_starts_saves_by_the_usual_rules(
    run: Run,
    store: shmkv.Store,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    rules: tuple[saver.Rule, ...],
) -> None:
    """Its command line has no --save; others say what they want."""
    folder.mkdir(mode=0o700)
    seen: list[saver.Saver] = []

    def running(one: saver.Saver) -> contextlib.AbstractContextManager[None]:
        seen.append(one)
        raise shmkv.Busy("seen")

    monkeypatch.setattr(saver.Saver, "running", running)
    _, *words = launch._command(store.name, None, 0o600, str(folder))
    assert words[:3] == ["-P", "-m", "shmkv"]
    run(*words[3:], *options, code=3)
    assert [one._rules for one in seen] == [rules]


def test_compression_is_looked_at_before_anything_begins(
    run: Run, store: shmkv.Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.delitem(sys.modules, "shmkv.persist.packing", raising=False)
    for how in ([], ["--foreground"], ["--standby"]):
        said = run("daemon", store.name, "--path", str(folder), "--compress", *how, code=3)
        assert "pip install 'shmkv[zstd]'" in said.stderr
    assert not store._daemon(False)


def test_no_directory(run: Run, store: shmkv.Store, tmp_path: Path) -> None:
    for wrong in (tmp_path / "nowhere", tmp_path / "file"):
        (tmp_path / "file").touch()
        said = run(
            "daemon",
            "-f",
            store.name,
            "--path",
            str(wrong),
            code=3 if wrong.name == "nowhere" else 2,
        )
        assert str(wrong) in said.stderr.replace("\n", "")
    assert not store._daemon(False)


def test_two_stores_in_one_directory(
    run: Run,
    open_store: Opener,
    new_name: Callable[[], str],
    folder: Path,
    saving: Daemon,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(saver, "LOCK_S", 0.05)
    store, other = open_store(path=folder), open_store(new_name())
    daemon = saving(store)
    said = run("daemon", "-f", other.name, "--path", str(folder), code=3).stderr
    assert f"{folder} is in use: process {daemon.pid}" in said
    assert "name another directory" in said
    assert not other._daemon(False)
    asked(daemon, folder)
    said = run("daemon", "-f", other.name, "--path", str(folder), code=3).stderr
    assert f"belongs to the store {store.name!r}, not to {other.name!r}" in said
    assert told(daemon)[0] == 0
