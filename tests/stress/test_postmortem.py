"""A process that is killed inside an operation leaves a note that says so.

Owns nothing but the call: the harness runs in an interpreter of its own, because it loads the build
with fault points.
"""

from __future__ import annotations

import pytest

from tests.stress.support import run_module

LIMIT_S = 240
LEAST = 60


@pytest.mark.timeout(LIMIT_S + 60)
def test_what_it_was_doing_is_told() -> None:
    line = run_module("tests.stress.autopsy", limit_s=LIMIT_S)
    print(line)
    assert line["violations"] == 0
    assert line["n"] > LEAST
