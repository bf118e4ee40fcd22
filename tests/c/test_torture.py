"""The long reliability harnesses in their quick form; `SHMKV_TORTURE=1` for the long one.

Owns the call: which harness must do how much within which time. A harness that this machine cannot
run is skipped as NOT RUN, with its reason. `SHMKV_TORTURE_SEED` repeats a run; what was violated,
and the options that repeat the one case, stand in the output. The long form also plants faults in
the core and fails if one of them is not found.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.c import torture

FULL = os.environ.get("SHMKV_TORTURE") == "1"
HOURS = 6 * 3600
# Cases at least in the quick form, on the slowest machine that may call itself tested; seconds it
# may take, with a machine shared by others in mind.
QUICK = {"step": (300, 240), "restep": (40, 240), "abandon": (10000, 240), "schedule": (1000, 240)}
PLANTED_QUICK = ["words-not-copied-again", "stripe-not-recounted"]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Harnesses compiled so far; a folder under the empty name."""
    return {"": tmp_path_factory.mktemp("torture")}


@pytest.mark.timeout(HOURS if FULL else 600)
@pytest.mark.parametrize("name", torture.PROGRAMS)
def test_torture(built: dict[str, Path], name: str) -> None:
    """Nothing is violated, and enough was tried."""
    try:
        if name not in built:
            built[name] = torture.build(name, built[""])
    except torture.CannotBuild as why:
        pytest.skip(f"NOT RUN: {why}")
    least, seconds = QUICK[name]
    seed = os.environ.get("SHMKV_TORTURE_SEED", str(time.time_ns() % 1000003))
    command = [str(built[name]), "--seed", seed, *(["--full"] if FULL else [])]
    outcome = torture.run(command, HOURS if FULL else seconds)
    print(outcome.line)
    if outcome.status == torture.NOT_RUN:
        pytest.skip(f"NOT RUN: {outcome.line['not_run']}")
    assert outcome.status == 0, f"{outcome.said}\n{outcome.line}"
    assert outcome.line["violations"] == 0
    assert outcome.line["n"] >= least, outcome.line


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", torture.PLANTED if FULL else PLANTED_QUICK)
def test_planted_faults_are_found(tmp_path: Path, fault: str) -> None:
    """A harness that cannot fail proves nothing."""
    try:
        outcome = torture.run_planted(fault, tmp_path)
    except torture.CannotBuild as why:
        pytest.skip(f"NOT RUN: {why}")
    if outcome.status == torture.NOT_RUN:
        pytest.skip(f"NOT RUN: {outcome.line['not_run']}")
    assert outcome.status == 1, f"{fault} was not found: {outcome.line}"
