"""A miniature keeps its books, whatever it is asked, and decides as the store does."""

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmkv.history.simulate import (
    DELETE,
    EMPTY_LEAST,
    FILL,
    READ,
    STRANGER,
    WRITE,
    Miniature,
    Request,
)

steps = st.tuples(
    st.sampled_from([READ, FILL, WRITE, DELETE, STRANGER]),
    st.integers(0, 30),
    st.sampled_from([16, 128, 400, 3000]),
)


def assert_books_balance(mini: Miniature) -> None:
    entries = mini.items.values()
    assert mini.used == sum(entry[1] for entry in entries) <= max(mini.capacity, 0)
    assert mini._small == sum(entry[1] for entry in entries if entry[3] == 0)
    places = [entry for queue in mini._queues for entry in queue]
    alive = [entry for entry in places if mini.items.get(entry[0]) is entry]
    assert len(alive) == len(mini.items)
    assert len(places) - len(alive) == mini._empty <= len(mini.items) + EMPTY_LEAST + 1
    assert len(mini.ghost) <= max(mini.ghosts, 1)
    assert 0 <= mini.hits <= mini.reads


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=200), st.integers(0, 8000), st.integers(0, 20))
def test_the_books_balance(requests: list[Request], capacity: int, ghosts: int) -> None:
    mini = Miniature(capacity, ghosts, is_larger=True)
    mini.run(requests)
    assert_books_balance(mini)
    mini.restrict(15, 8, 0.5)
    assert all(key & 15 < 8 for key in [*mini.items, *mini.ghost])
    assert_books_balance(mini)


def filled(*keys: int, capacity: float = 1000, size: int = 100) -> Miniature:
    mini = Miniature(capacity, 100, is_larger=True)
    mini.run((FILL, key, size) for key in keys)
    return mini


def test_who_was_not_read_leaves_and_is_remembered() -> None:
    mini = filled(*range(10))
    mini.run([(READ, 0, 100), (FILL, 10, 100), (FILL, 11, 100)])
    assert sorted(mini.items) == [0, *range(3, 12)]
    assert list(mini.ghost) == [1, 2]
    assert mini.items[0][3] > 0  # in a main queue, its counter back at zero
    assert mini.items[0][2] == 0


def test_who_comes_back_soon_goes_to_a_main_queue() -> None:
    mini = filled(*range(12))
    assert 0 in mini.ghost
    mini.run([(FILL, 0, 100)])
    assert mini.items[0][3] > 0
    assert 0 not in mini.ghost


def test_large_items_leave_a_main_queue_before_small_ones_of_their_age() -> None:
    mini = Miniature(20_000, 100, is_larger=True)
    both = [(FILL, 1, 64), (FILL, 2, 9000), (READ, 1, 64), (READ, 2, 9000)]
    mini.run(both)
    for key in range(10, 55):
        mini.run([(FILL, key, 400), (READ, key, 400)])
    assert mini.items[1][3] > 0
    assert 2 not in mini.items
    assert 2 not in mini.ghost


def test_a_fill_changes_nothing_where_the_read_hit() -> None:
    mini = filled(1)
    mini.run([(READ, 1, 0), (FILL, 1, 900)])
    assert (mini.hits, mini.reads, mini.used) == (1, 1, 100)
    mini.run([(WRITE, 1, 400)])
    assert (mini.used, mini.items[1][2]) == (400, 2)


def test_a_hit_elsewhere_fills_and_a_miss_elsewhere_does_not() -> None:
    mini = filled()
    mini.run([(READ, 1, 100), (READ, 2, 0)])
    assert list(mini.items) == [1]
    assert (mini.hits, mini.reads) == (0, 2)


def test_a_stranger_counts_only_where_it_is_known_what_it_would_do() -> None:
    for is_larger in (False, True):
        mini = Miniature(1000, 10, is_larger=is_larger)
        mini.run([(STRANGER, 1, 100)])
        assert (mini.hits, mini.reads) == (is_larger, is_larger)
        assert 1 in mini.items


def test_counts_are_of_two_windows() -> None:
    mini = filled(1)
    mini.run([(READ, 1, 100)])
    mini.turn()
    mini.run([(READ, 2, 100)])
    assert mini.counted() == (1, 2)
    mini.turn()
    assert mini.counted() == (0, 1)


def test_one_item_does_not_throw_out_all_others() -> None:
    mini = filled(*range(10))
    mini.run([(FILL, 10, 600), (READ, 11, 1 << 60), (WRITE, 9, 600)])
    assert sorted(mini.items) == list(range(9))
    assert not mini.ghost


def test_overwriting_without_end_takes_no_memory() -> None:
    mini = Miniature(1e9, 10, is_larger=True)
    rng = random.Random(1)
    for _ in range(20):
        mini.run((WRITE, rng.randrange(50), 100) for _ in range(1000))
    assert sum(map(len, mini._queues)) <= 2 * 50 + EMPTY_LEAST + 1
    assert_books_balance(mini)
