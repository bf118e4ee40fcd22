"""The loop in a thread of this process: turns, ends, errors, and what it says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from shmkv.daemon import End, Stop, Task, Told, loop, serve
from shmkv.daemon.health import AGAIN_S, Health
from tests.stress.support import until
from tests.unit.daemon.conftest import Working

Open = Callable[..., shmkv.Store]


def test_one_at_a_time(store: shmkv.Store, working: Working) -> None:
    first = working(store.name)
    until(lambda: store._daemon(False), "a daemon works")
    assert serve(Task(store.name), Stop(), Told({})).end is End.TAKEN
    assert first.end() == (End.STOPPED, "stopped")
    assert not store._daemon(False)


def test_a_standby_waits_for_the_store_and_for_its_turn(
    open_store: Open, store_name: str, working: Working
) -> None:
    heard: list[str] = []
    standby = working(store_name, standby=True, told=Told({}, on_ready=heard.append))
    until(lambda: bool(heard), "it stands by")
    assert "does not exist" in heard[0]
    store = open_store()
    until(lambda: store._daemon(False), "it has found the store")
    second = working(store_name, standby=True)
    standby.end()
    until(lambda: store._daemon(False), "the second took over")
    assert second.end().end is End.STOPPED


def test_a_standby_takes_no_row(store: shmkv.Store, working: Working) -> None:
    assert store._daemon(True)
    heard: list[str] = []
    told = Told({}, on_ready=heard.append)
    standby = working(store.name, standby=True, told=told)
    until(lambda: bool(heard), "it stands by")
    assert store.stats().attached == 1
    assert standby.end() == (End.STOPPED, "stopped while standing by")


def test_without_a_store(store_name: str) -> None:
    with pytest.raises(shmkv.NotFound):
        serve(Task(store_name), Stop(), Told({}))


@pytest.mark.parametrize("anew", [False, True])
def test_it_ends_when_the_store_is_removed(
    open_store: Open, store_name: str, working: Working, anew: bool
) -> None:
    store = open_store()
    daemon = working(store_name)
    until(lambda: store._daemon(False), "a daemon works")
    shmkv.unlink(store_name)
    if anew:
        open_store()
    assert daemon.ended() == (End.REMOVED, f"store {store_name!r} was removed")


def test_rhythm() -> None:
    pauses = [0.0]
    for _ in range(20):
        pauses.append(loop.next_pause(pauses[-1], 0, False))
    assert pauses[-1] == loop.PAUSE_MAX
    assert sorted(pauses) == pauses
    assert loop.next_pause(loop.PAUSE_MAX, 3, False) < loop.PAUSE_MAX
    assert loop.next_pause(loop.PAUSE_MIN, 3, False) == loop.PAUSE_MIN
    assert loop.next_pause(loop.PAUSE_MAX, 3, True) == 0
    assert loop.next_pause(loop.PAUSE_MAX, 0, True) == loop.PAUSE_MIN


class Failing:
    """Stands between the loop and a store: the first steps raise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> None:
        self.steps, real = 0, shmkv.Store._work

        def work(store: shmkv.Store, budget_ms: int) -> tuple[int, int, bool]:
            self.steps += 1
            if self.steps <= times:
                raise error
            return real(store, budget_ms)

        monkeypatch.setattr(shmkv.Store, "_work", work, raising=False)
        monkeypatch.setattr(loop, "FAULT_PAUSE", 0.001)


@pytest.mark.parametrize("error", [shmkv.Corrupt("bad page"), OSError(5, "i/o"), MemoryError()])
def test_errors_are_logged_and_tried_again(
    store: shmkv.Store,
    working: Working,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    failing = Failing(monkeypatch, error, loop.FAULTS_MOST)
    daemon = working(store.name)
    until(lambda: failing.steps > loop.FAULTS_MOST, "it goes on")
    assert daemon.end().end is End.STOPPED
    said = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(said) == loop.FAULTS_MOST
    assert type(error).__name__ in said[0].getMessage()


def test_it_gives_up_in_the_end(
    store: shmkv.Store, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(monkeypatch, shmkv.Corrupt("bad page"), 1000)
    assert working(store.name).ended() == (End.FAILED, "given up: bad page")
    assert failing.steps == loop.FAULTS_MOST + 1
    assert not store._daemon(False)


def test_busy_is_no_fault(
    store: shmkv.Store, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(monkeypatch, shmkv.Busy("process 7 is stopped"), 3 * loop.FAULTS_MOST)
    daemon = working(store.name)
    until(lambda: failing.steps > 3 * loop.FAULTS_MOST, "it goes on")
    assert daemon.end().end is End.STOPPED


# ---- health -------------------------------------------------------------------------------------


class Totals:
    """A store whose totals a test sets."""

    def __init__(self, store: shmkv.Store) -> None:
        self.now = store._stats()

    def _stats(self) -> dict[str, int]:
        return dict(self.now)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """What was logged since last asked, with its level."""
    caplog.set_level(logging.INFO, "shmkv.daemon")

    def new() -> list[tuple[str, str]]:
        found = [(one.levelname, one.getMessage()) for one in caplog.records]
        caplog.clear()
        return found

    return new


def test_what_rises_is_said_once_a_minute(store: shmkv.Store, said: Any) -> None:
    totals = Totals(store)
    health = Health(totals, 0.0, summary_s=0)  # type: ignore[arg-type]
    health.look(1)
    assert said() == []
    totals.now |= {"damage": 2, "nospace": 1}
    health.look(2)
    assert [level for level, _ in said()] == ["ERROR", "WARNING"]
    totals.now["damage"] = 5
    health.look(3)
    assert said() == []
    health.look(2 + AGAIN_S)
    assert said() == [("ERROR", "damaged bytes were met and cut out 3 times: shmkv check")]
    health.look(10 * AGAIN_S)
    assert said() == []


def test_rows_run_out_and_come_back(store: shmkv.Store, said: Any) -> None:
    totals = Totals(store)
    health = Health(totals, 0.0, summary_s=0)  # type: ignore[arg-type]
    for attached, levels in ((60, ["WARNING"]), (61, []), (3, ["INFO"]), (4, [])):
        totals.now["attached"] = attached
        health.look(1)
        assert [level for level, _ in said()] == levels


def test_the_sum(store: shmkv.Store, said: Any) -> None:
    totals = Totals(store)
    health = Health(totals, 0.0, summary_s=100)  # type: ignore[arg-type]
    totals.now |= {"expired": 7, "evictions": 8}
    health.worked(0, 3)
    health.look(99)
    assert said() == []
    health.look(100)
    ((level, text),) = said()
    assert level == "INFO"
    assert "0 items in 8 MiB" in text
    assert text.endswith("in 100 s 3 pages freed, 7 items expired, 8 evicted")
    health.look(200)
    assert said()[0][1].endswith("in 100 s 0 pages freed, 0 items expired, 0 evicted")
    health.worked(1, 0)
    assert said() == [("INFO", "gave back what 1 dead attachment held")]
