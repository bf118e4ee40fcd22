"""Linearizability under SIGKILL, and that the judge is right: sound, exact, and not blind.

The judge is compared with trying every order, is given histories that are right by construction,
and must find a stale read, a lost update, a key that came back, wherever they are planted into a
recorded history. SHMKV_TORTURE=1 makes it 10^8 operations, SHMKV_SEED repeats the plan of a run.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import shmkv
from tests.stress import linear_record as record
from tests.stress.linear import FULL, QUICK, Round, wrong_with
from tests.stress.linear_check import (
    COUNT,
    FROM,
    IS,
    LEAVE,
    NOBODY,
    NOT,
    Broken,
    Step,
    apply,
    judge,
)
from tests.stress.linear_worker import plan
from tests.stress.support import PATIENT_S, run_module, seed

TORTURE = os.environ.get("SHMKV_TORTURE") == "1"
OPERATIONS = FULL if TORTURE else QUICK
LIMIT_S = 4 * 3600 if TORTURE else 600


@pytest.mark.timeout(LIMIT_S + 60)
def test_linear(store_name: str) -> None:
    words = ("--operations", str(OPERATIONS), "--seed", str(seed()), "--name", store_name)
    line = run_module("tests.stress.linear", *words, limit_s=LIMIT_S)
    print(line)
    assert line["violations"] == 0
    assert line["n"] >= OPERATIONS


# ---- the judge against every order --------------------------------------------------------------


def every_order(steps: list[Step], first: int) -> set[int]:
    """The last states of all orders that are possible, by trying them."""
    states: set[int] = set()
    must = {i for i, step in enumerate(steps) if step[5]}
    for count in range(len(must), len(steps) + 1):
        for order in itertools.permutations(range(len(steps)), count):
            late = itertools.combinations(order, 2)
            if must <= set(order) and not any(steps[b][1] < steps[a][0] for a, b in late):
                state: int | None = first
                for i in order:
                    state = None if state is None else apply(*steps[i][2:5], state)
                if state is not None:
                    states.add(state)
    return states


def random_steps(rng: random.Random) -> list[Step]:
    """Up to five operations, crowded, with few values."""
    steps = []
    for _ in range(rng.randrange(1, 6)):
        start = rng.randrange(12)
        form = rng.choice([IS, IS, NOT, FROM, LEAVE, LEAVE, COUNT])
        a, b = rng.randrange(3), rng.randrange(4)
        if form == LEAVE and rng.random() < 0.5:
            a = NOBODY
        a = 0 if form == COUNT else a
        sure = rng.random() < 0.7 or form in (IS, NOT)
        steps.append((start, start + rng.randrange(8), form, a, b, sure))
    return sorted(steps)


def test_the_judge_agrees_with_every_order() -> None:
    rng = random.Random(seed())
    verdicts = [0, 0]
    for _ in range(4000):
        steps, first = random_steps(rng), rng.randrange(2)
        wanted = every_order(steps, first)
        try:
            found = judge(steps, {first})
        except Broken:
            found = set()
        assert found == wanted, (first, steps)
        verdicts[bool(wanted)] += 1
    assert min(verdicts) > 400


# ---- histories that are right by construction ---------------------------------------------------


def simulate(rng: random.Random, operations: int) -> list[Step]:
    """Eight processes on one register; each operation happens at one moment of its interval."""
    moments = []
    for process in range(8):
        now = process
        for _ in range(operations // 8):
            start, length = now + 1 + rng.randrange(40), 2 + rng.randrange(30)
            length *= 40 if rng.random() < 0.02 else 1  # it lost the processor
            moments.append((start + rng.randrange(length), start, start + length))
            now = start + length
    state, fresh, steps = 0, itertools.count(1 << 20, 1 << 20), []
    for _, start, end in sorted(moments):
        killed, pick, new = rng.random() < 0.02, rng.randrange(6), next(fresh)
        if killed:
            form, a = rng.choice([(COUNT, 0), (LEAVE, NOBODY), (FROM, state)])
            state = apply(form, a, new, state) or state if rng.random() < 0.5 else state
        elif pick < 2:
            form, a = (IS, state) if pick else (NOT, state + 1)
        else:
            form, a = rng.choice([(FROM, state), (LEAVE, NOBODY), (LEAVE, state + 1)])
            state = new = 0 if pick == 2 else new
        steps.append((start, end, form, a, new, not killed))
    return sorted(steps)


def test_what_is_right_passes() -> None:
    rng = random.Random(seed())
    for _ in range(10):
        judge(simulate(rng, 4000), {0})


# ---- recorded histories -------------------------------------------------------------------------

Histories = dict[int, list[Step]]


@pytest.fixture(scope="module")
def histories() -> Iterator[Histories]:
    """What eight processes did to a real store, some of them killed."""
    rng = random.Random(seed())
    store_name = f"t{os.getpid()}-linear-recorded"
    options: dict[str, Any] = {"create": "new", "evict": False, "lock_timeout": PATIENT_S}
    store = shmkv.open(store_name, size="4MiB", max_size="4MiB", **options)
    game = Round(store, plan(rng), rng)
    try:
        yield record.steps_by_key(game.record(60_000))
    finally:
        game.close()
        store.close()
        shmkv.unlink(store_name, missing_ok=True)


def test_a_recorded_history_passes(histories: Histories) -> None:
    assert sum(map(len, histories.values())) > 50_000
    assert [text for key, steps in histories.items() for text in wrong_with(key, steps)] == []


Place = tuple[int, int, int]  # of a step that no other overlaps: index, state before, state after


def places(steps: list[Step]) -> Iterator[tuple[Place, Place]]:
    """Neighbours that nothing overlaps, in a history that is right."""
    states, i = {0}, 0
    last: Place | None = None
    while i < len(steps):
        after, end = i + 1, steps[i][1]
        while after < len(steps) and steps[after][0] <= end:
            end = max(end, steps[after][1])
            after += 1
        before, states = states, judge(steps[i:after], states)
        alone = after == i + 1 and len(before) == len(states) == 1 and steps[i][5]
        this = (i, min(before), min(states)) if alone else None
        if last and this:
            yield last, this
        last, i = this, after


def stale_read(steps: list[Step], first: Place, second: Place) -> list[Step] | None:
    """The read after a change sees what was there before it."""
    i, before, after = first
    if steps[second[0]][2] != IS or before == after:
        return None
    return [*steps[: i + 1], (*steps[i + 1][:3], before, 0, True), *steps[i + 2 :]]


def lost_update(steps: list[Step], first: Place, second: Place) -> list[Step] | None:
    """Two have changed the same value, as if neither had seen the other's; both are told so."""
    i, _, _ = first
    _, end, form, a, b, _ = steps[i]
    if form != FROM or steps[i + 1][0] < end + 4:
        return None
    new = b if b == a + 1 else b + (1 << 60)
    return [*steps[: i + 1], (end + 1, end + 2, FROM, a, new, True), *steps[i + 1 :]]


