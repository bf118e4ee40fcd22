"""The parts about eviction: the rule of whose pause it was, what is judged, and that loss is seen.

Owns the proof that the judgement can fail: planted absences, a live set that does not fit, a missed
bar. Does not judge speed.
"""

import json
import multiprocessing as mp
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.bench import neighbour, pauses, steady
from tests.bench.fresh import FRESH, Fresh, item_bytes, turned_over
from tests.bench.pauses import Block, Spread
from tests.bench.report import Figure, Table, at_most
from tests.bench.rivals import MIB, SHM, new_store

SHORT = [400] * 15
SMALL = 16 * MIB


def stores() -> set[str]:
    """What stands in shared memory from this process."""
    return {entry.name for entry in Path(SHM).glob(f"*bench-{os.getpid()}-*")}


# ---- whose pause --------------------------------------------------------------------------------


def test_an_absence_is_subtracted_from_the_call_it_lies_in() -> None:
    """30 us of work remain of a call that was away for 4 ms."""
    block = Block([*SHORT, 4_030_000], wall=4_040_000, cpu=40_000, forced=1, slept=0)
    assert block.judged() == [*SHORT, 30_000]


def test_an_absence_without_a_switch_counts_if_it_is_long() -> None:
    stolen = Block([*SHORT, 60_000], wall=70_000, cpu=20_000, forced=0, slept=0)
    assert max(stolen.judged()) == 10_000
    noise = Block([*SHORT, 60_000], wall=70_000, cpu=66_000, forced=0, slept=0)
    assert max(noise.judged()) == 60_000


def test_sleep_is_the_stores() -> None:
    block = Block([*SHORT, 4_030_000], wall=4_040_000, cpu=40_000, forced=1, slept=1)
    assert block.judged() == [*SHORT, 4_030_000]


def test_work_is_the_stores() -> None:
    """A preempted block, but nothing is missing from the CPU time."""
    block = Block([*SHORT, 90_000], wall=99_000, cpu=99_500, forced=1, slept=0)
    assert block.judged() == [*SHORT, 90_000]


def test_an_absence_between_calls_hides_no_slow_call() -> None:
    block = Block([*SHORT, 90_000], wall=4_100_000, cpu=100_000, forced=1, slept=0)
    assert block.judged() == [*SHORT, 90_000]


def test_a_judged_call_is_no_shorter_than_the_others() -> None:
    block = Block([*SHORT, 4_000_000], wall=4_006_000, cpu=6_000, forced=1, slept=0)
    assert block.judged() == [400] * 16


def test_percentiles_are_samples() -> None:
    spread = Spread.of(range(10_000, 0, -1), seconds=2)
    assert (spread.p50, spread.p99, spread.p999) == (5001, 9901, 9991)
    assert (spread.p9999, spread.longest, spread.gaps) == (10_000, 10_000, 2500)


def test_all_samples_are_kept() -> None:
    fresh = Fresh()
    with new_store(SMALL) as store:
        turned_over(store, fresh, 1.1)
        ours, control = pauses.taken(store, fresh, 2)
    assert len(ours.raw) == len(ours.judged) == 2 * pauses.TURN * 7 // 8
    assert all(judged <= raw for judged, raw in zip(ours.judged, ours.raw, strict=True))
    assert len(control.raw) == len(control.judged) >= 2 * pauses.BLOCK


def test_the_daemon_is_there_for_the_block_only() -> None:
    with new_store(SMALL) as store:
        with pauses.daemon_beside(store):
            assert store._daemon(False)
        assert not store._daemon(False)
        with pytest.raises(KeyError), pauses.daemon_beside(store):
            raise KeyError
        assert not store._daemon(False)


# ---- keys and stores ----------------------------------------------------------------------------


def test_fresh_keys_never_return() -> None:
    fresh = Fresh()
    seen = Counter(key for _ in range(3) for key in fresh.batch(100))
    assert len(seen) == 300
    assert {len(key) for key in seen} == {16}


def test_item_bytes_are_those_of_the_store() -> None:
    with new_store(SMALL) as store:
        for number, size in enumerate((1, 4, 5, 100, 1000)):
            before = store.stats().bytes_live
            store.set(b"key:%012d" % number, FRESH[:1] * size)
            assert store.stats().bytes_live - before == item_bytes(16, size)


def test_a_full_store_evicts_and_one_with_room_does_not() -> None:
    table = steady.raced(SMALL, 1000, 10)
    assert set(table.costs) == {"has room", "evicts"}
    assert [figure.bar for figure in table.figures] == [at_most(2)]
    assert stores() == set()


def test_a_large_value_makes_room_beside_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour, "SIZE", SMALL)
    setting, copying, evicted = neighbour.measured(1)
    assert evicted > SMALL / 8 / item_bytes(16, 100) / 2
    assert copying.seconds[0] >= setting.seconds[0]
    assert mp.active_children() == []
    assert stores() == set()


# ---- loss ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "lost"), [(0.5, False), (1.5, True)])
def test_loss_is_seen(monkeypatch: pytest.MonkeyPatch, share: float, lost: bool) -> None:
    """A live set that fits loses nothing; one that cannot fit is said to."""
    monkeypatch.setattr(steady, "KEEP_SIZE", SMALL)
    monkeypatch.setattr(steady, "LIVE", int(share * SMALL))
    figures = steady.kept("x", [FRESH], steady.PAIRS)
    judged = [figure for figure in figures if figure.bar is not None]
    assert len(judged) == 2
    assert [figure.value > 0 for figure in judged] == [lost, lost]


# ---- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "code"), [(2.0, 0), (2.5, 1)])
def test_a_missed_bar_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: float, code: int
) -> None:
    table = Table("planted", figures=[Figure("it", value, bar=at_most(2)), Figure("free", 9.0)])
    monkeypatch.setattr(steady, "PARTS", {"planted": lambda quick: [table]})
    file = tmp_path / "steady.json"
    assert steady.main(["--json", str(file)]) == code
    figure, _ = json.loads(file.read_text())["tables"][0]["figures"]
    assert figure["reached"] is (code == 0)


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        steady.main(["nothing"])
    assert ended.value.code == 2
