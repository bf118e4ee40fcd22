"""What a daemon remembers: on the board in time, taken up by the next, never in its way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from shmkv import history
from shmkv.daemon import watcher as watching
from shmkv.daemon.watcher import AGAIN_S, QUIET_S, Watcher
from shmkv.history.moments import FINE_S
from shmkv.inspect.layout import HEADER, HEADER_BYTES
from tests.stress.support import until
from tests.unit.daemon.conftest import Working

Open = Callable[..., shmkv.Store]
NOW = 1_800_000_000.0


def threshold(store: shmkv.Store) -> int:
    """Below which hashes are sampled."""
    with store._raw() as raw, raw[:HEADER_BYTES] as header:
        found: int = HEADER.read(header, 0)["sampled"]
        return found


def unhurried(store: shmkv.Store) -> Watcher:
    """One whose work costs nothing: how much it follows does not depend on this machine."""
    return Watcher(store, worked=lambda: 0.0)


def watch(watcher: Watcher, *seconds: float) -> None:
    """Its turn at these moments."""
    for at in seconds:
        watcher.turn(now=NOW + at, clock=at)


def use(store: shmkv.Store, *, keys: int = 200, rounds: int = 6) -> None:
    """Reads, and writes where they missed."""
    for number in list(range(keys)) * rounds:
        if store.get(f"key-{number}") is None:
            store[f"key-{number}"] = b"x" * 100


@pytest.fixture
def listening(store: shmkv.Store) -> shmkv.Store:
    """A store nobody listens to."""
    assert threshold(store) == 0
    assert history.read(store) == history.NOTHING
    return store


def test_moments_and_the_curve_are_on_the_board(listening: shmkv.Store) -> None:
    store, watcher = listening, unhurried(listening)
    watch(watcher, 0.0)
    assert threshold(store) == 2**32 - 1
    use(store)
    watch(watcher, 0.25, FINE_S)
    with shmkv.open(store.name, create=False, readonly=True) as reader:
        found = history.read(reader)
    (moment,) = found.moments
    assert (moment.start, moment.seconds) == (NOW, FINE_S)
    assert (moment.hits, moment.misses, moment.sets, moment.items) == (1000, 200, 200, 200)
    assert moment.hit_ratio == 5 / 6
    curve = found.curve
    assert curve is not None
    assert (curve.size, curve.keys, curve.requests, curve.rate) == (store.size, 200, 1200, 1.0)
    assert curve.measured == pytest.approx(5 / 6)
    assert [point.hit_ratio for point in curve.points] == pytest.approx([5 / 6] * len(curve.points))


def test_it_writes_no_more_often_than_it_looks(listening: shmkv.Store) -> None:
    store, watcher = listening, unhurried(listening)
    watch(watcher, 0.0, 0.25, FINE_S - 0.1)
    assert history.read(store).moments == ()
    use(store, rounds=1)
    watch(watcher, FINE_S, FINE_S + 0.25, 2 * FINE_S - 0.1)
    store.set("k", 1)
    assert len(history.read(store).moments) == 1


def test_while_nothing_happens_it_writes_once_a_minute(listening: shmkv.Store) -> None:
    store, watcher = listening, unhurried(listening)
    watch(watcher, *(FINE_S * turn for turn in range(7)))
    assert len(history.read(store).moments) == 1
    watch(watcher, FINE_S + QUIET_S)
    assert len(history.read(store).moments) == 7


def test_the_next_one_goes_on_with_what_is_there(listening: shmkv.Store) -> None:
    store, first = listening, unhurried(listening)
    watch(first, 0.0)
    use(store)
    watch(first, 0.25, FINE_S)  # and is killed: the threshold stays
    assert threshold(store) != 0
    before = history.read(store)
    second = unhurried(store)
    watch(second, 500.0, 500.0 + FINE_S)
    found = history.read(store)
    assert found.moments[0] == before.moments[0]
    assert found.curve == before.curve is not None
    assert [m.start - NOW for m in found.moments] == [0.0, 500.0]


def test_told_to_stop_it_writes_the_rest_and_nobody_listens(listening: shmkv.Store) -> None:
    store, watcher = listening, unhurried(listening)
    watch(watcher, 0.0)
    use(store, rounds=1)
    watcher.close(now=NOW + 3, clock=3.0)
    (moment,) = history.read(store).moments
    assert (moment.seconds, moment.misses) == (3.0, 200)
    assert threshold(store) == 0


def test_a_store_that_never_evicts_has_a_past_and_no_sample(open_store: Open) -> None:
    store = open_store(evict=False)
    watcher = unhurried(store)
    watch(watcher, 0.0)
    use(store)
    watch(watcher, FINE_S)
    found = history.read(store)
    assert found.moments[0].hits == 1000
    assert found.curve is None
    assert threshold(store) == 0


def test_a_board_full_of_nonsense_is_written_anew(listening: shmkv.Store) -> None:
    listening._board_write(b"nonsense" * 100)
    watcher = unhurried(listening)
    watch(watcher, 0.0, FINE_S)
    assert len(history.read(listening).moments) == 1


def test_the_smallest_board_holds_a_long_past(open_store: Open) -> None:
    store = open_store(size="2MiB")
    assert store._board_room() < 4096
    watcher = unhurried(store)
    for turn in range(300):
        store.set("k", turn)
        watch(watcher, 120.0 * turn)
    found = history.read(store)
    assert sum(moment.sets for moment in found.moments) == 299
    assert found.moments[0].start <= NOW + 120.0


def test_what_fails_is_said_and_begun_again_later(
    listening: shmkv.Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such thing")

    watcher = unhurried(listening)
    watch(watcher, 0.0)
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "shmkv.daemon"):
        patch.setattr(watching, "packed", broken)
        watch(watcher, *(FINE_S + second for second in range(int(AGAIN_S))))
    assert [record.message for record in caplog.records] == [
        "the past is not recorded: RuntimeError: no such thing"
    ]
    watch(watcher, FINE_S + AGAIN_S, 2 * FINE_S + AGAIN_S)
    assert len(history.read(listening).moments) == 1


def test_a_daemon_remembers(store: shmkv.Store, working: Working) -> None:
    worker = working(store.name)
    until(lambda: threshold(store) > 0, "it listens")
    use(store)
    worker.end()
    found = history.read(store)
    assert sum(moment.hits for moment in found.moments) == 1000
    assert threshold(store) == 0


def test_a_daemon_that_is_told_not_to_remembers_nothing(
    store: shmkv.Store, working: Working
) -> None:
    worker = working(store.name, history=False)
    until(lambda: store._daemon(False), "it works")
    use(store, rounds=2)
    worker.end()
    assert store._board_read() is None
