"""How the tests of the command line call it.

Owns: `run`, a call in this process by click's runner, and `shmkv_process`, a process of its own.

Promises: neither sees SHMKV_STORE or SHMKV_DEBUG of the person who runs the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shmkv.cli.app import cli

ROOT = Path(__file__).parents[3]
SECONDS = 60

Run = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the command line here: run("get", "web", "k", code=0) -> Result."""
    monkeypatch.delenv("SHMKV_STORE", raising=False)
    monkeypatch.delenv("SHMKV_DEBUG", raising=False)

    def call(
        *args: str, code: int = 0, stdin: bytes | None = None, obj: Any = None, **env: str
    ) -> Result:
        result = CliRunner().invoke(cli, list(args), input=stdin, env=env, obj=obj)
        assert result.exit_code == code, (args, result.output, result.exception)
        assert "Traceback" not in result.stderr
        return result

    return call


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the command line as a process: start("get", "web", "k", stdout=...) -> Popen."""
    made: list[subprocess.Popen[bytes]] = []

    def popen(*args: str | bytes, env: dict[str, str] | None = None, **how: Any) -> Any:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SHMKV_", "_SHMKV"))}
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(
            [sys.executable, "-m", "shmkv", *args],
            cwd=ROOT,
            env=clean | (env or {}),
            **(streams | how),
        )
        made.append(process)
        return process

    yield popen
    for process in made:
        if process.poll() is None:
            process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None and not stream.closed:
                stream.close()
        process.wait(SECONDS)


@pytest.fixture
def finished(start: Start) -> Callable[..., tuple[int, bytes, bytes]]:
    """Run the command line as a process to its end: exit code, output, errors."""

    def wait(*args: str | bytes, stdin: bytes = b"", **how: Any) -> tuple[int, bytes, bytes]:
        process = start(*args, **how)
        out, err = process.communicate(stdin, timeout=SECONDS)
        assert b"Traceback" not in (err or b"")
        return process.returncode, out, err

    return wait
