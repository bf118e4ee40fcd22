"""`check` and `clear` that waited for a stopped process's stripe kept signals from their handlers
until `lock_timeout`: Ctrl-C did nothing for that long. Needs the fault build (`make build`).
"""

from __future__ import annotations

import pytest

import shmkv
from tests.crash.faultbuild import FAULT_BUILD
from tests.stress.support import run_module


def test_check_and_clear_are_ended_by_a_handler(store: shmkv.Store) -> None:
    if not list(FAULT_BUILD.glob("_core*.so")):
        pytest.skip("NOT RUN: there is no build with fault points, 'make build' makes it")
    run_module("tests.stress.signal_scenes", "waiting_whole", store.name)
