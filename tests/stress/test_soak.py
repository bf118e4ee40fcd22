"""The soak (soak.py), and that its eyes are open: what is planted is found.

Fifteen seconds; an hour with SHMKV_TORTURE=1; SHMKV_SEED repeats the plan of a run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from tests.stress import soak
from tests.stress.soak import ALLOWED, Sample, slopes
from tests.stress.soak_work import Planted
from tests.stress.support import report, seed

SECONDS = soak.FULL_S if os.environ.get("SHMKV_TORTURE") == "1" else soak.QUICK_S
PLANTED_S = 3.0
SEEN = {
    Planted.MEMORY: "memory rose",
    Planted.DESCRIPTOR: "descriptors rose",
    Planted.THREAD: "threads rose",
    Planted.VIEW: "rows rose",
}


@pytest.mark.timeout(SECONDS + 240)
def test_soak(new_name: Callable[[], str], capsys: pytest.CaptureFixture[str]) -> None:
    start_seed = seed()
    wrong, _, visits, worst = soak.soak(new_name(), SECONDS, start_seed)
    with capsys.disabled():
        report("soak", start_seed, visits, wrong, worst)


# ---- what is planted is found -------------------------------------------------------------------


@pytest.mark.timeout(240)
@pytest.mark.parametrize("planted", list(SEEN), ids=lambda planted: planted.name.lower())
def test_a_planted_leak_is_found(new_name: Callable[[], str], planted: Planted) -> None:
    wrong, _, _, _ = soak.soak(new_name(), PLANTED_S, 1, planted)
    assert any(SEEN[planted] in text for text in wrong), wrong


def _samples(**series: Callable[[int], float]) -> list[Sample]:
    flat = dict.fromkeys(ALLOWED, 100.0)
    return [{**flat, **{name: of(i) for name, of in series.items()}} for i in range(60)]


def test_flat_is_no_slope() -> None:
    rng = random.Random(1)
    assert slopes(_samples()) == []
    assert slopes(_samples(memory=lambda i: 1e7 + rng.uniform(0, 500_000))) == []
    assert slopes(_samples(memory=lambda i: 0.0 if i < 15 else 1e9)) == []  # the warm-up


@pytest.mark.parametrize("name", list(ALLOWED))
def test_each_series_is_watched(name: str) -> None:
    step = max(ALLOWED[name], 1) / 20
    assert [text.split()[0] for text in slopes(_samples(**{name: lambda i: i * step}))] == [name]


def test_too_little_to_judge_is_said() -> None:
    assert slopes(_samples()[: soak.LEAST_SAMPLES - 1]) != []
