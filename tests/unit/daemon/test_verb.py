"""The verb `daemon` as people call it: in front, in the background, twice, wrongly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import shmkv
from shmkv.cli.app import cli
from shmkv.daemon.detach import Report
from tests.stress.support import until
from tests.unit.cli.conftest import SECONDS, Start

Finished = Callable[..., tuple[int, bytes, bytes]]
Orphans = Callable[[], list[int]]


def in_front(start: Start, store: shmkv.Store, *args: str) -> subprocess.Popen[bytes]:
    """A daemon in front, at work."""
    process = start("daemon", "-f", *args, "-s", store.name)
    until(lambda: store._daemon(False), "a daemon works")
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_in_front(start: Start, store: shmkv.Store, number: signal.Signals) -> None:
    former = signal.signal(number, signal.SIG_DFL)  # what nohup ignores, the daemon ignores
    try:
        process = in_front(start, store)
    finally:
        signal.signal(number, former)
    process.send_signal(number)
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (0, b"")
    lines = err.decode().splitlines()
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO    "
    assert re.fullmatch(time + rf"daemon of store '{store.name}': 0 items in 8 MiB, .*", lines[0])
    assert re.fullmatch(time + r"stopped; 0 pages freed", lines[-1])
    assert not store._daemon(False)
    assert store.stats().attached == 1


def test_in_the_background(
    finished: Finished, store: shmkv.Store, orphans: Orphans, tmp_path: Path
) -> None:
    """A session of its own, the root folder, no streams, no descriptor of who started it."""
    log = tmp_path / "daemon.log"
    with log.open("w") as mine:
        code, out, err = finished(
            "daemon", "-s", store.name, "--log", str(log), pass_fds=(mine.fileno(),)
        )
    assert (code, err) == (0, b"")
    assert store._daemon(False)
    (pid,) = orphans()
    assert out.decode() == f"daemon of store {store.name!r}, process {pid}\n"
    proc = Path("/proc", str(pid))
    assert os.getsid(pid) not in (pid, os.getsid(0))
    assert os.readlink(proc / "cwd") == "/"
    assert "Umask:\t0077" in (proc / "status").read_text()
    open_files = [os.readlink(one) for one in (proc / "fd").iterdir()]
    assert [os.readlink(proc / "fd" / str(fd)) for fd in range(3)] == [os.devnull] * 3
    assert sum(one.startswith("pipe:") for one in open_files) == 0
    assert open_files.count(str(log)) == 1, "only the one it opened itself"
    os.kill(pid, signal.SIGTERM)
    until(lambda: not orphans(), "it has ended")
    assert "stopped" in log.read_text()


def test_a_second_one_says_so(start: Start, finished: Finished, store: shmkv.Store) -> None:
    in_front(start, store)
    said = f"store {store.name!r} has a daemon already\n".encode()
    assert finished("daemon", store.name) == (0, said, b"")
    assert finished("daemon", "-f", store.name) == (0, said, b"")


def test_refusals(finished: Finished, store: shmkv.Store, orphans: Orphans, tmp_path: Path) -> None:
    near = store.name + "x"
    code, _, err = finished("daemon", near)
    assert code == 3
    assert f"did you mean {store.name!r}" in err.decode()
    assert finished("daemon", "a/b")[0] == 3
    assert finished("daemon", "--standby", "a/b")[0] == 3
    assert finished("daemon")[0] == 2
    assert finished("daemon", store.name, "--summary", "soon")[0] == 2
    code, out, err = finished("daemon", store.name, "--log", str(tmp_path / "no" / "log"))
    assert (code, out) == (3, b"")
    assert b"No such file" in err
    assert orphans() == []


def test_help_and_doctor(start: Start, store: shmkv.Store) -> None:
    run = CliRunner().invoke
    assert "--standby" in run(cli, ["daemon", "--help"]).output
    doctor = ["doctor", store.name]
    assert "0 items; no daemon works for it" in run(cli, doctor).output
    in_front(start, store)
    assert "0 items; a daemon works for it" in run(cli, doctor).output


# ---- detaching ----------------------------------------------------------------------------------


def _dies(_report: Report) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def _raises(_report: Report) -> int:
    raise OSError(5, "no luck")


def _reports(report: Report) -> int:
    report(0, "well")
    report(3, "never heard")
    return 0


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (_dies, 3, "the daemon ended before it was ready"),
        (_raises, 3, "[Errno 5] no luck"),
        (_reports, 0, "well"),
    ],
)
def test_what_the_caller_hears(body: Callable[[Report], int], code: int, text: str) -> None:
    # In a process of its own: this one has threads that a fork would leave behind.
    script = (
        "import sys\nfrom shmkv.daemon.detach import detach\n"
        "from tests.unit.daemon import test_verb\n"
        f"print(*detach(test_verb.{body.__name__})[:2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=Path(__file__).parents[3],
        check=True,
    )
    assert done.stdout == f"{code} {text}\n"
