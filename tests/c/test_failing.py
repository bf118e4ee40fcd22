"""Damage in the middle of operations, without Python: failing_damage.c, compiled and run.

Owns: the build (fault points, undefined behaviour caught, variables that nobody set filled with a
pattern that leads out of the segment) and how long it runs: quick by default, a million cases with
SHMKV_TORTURE=1; SHMKV_TEST_SEED repeats a run. The line of JSON is printed.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.c.test_c import Build, compile_all

HERE = Path(__file__).resolve().parent
FLAGS = (
    "-O1",
    "-DKV_FAULT=1",
    "-ftrivial-auto-var-init=pattern",
    "-fsanitize=undefined",
    "-fno-sanitize=alignment",
    "-fno-sanitize-recover=all",
)
TORTURE = os.environ.get("SHMKV_TORTURE") == "1"
CASES, SECONDS = (1_000_000, 3600) if TORTURE else (13_000, 300)


@pytest.mark.timeout(SECONDS + 300)  # compiling included
def test_damage_inside_operations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At every fault point of every operation: no death, no hang, no internal status."""
    program = tmp_path / "failing_damage"
    command = compile_all(Build(FLAGS, {}), tmp_path)
    source = HERE / "failing_damage.c"
    subprocess.run([*command, str(source), "-o", str(program)], check=True, timeout=120)
    done = subprocess.run(
        [program, str(CASES)], capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path
    )
    line = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        print(f" {json.dumps(line)}", end="")
    assert line["violations"] == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.returncode == 0
