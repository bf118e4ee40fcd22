"""Stepping aside: a session and a priority of its own, and the same end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shmkv.cli import aside, main
from tests.stress.support import until
from tests.unit.cli.conftest import ROOT, SECONDS

STEP = "import os, signal, sys\nfrom shmkv.cli.aside import step_aside\nstep_aside()\n"


def stepped(then: str) -> subprocess.Popen[str]:
    """A process that steps aside and does something."""
    return subprocess.Popen(
        [sys.executable, "-c", STEP + then],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_it_yields_to_all_others() -> None:
    then = "print(os.getpid(), os.getsid(0), os.getpriority(os.PRIO_PROCESS, 0))\n"
    then += "print(open('/proc/self/autogroup').read())"
    process = stepped(then)
    told = process.communicate(timeout=SECONDS)[0].split()
    assert process.returncode == 0
    assert told[0] == told[1] != str(process.pid)
    assert told[2] == str(aside.NICE)
    with open("/proc/self/autogroup") as group:
        grouped = bool(group.read().strip())
    assert told[3:] == ([told[3], "nice", str(aside.NICE)] if grouped else [])


def test_who_is_nicer_already_stays_so() -> None:
    process = subprocess.Popen(
        ["nice", "-n", "19", sys.executable, "-c", STEP + "sys.exit(os.nice(0))"], cwd=ROOT
    )
    assert process.wait(SECONDS) == 19


@pytest.mark.parametrize(
    ("then", "code"),
    [("", 0), ("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL)],
)
def test_it_ends_as_the_child_ends(then: str, code: int) -> None:
    process = stepped(then)
    process.communicate(timeout=SECONDS)
    assert process.returncode == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_ends_it_interrupts_the_child(tmp_path: Path, number: signal.Signals) -> None:
    told = tmp_path / "told"
    then = f"""
signal.signal(signal.SIGINT, signal.default_int_handler)
print(os.getpid(), flush=True)
try:
    signal.pause()
except KeyboardInterrupt:
    os.mkdir({str(told)!r})
"""
    process = stepped(then)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.send_signal(number)
        process.wait(SECONDS)
        until(told.exists, "the child was not interrupted")
    finally:
        process.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(("verb", "steps"), [("report", True), ("ls", False)])
def test_the_report_steps_aside(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, steps: bool
) -> None:
    def step() -> None:
        sys.exit(99)

    monkeypatch.setattr(aside, "step_aside", step)
    monkeypatch.setattr(sys, "argv", ["shmkv", verb, "--help"])
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code == 99) == steps
