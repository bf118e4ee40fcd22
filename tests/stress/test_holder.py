"""A stopped process delays nobody but those who need what it holds, and those not for long.

Owns nothing but the call: the harness runs in an interpreter of its own, because it loads the build
with fault points. SHMKV_TORTURE=1 makes it stop at every visit of every point.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SHM
from tests.stress.support import run_module

TORTURE = os.environ.get("SHMKV_TORTURE") == "1"
LIMIT_S = 4 * 3600 if TORTURE else 600
LEAST = 1000 if TORTURE else 100


@pytest.fixture
def swept() -> Iterator[None]:
    """What an interpreter leaves that had to be killed goes."""
    yield
    for left in SHM.glob("shmkv.*-crash-*"):
        pid = re.search(r"\.t(\d+)-crash-", left.name)
        if pid and not Path("/proc", pid[1]).exists():
            left.unlink()


@pytest.mark.timeout(LIMIT_S + 60)
def test_stopped_holder(swept: None) -> None:
    line = run_module("tests.stress.holder", limit_s=LIMIT_S)
    print(line)
    assert line["violations"] == 0
    assert line["n"] > LEAST
