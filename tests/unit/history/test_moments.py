"""Moments: sums are kept however old they grow, and the past is bounded."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmkv.history import Moment
from shmkv.history.moments import COUNTS, HALVINGS, LEVELS, MOST, SLACK, Moments, Totals, thinned

NOW = 1_800_000_000.0
SETTINGS = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
counts = st.integers(0, 1 << 40)


def totals(*numbers: int) -> Totals:
    """The rest is zero."""
    return Totals(*numbers, *(0 for _ in range(len(Totals._fields) - len(numbers))))


@st.composite
def pasts(draw: st.DrawFn) -> list[Moment]:
    """Moments one after the other, with gaps, the last one ending now."""
    found: list[Moment] = []
    end = NOW
    for _ in range(draw(st.integers(0, 25))):
        seconds = draw(st.floats(0.01, 4000))
        row = draw(st.lists(counts, min_size=9, max_size=9))
        found.append(Moment(end - seconds, seconds, *row))
        end -= seconds + draw(st.sampled_from([0, 0, 0, 0.5, 30, 90_000]))
    return found[::-1]


def sums(moments: tuple[Moment, ...] | list[Moment]) -> list[int]:
    """Of each count."""
    return [sum(column) for column in zip(*(m[2 : 2 + COUNTS] for m in moments), strict=True)]


def assert_in_order(moments: tuple[Moment, ...]) -> None:
    for before, after in itertools.pairwise(moments):
        assert after.start >= before.end - 1e-3


@SETTINGS
@given(pasts(), st.integers(0, HALVINGS))
def test_thinning_keeps_sums_order_and_the_last_gauges(past: list[Moment], halvings: int) -> None:
    young = [m for m in past if NOW - m.end < 5 * 86_400]
    found = thinned(young, NOW, halvings)
    assert sums(found) == sums(young)
    assert_in_order(found)
    assert [m[8:] for m in found][-1:] == [m[8:] for m in young][-1:]
    assert sum(m.seconds for m in found) == pytest.approx(
        sum(m.seconds for m in young), abs=len(young)
    )


@SETTINGS
@given(pasts(), st.integers(0, HALVINGS))
def test_what_is_thinned_is_not_thinned_again(past: list[Moment], halvings: int) -> None:
    once = thinned(past, NOW, halvings)
    assert thinned(once, NOW, halvings) == once


def test_a_long_past_is_bounded_and_coarser_the_older_it_is() -> None:
    seen = Moments()
    looks = [300 * step for step in range(6000)]
    looks += [looks[-1] + 10 * step for step in range(1, 3000)]
    for at in looks:
        seen.take(totals(at), now=NOW + at, clock=float(at))
    now = NOW + looks[-1]
    assert len(seen.all()) <= MOST + SLACK
    found = thinned(seen.all(), now)
    assert len(found) <= MOST
    assert_in_order(found)
    assert len([m for m in found if now - m.end < 3500]) >= 350
    assert found[0].seconds == pytest.approx(LEVELS[-1][0])
    assert now - found[0].end > 13 * 86_400
    assert all(m.hits == pytest.approx(m.seconds) for m in found)
    for halvings in range(1, 5):
        assert len(thinned(found, now, halvings)) <= MOST / 2**halvings + 4
        assert thinned(found, now, halvings)[0].end < now - 12 * 86_400


def test_each_moment_has_what_happened_in_it() -> None:
    seen = Moments()
    seen.take(totals(100, 10, 5, 4, 3, 2, 7, 700, 7000), now=NOW, clock=1.0)
    assert seen.all() == ()
    seen.take(totals(150, 12, 5, 4, 3, 3, 8, 800, 8000), now=NOW + 10, clock=11.0)
    assert seen.all() == (Moment(NOW, 10.0, 50, 2, 0, 0, 0, 1, 8, 800, 8000),)
    assert seen.all()[0].hit_ratio == pytest.approx(50 / 52)


def test_totals_that_fall_are_those_of_a_new_store() -> None:
    seen = Moments()
    seen.take(totals(1000, 50), now=NOW, clock=0.0)
    seen.take(totals(30, 60), now=NOW + 10, clock=10.0)
    assert seen.all()[0][2:4] == (30, 60)


def test_time_that_nobody_watched_is_a_gap() -> None:
    past = (Moment(NOW, 10.0, *range(9)),)
    seen = Moments(past)
    seen.take(totals(500), now=NOW + 7000, clock=0.0)
    seen.take(totals(503), now=NOW + 7010, clock=10.0)
    first, second = seen.all()
    assert first == past[0]
    assert (second.start, second.seconds, second.hits) == (NOW + 7000, 10.0, 3)


def test_a_clock_that_is_set_back_moves_the_past_along() -> None:
    seen = Moments((Moment(NOW, 10.0, *range(9)), Moment(NOW + 50, 10.0, *range(9))))
    seen.take(totals(1), now=NOW + 70, clock=0.0)
    seen.take(totals(2), now=NOW - 5000, clock=10.0)
    found = seen.all()
    assert [m.start - NOW for m in found] == pytest.approx([-5070, -5020, -5010])
    assert_in_order(found)


def test_two_looks_at_one_moment_are_one() -> None:
    seen = Moments()
    seen.take(totals(1), now=NOW, clock=5.0)
    seen.take(totals(2), now=NOW, clock=5.0)
    assert seen.all() == ()
    seen.take(totals(3), now=NOW + 10, clock=15.0)
    assert seen.all()[0].hits == 2
