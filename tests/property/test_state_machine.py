"""Run the state machine: a few thousand steps as a rule, many more when asked.

`SHMKV_HYPOTHESIS=full` in the environment runs the long form. A failure prints the steps that lead
to it; Hypothesis keeps them in its database and tries them first next time.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.machine import StoreMachine

FULL = os.environ.get("SHMKV_HYPOTHESIS") == "full"
RUNS, STEPS = (1500, 120) if FULL else (60, 50)
AT_LEAST = 2000


@pytest.mark.timeout(7200 if FULL else 600)
def test_the_store_is_the_model() -> None:
    StoreMachine.steps = 0
    run_state_machine_as_test(  # type: ignore[no-untyped-call,unused-ignore]
        StoreMachine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    assert StoreMachine.steps >= AT_LEAST
