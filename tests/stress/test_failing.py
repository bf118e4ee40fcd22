"""Calls fail one by one (failing.py); /dev/shm is full (failing_space.py).

Quick: one error a kind, the first places; some forty numbers of free pages. SHMKV_TORTURE=1: every
error the system may answer with, every number of pages. SHMKV_SEED chooses the numbers.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable

import pytest

import shmkv
from tests.conftest import MIB
from tests.stress import failing, failing_space
from tests.stress.failing_shim import NotRun as NoShim
from tests.stress.failing_space import Ballast, in_own_shm, no_inodes
from tests.stress.strangers_land import NotRun
from tests.stress.support import seed

TORTURE = os.environ.get("SHMKV_TORTURE") == "1"


@pytest.mark.timeout(3600 if TORTURE else 600)
def test_failing_calls(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        line, found = failing.run(seed(), "", TORTURE)
    except NoShim as why:
        pytest.skip(f"NOT RUN: {why}")
    with capsys.disabled():
        print(f" {line}", end="")
    assert not found, found[:8]
    assert json.loads(line)["n"] > 1000


def not_run(body: Callable[[], int]) -> int:
    """Skip with the reason where the machine forbids it."""
    try:
        return body()
    except NotRun as why:
        pytest.skip(f"NOT RUN: {why}")


# ---- /dev/shm -----------------------------------------------------------------------------------


@pytest.mark.timeout(3600 if TORTURE else 600)
def test_full_dev_shm(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        line, found = failing_space.run(seed(), 0 if TORTURE else 12)
    except NotRun as why:
        pytest.skip(f"NOT RUN: {why}")
    with capsys.disabled():
        print(f" {line}", end="")
    assert not any("signal" in text for text in found), found[:8]
    assert not found, found[:8]


def test_no_number_of_free_pages_is_a_signal() -> None:
    """What never may happen, whatever else is wrong: SIGBUS, or a name that stays taken."""
    rng = random.Random(seed())
    for pages in failing_space.steps(2 * MIB, 12, rng):
        try:
            wrong = failing_space.one(pages, 2 * MIB, pages)
        except NotRun as why:
            pytest.skip(f"NOT RUN: {why}")
        assert wrong is None or "Full" in wrong, (pages, wrong)


def test_no_inodes_left() -> None:
    assert not_run(lambda: in_own_shm(no_inodes, "size=8m,nr_inodes=2")) == 0


def watermark_raised() -> None:
    """Damage says that memory is there which is not, and there is none left."""
    name, size = "w", 4 * MIB
    with shmkv.open(name, size=size, max_size=size) as store:
        for i in range(2000):
            store.set(f"k{i}", b"v" * 300)
        Ballast().leave(0)
        with open(f"/dev/shm/shmkv.{os.geteuid()}.{name}", "r+b") as file:
            file.seek(72)
            file.write(size.to_bytes(8, "little"))
        for i in range(20_000):
            store.set(f"k{i}", b"v" * 300)


def test_a_damaged_watermark_in_a_full_dev_shm() -> None:
    assert not_run(lambda: in_own_shm(watermark_raised)) == 0
