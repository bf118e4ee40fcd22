"""What follows from two looks: rates, ratios, histories, orders, queues."""

from __future__ import annotations

import pytest

from shmkv.top.hot import Hot
from shmkv.top.model import (
    KEY_ORDERS,
    ORDERS,
    Frame,
    History,
    next_of,
    ordered,
    ordered_keys,
    queues,
    sparkline,
    state_lines,
)
from shmkv.top.sample import Part
from tests.unit.top.made import attachment, busy, sample


def test_rates_are_what_came_over_the_time() -> None:
    before = sample(10.0, hits=100, misses=100, sets=5, evictions_small=3)
    now = sample(12.0, hits=400, misses=200, sets=5, evictions_small=9)
    frame = Frame.of(before, now)
    assert frame.seconds == 2.0
    assert (frame.rates["hits"], frame.rates["misses"], frame.reads) == (150.0, 50.0, 200.0)
    assert frame.hit_ratio == 0.75
    assert frame.hit_ratio_total == pytest.approx(400 / 600)
    assert frame.rates["sets"] == frame.writes == 0.0
    assert frame.leaving()["small"] == (3.0, 9)


def test_one_look_tells_no_rate() -> None:
    frame = Frame.of(None, sample(1.0, attachment(1, hits=9), hits=9))
    assert frame.seconds == 0
    assert set(frame.rates.values()) == {0.0}
    assert frame.hit_ratio is None
    assert frame.hit_ratio_total == 1.0
    assert frame.processes[0].reads == 0.0


def test_a_counter_that_went_back_gives_no_negative_rate() -> None:
    frame = Frame.of(sample(0.0, hits=100), sample(1.0, hits=7))
    assert frame.reads == 0.0


def test_processes_have_rates_of_their_own() -> None:
    before = sample(0.0, attachment(1, hits=10, misses=10), attachment(2, sets=100))
    now = sample(
        2.0,
        attachment(1, hits=30, misses=20),
        attachment(2, sets=110, evicted=4),
        attachment(3, hits=10**6),  # came meanwhile, into a row that had counted for others
    )
    one, two, three = Frame.of(before, now).processes
    assert (one.reads, one.writes) == (15.0, 0.0)
    assert one.hit_ratio == pytest.approx(2 / 3)
    assert (two.writes, two.evictions, two.hit_ratio) == (5.0, 2.0, None)
    assert three.reads == 0.0
    assert one.age == 62.0


def test_a_number_given_again_is_another_process() -> None:
    before = sample(0.0, attachment(1, hits=10))
    assert Frame.of(before, sample(1.0, attachment(2, hits=90))).processes[0].reads == 0.0


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, 7]) == "▁▂▃█"
    assert sparkline([None, 1.0, 0.5], most=1.0) == " █▅"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([5.0], most=1.0) == "█"


def test_histories_keep_the_last() -> None:
    history = History(kept=3)
    for value in range(5):
        history.add(value)
    assert list(history.values) == [2, 3, 4]
    assert len(history.line(2)) == 2
    assert history.line(0) == ""
    assert history.line(9, most=4.0) == "▅▆█"


def test_orders() -> None:
    before = sample(0.0, *(attachment(n) for n in (1, 2, 3)))
    now = sample(
        1.0,
        attachment(1, hits=1, misses=9, sets=5),
        attachment(2, hits=50),
        attachment(3, sets=9)._replace(since=999.0),
    )
    found = Frame.of(before, now).processes

    def by(order: str) -> list[int]:
        return [one.pid for one in ordered(found, order)]

    assert by("reads") == [2, 1, 3]
    assert by("writes") == [3, 1, 2]
    assert by("hits") == [2, 1, 3]
    assert by("pid") == [1, 2, 3]
    assert by("age") == [3, 1, 2]
    assert {len(by(order)) for order in ORDERS} == {3}
    assert next_of(ORDERS, "reads") == "writes"
    assert next_of(ORDERS, ORDERS[-1]) == "reads"


def test_orders_of_keys() -> None:
    hottest = (Hot("b", 3, 5.0, 16), Hot(b"\xff", 2, 1.0, 64), Hot("a", 1, 9.0, 32))
    found = {order: [one.key for one in ordered_keys(hottest, order)] for order in KEY_ORDERS}
    assert found == {
        "heat": ["b", b"\xff", "a"],
        "key": ["a", "b", b"\xff"],
        "size": [b"\xff", "a", "b"],
        "age": [b"\xff", "b", "a"],
    }


def test_memory_by_queue() -> None:
    found = queues(
        [
            Part(0, "free", 100, 0, 0),
            Part(0, "taken", 7, 0, 0),
            Part(0, "limbo", 8, 0, 0),
            Part(0, "closed", 50, 40, 10),
            Part(0, "open", 20, 5, 0),
            Part(2, "closed", 30, 30, 31),
        ]
    )
    assert [(one.name, one.bytes) for one in found] == [
        ("small", 70),
        ("main 2", 30),
        ("free", 100),
        ("held", 15),
    ]
    assert (found[0].live, found[0].garbage) == (35, 10)
    assert found[0].states == {"closed": 50, "open": 20}
    assert found[1].live == 0


def test_what_is_bad_is_said() -> None:
    frame, _ = busy()
    lines = {name: (text, bad) for name, text, bad in state_lines(frame.now)}
    assert "shmkv check" in lines["damage"][0]
    assert lines["damage"][1]
    assert lines["rows"][0].startswith("1 ended")
    assert lines["daemon"] == ("none (none is needed)", False)
    helper = attachment(5, pid=321)._replace(is_daemon=True)
    helped = sample(0.0, helper)
    lines = {name: (text, bad) for name, text, bad in state_lines(helped)}
    assert list(lines) == ["daemon"]


def test_the_disk_is_said() -> None:
    told = {"journal": "everysec", "journal_pending": 3, "snapshot_time": 1000.0 - 300}
    lines = state_lines(sample(0.0, **told))
    assert lines == [
        ("daemon", "none: writers do its work", False),
        ("journal", "everysec, 3 keys wait", False),
        ("snapshot", "saved 5 min ago", False),
    ]
    lines = state_lines(sample(0.0, journal="always", journal_broken=True))
    assert lines[1:] == [
        ("journal", "always, broken until the next snapshot", True),
        ("snapshot", "never saved", False),
    ]
    found = Frame.of(None, sample(0.0, **told)).as_dict("web", None)
    assert {name: found[name] for name in told} == told
