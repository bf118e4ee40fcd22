"""The command line as a process: pipes, signals, closed streams, terminals, what it imports.

Does not: measure how fast it starts (`test_quick.py`); that no more than needed is imported is what
keeps it fast.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from tests.unit.cli.conftest import ROOT, SECONDS, Start

Finished = Callable[..., tuple[int, bytes, bytes]]

CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("SHMKV_", "_SHMKV"))}


@pytest.fixture
def full(store: shmkv.Store) -> shmkv.Store:
    """A store with more keys than a pipe holds."""
    store.set_many({f"key:{n:06}": n for n in range(20_000)})
    return store


def test_values_pass_through_pipes(finished: Finished, store: shmkv.Store) -> None:
    data = os.urandom(200_000)
    assert finished("set", store.name, "k", "-", "--type", "bytes", stdin=data) == (0, b"", b"")
    assert finished("get", store.name, "k") == (0, data, b"")
    code, form, _ = finished("get", store.name, "k", "--json")
    assert code == 0
    assert finished("set", store.name, "j", "-", "--type", "json", stdin=form)[0] == 0
    assert store["j"] == data


def test_exit_codes(finished: Finished, store: shmkv.Store) -> None:
    assert finished("get", store.name, "missing") == (1, b"", b"")
    assert finished("get")[0] == 2
    assert finished("nonsense")[0] == 2
    assert finished("get", "a/b", "k")[0] == 3
    assert finished("--version")[:2] == (0, b"shmkv 0.1.0\n")
    assert finished("--help")[0] == 0


def test_keys_are_bytes(finished: Finished, store: shmkv.Store) -> None:
    assert finished("set", store.name, b"\xff\n\x01", "v")[0] == 0
    assert store[b"\xff\n\x01"] == "v"
    assert finished("get", store.name, b"\xff\n\x01", env={"LC_ALL": "C"}) == (0, b"v\n", b"")


@pytest.mark.parametrize("verb", ["scan", "export"])
def test_a_reader_that_goes_away_ends_it_quietly(
    start: Start, full: shmkv.Store, verb: str
) -> None:
    process = start(verb, full.name)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(SECONDS) == -signal.SIGPIPE
    assert full.stats().attached == 1


def test_the_shell_sees_141(full: shmkv.Store) -> None:
    line = f"{sys.executable} -m shmkv scan {full.name} | head -c 10; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, timeout=SECONDS)
    assert done.stdout.endswith(b"141\n")
    assert done.stderr == b""


def test_a_full_disk_is_told(finished: Finished, full: shmkv.Store) -> None:
    with open("/dev/full", "wb") as target:
        code, _, said = finished("scan", full.name, stdout=target)
        assert (code, said) == (3, b"shmkv: No space left on device\n")
        code, _, said = finished("get", full.name, "key:000000", stdout=target)
        assert (code, said) == (3, b"shmkv: No space left on device\n")


def closed(fd: int) -> Callable[[], None]:
    return lambda: os.close(fd)


def test_closed_streams(finished: Finished, store: shmkv.Store) -> None:
    store["k"] = "v"
    code, _, said = finished("get", store.name, "k", preexec_fn=closed(1), stdout=None)
    assert (code, said) == (3, b"shmkv: standard output is closed\n")
    assert finished("exists", store.name, "k", preexec_fn=closed(1), stdout=None)[0] == 0
    code, _, said = finished("set", store.name, "k", "-", preexec_fn=closed(0))
    assert (code, said) == (3, b"shmkv: standard input is closed\n")
    assert finished("get", store.name, "x", preexec_fn=closed(2), stderr=None)[0] == 1


def test_an_interrupt_ends_with_130(start: Start, store: shmkv.Store) -> None:
    process = start("import", store.name)
    assert process.stdin is not None
    process.stdin.write(b'{"key":"a","value":1}\n' * 10_000)
    process.stdin.flush()
    end = time.monotonic() + SECONDS
    while "a" not in store and time.monotonic() < end:
        select.select([], [], [], 0.01)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert said == b""
    assert out.startswith(b"stored ")
    assert store.stats().attached == 1


BROKEN = """
import shmkv.segment
from shmkv.cli import main

