"""The tool that measures branch coverage (coverage.py): it counts what died, and reasons stay true.

Quick: a small program whose processes end in every way is measured, and each reason of
tests/c/COVERAGE.md is looked up in the sources. SHMKV_TORTURE=1 measures everything, which must
reach the goal with every other branch explained.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import coverage, coverage_report
from tests.coverage_report import Coverage, Missing, Reason, reasons
from tests.stress.support import ROOT

CORE = ROOT / "shmkv" / "_csrc"
TORTURE = os.environ.get("SHMKV_TORTURE") == "1"
PROGRAM = """
#include <assert.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static int seen;
static void step(int n) {
    if (n == 1)
        seen = 1;
    if (n == 2)
        seen = 2;
    if (n == 3)
        seen = 3;
    if (n == 4)
        seen = 4;
    assert(n != 5);
}
int main(void) {
    if (fork() == 0) {
        step(1);
        kill(getpid(), SIGKILL);
    }
    if (fork() == 0) {
        step(2);
        _exit(0);
    }
    while (wait(NULL) > 0)
        step(3);
    return 0;
}
"""


@pytest.fixture
def measured(tmp_path: Path) -> Coverage:
    """The program, compiled like the core is, run and read."""
    if shutil.which("gcc") is None or shutil.which("gcov") is None:
        pytest.skip("NOT RUN: there is no gcc with gcov")
    sources, made = tmp_path / "_csrc", tmp_path / "made"
    sources.mkdir()
    made.mkdir()
    (sources / "small.c").write_text(PROGRAM)
    flags = [flag for flag in coverage.FLAGS if flag != "-DNDEBUG"]
    for command in (
        ["gcc", *flags, "-c", str(sources / "small.c"), "-o", "small.o"],
        ["gcc", "-c", str(ROOT / "tests" / "c" / "coverage_end.c"), "-o", "end.o"],
        ["gcc", "--coverage", "small.o", "end.o", coverage.WRAPS, "-o", "small"],
        [str(made / "small")],
    ):
        subprocess.run(command, cwd=made, check=True, timeout=60)
    return Coverage(coverage_report.read([made], "_csrc"), sources)


def test_branches_of_the_dead_are_counted(measured: Coverage) -> None:
    """Killed by its own hand, left by _exit, ended: all count; what nobody took is missing."""
    assert [m.code for m in measured.missing("small.c")] == ["if (n == 4)"]
    table = measured.table("small.c")
    assert table.branches - table.taken == 1
    assert 0 < table.percent < 100


def test_reasons_are_matched_by_code() -> None:
    given = reasons("| file | code | why |\n|---|---|---|\n| `a.c` | `x \\|\\| y` | a race |\n")
    assert given == [Reason("a.c", "x || y", "a race")]
    gap = Missing("a.c", 7, "+-", "if (x || y)")
    assert coverage_report.unexplained([gap], given) == []
    assert coverage_report.unexplained([gap._replace(file="b.c")], given) != []
    assert coverage_report.unexplained([gap], [given[0]._replace(file="*.c")]) == []
    assert coverage_report.unused([gap], given) == []
    assert coverage_report.unused([], given) == given
    assert coverage_report.outdated([Reason("lock.c", "nothing of the kind", "")], CORE) != []


def test_every_reason_speaks_of_a_line_that_is_there() -> None:
    given = reasons(coverage.REASONS.read_text())
    assert len(given) > 20
    assert coverage_report.outdated(given, CORE) == []


@pytest.mark.skipif(not TORTURE, reason="NOT RUN: SHMKV_TORTURE=1 measures everything")
@pytest.mark.timeout(6 * 3600)
def test_coverage_of_the_core() -> None:
    command = [sys.executable, "-m", "tests.coverage"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=5 * 3600)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:]
