"""The SIGKILL storm, and that its eyes are open: whatever is planted is found.

SHMKV_TORTURE=1 makes it 100,000 kills with eviction and as many without, SHMKV_SEED repeats the
plan of a run.
"""

from __future__ import annotations

import os
import random
import select
import time
from collections.abc import Callable

import pytest

import shmkv
from tests.stress import storm_values as values
from tests.stress.storm import FULL, MIB, QUICK, Game
from tests.stress.storm_verdict import judge
from tests.stress.storm_weather import Delay, Slow, Weather
from tests.stress.storm_worker import Lost, Worker, prepare
from tests.stress.support import run_module, seed

TORTURE = os.environ.get("SHMKV_TORTURE") == "1"
KILLS = FULL if TORTURE else QUICK
LIMIT_S = 4 * 3600 if TORTURE else 600


@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("policy", ["evict", "keep"])
def test_storm(policy: str, store_name: str) -> None:
    words = ("--kills", str(KILLS), "--seed", str(seed()), "--policy", policy)
    line = run_module("tests.stress.storm", *words, "--name", store_name, limit_s=LIMIT_S)
    print(line)
    assert line["violations"] == 0
    assert line["n"] >= KILLS


# ---- what is planted is found -------------------------------------------------------------------


class Scene:
    """A store in which one worker of slot 1 has worked and ended."""

    def __init__(self, store: shmkv.Store) -> None:
        self.store = store
        self.table = values.Table()
        prepare(store, self.table)
        self.worker = Worker(store, self.table, 1, seed())
        for _ in range(3000):
            self.worker.rng.choice(self.worker.moves)()
        self.desk = self.table.desks[1]

    def key(self) -> tuple[int, str]:
        """One of its keys that holds a value, not the first of its states."""
        for i in range(values.OWN):
            if self.desk.acked[i] % values.CYCLE > 2:
                return i, self.worker.key(i)
        raise AssertionError("no key of slot 1 holds a value")


@pytest.fixture
def scene(open_store: Callable[..., shmkv.Store]) -> Scene:
    return Scene(open_store(size=16 * MIB, max_size=16 * MIB, evict=False))


def removed(scene: Scene) -> None:
    scene.store.delete(scene.key()[1])


def older(scene: Scene) -> None:
    i, key = scene.key()
    scene.store.set(key, values.make(scene.worker.stamp(i, scene.desk.acked[i] - 1)))


def not_begun(scene: Scene) -> None:
    i, key = scene.key()
    scene.store.set(key, values.make(scene.worker.stamp(i, scene.desk.acked[i] + 1)))


def uncounted(scene: Scene) -> None:
    scene.store.decr(values.counter_name(0))


def counted_twice(scene: Scene) -> None:
    scene.store.incr(values.counter_name(values.INCRS))


def old_board(scene: Scene) -> None:
    seq = scene.desk.posted[3] - 1
    stamp = values.Stamp(values.BOARD_FIRST + 3, 1, seq)
    scene.store.set(values.board_name(3), values.make(stamp))


def one_more_item(scene: Scene) -> None:
    scene.store.set("nobody's", 1)


PLANTS = [removed, older, not_begun, uncounted, counted_twice, old_board, one_more_item]


def test_what_is_right_passes(scene: Scene) -> None:
    assert judge(scene.store, scene.table, 0) == []


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_is_found(scene: Scene, plant: Callable[[Scene], None]) -> None:
    plant(scene)
    assert judge(scene.store, scene.table, 0) != []


def test_a_mixture_is_torn(scene: Scene) -> None:
    i, key = scene.key()
    new = values.make(scene.worker.stamp(i, scene.desk.acked[i]))
    old = values.make(scene.worker.stamp(i, scene.desk.acked[i] - 1))
    for at in range(1, len(new)):
        mixed = new[:at] + old[at:]
        if mixed != new:
            scene.store.set(key, mixed)
            with pytest.raises((values.Torn, Lost)):
                scene.worker.found(i, scene.store.get(key))


def test_what_begun_may_be_there_or_not(scene: Scene) -> None:
    """A predecessor's death leaves either, and the successor goes on from there."""
    for landed in (False, True):
        i, key = scene.key()
        seq = scene.desk.begun[i] = scene.desk.acked[i] + 1
        if landed and values.present(seq):
            scene.store.set(key, values.make(scene.worker.stamp(i, seq)))
        elif landed:
            scene.store.delete(key)
        scene.worker.recover()
        assert scene.desk.acked[i] == scene.desk.begun[i] == (seq if landed else seq - 1)
    assert judge(scene.store, scene.table, 0) == []


def test_an_evicted_value_stays_away(open_store: Callable[..., shmkv.Store]) -> None:
    scene = Scene(open_store(size=16 * MIB, max_size=16 * MIB, evict=True))
    i, key = scene.key()
    value = scene.store.pop(key)
    scene.worker.found(i, None)
    scene.worker.found(i, None)
    assert scene.table.total(values.VANISHED) == 1
    assert any("vanished" in text for text in judge(scene.store, scene.table, 0))
    with pytest.raises(Lost):
        scene.worker.found(i, value)


# ---- what the machine caused --------------------------------------------------------------------

MS = 1_000_000


def test_only_what_the_machine_did_is_forgiven() -> None:
    weather = Weather()
    assert weather.store_ms(Slow(0, 400 * MS, 0)) == 400  # nothing speaks for it
    assert weather.store_ms(Slow(0, 400 * MS, 390 * MS)) == 10
    weather.note(100 * MS, 250 * MS, 147 * MS)
    weather.note(260 * MS, 300 * MS, 37 * MS, 20 * MS)
    assert weather.store_ms(Slow(0, 400 * MS, 0)) == 400 - 147  # the longest delay, not the sum
    assert weather.store_ms(Slow(0, 400 * MS, 100 * MS)) == 300 - 147
    assert weather.store_ms(Slow(200 * MS, 600 * MS, 0)) == 400 - 50  # what falls into it
    assert weather.store_ms(Slow(301 * MS, 701 * MS, 0)) == 400  # it was over by then
    assert weather.store_ms(Slow(100 * MS, 250 * MS, 147 * MS)) == 3  # its own is not another's
    weather.note(300 * MS, 800 * MS, 0, 200 * MS)
    assert weather.store_ms(Slow(301 * MS, 701 * MS, 0)) == 200


def test_a_long_wait_is_a_violation(open_store: Callable[..., shmkv.Store]) -> None:
    game = Game(open_store(), random.Random(1))
    game.slow = [Slow(0, 90 * MS, 0), Slow(200 * MS, 600 * MS, 145 * MS)]
    assert game.worst() == (255, 400)
    assert len(game.violations) == 1


def test_a_wait_is_not_taken_for_a_delay_of_the_machine() -> None:
    """A thread that sleeps is not runnable: at most its wake-up is the machine's."""
    delay = Delay()
    before, start = delay.read(), time.monotonic_ns()
    assert not select.poll().poll(300)  # nothing will ever be ready
    own, end = delay.between(before, delay.read()), time.monotonic_ns()
    assert Weather().store_ms(Slow(start, end, own)) > 250
