"""The short way of `get`: it does what click's way does, and starts within the bar.

A `get` without options is answered without click. Each line below is run both ways, in processes of
their own, and must print the same, on both streams, and end with the same code.
"""

from __future__ import annotations

import datetime as dt
import os
import pickle
import statistics
import subprocess
import sys
from typing import Any

import pytest

import shmkv
from shmkv.cli import _plain_get
from tests.conftest import segment_path
from tests.unit.cli.conftest import ROOT, SECONDS

CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("SHMKV_", "_SHMKV")) and name != "PYTHONDONTWRITEBYTECODE"
} | {"PYTHONPATH": str(ROOT)}
SHORT = [sys.executable, "-m", "shmkv"]
CLICK = [sys.executable, "-c", "from shmkv.cli.app import cli; cli.main(prog_name='shmkv')"]


def both(*args: str | bytes, **env: str) -> tuple[int, bytes, bytes]:
    """Code, output and errors of a line, which are the same both ways."""
    ends = []
    for way in (SHORT, CLICK):
        done = subprocess.run(
            [*way, *args], env=CLEAN | env, capture_output=True, timeout=SECONDS, check=False
        )
        ends.append((done.returncode, done.stdout, done.stderr))
    assert ends[0] == ends[1]
    return ends[0]


VALUES: dict[str, tuple[Any, bytes]] = {
    "text": ("gr\u00fcn\x1b[31m", "gr\u00fcn\x1b[31m\n".encode()),
    "bytes": (b"\xff\0\n", b"\xff\0\n"),
    "number": (-5, b"-5\n"),
    "large": (1 << 4000, hex(1 << 4000).encode() + b"\n"),
    "none": (None, b"null\n"),
    "list": ([1, "a"], b'[1,"a"]\n'),
    "date": (dt.date(2024, 2, 29), b"2024-02-29\n"),
}


@pytest.mark.parametrize("kind", VALUES)
def test_hits(store: shmkv.Store, kind: str) -> None:
    store["k"], shown = VALUES[kind]
    assert both("get", store.name, "k") == (0, shown, b"")
    assert both("get", "k", SHMKV_STORE=store.name) == (0, shown, b"")


def test_keys_that_are_no_text(store: shmkv.Store) -> None:
    store[b"\xff "] = "v"
    assert both("get", store.name, b"\xff ") == (0, b"v\n", b"")


def test_misses(store: shmkv.Store) -> None:
    assert both("get", store.name, "k") == (1, b"", b"")
    assert both("get", store.name, "get", SHMKV_STORE="other") == (1, b"", b"")


def test_refusals(store: shmkv.Store, store_name: str) -> None:
    for name, words in {
        store.name + "-not": b"does not exist: did you mean",
        "a/b": b"is no name of a store",
        "": b"is no name of a store",
    }.items():
        code, out, said = both("get", name, "k")
        assert (code, out) == (3, b"")
        assert words in said
    segment_path(store.name).chmod(0o666)
    code, _, said = both("get", store.name, "k")
    assert code == 3
    assert b"chmod it" in said


def test_values_of_other_codecs(store: shmkv.Store) -> None:
    store["k"] = shmkv.Encoded("pickle", pickle.dumps([1]))
    code, out, said = both("get", store.name, "k")
    assert (code, out) == (3, b"")
    assert b"codec 'pickle'" in said


def test_damage(store: shmkv.Store) -> None:
    store["k"] = "v"
    store.close()
    segment_path(store.name).write_bytes(b"\1" * (2 << 20))
    code, out, said = both("get", store.name, "k")
    assert (code, out) == (3, b"")
    assert b"is corrupt" in said


@pytest.mark.parametrize("args", [(), ("k",), ("a", "b", "c"), ("web", ""), ("web", "k" * 65_536)])
def test_wrong_lines(args: tuple[str, ...]) -> None:
    code, out, said = both("get", *args)
    assert (code, out) == (2, b"")
    assert said.startswith(b"Usage: shmkv get [OPTIONS] [NAME] KEY\n")


def test_two_readings(store: shmkv.Store) -> None:
    code, out, said = both("get", store.name, "a", "b", SHMKV_STORE=store.name)
    assert (code, out) == (2, b"")
    assert b"this verb takes" in said


def test_internal_errors(store: shmkv.Store, tmp_path: os.PathLike[str]) -> None:
    """A value that cannot be shown ends both ways in one line."""
    store["k"] = "v"
    with open(os.path.join(tmp_path, "sitecustomize.py"), "w") as file:
        file.write("import shmkv\nshmkv.Store._get_encoded = lambda *_: 1 / 0\n")
    path = os.pathsep.join([os.fspath(tmp_path), str(ROOT)])
    code, out, said = both("get", store.name, "k", PYTHONPATH=path)
    assert (code, out) == (3, b"")
    assert said == (
        b"shmkv: internal error: ZeroDivisionError: division by zero (SHMKV_DEBUG=1 shows where)\n"
    )


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("get web k", True),
        ("get k", True),
        ("get web k --json", False),
        ("get -s web k", False),
        ("get web -- -k", False),
        ("get --help", False),
        ("set web k v", False),
        ("", False),
    ],
)
def test_which_lines_are_plain(monkeypatch: pytest.MonkeyPatch, line: str, plain: bool) -> None:
    monkeypatch.delenv("_SHMKV_COMPLETE", raising=False)
    assert _plain_get(line.split()) is plain
    monkeypatch.setenv("_SHMKV_COMPLETE", "bash_complete")
    assert not _plain_get(line.split())


# ---- how fast -----------------------------------------------------------------------------------

BAR = 0.060  # seconds beyond `python -c pass`; where that alone takes longer, as much again
ROUNDS = 20


def cpu_seconds(*argv: str) -> float:
    """Time a process computes, which others on the machine hardly change; it must end with 0."""
    null = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(argv[0], argv, CLEAN, file_actions=null)
    _, status, used = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return used.ru_utime + used.ru_stime


def best_quartile(times: list[float]) -> float:
    """What a quarter of the rounds stays below."""
    return statistics.quantiles(times, n=4)[0]


def test_get_starts_within_the_bar(store: shmkv.Store) -> None:
    store["k"] = "v"
    lines = {"pass": (sys.executable, "-c", "pass"), "get": (*SHORT, "get", store.name, "k")}
    times: dict[str, list[float]] = {line: [] for line in lines}
    cpu_seconds(*lines["get"])  # leaves compiled files
    for _ in range(ROUNDS):
        for line, argv in lines.items():
            times[line].append(cpu_seconds(*argv))
    least = best_quartile(times["pass"])
    beyond = best_quartile(times["get"]) - least
    assert beyond <= max(BAR, least), f"{beyond * 1000:.0f} ms beyond `python -c pass`"