def attach(*_):
    raise RuntimeError("two\\nlines")

shmkv.segment.attach = attach
main()
"""


@pytest.mark.parametrize("debug", [False, True])
def test_an_internal_error_is_one_line(debug: bool) -> None:
    """Whatever is wrong inside, the traceback comes only when asked for."""
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, "get", "web", "k"],
        cwd=ROOT,
        env=os.environ | {"SHMKV_DEBUG": str(int(debug))},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stdout) == (3, "")
    last = "shmkv: internal error: RuntimeError: two\\nlines (SHMKV_DEBUG=1 shows where)"
    assert done.stderr.splitlines()[-1] == last
    assert ("Traceback" in done.stderr) == debug
    assert debug or done.stderr.count("\n") == 1


# ---- terminals ----------------------------------------------------------------------------------


def at_terminal(start: Start, *args: str, typed: bytes = b"", **env: str) -> tuple[int, bytes]:
    """Run with a terminal for all three streams; exit code and what was seen."""
    master, slave = pty.openpty()
    try:
        process = start(*args, stdin=slave, stdout=slave, stderr=slave, env=env)
        os.close(slave)
        seen = b""
        if typed:
            os.write(master, typed)
        with contextlib.suppress(OSError):  # what reading says when nobody has the terminal
            while select.select([master], [], [], SECONDS)[0]:
                more = os.read(master, 4096)
                if not more:
                    break
                seen += more
        return process.wait(SECONDS), seen.replace(b"\r\n", b"\n")
    finally:
        os.close(master)


def test_a_person_sees_what_is_safe(start: Start, store: shmkv.Store) -> None:
    store.update({"s": "a\x1b[31m\nb", "b": b"\xff\x07", "u": "x\u202e"})
    assert at_terminal(start, "get", store.name, "s") == (0, b"a\\x1b[31m\nb\n")
    assert at_terminal(start, "get", store.name, "b") == (0, b"\\xff\\x07\n")
    assert at_terminal(start, "get", store.name, "u", "--json") == (0, b'"x\\u202e"\n')
    assert at_terminal(start, "get", store.name, "b", "--raw") == (0, b"\xff\x07")


def test_a_person_is_told_of_a_miss(start: Start, store: shmkv.Store) -> None:
    said = f"shmkv: store '{store.name}' has no key 'x'\n".encode()
    assert at_terminal(start, "get", store.name, "x") == (1, said)


def test_a_person_is_asked_before_rm(start: Start, store: shmkv.Store) -> None:
    store["k"] = 1
    code, seen = at_terminal(start, "rm", store.name, typed=b"n\n")
    assert code == 1
    assert f"remove store '{store.name}' with 1 items? [y/N] ".encode() in seen
    assert store.name in shmkv.names()
    assert at_terminal(start, "rm", store.name, typed=b"y\n")[0] == 0
    assert store.name not in shmkv.names()


def test_colour_is_for_terminals(start: Start, finished: Finished) -> None:
    assert b"\x1b[32mok" in at_terminal(start, "doctor")[1]
    assert b"\x1b[" not in at_terminal(start, "doctor", NO_COLOR="1")[1]
    assert b"\x1b[" not in finished("doctor")[1]


# ---- what is imported ---------------------------------------------------------------------------

HEAVY = ("numpy", "asyncio", "rich", "importlib.metadata", "pickle", "json", "difflib", "decimal")
OURS = ("shmkv.inspect", "shmkv.cli.stores", "shmkv.cli.streams", "shmkv.cli.checkup")
MADE = ("shmkv.types.results", "shmkv.packed", "shmkv.forms", "ormsgpack")
CLICKS = ("click", "inspect", "dataclasses", "gettext", "pathlib", "uuid", "zoneinfo", "logging")
PROBE = """
import sys
from shmkv.cli import main
try:
    main()
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


