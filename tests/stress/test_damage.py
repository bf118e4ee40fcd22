"""Bits turn in living segments (damage.py); what is planted is found; a damaged store is replaced.

Quick: 20,000 bits, half of them before operations, half under four working processes.
SHMKV_TORTURE=1: a million. SHMKV_SEED repeats the bits.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest

import shmkv
from tests.conftest import MIB, segment_path
from tests.stress import damage, damage_work
from tests.stress.damage import Result, run_alone, run_together
from tests.stress.damage_board import Ground
from tests.stress.damage_plan import WEIGHTS, Plan, flip
from tests.stress.support import seed

TORTURE = os.environ.get("SHMKV_TORTURE") == "1"
BITS = 500_000 if TORTURE else 10_000


@pytest.mark.timeout(4 * 3600 if TORTURE else 600)
@pytest.mark.parametrize("run", [run_alone, run_together], ids=["alone", "together"])
def test_damage(run: Callable[[int, int], Result], capsys: pytest.CaptureFixture[str]) -> None:
    result = run(seed(), BITS)
    with capsys.disabled():
        print(f" {result.line()}", end="")
    assert not result.violations, result.violations[:5]
    assert result.flips >= BITS
    assert result.operations > result.rounds


def test_the_same_numbers_turn_the_same_bits(store_name: str) -> None:
    """And every class of places is hit."""
    ground = Ground(store_name, 5, 2 * MIB, 1.0)
    try:
        plan, again = Plan(ground.image), Plan(ground.image)
        sound = bytes(ground.bytes)
        flips = [plan.pick(random.Random(i)) for i in range(2000)]
        assert flips == [again.pick(random.Random(i)) for i in range(2000)]
        assert {one.what for one in flips} == set(WEIGHTS)
        flip(ground.words, flips[0])
        changed = [i for i, byte in enumerate(ground.bytes) if byte != sound[i]]
        assert changed == [flips[0].word * 8 + flips[0].bit // 8]
        ground.restore()
        assert ground.store.check().ok
    finally:
        ground.store.close()
        ground.end()


# ---- what is planted is found -------------------------------------------------------------------


def _dies(store: shmkv.Store, rng: random.Random) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hangs(store: shmkv.Store, rng: random.Random) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        store.get("key 1")


def _says_what_it_may_not(store: shmkv.Store, rng: random.Random) -> None:
    raise SystemError("status 4 left the core")


def _swells(store: shmkv.Store, rng: random.Random) -> None:
    bytearray(2 * damage.MEMORY)  # what it may have grows by what it gives back


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        (_dies, "signal 9"),
        (_hangs, "hangs"),
        (_says_what_it_may_not, "SystemError"),
        (_swells, "MemoryError"),
    ],
)
@pytest.mark.parametrize("run", [run_alone, run_together], ids=["alone", "together"])
def test_what_is_planted_is_found(
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[int, int], Result],
    planted: damage_work.Operation,
    says: str,
) -> None:
    monkeypatch.setitem(damage_work.OPERATIONS, "check", (1, planted))
    if planted is _hangs:
        monkeypatch.setattr(damage, "HANG_S", 1.0)
    monkeypatch.setattr(damage, "MOST_FOUND", 1)
    monkeypatch.setattr(damage, "SIZES", (2 * MIB,))
    result = run(1, 5000)
    assert result.violations
    assert any(says in text for text in result.violations), result.violations


# ---- replacing ----------------------------------------------------------------------------------


def damaged(name: str, at: int, data: bytes) -> None:
    """Bytes of a segment."""
    with segment_path(name).open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_a_damaged_header_is_replaced_while_others_are_attached(store_name: str) -> None:
    with shmkv.open(store_name, size=2 * MIB) as old:
        old["k"] = 1
        damaged(store_name, 0, b"\xff" * 64)
        assert old["k"] == 1
        with shmkv.open(store_name, size=2 * MIB, on_corrupt="recreate") as new:
            assert "k" not in new
            new["k"] = 2
            assert new.check().ok
        old.set("k", 3)
        assert old["k"] == 3
    with shmkv.open(store_name, create=False) as again:
        assert again["k"] == 2


def test_a_damaged_index_is_replaced(store_name: str) -> None:
    with shmkv.open(store_name, size=2 * MIB) as old:
        old["k"] = 1
        g = old._geometry()
        damaged(store_name, g["off_dirs"], b"\xff" * ((g["stripes"] << g["dir_bits"]) * 4))
        with pytest.raises(shmkv.Corrupt, match="recreate"):
            old.get("k")
    with shmkv.open(store_name, size=2 * MIB, on_corrupt="recreate") as new:
        new["k"] = 2
        assert new["k"] == 2
