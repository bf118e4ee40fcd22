"""What the layout leaves of a size is what real stores hold."""

import pytest

from shmkv.daemon.watcher import config_of
from shmkv.history.capacity import ghost_items, held_bytes, sizes_around
from shmkv.replay.run import own_store

MIB = 1 << 20


@pytest.mark.parametrize(("value", "off"), [(80, 0.04), (500, 0.04), (8192, 0.09)])
@pytest.mark.parametrize("size", [2 * MIB, 5 * MIB, 24 * MIB])
def test_a_full_store_holds_what_is_said(size: int, value: int, off: float) -> None:
    """But for pages: two of four open ones are said to be empty, the index grows by the page."""
    with own_store(size) as store, own_store(8 * MIB) as other:
        payload = bytes(value)
        for number in range(2 * size // (value + 32)):
            store[b"%016d" % number] = payload
        stats = store.stats()
        held = held_bytes(config_of(other), size, stats.bytes_live / stats.items)
        pages = 3 * max(8 * value, 1 << store._geometry()["base_shift"]) / size
        assert held / size == pytest.approx(stats.bytes_live / size, abs=off + pages)


def test_sizes_are_those_a_store_can_have() -> None:
    assert list(sizes_around(2 * MIB)) == [1, 2, 4, 8]
    assert list(sizes_around(64 << 30)) == [0.25, 0.5, 1]
    assert list(sizes_around(100 * MIB).values()) == [
        25 * MIB,
        50 * MIB,
        100 * MIB,
        200 * MIB,
        400 * MIB,
        800 * MIB,
    ]


def test_the_ghost_is_a_power_of_two_of_lines() -> None:
    assert ghost_items(16 * MIB, 17_500) == 512 * 32
    assert ghost_items(16 * MIB, 10**9) == 2048 * 32
    assert ghost_items(16 * MIB, 0) == 32
