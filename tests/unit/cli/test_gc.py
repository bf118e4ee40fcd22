"""`shmkv gc`: what it says, whom it asks, and how it ends. What goes: `tests/unit/test_leftovers`.

Every call names its segments: what else lies on this machine is not the tests' to remove.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from tests.conftest import MIB, segment_path
from tests.unit.cli.conftest import Run, Start
from tests.unit.cli.test_process import at_terminal


@pytest.fixture
def half(new_name: Callable[[], str]) -> Path:
    """A segment whose creator has left it."""
    path = segment_path(new_name())
    path.touch(mode=0o600)
    return path


@pytest.fixture
def idle(new_name: Callable[[], str]) -> str:
    """A sound store that nobody has used for two seconds."""
    name = new_name()
    with shmkv.open(name, size=2 * MIB) as store:
        store["k"] = 1
    then = time.time() - 2
    os.utime(segment_path(name), (then, then))
    return name


def name_of(path: Path) -> str:
    return path.name.split(".", 2)[2]


def test_what_nobody_can_use_needs_no_answer(run: Run, half: Path) -> None:
    name = name_of(half)
    said = f": store '{name}' (0 B): half made: its creator ended, or has only begun\n"
    assert run("gc", "--dry-run", name).stdout == "would be removed" + said
    assert half.exists()
    assert run("gc", name).stdout == "removed" + said
    assert not half.exists()
    assert "does not exist" in run("gc", name, code=3).stderr


def test_a_store_that_was_named_and_stays_is_a_no(run: Run, store: shmkv.Store, half: Path) -> None:
    shown = run("gc", store.name, name_of(half), code=1).stdout
    assert f"kept: store '{store.name}': in use by 1 attachments\n" in shown
    assert not half.exists()


def test_json_tells_of_each(run: Run, store: shmkv.Store, half: Path) -> None:
    found = json.loads(run("gc", "--json", store.name, name_of(half), code=1).stdout)
    assert {(one["name"], one["state"], one["done"]) for one in found} == {
        (store.name, "ok", "kept"),
        (name_of(half), "half made", "removed"),
    }
    assert {"name", "owner", "state", "done", "why", "bytes"} == set(found[0])


def test_the_idle_go_with_yes_only(run: Run, idle: str) -> None:
    assert "--yes" in run("gc", "--idle", "1s", idle, stdin=b"y\n", code=2).stderr
    assert run("gc", "--idle", "1h", "--yes", idle, code=1).stdout.startswith("kept: ")
    assert run("gc", "--idle", "1s", "--dry-run", idle).stdout.startswith("would be removed: ")
    assert idle in shmkv.names()
    assert "not used for" in run("gc", "--idle", "1s", "--yes", idle).stdout
    assert idle not in shmkv.names()


def test_a_person_is_asked_before_the_idle_go(start: Start, idle: str, half: Path) -> None:
    names = (idle, name_of(half))
    code, seen = at_terminal(start, "gc", "--idle", "1s", *names, typed=b"n\n")
    assert code == 1
    assert b"remove this store and all that is in it? [y/N]" in seen
    assert idle in shmkv.names()
    assert not half.exists()  # which holds nothing
    assert at_terminal(start, "gc", "--idle", "1s", idle, typed=b"y\n")[0] == 0
    assert idle not in shmkv.names()


def test_lines_that_are_wrong(run: Run) -> None:
    run("gc", "--idle", "never", code=2)
    run("gc", "--idle", "soon", code=2)
    assert "no name of a store" in run("gc", "a/b", code=3).stderr


def test_the_environment_names_nothing(run: Run, store: shmkv.Store, half: Path) -> None:
    assert store.name not in run("gc", "--dry-run", name_of(half), SHMKV_STORE=store.name).stdout
