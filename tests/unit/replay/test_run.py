"""Replaying against real stores: counts are exact where they can be known."""

from pathlib import Path

import pytest

import shmkv
from shmkv import _core
from shmkv.replay import (
    Chunk,
    Count,
    FileTrace,
    Fixed,
    MadeTrace,
    numbered,
    overwriting,
    own_store,
    payload,
    replay,
    sizes,
    sweep,
)
from shmkv.replay.models import Zipf
from shmkv.replay.run import SAMPLES, Sampler, StoreCache
from tests.conftest import segment_entries

MIB = 1 << 20


def made(*chunks: Chunk) -> MadeTrace:
    """A trace of these."""
    return MadeTrace("made", lambda: iter(chunks))


def test_what_fits_misses_once() -> None:
    keys = [b"a", b"b", b"a", b"c", b"a"]
    result = replay(made(Chunk(keys, [10, 20, 10, 30, 10])), 2 * MIB)
    expected = Count(reads=5, misses=3, read_bytes=80, missed_bytes=60, sets=3)
    assert result.store == result.lru == expected
    assert result.misses_to_lru == 1
    assert result.store.hit_ratio == pytest.approx(0.4)
    assert result.store.byte_hit_ratio == pytest.approx(0.25)
    assert result.utilisation == 63 / (2 * MIB)
    assert (result.items, result.copied) == (3, 0)


def test_writes_and_deletes_are_no_reads() -> None:
    chunk = Chunk([b"a", b"a", b"a", b"a", b"b"], [10, 10, 10, 10, 10], ops=[1, 0, 2, 0, 1])
    result = replay(made(chunk), 2 * MIB)
    expected = Count(reads=2, misses=1, read_bytes=20, missed_bytes=10, sets=3)
    assert result.store == result.lru == expected


def test_stored_values_have_their_sizes() -> None:
    with own_store(4 * MIB) as store:
        cache = StoreCache(store)
        cache.run(Chunk([b"a", b"b", b"c"], [0, 300_000, 17]))
        cache.run(Chunk([b"d", b"a"], [400_000, 5], ops=[1, 1], ttls=[60.0, None]))
        assert [len(store[key]) for key in (b"a", b"b", b"c", b"d")] == [5, 300_000, 17, 400_000]
        assert store.ttl(b"d") == pytest.approx(60, abs=30)
        assert cache.calls == 3 + 3 + 2
        assert payload(store) == 4 + 5 + 300_000 + 17 + 400_000


def test_too_large_is_told_apart_and_does_not_end_the_replay() -> None:
    chunk = Chunk([b"a", b"b", b"a"], [MIB, 10, MIB])
    result = replay(made(chunk), 2 * MIB)
    assert result.store.too_large == 2
    assert result.store.errors == {"TooLarge": 2}
    assert result.store.failed == 0
    assert result.lru is not None
    assert result.lru.too_large == 2
    assert (result.store.misses, result.items) == (3, 1)


def test_full_is_a_failed_set() -> None:
    chunk = Chunk([b"%04d" % i for i in range(300)], [10_000] * 300)
    result = replay(made(chunk), 2 * MIB, evict=False)
    assert result.store.failed > 0
    assert result.store.errors == {"Full": result.store.failed}
    assert result.items == 300 - result.store.failed


def test_the_store_has_no_name_while_it_is_used() -> None:
    before = segment_entries()
    seen: list[set[str]] = []

    def chunks() -> list[Chunk]:
        seen.append(segment_entries() - before)
        return [Chunk([b"a"], [1])]

    replay(MadeTrace("t", lambda: iter(chunks())), 2 * MIB)
    assert not any("replay-" in name for name in seen[0] | (segment_entries() - before))


def test_the_warm_up_is_not_counted_but_it_warms() -> None:
    chunks = [Chunk([b"a", b"b"], [10, 10]) for _ in range(5)]
    result = replay(made(*chunks), 2 * MIB, warmup=4)
    expected = Count(reads=6, misses=0, read_bytes=60, missed_bytes=0, sets=0)
    assert result.store == result.lru == expected
    assert (result.requests, result.items, result.copied) == (6, 2, 0)


def test_a_rate_lets_deadlines_pass() -> None:
    """At one request a second, chunks of two: a lives for 3 s."""
    chunks = [Chunk([b"a", b"b"], [10, 10], ttls=[3.0, None]) for _ in range(6)]
    result = replay(made(*chunks), 2 * MIB, rate=1)
    assert result.store.misses == 3 + 1  # a at 0, 4 and 8 s
    assert result.store == result.lru
    without = replay(made(*chunks), 2 * MIB)
    assert without.store.misses == 2


def test_real_time_is_back_after_a_failure() -> None:
    before = _core.clock_ms()

    def broken() -> list[Chunk]:
        raise RuntimeError("broken trace")

    def chunks() -> object:
        yield Chunk([b"a"], [1])
        yield Chunk([b"a"], [1])
        broken()

    with pytest.raises(RuntimeError):
        replay(MadeTrace("t", chunks), 2 * MIB, rate=0.0001)  # type: ignore[arg-type]
    assert _core.clock_ms() - before < 5000


def test_overwrites_and_evictions_against_the_reference() -> None:
    """A hot set that fits and a long tail: both keep most of it, neither is beyond belief."""
    model = Zipf(60_000, 20_000, exponent=1.0)
    trace = MadeTrace("zipf", lambda: overwriting(numbered(model.batches(), Fixed(1000)), 20))
    result = replay(trace, 4 * MIB)
    assert result.lru is not None
    assert result.store.reads == result.lru.reads
    assert result.store.failed == 0
    ratio = result.misses_to_lru
    assert ratio is not None
    assert 0.7 < ratio < 1.4
    assert 0.5 < result.utilisation < 1
    assert 0 < result.copied < 4
    assert result.ns_per_operation > 0


def test_progress_tells_the_position(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"".join(b"%d 10\n" % number for number in range(20_000)))
    seen: list[int] = []
    trace = FileTrace.of(path)
    replay(trace, 2 * MIB, progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) == 3
    assert seen[-1] == trace.length


def test_the_sampler_keeps_few_and_means_the_second_half(store: shmkv.Store) -> None:
    sampler = Sampler(store)
    for number in range(100):
        chunk = Chunk([b"%03d" % number], [1000])
        store.set(chunk.keys[0], bytes(1000))
        sampler.after(chunk)
    assert len(sampler.seen) <= SAMPLES
    assert sampler.seen == sorted(sampler.seen)
    every = 1003 / store.size
    assert 70 * every < sampler.mean() < 100 * every
    assert sampler.now() == 100 * every
    store.set(b"other", bytes(5000))
    sampler.after(Chunk([b"other"], [5000]))  # not all alike any more: items are walked
    assert sampler.now() == (100 * 1003 + 5005) / store.size


def test_sizes_of_a_curve() -> None:
    found = sizes(1000 * MIB, 8)
    assert len(found) == 8
    assert found[0] == pytest.approx(10 * MIB, rel=0.01)
    assert found[-1] == 1000 * MIB
    assert all(size % 4096 == 0 for size in found)
    assert sizes(1000) == [2 * MIB]


def test_a_sweep_is_a_replay_for_each_size() -> None:
    chunk = Chunk([b"%04d" % (i % 900) for i in range(3000)], [4000] * 3000)
    small, large = sweep(made(chunk), [2 * MIB, 8 * MIB])
    assert (small.size, large.size) == (2 * MIB, 8 * MIB)
    assert large.store.misses == 900
    assert small.store.misses > 900
