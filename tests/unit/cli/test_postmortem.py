"""The verb postmortem: exit codes, what is shown, and what becomes of stores that are not well."""

from __future__ import annotations

import json
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import shmkv
from shmkv.cli.app import cli
from tests.conftest import MIB, segment_path
from tests.unit.cli.conftest import Run

not_root = pytest.mark.skipif(os.getuid() == 0, reason="nothing is unreadable for root")


@pytest.fixture
def struck(store: shmkv.Store) -> shmkv.Store:
    """A store in which six processes were killed; the last one has a row still."""
    for i in range(6):
        store.check()
        pid = os.fork()
        if pid == 0:
            store.set(f"user:{i}", b"\0")
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
    return store


def patched(name: str, at: int, code: str, value: int) -> None:
    with segment_path(name).open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<" + code, value))


def test_nobody_died(run: Run, store: shmkv.Store) -> None:
    store.set("k", 1)
    assert run("postmortem", store.name, code=1).stdout == ""
    assert json.loads(run("postmortem", store.name, "--json", code=1).stdout)["attachments"] == []


def test_text(run: Run, struck: shmkv.Store) -> None:
    shown = run("postmortem", struck.name).stdout
    parts = shown.split("\n\n")
    assert [part.splitlines()[-1].split("set ")[-1] for part in parts[:-1]] == [
        f"'user:{i}': done" for i in (5, 4, 3, 2, 1)
    ]
    assert parts[0].splitlines()[2].startswith("  died ")
    assert parts[1].splitlines()[2].startswith("  found     dead ")
    assert parts[-1] == f"and 1 more: shmkv postmortem -s {struck.name} -n 6\n"
    shown = run("postmortem", "-s", struck.name, "-n", "6").stdout
    assert shown.count("process ") - shown.count("(process ") == 6
    assert "more: " not in shown


def test_json_tells_of_all(run: Run, struck: shmkv.Store) -> None:
    found = json.loads(run("postmortem", struck.name, "--json").stdout)
    assert (found["store"], found["schema"], found["deaths"]) == (struck.name, 1, 5)
    assert [one["before"][0]["key"] for one in found["attachments"]] == [
        f"user:{i}" for i in (5, 4, 3, 2, 1, 0)
    ]
    few = json.loads(run("postmortem", struck.name, "--json", "-n", "2").stdout)
    assert len(few["attachments"]) == 2


def test_bytes_in_json_have_the_form_of_export(run: Run, store: shmkv.Store) -> None:
    store.set(b"\xff", 1)
    (one,) = json.loads(run("postmortem", store.name, "--json", "--live").stdout)["attachments"]
    assert one["before"][0]["key"] == {"$bytes": "/w=="}


def test_the_living_on_request(run: Run, store: shmkv.Store) -> None:
    store.set("k", 1)
    for option in ("--live", "--all"):
        shown = run("postmortem", store.name, option).stdout
        assert shown.startswith(f"process {os.getpid()} (started ")
        assert "\n  lives\n" in shown


def test_nothing_is_changed_and_no_use_is_made(run: Run, struck: shmkv.Store) -> None:
    path = segment_path(struck.name)
    before, times = path.read_bytes(), path.stat()
    run("postmortem", struck.name, "--live")
    CliRunner().invoke(cli, ["doctor"])  # what it finds elsewhere is not this test's
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == times.st_mtime_ns


def test_another_name(run: Run, struck: shmkv.Store) -> None:
    near = struck.name[:-1] + "x"
    said = run("postmortem", near, code=3).stderr
    assert f"store '{near}' does not exist: did you mean " in said
    assert "name" in run("postmortem", "no/name", code=3).stderr
    assert "takes NAME" in run("postmortem", code=2).stderr
    run("postmortem", struck.name, "-n", "0", code=2)
    run("postmortem", SHMKV_STORE=struck.name)


@pytest.mark.parametrize(
    ("at", "code", "value", "words"),
    [
        (0, "Q", 0, "half made"),
        (0, "Q", 1, "cannot be found: the magic is"),
        (8, "I", 4, "other version: layout version 4, not 5"),
        (12, "I", 1, "other machine: fingerprint 0x1, not "),
        (16, "Q", 5, "cannot be found: no store has the configuration"),
        (40, "I", 99, "cannot be found: unknown options"),
    ],
)
def test_no_segment_of_this_shmkv(
    run: Run, struck: shmkv.Store, at: int, code: str, value: int, words: str
) -> None:
    patched(struck.name, at, code, value)
    assert words in run("postmortem", struck.name, code=3).stderr


@pytest.mark.parametrize(("at", "value"), [(64, 1), (72, 1 << 62)], ids=["size", "watermark"])
def test_a_damaged_store_may_still_tell(run: Run, struck: shmkv.Store, at: int, value: int) -> None:
    patched(struck.name, at, "Q", value)
    done = run("postmortem", struck.name)
    assert "'user:5'" in done.stdout
    assert f"store '{struck.name}' is damaged (" in done.stderr


def test_a_store_that_was_cut(run: Run, store_name: str) -> None:
    with shmkv.open(store_name, size=2 * MIB) as store:
        store.set("k", 1)
    path = segment_path(store_name)
    image = path.read_bytes()
    path.write_bytes(image[:8192])
    assert "cut to 8192 bytes" in run("postmortem", store_name, code=1).stderr
    path.write_bytes(image[:100])
    assert "shorter than a header" in run("postmortem", store_name, code=3).stderr
    path.write_bytes(b"")
    assert "half made" in run("postmortem", store_name, code=3).stderr


@not_root
def test_no_permission(run: Run, struck: shmkv.Store) -> None:
    segment_path(struck.name).chmod(0)
    assert "keeps this user out" in run("postmortem", struck.name, code=3).stderr


def test_a_link_is_not_followed(run: Run, struck: shmkv.Store, new_name: Callable[[], str]) -> None:
    link = segment_path(new_name())
    link.symlink_to(segment_path(struck.name))
    try:
        name = link.name.split(".", 2)[2]
        assert "a symbolic link" in run("postmortem", name, code=3).stderr
    finally:
        link.unlink()


def test_the_doctor_tells_of_recent_deaths(run: Run, struck: shmkv.Store) -> None:
    said = run("doctor", struck.name, code=run("doctor", struck.name).exit_code).stdout
    assert "attachments that ended without closing, within a day: 5, the last one was found" in said
    assert f"shmkv postmortem -s {struck.name}" in said


def test_a_file_that_vanishes(
    run: Run, struck: shmkv.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path, *, living: bool) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr("shmkv.cli.postmortem.of_file", gone)
    assert "does not exist" in run("postmortem", struck.name, code=3).stderr
