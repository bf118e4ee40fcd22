"""Hostile values: whatever the bytes of a value are, a read ends soon with a value or an error.

The reading happens in processes of their own (hostile_child.py), so that a crash is seen as one;
a failure names the seed, SHMKV_SEED repeats it, SHMKV_HOSTILE_VALUES says how many values.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

import shmkv
from tests.stress.support import run_module, seed

COUNT = int(os.environ.get("SHMKV_HOSTILE_VALUES") or 300_000)
LIMIT_S = 100 + COUNT / 2000


def _run(
    open_store: Callable[..., shmkv.Store],
    scene: str,
    count: int,
    capsys: pytest.CaptureFixture[str],
) -> dict[str, float]:
    store, chosen = open_store(), seed()
    words = (scene, store.name, str(chosen), str(count))
    try:
        found: dict[str, float] = run_module("tests.stress.hostile_child", *words, limit_s=LIMIT_S)
    except AssertionError as error:
        raise AssertionError(f"SHMKV_SEED={chosen}: {error}") from None
    with capsys.disabled():
        print(f" {scene}: seed {chosen}, {found}", end="")
    return found


@pytest.mark.timeout(LIMIT_S + 20)
def test_a_read_gives_a_value_or_an_error(
    open_store: Callable[..., shmkv.Store], capsys: pytest.CaptureFixture[str]
) -> None:
    found = _run(open_store, "mutate", COUNT, capsys)
    assert set(found) == {"value", "Corrupt", "CodecError", "worst_ms"}
    assert min(found["value"], found["Corrupt"], found["CodecError"]) > COUNT / 100, found


@pytest.mark.timeout(LIMIT_S + 20)
def test_a_read_takes_little_memory(
    open_store: Callable[..., shmkv.Store], capsys: pytest.CaptureFixture[str]
) -> None:
    _run(open_store, "memory", max(1, COUNT // 50), capsys)
