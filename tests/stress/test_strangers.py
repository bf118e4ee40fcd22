"""Segments of other versions, other machines, other containers, other users, and other times.

What unit/test_store_attach.py and c/test_segment.c hold already is not repeated: damaged headers
field by field, links, cut files, owners and modes one by one. Here: what the refusals say and leave
alone through every way of opening; pid namespaces and pids that come again; the wall clock.
Users are in test_strangers_users.py. SHMKV_TORTURE=1 lengthens the loops.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv import _core
from shmkv.inspect.layout import HEADER, fingerprint
from tests.conftest import MIB, segment_path
from tests.stress import failing_shim, strangers_pids
from tests.stress.strangers_land import NEW_PIDS, NotRun, first_process, in_child, leave
from tests.stress.support import ROOT

TORTURE = os.environ.get("SHMKV_TORTURE") == "1"
WAYS: list[dict[str, Any]] = [
    {"size": 2 * MIB},
    {"create": False},
    {"readonly": True},
    {"size": 2 * MIB, "on_mismatch": "attach"},
    {"size": 2 * MIB, "on_mismatch": "recreate"},
    {"size": 4 * MIB, "on_mismatch": "recreate"},
]

# ---- other versions, other machines -------------------------------------------------------------


@pytest.fixture
def made(store_name: str) -> Path:
    """The file of a good store, nobody attached."""
    with shmkv.open(store_name, size=2 * MIB, max_size=2 * MIB) as store:
        store.set("k", b"v")
    return segment_path(store_name)


def write(path: Path, field: str, number: int) -> None:
    """A field of the header."""
    at, code = HEADER.fields[field]
    content = bytearray(path.read_bytes())
    content[at : at + 4] = number.to_bytes(4, "little")
    assert code == "I"
    path.write_bytes(content)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("version", [0, 77, 0xFFFFFFFF])
def test_another_layout_version(
    made: Path, store_name: str, way: dict[str, Any], version: int
) -> None:
    write(made, "layout_version", version)
    before = made.read_bytes()
    with pytest.raises(shmkv.Mismatch) as refusal:
        shmkv.open(store_name, **way)
    assert f"version {version}," in str(refusal.value)
    assert f"has {_core.LAYOUT_VERSION}:" in str(refusal.value)
    assert made.read_bytes() == before


def others_fingerprint(*, order: int = 2, pointer: int = 8, line: int = 64, row: int = 1024) -> int:
    """What a program of another kind would have written."""
    f = 2_166_136_261
    for part in (order, pointer, line, 16, 4096, row, 640, 64, 64, 12):
        f = (f ^ part) * 16_777_619 & 0xFFFFFFFF
    return f


def test_the_fingerprint_is_as_reckoned_here() -> None:
    assert others_fingerprint() == fingerprint()


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(
    "other", [{"order": 1}, {"pointer": 4}, {"line": 128}, {"row": 576}], ids=str
)
def test_another_kind_of_machine(
    made: Path, store_name: str, way: dict[str, Any], other: dict[str, int]
) -> None:
    number = others_fingerprint(**other)
    write(made, "fingerprint", number)
    before = made.read_bytes()
    with pytest.raises(shmkv.Mismatch, match=f"{number:#x}"):
        shmkv.open(store_name, **way)
    assert made.read_bytes() == before


def test_a_stranger_is_told_both_fingerprints(made: Path, store_name: str) -> None:
    write(made, "fingerprint", 1)
    with pytest.raises(shmkv.Mismatch, match=f"{fingerprint():#x}"):
        shmkv.open(store_name)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_header_of_the_other_byte_order(made: Path, store_name: str, way: dict[str, Any]) -> None:
    content = bytearray(made.read_bytes())
    for at in (*range(0, 8, 8), *range(16, 40, 8), *range(64, 80, 8)):
        content[at : at + 8] = content[at : at + 8][::-1]
    for at in (8, 12, 40, 44):
        content[at : at + 4] = content[at : at + 4][::-1]
    made.write_bytes(content)
    with pytest.raises((shmkv.Mismatch, shmkv.Corrupt), match=store_name):
        shmkv.open(store_name, **way)
    assert made.read_bytes() == content


@pytest.mark.parametrize("way", [WAYS[0], WAYS[1], WAYS[2]], ids=str)
@pytest.mark.parametrize("length", [2 * MIB - 4096, 2 * MIB + 4096, 2 * MIB - 1, 64 * MIB])
def test_another_length(made: Path, store_name: str, way: dict[str, Any], length: int) -> None:
    os.truncate(made, length)
    before = made.read_bytes()
    with pytest.raises(shmkv.Corrupt, match=store_name):
        shmkv.open(store_name, **way)
    assert made.read_bytes() == before


def test_another_size_names_both(made: Path, store_name: str) -> None:
    before = made.read_bytes()
    with pytest.raises(shmkv.Mismatch, match=r"size is 2 MiB, size=3 MiB") as refusal:
        shmkv.open(store_name, size=3 * MIB)
    assert "max_size" not in str(refusal.value)
    after = made.read_bytes()
    assert after[4096 + 64 * 1024 :] == before[4096 + 64 * 1024 :]  # a row was taken and given back


# ---- other containers ---------------------------------------------------------------------------


def skipped(body: Callable[[], object], limit_s: float = 60.0) -> None:
    """Run in a child that may leave namespaces; skip with the reason where it may not."""
    try:
        assert in_child(body, limit_s) == 0
    except NotRun as why:
        pytest.skip(f"NOT RUN: {why}")


def test_two_containers(store_name: str) -> None:
    """A living owner in another pid namespace is not robbed, a dead one is succeeded."""
    shmkv.open(store_name, size=2 * MIB).close()
    skipped(lambda: leave(NEW_PIDS))
    strangers_pids.two_containers(store_name)


@pytest.mark.timeout(3600 if TORTURE else 120)
def test_pids_come_again(store_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    rounds = 10_000 if TORTURE else 60
    shmkv.open(store_name, size=2 * MIB).close()
    reader, writer = os.pipe()

    def story() -> None:
        try:
            with open(strangers_pids._LAST_PID, "w") as file:
                file.write("100")
        except OSError as error:
            os.write(writer, f"NOT RUN: ns_last_pid: {error}".encode())
            return
        worst = strangers_pids.pids_come_again(store_name, rounds)
        line = {"name": "pid_reuse", "seed": 0, "n": rounds, "violations": 0}
        os.write(writer, json.dumps({**line, "worst_ms": round(worst * 1000, 1)}).encode())

    try:
        skipped(lambda: first_process(story, 3000), 3100)
        told = os.read(reader, 4096).decode()
    finally:
        os.close(reader)
        os.close(writer)
    if told.startswith("NOT RUN"):
        pytest.skip(told)
    with capsys.disabled():
        print(f" {told}", end="")
    assert json.loads(told)["n"] == rounds


# ---- other times --------------------------------------------------------------------------------


def test_the_wall_clock_jumps(tmp_path: Path) -> None:
    """CLOCK_REALTIME as the core reads it; the other clocks cannot be set."""
    try:
        library = failing_shim.build(tmp_path)
    except failing_shim.NotRun as why:
        pytest.skip(f"NOT RUN: {why}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.stress.strangers_clock"],
        cwd=ROOT,
        env=failing_shim.preloaded(library),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
