"""The disk, when processes die, calls fail, it is full, or files are damaged, in short.

Harnesses: disk_deaths (a death, a refusal, a short write at the n-th system call), disk_space (a
full disk), disk_bits (turned bits, cuts), disk_mutants (changed files without checksums).

Quick: every call of the journal's scenes, every few-th of the long ones, beginning where SHMKV_SEED
says. SHMKV_TORTURE=1: every call, every error, every bit, ten times the mutants.
"""

from __future__ import annotations

import errno
import os

import pytest

from tests.conftest import unique_name
from tests.stress import disk_bits, disk_mutants, disk_space
from tests.stress.disk_calls import Fate, run
from tests.stress.disk_deaths import REFUSED, scene_alone
from tests.stress.disk_scenes import SCENES
from tests.stress.failing_shim import NotRun as NoCalls
from tests.stress.strangers_land import NotRun
from tests.stress.support import seed

TORTURE = os.environ.get("SHMKV_TORTURE") == "1"
DEATHS = {"save": 5, "save_file": 2, "round_": 1, "writes": 1, "rotation": 1, "torn_tail": 1}
DEATHS |= {"save_journaled": 4, "save_everysec": 9, "come_back": 7, "come_back_plain": 16}
DEATHS |= {"come_back_behind_a_gap": 14, "cli_snapshot": 60, "cli_restore": 120, "cli_replace": 150}
DEATHS |= {"daemon": 40}
FAILURES = {"save_journaled": 8, "save_file": 4, "round_": 4, "writes": 8, "rotation": 4}
FAILURES |= {"torn_tail": 2, "come_back": 12, "come_back_behind_a_gap": 15, "save": 8}


def judged(capsys: pytest.CaptureFixture[str], scene: str, mode: str, step: int) -> int:
    """A scene in a process of its own; how many cases it had."""
    try:
        line, said = scene_alone(scene, mode, seed(), 1 if TORTURE else step)
    except NoCalls as why:
        pytest.skip(f"NOT RUN: {why}")
    with capsys.disabled():
        print(f" {line}", end="")
    assert not line["violations"], said[:4000]
    cases = line["n"]
    assert isinstance(cases, int)
    return cases


def test_every_scene_is_in_the_table() -> None:
    assert set(DEATHS) == set(SCENES)


@pytest.mark.timeout(3600 if TORTURE else 600)
@pytest.mark.parametrize("scene", SCENES)
def test_a_death_at_a_system_call(capsys: pytest.CaptureFixture[str], scene: str) -> None:
    assert judged(capsys, scene, "dies", DEATHS[scene]) > 1


@pytest.mark.timeout(3600 if TORTURE else 600)
@pytest.mark.parametrize("scene", SCENES if TORTURE else FAILURES)
def test_a_call_that_fails(capsys: pytest.CaptureFixture[str], scene: str) -> None:
    assert judged(capsys, scene, "fails", FAILURES.get(scene, 1)) > 1


@pytest.mark.timeout(3600 if TORTURE else 600)
@pytest.mark.parametrize("scene", ["save_journaled", "torn_tail", "writes"])
def test_a_write_that_is_short(capsys: pytest.CaptureFixture[str], scene: str) -> None:
    assert judged(capsys, scene, "short", 1) > 4


@pytest.mark.timeout(3600 if TORTURE else 600)
def test_a_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        line, found = disk_space.run(seed(), 0 if TORTURE else 5)
    except NotRun as why:
        pytest.skip(f"NOT RUN: {why}")
    with capsys.disabled():
        print(f" {line}", end="")
    assert not found, found[:3]


@pytest.mark.timeout(3600 if TORTURE else 600)
def test_turned_bits_and_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    line, found = disk_bits.run(seed(), 1 if TORTURE else 127)  # odd: all bits of bytes have turns
    with capsys.disabled():
        print(f" {line}", end="")
    assert not found, found[:8]


@pytest.mark.timeout(7200 if TORTURE else 600)
def test_mutants(capsys: pytest.CaptureFixture[str]) -> None:
    line, found = disk_mutants.run(seed(), 1_000_000 if TORTURE else 100_000)
    with capsys.disabled():
        print(f" {line}", end="")
    assert not found, found[:3]
    assert '"accepted": 0,' not in line


# ---- the harness itself -------------------------------------------------------------------------


def of_a_file(path: str) -> None:
    """Three calls that count."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    assert os.write(fd, b"12345678") in (4, 8)
    os.fsync(fd)


def test_a_call_can_be_struck(tmp_path: object) -> None:
    path = f"{tmp_path}/{unique_name()}"
    names = frozenset({"openat", "write", "fsync"})
    try:
        ends = [run(lambda: lambda: of_a_file(path), Fate(n, names=names)) for n in range(1, 5)]
        fails = run(lambda: lambda: of_a_file(path), Fate(3, errno.EIO, names=names))
    except NoCalls as why:
        pytest.skip(f"NOT RUN: {why}")
    assert [(end.struck, end.code) for end in ends[:3]] == [(n, -9) for n in _in_order(names)]
    assert (ends[3].struck, ends[3].code, ends[3].seen) == ("", 0, 3)
    assert fails.code == 1
    assert "Input/output error" in fails.text
    with open(path, "rb") as file:
        assert file.read() == b"12345678"
    os.unlink(path)
    half = Fate(1, errno.EIO, frozenset({"write"}), short=True)
    short = run(lambda: lambda: of_a_file(path), half)
    assert short.code == 0
    assert os.path.getsize(path) == 4
    assert names <= REFUSED


def _in_order(names: frozenset[str]) -> list[str]:
    return sorted(names, key=["openat", "write", "fsync"].index)
