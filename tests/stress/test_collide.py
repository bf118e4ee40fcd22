"""Keys made to collide: XXH64 run backwards for a known seed.

Owns: `key_with`, the 16-byte key that has a given hash under a given seed. What must hold: seeds
differ from store to store, so keys made for one are ordinary keys in another; keys that share
stripe and directory (the top bits) are read at most ten times slower than others; keys of one and
the same hash are still told apart, and when there is no more room for them one leaves, or Full.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

import pytest
import xxhash

import shmkv
from shmkv import _core
from tests.conftest import MIB

MASK = (1 << 64) - 1
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
SLOTS = 64 * 12
SLOWER = 10.0

Opener = Callable[..., shmkv.Store]


# ---- backwards ----------------------------------------------------------------------------------


def _rotate(x: int, r: int) -> int:
    return ((x << r) | (x >> (64 - r))) & MASK


def _round(lane: int) -> int:
    return _rotate(lane * P2 & MASK, 31) * P1 & MASK


def _unround(x: int) -> int:
    return _rotate(x * pow(P1, -1, 1 << 64) & MASK, 33) * pow(P2, -1, 1 << 64) & MASK


def _unshift(x: int, by: int) -> int:
    """The number that, xored with itself shifted right, gives x."""
    y = x
    for _ in range(64 // by + 1):
        y = x ^ y >> by
    return y


def key_with(hash_: int, seed: int, mark: int) -> bytes:
    """The key of 16 bytes that begins with `mark` and has this hash."""
    h = _unshift(hash_, 32) * pow(P3, -1, 1 << 64) & MASK
    h = _unshift(h, 29) * pow(P2, -1, 1 << 64) & MASK
    h = _unshift(h, 33)
    h = (h - P4) * pow(P1, -1, 1 << 64) & MASK
    h = _rotate(h, 64 - 27)  # before the second lane's multiplication
    first = (seed + P5 + 16 & MASK) ^ _round(mark)
    first = (_rotate(first, 27) * P1 + P4) & MASK
    return mark.to_bytes(8, "little") + _unround(h ^ first).to_bytes(8, "little")


def test_the_way_back_is_right() -> None:
    rng = random.Random(5)
    for _ in range(300):
        want, seed, mark = (rng.getrandbits(64) for _ in range(3))
        key = key_with(want, seed, mark)
        assert xxhash.xxh64_intdigest(key, seed) == want == _core.hash(key, seed)


# ---- seeds --------------------------------------------------------------------------------------


def test_every_store_has_a_seed_of_its_own(open_store: Opener, new_name: Callable[[], str]) -> None:
    seeds = set()
    for _ in range(60):
        with open_store(new_name(), size=2 * MIB) as store:
            seeds.add(store._geometry()["seed"])
    assert len(seeds) == 60
    ones = [sum(seed >> bit & 1 for seed in seeds) for bit in range(64)]
    assert min(ones) > 8, "a bit of the seed hardly ever changes"
    assert max(ones) < 52


# ---- collisions ---------------------------------------------------------------------------------


def slowness(store: shmkv.Store, crafted: list[bytes], plain: list[bytes]) -> float:
    """How many times longer a get of the first takes; the best of interleaved rounds."""
    best = [float("inf"), float("inf")]
    for _ in range(40):
        for i, keys in enumerate((crafted, plain)):
            begin = time.perf_counter()
            for key in keys:
                store.get(key)
            best[i] = min(best[i], (time.perf_counter() - begin) / len(keys))
    return best[0] / best[1]


def plain_keys(n: int) -> list[bytes]:
    """Ordinary keys of 16 bytes."""
    return [b"plain%011d" % i for i in range(n)]


def report(capsys: pytest.CaptureFixture[str], name: str, n: int, ratio: float) -> None:
    """The line of JSON."""
    line = {"name": f"collide[{name}]", "seed": 1, "n": n, "violations": 0}
    with capsys.disabled():
        print(f" {json.dumps({**line, 'slower': round(ratio, 2)})}", end="")


def test_keys_made_for_another_seed_are_ordinary(
    open_store: Opener, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(size=64 * MIB)
    seed = store._geometry()["seed"] ^ 1
    crafted = [key_with(0x0123456789ABCDEF, seed, i) for i in range(20_000)]
    plain = plain_keys(20_000)
    for key in crafted + plain:
        store.set(key, key)
    assert len(store) == 40_000
    ratio = slowness(store, crafted[:2000], plain[:2000])
    report(capsys, "another seed", len(crafted), ratio)
    assert ratio < SLOWER
    assert all(store.get(key) == key for key in crafted)


def test_keys_of_one_index_segment(open_store: Opener, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal top bits: stripe and directory. As many as fit without anybody leaving."""
    store = open_store(size=16 * MIB)
    seed, rng = store._geometry()["seed"], random.Random(1)
    top = 0xABCDEF << 40
    crafted = [key_with(top | rng.getrandbits(40) & ~0, seed, i) for i in range(660)]
    plain = plain_keys(660)
    for key in crafted + plain:
        store.set(key, key)
    assert all(store.get(key) == key for key in crafted + plain)
    ratio = slowness(store, crafted, plain)
    report(capsys, "equal top bits", len(crafted), ratio)
    assert ratio < SLOWER
    assert store.check().ok


@pytest.mark.parametrize("evict", [True, False])
def test_keys_of_one_hash(
    open_store: Opener, evict: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 64 bits equal, more of them than an index segment has slots."""
    store = open_store(size=16 * MIB, evict=evict)
    seed = store._geometry()["seed"]
    crafted = [key_with(0x5DEECE66D1234567, seed, i) for i in range(SLOTS + 300)]
    plain = plain_keys(500)
    for key in plain:
        store.set(key, key)
    stored = []
    for key in crafted:
        try:
            store.set(key, key)
            stored.append(key)
            assert store.get(key) == key
        except shmkv.Full:
            assert not evict
    # Ordinary keys may have slots of that segment, and the last bucket of its own.
    assert len(stored) == len(crafted) if evict else SLOTS - 12 <= len(stored) <= SLOTS
    there = [key for key in crafted if store.get(key) is not None]
    assert all(store[key] == key for key in there)
    assert len(there) <= SLOTS
    assert len(there) >= SLOTS - 12
    ratio = slowness(store, there[:100], plain[:100])
    report(capsys, f"equal hashes, evict={evict}", len(there), ratio)
    for key in there:
        assert store.delete(key)
    lost = [key for key in plain if store.get(key) != key]
    assert len(lost) <= (12 if evict else 0)
    assert store.check().ok
