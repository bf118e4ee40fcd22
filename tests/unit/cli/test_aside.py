"""Stepping aside: a session and a priority of its own, and the same end."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shmkv.cli import aside, main
from tests.stress.support import until
from tests.unit.cli.conftest import ROOT, SECONDS

GROUPS = Path("/proc/self/autogroup")
IMPORTS = "import os, signal, sys, time\nfrom shmkv.cli.aside import step_aside\n"
STEP = "step_aside()\n"


def stepped(then: str, *, before: str = "") -> subprocess.Popen[str]:
    """A process that steps aside and does something."""
    return subprocess.Popen(
        [sys.executable, "-c", IMPORTS + before + STEP + then],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_it_yields_to_all_others() -> None:
    then = "print(os.getpid(), os.getsid(0), os.getpriority(os.PRIO_PROCESS, 0))\n"
    then += "print(open('/proc/self/autogroup').read())" if GROUPS.exists() else ""
    process = stepped(then)
    told = process.communicate(timeout=SECONDS)[0].split()
    assert process.returncode == 0
    assert told[0] == told[1] != str(process.pid)
    nice = str(max(aside.NICE, os.nice(0)))  # of these tests, which may be nicer
    assert told[2] == nice
    grouped = GROUPS.exists() and GROUPS.read_text().strip()
    assert told[3:] == ([told[3], "nice", nice] if grouped else [])


def test_who_is_nicer_already_stays_so() -> None:
    process = stepped("sys.exit(os.nice(0))", before="os.nice(19)\n")
    process.communicate(timeout=SECONDS)
    assert process.returncode == 19


def test_it_asks_again_while_the_kernel_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    class Group(io.StringIO):
        def close(self) -> None:
            if self.getvalue():
                given.append(self.getvalue())
                super().close()
                if len(given) < 3:
                    raise BlockingIOError

    monkeypatch.setattr(aside, "PAUSE_S", 0.0)
    monkeypatch.setattr("builtins.open", lambda path, mode: Group())
    aside._lower_session(15)
    monkeypatch.undo()
    assert given == ["15"] * 3


def test_whoever_ignores_children_gets_the_exit_code() -> None:
    process = stepped("sys.exit(7)", before="signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n")
    process.communicate(timeout=SECONDS)
    assert process.returncode == 7


@pytest.mark.parametrize(
    ("then", "code"),
    [("", 0), ("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL)],
)
def test_it_ends_as_the_child_ends(then: str, code: int) -> None:
    process = stepped(then)
    process.communicate(timeout=SECONDS)
    assert process.returncode == code


@pytest.mark.parametrize(
    ("number", "interrupts"),  # a job of a script ignores SIGINT
    [
        (signal.SIGINT, "default_int_handler"),
        (signal.SIGTERM, "SIG_IGN"),
        (signal.SIGKILL, "default_int_handler"),
    ],
)
def test_what_ends_it_interrupts_the_child(
    tmp_path: Path, number: signal.Signals, interrupts: str
) -> None:
    told = tmp_path / "told"
    then = f"""
try:
    print(os.getpid(), flush=True)
    while True:
        time.sleep(0.05)
except KeyboardInterrupt:
    os.mkdir({str(told)!r})
    sys.exit(9)
"""
    process = stepped(then, before=f"signal.signal(signal.SIGINT, signal.{interrupts})\n")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.send_signal(number)
        process.wait(SECONDS)
        if number == signal.SIGINT:
            assert process.returncode == 9, "it did not wait for the child"
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
