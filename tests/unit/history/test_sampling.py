"""The sample: words, thresholds, windows, and the bounds of its work."""

import struct

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmkv.history.moments import Totals
from shmkv.history.sampling import (
    BURST_S,
    ENOUGH,
    FULL,
    GET_HIT,
    GET_MISS,
    KEYS,
    LEAST,
    MASK,
    PENDING_MOST,
    SET,
    SHARE,
    WINDOW_READS,
    WINDOW_S,
    Sampler,
    corrected,
    first_threshold,
    size_of,
    was_emptied,
)
from shmkv.inspect.geometry import Config
from shmkv.inspect.layout import OPTION_EVICT

SIZE = 16 << 20
CONFIG = Config(SIZE, 4 * SIZE, 0, OPTION_EVICT, 2)
DELETE = 3


def totals(hits: int = 0, misses: int = 0, items: int = 0) -> Totals:
    return Totals(hits, misses, 0, 0, 0, 0, items, items * 128, 0)


def word(key: int, kind: int, granules: int = 0) -> int:
    """Of a key by its number."""
    hashed = xxhash.xxh64_intdigest(key.to_bytes(8, "little")) & (1 << 46) - 1
    return hashed << 18 | kind << 16 | granules


def words(*some: int) -> bytes:
    return struct.pack(f"<{len(some)}Q", *some)


class Work:
    """Processor time that passes when it is looked at."""

    def __init__(self, each: float = 0.0) -> None:
        self.at, self.each = 0.0, each

    def __call__(self) -> float:
        self.at += self.each
        return self.at


def sampler(items: int = 0, work: Work | None = None, keys: int = KEYS) -> Sampler:
    worked = work or Work()
    return Sampler(CONFIG, SIZE, totals(items=items), now=0.0, worked=worked, keys=keys)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 31), st.integers(0, 2047))
def test_sizes_are_granules_with_an_exponent(exponent: int, mantissa: int) -> None:
    assert size_of(word(1, SET, exponent << 11 | mantissa)) == (mantissa << exponent) * 16


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1 << 40))
def test_the_first_threshold_fits_the_number_of_items(items: int) -> None:
    below = first_threshold(items)
    assert LEAST <= below < FULL
    if LEAST < below < FULL - 1:
        assert items * 8 * below / FULL == pytest.approx(KEYS, rel=0.02)


def test_too_many_keys_lower_the_threshold_and_only_keys_below_it_stay() -> None:
    seen = sampler(keys=800)
    before = seen.below
    for first in range(0, 3000, 100):
        seen.feed(words(*(word(k, SET, 8) for k in range(first, first + 100))), 0, now=0.0)
        assert seen.keys <= 800
        for mini in seen._minis.values():
            assert all(key & MASK < seen.below for key in mini.items)
    assert seen.below < before / 3
    assert seen.keys > 800 / 2
    seen.feed(words(*(word(k, SET, 8) for k in range(3000))), 0, now=0.0)
    assert seen.keys == sum(word(k, 0) >> 18 & MASK < seen.below for k in range(3000))


def test_a_set_after_a_miss_is_a_fill() -> None:
    seen = sampler()
    seen.feed(words(word(1, SET, 8), word(1, GET_MISS), word(1, SET, 16)), 0, now=0.0)
    assert seen._own.used == 8 * 16  # it hit here: what was fetched is not stored
    seen.feed(words(word(1, SET, 16)), 0, now=0.0)
    assert seen._own.used == 16 * 16
    seen.feed(words(word(1, DELETE)), 0, now=0.0)
    assert seen._own.used == seen.keys == 0


def test_misses_that_nobody_fills_take_bounded_memory() -> None:
    seen = sampler(keys=100)
    seen.feed(words(*(word(k, GET_MISS) for k in range(200 * PENDING_MOST))), 0, now=0.0)
    assert len(seen._pending) == 100 * PENDING_MOST


def test_work_is_bounded_and_what_it_costs_too_much_lowers_the_threshold() -> None:
    work = Work(0.01)
    seen = sampler(items=1000, work=work)
    below = seen.below
    many = words(*(word(k, GET_MISS) for k in range(60_000)))
    seen.feed(many, 0, now=0.0)
    assert work.at <= 2 * BURST_S + 0.1
    assert seen._lost > 30_000
    spent = work.at
    assert seen.below == below // 2
    seen.feed(many, 0, now=1.0)
    assert work.at - spent <= 2 * SHARE + 0.1
    assert seen.below == below // 4
    seen.review(totals(items=1000), SIZE, now=10.0)
    assert seen.below == below // 8
    assert seen._lost == 0
    seen.review(totals(items=1000), SIZE, now=20.0)
    assert seen.below == below // 8


def test_a_ring_that_overruns_lowers_the_threshold() -> None:
    seen = sampler(items=1000)
    below = seen.below
    seen.feed(words(*[word(1, GET_MISS)] * 1000), 100, now=1.0)
    assert seen.below == below
    seen.review(totals(items=1000), SIZE, now=10.0)
    assert seen.below == below // 2
    seen.feed(words(word(1, GET_MISS)), 100, now=11.0)
    assert seen.below == below // 4
    for turn in range(2, 60):
        seen.feed(b"", 100, now=10.0 * turn)
        seen.review(totals(items=1000), SIZE, now=10.0 * turn)
    assert seen.below == LEAST


