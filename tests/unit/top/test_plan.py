"""Planned sizes against real fills: as many items stand as were planned, within 5 %."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

import shmkv
from shmkv.top.plan import Items, Lengths, Plan, TooMuch, plan
from tests.conftest import MIB

KIB = 1 << 10


def filled(name: str, found: Plan, items: Items, evict: bool) -> int:
    """How many items such a store holds before one must leave."""
    lengths = items.values.draw(max(min(items.count, 20_000), 64))
    source = memoryview(bytes(max(lengths)))
    step = max(items.count // 500, 1)
    ttl = 1e6 if items.deadlines else None
    with shmkv.open(name, size=found.typed, evict=evict) as store:
        shmkv.unlink(name)
        assert store.size == found.size
        for i, length in zip(itertools.count(), itertools.cycle(lengths)):
            try:
                store.set(b"%0*d" % (items.key, i), source[:length], ttl=ttl)
            except shmkv.Full:
                return i
            if i % step == 0 and store._stats()["evictions"]:
                return i
    raise AssertionError


SHAPES = [
    (Lengths(100), 14_000, {}),  # 2 MiB
    (Lengths(100), 38_000, {}),  # 5 MiB
    (Lengths(100), 130_000, {}),  # 19 MiB
    (Lengths(100), 400_000, {}),  # 57 MiB
    (Lengths(KIB), 2_000, {}),
    (Lengths(KIB), 20_000, {}),
    (Lengths(KIB), 120_000, {}),  # 130 MiB
    (Lengths(10 * KIB), 220, {}),
    (Lengths(10 * KIB), 1_500, {}),
    (Lengths(10 * KIB), 24_000, {}),  # 256 MiB
    (Lengths(300 * KIB), 70, {}),
    (Lengths(300 * KIB), 700, {}),  # 230 MiB
    (Lengths(400, "lognormal"), 100_000, {}),
    (Lengths(3000, "uniform"), 10_000, {}),
    (Lengths(8000, "exponential"), 5_000, {}),
    (Lengths(100), 60_000, {"key": 40, "deadlines": True}),
]


@pytest.mark.parametrize("evict", [True, False], ids=["evicting", "keeping"])
@pytest.mark.parametrize(
    ("values", "count", "more"), SHAPES, ids=[f"{v.shape}-{v.mean}-{n}" for v, n, _ in SHAPES]
)
def test_a_real_fill(
    new_name: Callable[[], str], values: Lengths, count: int, more: dict[str, int], evict: bool
) -> None:
    items = Items(count, values, **more)  # type: ignore[arg-type]
    found = plan(items, evict=evict)
    assert filled(new_name(), found, items, evict) == pytest.approx(count, rel=0.05)


def test_the_parts_are_the_whole() -> None:
    found = plan(Items(1_000_000, Lengths(100)))
    parts = [getattr(found, name) for name in Plan.__slots__ if name.startswith("bytes_")]
    assert sum(parts) == found.size
    assert all(part >= 0 for part in parts)
    assert found.bytes_payload == 116_000_000
    assert found.bytes_headers == 12_000_000
    assert 130 < found.bytes_per_item < 165
    assert found.as_dict()["size"] == found.size


def test_more_wants_more() -> None:
    def size(count: int, mean: float = 500.0, *, evict: bool = True) -> int:
        return plan(Items(count, Lengths(mean)), evict=evict).size

    sizes = [size(4000 * 2**i) for i in range(0, 12, 2)]
    assert sizes == sorted(set(sizes))
    assert size(1) == 2 * MIB
    assert size(100_000, evict=False) < size(100_000)
    small = plan(Items(100_000, Lengths(500)), max_size=64 * MIB)
    large = plan(Items(100_000, Lengths(500)), max_size=16 << 30)
    assert large.bytes_tables > small.bytes_tables


def test_too_much() -> None:
    with pytest.raises(TooMuch, match="64 GiB"):
        plan(Items(1 << 30, Lengths(1000)))
    with pytest.raises(TooMuch):
        plan(Items(1, Lengths(10 << 30)))


def test_a_value_wants_eight_times_its_size() -> None:
    assert plan(Items(1, Lengths(10 * MIB))).size > 80 * MIB


def test_what_is_drawn_has_the_mean() -> None:
    for shape in ("fixed", "uniform", "exponential", "lognormal"):
        drawn = Lengths(1000, shape).draw(5000)
        assert sum(drawn) / len(drawn) == pytest.approx(1000, rel=0.001)
        assert drawn == Lengths(1000, shape).draw(5000)
