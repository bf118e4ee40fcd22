"""`shmkv resize`: what it does, says and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

import shmkv
from tests.conftest import MIB
from tests.unit.cli.conftest import Run


def test_resize(run: Run, store: shmkv.Store) -> None:
    assert run("resize", store.name, "16MiB").output == ""
    assert store.size == 16 * MIB
    run("resize", "-s", store.name, str(24 * MIB))
    run("resize", "24m", SHMKV_STORE=store.name)
    assert store.size == 24 * MIB
    assert json.loads(run("info", store.name, "--json").stdout)["size"] == 24 * MIB
    assert json.loads(run("stats", store.name, "--json").stdout)["size"] == 24 * MIB
    (line,) = [one for one in run("ls").stdout.splitlines() if one.startswith(store.name + " ")]
    assert "24 MiB" in line
    assert "24 MiB" in run("doctor", store.name).stdout


@pytest.mark.parametrize(("size", "why"), [("4MiB", "never shrinks"), ("33MiB", "max_size=32 MiB")])
def test_refusals(run: Run, store: shmkv.Store, size: str, why: str) -> None:
    said = run("resize", store.name, size, code=3).stderr
    assert why in said
    assert said.count("\n") == 1
    assert store.size == 8 * MIB


def test_misuse(run: Run, store: shmkv.Store) -> None:
    assert "is not a size" in run("resize", store.name, "much", code=2).stderr
    assert "is not between" in run("resize", store.name, "1", code=2).stderr
    run("resize", store.name, code=2)
    assert store.size == 8 * MIB


def test_it_creates_nothing(run: Run, new_name: Callable[[], str]) -> None:
    name = new_name()
    assert "does not exist" in run("resize", name, "8MiB", code=3).stderr
    assert name not in shmkv.names()
