"""What completes a trace: keys, sizes, overwrites, models. All of it is the same in every run."""

import numpy as np

from shmkv.replay import Chunk, Fixed, Lognormal, cut, numbered, overwriting
from shmkv.replay.models import Logarithmic, Mixture, Phase, Zipf
from shmkv.replay.requests import CHUNK, DELETE, GET, SET, keys_of

NUMBERS = np.arange(50_000, dtype=np.uint64)


def test_keys_are_sixteen_digits() -> None:
    numbers = np.array([0, 255, 2**64 - 1], np.uint64)
    assert keys_of(numbers) == [b"%016x" % int(number) for number in numbers]


def test_lognormal_has_its_median_and_its_ends_and_is_a_function_of_the_key() -> None:
    sizing = Lognormal(400, 1.6, 20, 100_000)
    sizes = sizing(NUMBERS)
    assert 385 < np.median(sizes) < 415
    assert 1.55 < np.log(np.quantile(sizes, 0.8413) / 400) < 1.65  # one sigma above
    assert (sizes.min(), sizes.max()) == (20, 100_000)
    assert (sizing(NUMBERS[100:200]) == sizes[100:200]).all()
    assert (Lognormal(seed=2)(NUMBERS) != sizes).mean() > 0.9


def test_logarithmic_and_mixture() -> None:
    sizes = Logarithmic(1000, 1_000_000)(NUMBERS)
    assert sizes.min() >= 1000
    assert sizes.max() <= 1_000_000
    assert 0.31 < (sizes < 10_000).mean() < 0.36
    mixed = Mixture(Fixed(1), ((0.2, Fixed(2)), (0.05, Fixed(3))))(NUMBERS)
    shares = [float((mixed == size).mean()) for size in (1, 2, 3)]
    assert np.allclose(shares, [0.75, 0.2, 0.05], atol=0.01)


def test_overwriting_turns_its_share_of_the_reads_and_nothing_else() -> None:
    ops = [GET, SET, DELETE, GET] * 5000
    chunk = Chunk([b"k"] * 20_000, [1] * 20_000, ops=ops)
    (found,) = overwriting([chunk], 20)
    assert found.ops is not None
    turned = [a for a, b in zip(ops, found.ops, strict=True) if a != b]
    assert set(turned) == {GET}
    assert 0.19 < len(turned) / 10_000 < 0.21
    assert list(overwriting([chunk], 20)) == [found]
    assert next(overwriting([chunk], 0)).ops == ops
    (all_writes,) = overwriting([Chunk([b"k"] * 3, [1] * 3)], 100)
    assert all_writes.ops == [SET] * 3


def test_cut_is_exact() -> None:
    chunks = list(numbered([(NUMBERS, 0)], Fixed(1)))
    keys = [key for chunk in cut(chunks, CHUNK + 10) for key in chunk.keys]
    assert keys == keys_of(NUMBERS[: CHUNK + 10])
    assert sum(len(chunk.keys) for chunk in cut(chunks, 10**9)) == len(NUMBERS)


def test_zipf_repeats_itself_and_prefers_few() -> None:
    model = Zipf(100_000, 10_000, exponent=1.0)
    numbers = np.concatenate([batch for batch, _ in model.batches()])
    again = np.concatenate([batch for batch, _ in model.batches()])
    assert (numbers == again).all()
    assert len(numbers) == 100_000
    counts = np.sort(np.bincount(numbers.astype(int)))[::-1]
    assert 0.09 < counts[0] / 100_000 < 0.115  # 1 / H(10,000)
    assert numbers.max() < 10_000


def test_zipf_shifts_and_scans() -> None:
    shifted = Zipf(100_000, 1000, shift=0.1, period=10_000)
    numbers = np.concatenate([batch for batch, _ in shifted.batches()])
    assert set(numbers[:10_000]) <= set(range(1000))
    assert 0.02 < (numbers[10_000:20_000] >= 1000).mean() < 0.5
    scanned = Zipf(50_000, 1000, period=10_000, scan=300)
    numbers = np.concatenate([batch for batch, _ in scanned.batches()])
    assert (numbers[10_000:10_300] == np.arange(1000, 1300)).all()
    fresh = numbers[numbers >= 1000]
    assert len(set(fresh)) == len(fresh) > 1000  # nobody asks again


def test_a_phase_writes_its_volume() -> None:
    phase = Phase("x", Lognormal(2000, 1.5, 100, 100_000), 20_000_000)
    first = 5 << 32
    written = overwritten = reads = 0
    seen: set[bytes] = set()
    for chunk in phase.chunks(first):
        assert chunk.ops is not None
        fresh = set()
        for key, size, op in zip(chunk.keys, chunk.sizes, chunk.ops, strict=True):
            assert int(key, 16) >= first
            if op == SET:
                written += size
                overwritten += key in seen or key in fresh
                fresh.add(key)
            else:
                reads += 1
                assert int(key, 16) % phase.hot == 0 or int(key, 16) == first
        seen |= fresh
    assert 20_000_000 <= written < 22_000_000
    assert 0.1 < overwritten / (len(seen) + overwritten) < 0.3
    assert reads > 0