def test_far_too_few_keys_begin_afresh_with_a_higher_threshold() -> None:
    seen = sampler(items=1_000_000)
    below = seen.below
    seen.feed(words(*(word(k, SET, 8) for k in range(1000))), 0, now=0.0)
    seen.review(totals(items=1_000_000), SIZE, now=10.0)
    assert seen.below == below
    seen.review(totals(items=1_000_000), SIZE, now=WINDOW_S + 10)
    assert seen.below == 4 * below
    assert seen.keys == 0


def test_another_size_or_a_new_store_begins_afresh() -> None:
    seen = sampler()
    seen.feed(words(word(1, SET, 8)), 0, now=0.0)
    seen.review(totals(hits=5), 2 * SIZE, now=10.0)
    assert (seen.size, seen.keys) == (2 * SIZE, 0)
    seen.feed(words(word(1, SET, 8)), 0, now=0.0)
    seen.review(totals(hits=4), 2 * SIZE, now=20.0)
    assert seen.keys == 0


def test_a_store_that_was_cleared_begins_afresh() -> None:
    before = totals(hits=5, items=1000)
    assert was_emptied(before, totals(hits=5, items=10))
    assert not was_emptied(before, totals(hits=5, items=10)._replace(deletes=600))
    assert not was_emptied(before, totals(hits=5, items=501))
    seen = sampler(items=1000)
    seen.feed(words(word(1, SET, 8)), 0, now=0.0)
    seen.review(totals(items=990), SIZE, now=10.0)
    assert seen.keys == 1
    seen.review(totals(items=0), SIZE, now=20.0)
    assert seen.keys == 0


def a_round(seen: Sampler, keys: int) -> tuple[int, int]:
    """Each key is read, and stored where it was missed; hits and misses."""
    sent, misses = [], 0
    for k in range(keys):
        if word(k, 0) >> 18 in seen._own.items:
            sent.append(word(k, GET_HIT, 8))
        else:
            misses += 1
            sent += [word(k, GET_MISS), word(k, SET, 8)]
    seen.feed(words(*sent), 0, now=0.0)
    return keys - misses, misses


def test_what_is_older_than_two_windows_weighs_nothing() -> None:
    seen, hits, misses, now = sampler(), 0, 0, 0.0
    assert seen.curve(totals(), now=now) is None
    for turn in range(12):
        more = [(0, 0)] if turn else [a_round(seen, 3000)]
        more += [a_round(seen, 3000) for _ in range(WINDOW_READS // 3000 + 1)]
        hits += sum(m[0] for m in more)
        misses += sum(m[1] for m in more)
        now += WINDOW_S / 2 + 1
        seen.review(totals(hits, misses, 3000), SIZE, now=now)
    curve = seen.curve(totals(hits, misses, 3000), now=now)
    assert curve is not None
    assert curve.measured == 1.0
    assert [point.hit_ratio for point in curve.points] == [1.0] * 6
    assert now - curve.since <= 3 * WINDOW_S
    assert ENOUGH < curve.requests < hits / 2


def test_of_a_full_store_the_first_window_only_warms() -> None:
    full = Totals(0, 0, 0, 0, 7, 0, 1000, 1000 * 128, 0)
    seen = Sampler(CONFIG, SIZE, full, now=0.0, worked=Work())
    assert seen.is_warming
    hits, misses = map(sum, zip(*(a_round(seen, 3000) for _ in range(4)), strict=True))
    seen.review(full._replace(hits=hits, misses=misses), SIZE, now=WINDOW_S)
    assert not seen.is_warming
    assert seen.curve(full._replace(hits=hits + 9, misses=misses), now=WINDOW_S) is None
    more, _ = a_round(seen, 3000)
    seen.review(full._replace(hits=hits + more, misses=misses), SIZE, now=WINDOW_S + 10)
    curve = seen.curve(full._replace(hits=hits + more, misses=misses), now=WINDOW_S + 10)
    assert curve is not None
    assert (curve.since, curve.measured, curve.requests) == (WINDOW_S, 1.0, more)


def test_a_clock_that_is_set_back_moves_the_windows_along() -> None:
    seen = sampler()
    seen.review(totals(), SIZE, now=100.0)
    seen.review(totals(), SIZE, now=-5000.0)
    assert seen._windows[0].since == -5100.0
    seen.review(totals(), SIZE, now=-4990.0)
    assert seen._reviewed.since == -4990.0


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_correction_stays_a_share(ratio: float, own: float, real: float, larger: bool) -> None:
    assert 0 <= corrected(ratio, own, real, larger=larger) <= 1


def test_the_own_size_is_corrected_to_what_was_measured() -> None:
    assert corrected(0.6, 0.6, 0.7, larger=True) == pytest.approx(0.7)
    assert corrected(0.6, 0.6, 0.7, larger=False) == pytest.approx(0.7)
    assert corrected(0.8, 0.6, 0.7, larger=True) == pytest.approx(0.85)
    assert corrected(0.3, 0.6, 0.7, larger=False) == pytest.approx(0.35)