def imported(*args: str) -> set[str]:
    """The modules that a call loads which prints "v"."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROBE, *args],
        env=CLEAN | {"PYTHONPATH": os.pathsep.join(["", *sys.path])},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stdout) == (0, "v\n"), done.stderr
    return set(done.stderr.split())


def test_get_imports_no_more_than_it_needs(store: shmkv.Store) -> None:
    store["k"] = "v"
    modules = imported("get", store.name, "k")
    assert "shmkv.cli.getting" in modules
    assert not modules & {*HEAVY, *OURS, *MADE, *CLICKS, "shmkv.cli.app", "shmkv.cli.keys"}


def test_nor_does_a_get_with_options(store: shmkv.Store) -> None:
    store["k"] = "v"
    modules = imported("get", "--store", store.name, "k")
    assert {"click", "shmkv.cli.keys"} <= modules
    assert not modules & {*HEAVY, *OURS, *MADE}


# ---- completion ---------------------------------------------------------------------------------


def completed(finished: Finished, line: str, **env: str) -> list[str]:
    """What bash would offer for the last word of a line."""
    words = line.split(" ")
    environment = {
        "_SHMKV_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    code, out, said = finished(env=environment | env)
    assert (code, said) == (0, b"")
    return [offer.partition(",")[2] for offer in out.decode().split()]


def test_completion_offers_verbs_stores_and_keys(finished: Finished, store: shmkv.Store) -> None:
    store.update({"user:1": 1, "user:2": 1, "other": 1, "bad\n": 1, b"\xff": 1})
    name = store.name
    assert completed(finished, "shmkv ge") == ["get"]
    assert completed(finished, f"shmkv get {name[:-1]}")[0].startswith(name[:-1])
    assert name in completed(finished, f"shmkv get -s {name[:-1]}")
    assert completed(finished, f"shmkv get {name} user") == ["user:1", "user:2"]
    assert completed(finished, f"shmkv get {name} ") == ["other", "user:1", "user:2"]
    assert completed(finished, f"shmkv del -s {name} other user") == ["user:1", "user:2"]
    assert completed(finished, f"shmkv get {name} other ") == []
    assert completed(finished, "shmkv get user", SHMKV_STORE=name) == ["user:1", "user:2"]
    assert completed(finished, "shmkv get no-such-store ") == []
    assert name in completed(finished, f"shmkv rm {name[:-1]}")
    assert completed(finished, f"shmkv import {name} x") == ["x"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(finished: Finished, shell: str) -> None:
    code, out, _ = finished(env={"_SHMKV_COMPLETE": f"{shell}_source"})
    assert code == 0
    assert b"_SHMKV_COMPLETE" in out


@pytest.mark.parametrize(("text", "debug"), [("raise OSError(28, 'full')", False), ("", True)])
def test_a_program_that_cannot_be_loaded_says_so(tmp_path: Path, text: str, debug: bool) -> None:
    (tmp_path / "click.py").write_text(text)  # the second is no click at all
    env = CLEAN | {"PYTHONPATH": f"{tmp_path}:{ROOT}"} | ({"SHMKV_DEBUG": "1"} if debug else {})
    done = subprocess.run(
        [sys.executable, "-m", "shmkv", "ls"], env=env, capture_output=True, timeout=SECONDS
    )
    assert done.returncode == (1 if debug else 3)
    assert (b"Traceback" in done.stderr) == debug
    if not debug:
        said = b"shmkv: this program could not be loaded: [Errno 28] full\n"
        assert (done.stdout, done.stderr) == (b"", said)


@pytest.mark.parametrize("line", [["--help"], ["--version"], ["report", "--help"]])
def test_help_finds_standard_output_full(line: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "shmkv", *line],
            cwd=ROOT,
            env=CLEAN,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
        )
    assert (done.returncode, done.stderr) == (3, b"shmkv: No space left on device\n")