def lost_write(steps: list[Step], first: Place, second: Place) -> list[Step] | None:
    """A write returned, and the next operation finds what was there before."""
    i, _, after = first
    end, following = steps[i][1], steps[i + 1]
    finds = following[2] in (IS, FROM) and following[3] == after
    if not finds or following[0] < end + 4:
        return None
    return [*steps[: i + 1], (end + 1, end + 2, LEAVE, NOBODY, 1 << 60, True), *steps[i + 1 :]]


def resurrected(steps: list[Step], first: Place, second: Place) -> list[Step] | None:
    """A key is deleted; the next read finds its value again."""
    i, before, after = first
    if before == 0 or after != 0 or steps[i + 1][2:4] != (IS, 0):
        return None
    return [*steps[: i + 1], (*steps[i + 1][:3], before, 0, True), *steps[i + 2 :]]


PLANTS = [stale_read, lost_update, lost_write, resurrected]


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_is_found(
    histories: Histories,
    plant: Callable[[list[Step], Place, Place], list[Step] | None],
) -> None:
    planted = 0
    for steps in histories.values():
        some = 0
        for first, second in places(steps):
            bad = plant(steps, first, second)
            if bad is None:
                continue
            some, planted = some + 1, planted + 1
            begin, before, _ = first
            # Nothing overlaps the first place: the history may be cut in front of it, with what
            # was there, and nowhere else.
            with pytest.raises(Broken) as broken:
                judge(bad[begin : begin + 2000], {before})
            assert broken.value.index <= 2, bad[begin : begin + 3]
            if some == 20:
                break
    assert planted >= 40


