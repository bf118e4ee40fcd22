"""The harness: what is judged, what a missed bar does, and a replay from its tables."""

import lzma
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest

from shmkv.replay import Fixed
from tests.bench.hitratio import bars, corpus, ratios
from tests.bench.hitratio.__main__ import arguments, main
from tests.bench.hitratio.memory import MIXES, Used, run_mix
from tests.bench.hitratio.ratios import Row
from tests.bench.report import at_most


def row(trace: str, misses: float, *, recorded: bool = True, overwrites: int = 0) -> Row:
    """A row with these misses."""
    result: dict[str, Any] = {"misses_to_lru": misses, "byte_misses_to_lru": misses, "copied": 1.0}
    return Row(trace, recorded, ratios.LARGE, overwrites, 1, result)


def used(name: str, share: float, failed: int = 0) -> Used:
    """A use of memory."""
    return Used(name, 1, share, share, 1.0, 10, failed, {}, 100.0)


def judged(found: list[bars.Judged]) -> dict[str, bars.Judged]:
    """By name."""
    return {one.name: one for one in found}


def test_recorded_traces_are_judged_and_made_ones_are_not() -> None:
    rows = [row("orm-busy", 0.5), row("web12", 0.98), row("zipf", 2.0, recorded=False)]
    found = judged(bars.of_ratios(rows))
    mean = found["misses / LRU, geometric mean"]
    assert mean.value == pytest.approx((0.5 * 0.98) ** 0.5)
    assert not mean.missed
    worst = found["misses / LRU, worst"]
    assert (worst.value, worst.note) == (0.98, "web12, 10%")
    assert not found["misses / LRU, orm-busy, 10 %"].missed
    assert found["misses / LRU, web12, 10 %"].missed
    assert found["misses / LRU, arc-P3, 10 %"].value is None
    assert not found["misses / LRU, arc-P3, 10 %"].missed


def test_made_traces_are_judged_where_there_are_no_others() -> None:
    found = judged(bars.of_ratios([row("zipf", 1.5, recorded=False)]))
    assert found["misses / LRU, geometric mean"].missed
    assert found["misses / LRU, geometric mean"].note == "made traces only"


def test_overwrites_have_a_bar_of_their_own() -> None:
    found = judged(bars.of_ratios([row("web12", 0.8), row("web12", 0.95, overwrites=20)]))
    assert found["misses / LRU, geometric mean"].value == pytest.approx(0.8)
    assert found["misses / LRU with overwrites, geometric mean"].missed


def test_a_failed_set_misses_a_bar() -> None:
    mixes = [used(mix.name, 0.9) for mix in MIXES]
    found = judged(bars.of_memory(mixes, [used("phase", 0.61, failed=1)]))
    assert found["failed sets over seven phases"].missed
    assert found["utilisation, lowest"].missed
    assert not found[f"utilisation, {MIXES[0].name}"].missed


def test_the_limits_are_those_asked_for() -> None:
    limits = {work.name: work.limit for work in corpus.RECORDED}
    assert limits == {"orm-busy": 0.73, "arc-OLTP": 0.98, "arc-P3": 0.82, "web12": 0.94}
    assert [mix.least for mix in MIXES] == [0.70, 0.82, 0.88]


def test_tasks_and_a_row(tmp_path: Path) -> None:
    numbers = [i * i % 20_011 for i in range(30_000)]
    (tmp_path / "t.trace").write_bytes(struct.pack(f">{len(numbers)}i", *numbers))
    work = corpus.Work("t", Fixed(8192), file="t.trace")
    seen = ratios.look(work, tmp_path, False)
    assert seen.requests == 30_000
    tasks = ratios.tasks(work, seen, percents=(0, 20), quick=False, small=True)
    shares = [(task.share, task.overwrites, task.expand > 1) for task in tasks]
    assert shares == [(0.1, 0, False), (0.01, 0, True), (0.1, 20, False), (0.01, 20, True)]
    large = max(task.size for task in tasks)
    assert ratios.SMALL_LEAST <= large < 2 * ratios.SMALL_LEAST
    found = ratios.run(tasks[2], tmp_path)
    assert found.result["store"]["reads"] < 30_000
    assert found.result["store"]["reads"] == found.result["lru"]["reads"]
    assert found.misses > 0


def test_a_quick_mix_keeps_what_a_store_takes() -> None:
    """Also after the way to another process: values shrink with the store."""
    mix = pickle.loads(pickle.dumps(MIXES[2]))
    found = run_mix(mix, True)
    assert (found.failed, found.errors) == (0, {})
    assert found.sets > 100
    assert found.utilisation > 0.5


def test_without_recorded_traces_it_says_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SHMKV_TRACES", raising=False)
    assert arguments([]).traces is None
    there, lacking = corpus.available(None)
    assert (there, len(lacking)) == ([], 4)
    assert all(name in corpus.WHERE for name in lacking)
    with pytest.raises(SystemExit):
        arguments(["--traces", str(tmp_path / "nowhere")])
    monkeypatch.setenv("SHMKV_TRACES", str(tmp_path))
    assert arguments([]).traces == tmp_path


@pytest.mark.parametrize("limit", [1e-9, 1e9])
def test_a_missed_bar_is_exit_code_1(
    limit: float,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One small recorded trace through the whole program."""
    numbers = [i * i % 10_007 for i in range(20_000)]
    (tmp_path / "web12.trace.xz").write_bytes(
        lzma.compress(struct.pack(f">{len(numbers)}i", *numbers))
    )
    monkeypatch.setattr(bars, "at_most", lambda _: at_most(limit))
    report = tmp_path / "report.json"
    code = main(
        [
            *("ratios", "--traces", str(tmp_path), "--only", "web12", "--jobs", "1"),
            *("--overwrites", "0", "--json", str(report)),
        ]
    )
    printed = capsys.readouterr().out
    assert code == (1 if limit < 1 else 0), printed
    assert ("missed" in printed) == (limit < 1)
    assert report.read_text().startswith("{")