# ---- the killed ---------------------------------------------------------------------------------

KILLED = (10, 20, LEAVE, NOBODY, 7, False)


@pytest.mark.parametrize(
    "after",
    [
        [(30, 31, IS, 0, 0, True)],  # it never happened
        [(30, 31, IS, 7, 0, True)],  # it did
        [(12, 13, IS, 0, 0, True), (30, 31, IS, 7, 0, True)],  # after somebody had looked
        [(12, 13, FROM, 0, 5, True), (30, 31, IS, 5, 0, True)],  # before or never
    ],
)
def test_a_killed_write_happened_or_not(after: list[Step]) -> None:
    judge(sorted([KILLED, *after]), {0})


@pytest.mark.parametrize(
    "after",
    [
        [(12, 13, IS, 7, 0, True), (30, 31, IS, 0, 0, True)],  # it went away again
        [(30, 31, IS, 0, 0, True), (40, 41, IS, 7, 0, True)],  # the dead write no more
        [(12, 13, IS, 7, 0, True), (14, 15, LEAVE, NOBODY, 5, True), (30, 31, IS, 7, 0, True)],
        [(1, 2, IS, 7, 0, True)],  # before it began
    ],
)
def test_a_killed_write_happens_once_and_in_its_time(after: list[Step]) -> None:
    with pytest.raises(Broken):
        judge(sorted([KILLED, *after]), {0})


def test_what_records_mean() -> None:
    rows, n, m = [], 5 << 20, 3 << 20
    told = [
        (record.GET, 0, 0, m, (IS, m)), (record.GET, 0, 0, 0, (IS, 0)),
        (record.SET, n, 0, 1, (LEAVE, NOBODY, n)), (record.DELETE, 0, 0, 1, (LEAVE, 0, 0)),
        (record.DELETE, 0, 0, 0, (IS, 0)), (record.ADD, n, 0, 1, (FROM, 0, n)),
        (record.ADD, n, 0, 0, (NOT, 0)), (record.REPLACE, n, 0, 1, (LEAVE, 0, n)),
        (record.REPLACE, n, 0, 0, (IS, 0)), (record.POP, 0, 0, m, (FROM, m, 0)),
        (record.POP, 0, 0, 0, (IS, 0)), (record.INCR, n, 0, n + 1, (FROM, 0, n + 1)),
        (record.INCR, n, 0, m + 9, (FROM, m + 8, m + 9)), (record.CAS, n, m, 1, (FROM, m, n)),
        (record.CAS, n, m, 0, (NOT, m)), (record.TOUCH, 0, 0, 1, (NOT, 0)),
        (record.TOUCH, 0, 0, 0, (IS, 0)),
        (record.DEAD | record.SET, n, 0, 0, (LEAVE, NOBODY, n)),
        (record.DEAD | record.DELETE, 0, 0, 0, (LEAVE, 0, 0)),
        (record.DEAD | record.POP, 0, 0, 0, (LEAVE, 0, 0)),
        (record.DEAD | record.ADD, n, 0, 0, (FROM, 0, n)),
        (record.DEAD | record.REPLACE, n, 0, 0, (LEAVE, 0, n)),
        (record.DEAD | record.INCR, n, 0, 0, (COUNT, 0, n + 1)),
        (record.DEAD | record.CAS, n, m, 0, (FROM, m, n)),
    ]  # fmt: skip
    for at, (kind, new, old, answer, _) in enumerate(told):
        rows.append((kind | 1 << 8, new, old, 10 * at, answer, 10 * at + 5))
    rows.append((record.DEAD | record.GET | 1 << 8, 0, 0, 900, 0, 905))  # says nothing
    rows.append((record.SET | 1 << 8, n, 0, 910, record.NOTHING, 915))  # refused
    steps = record.steps_by_key(np.array(rows, np.int64))
    assert list(steps) == [1]
    for step, (kind, _, _, _, (form, *values)) in zip(steps[1], told, strict=True):
        assert (step[2], list(step[3 : 3 + len(values)])) == (form, values)
        assert step[5] == (kind < record.DEAD)
