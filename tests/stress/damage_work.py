"""What a process does to a store that is being damaged, and what it may be answered.

Owns: `OPERATIONS`, every public operation of a store on a small set of keys, with how often it is
chosen; `attempt`, which runs one and judges its outcome.

Promises: an operation ends with a result, or with one of `ALLOWED`; anything else (SystemError,
MemoryError, OSError, a value of a type that no store holds) comes back as text. Views are released
before an operation ends, so between two operations a process holds nothing.

Does not: judge values. Bytes of a value carry no checksum: a bit turned in them is what is read.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import shmkv

KEYS = [f"key {i}" for i in range(150)] + [b"k%d" % i * (1 + i % 9) for i in range(50)]
COUNTERS = [f"n{i}" for i in range(20)]
LARGE = b"large " * 8000
TYPES = (bytes, str, int, float, bool, type(None))

ALLOWED = (
    shmkv.Corrupt,
    shmkv.Busy,
    shmkv.Full,
    shmkv.TooLarge,  # the size itself may be damaged
    shmkv.CodecError,  # a type code of no version
    shmkv.ReadOnly,
    KeyError,
    OverflowError,  # a counter near its end
    TypeError,  # incr or append meets another type
)
REFUSED = (shmkv.Corrupt, shmkv.Mismatch, shmkv.NotFound, shmkv.Busy)

Operation = Callable[[shmkv.Store, random.Random], object]
OPERATIONS: dict[str, tuple[int, Operation]] = {}


def operation(weight: int) -> Callable[[Operation], Operation]:
    """Enter a function as an operation."""

    def enter(function: Operation) -> Operation:
        OPERATIONS[function.__name__.strip("_")] = (weight, function)
        return function

    return enter


class WrongType(Exception):
    """A value that no store can hold."""


def good(value: Any) -> None:
    """Is it of a type that may be stored?"""
    if type(value) not in TYPES:
        raise WrongType(repr(value)[:80])


def a_key(rng: random.Random) -> Any:
    """One of the keys."""
    return KEYS[int(len(KEYS) * rng.random() ** 2)]


def a_value(rng: random.Random) -> Any:
    """Small ones mostly, of every type."""
    pick = rng.random()
    if pick < 0.55:
        return bytes(rng.randrange(300))
    if pick < 0.75:
        return "text é " * rng.randrange(60)
    return rng.choice([rng.getrandbits(40), 1 << 90, -(1 << 200), 0.5, True, None, LARGE[:9000]])


# ---- one key ------------------------------------------------------------------------------------


@operation(30)
def get(store: shmkv.Store, rng: random.Random) -> None:
    good(store.get(a_key(rng)))


@operation(24)
def set_(store: shmkv.Store, rng: random.Random) -> None:
    store.set(a_key(rng), a_value(rng), ttl=rng.choice([None, None, 0.05, 60]))


@operation(4)
def set_large(store: shmkv.Store, rng: random.Random) -> None:
    store.set(a_key(rng), LARGE[: rng.randrange(20_000, len(LARGE))])


@operation(2)
def set_extent(store: shmkv.Store, rng: random.Random) -> None:
    store.set(a_key(rng), bytes(rng.randrange(store.max_size // 24, store.max_size // 9)))


@operation(3)
def set_new(store: shmkv.Store, rng: random.Random) -> None:
    for _ in range(20):
        store.set(b"new %d" % rng.getrandbits(30), None)


@operation(4)
def add(store: shmkv.Store, rng: random.Random) -> None:
    store.add(a_key(rng), a_value(rng))


@operation(3)
def replace(store: shmkv.Store, rng: random.Random) -> None:
    store.replace(a_key(rng), a_value(rng))


@operation(5)
def delete(store: shmkv.Store, rng: random.Random) -> None:
    store.delete(a_key(rng))


@operation(6)
def incr(store: shmkv.Store, rng: random.Random) -> None:
    assert type(store.incr(rng.choice(COUNTERS), rng.randrange(-5, 9))) is int


@operation(4)
def append(store: shmkv.Store, rng: random.Random) -> None:
    key = a_key(rng)
    if store.append(key, b"tail" * rng.randrange(50)) > 60_000:
        store.delete(key)


@operation(4)
def touch(store: shmkv.Store, rng: random.Random) -> None:
    store.touch(a_key(rng), rng.choice([None, 0.02, 30]))


@operation(3)
def ttl(store: shmkv.Store, rng: random.Random) -> None:
    store.ttl(a_key(rng))


@operation(4)
def cas(store: shmkv.Store, rng: random.Random) -> None:
    key = a_key(rng)
    value, token = store.gets(key)
    good(value)
    store.cas(key, a_value(rng), token)


@operation(3)
def pop(store: shmkv.Store, rng: random.Random) -> None:
    good(store.pop(a_key(rng)))


@operation(3)
def rename(store: shmkv.Store, rng: random.Random) -> None:
    store.rename(a_key(rng), a_key(rng))


@operation(2)
def info(store: shmkv.Store, rng: random.Random) -> None:
    assert store.info(a_key(rng)).size >= 0


@operation(6)
def view(store: shmkv.Store, rng: random.Random) -> None:
    with store.view(a_key(rng)) as memory:
        bytes(memory)


@operation(2)
def contains(store: shmkv.Store, rng: random.Random) -> None:
    assert (a_key(rng) in store) in (True, False)


# ---- many keys, the whole store -----------------------------------------------------------------


@operation(4)
def get_many(store: shmkv.Store, rng: random.Random) -> None:
    for value in store.get_many(rng.sample(KEYS, 30)).values():
        good(value)


@operation(2)
def set_many(store: shmkv.Store, rng: random.Random) -> None:
    store.set_many({key: a_value(rng) for key in rng.sample(KEYS, 10)})


@operation(1)
def delete_many(store: shmkv.Store, rng: random.Random) -> None:
    store.delete_many(rng.sample(KEYS, 10))


@operation(2)
def scan(store: shmkv.Store, rng: random.Random) -> None:
    for key in itertools.islice(store.scan(), rng.choice([5, 2000])):
        assert type(key) in (str, bytes)


@operation(2)
def totals(store: shmkv.Store, rng: random.Random) -> None:
    assert len(store) >= 0
    store.stats()


@operation(1)
def check(store: shmkv.Store, rng: random.Random) -> None:
    store.check()


@operation(1)
def compact(store: shmkv.Store, rng: random.Random) -> None:
    store._compact()


@operation(1)
def clear(store: shmkv.Store, rng: random.Random) -> None:
    if rng.random() < 0.2:
        store.clear()


@operation(1)
def attach(store: shmkv.Store, rng: random.Random) -> None:
    """One more handle; the header may be refused, and nothing else may happen to it."""
    try:
        again = shmkv.open(store.name, create=False, readonly=rng.random() < 0.4, lock_timeout=0.02)
    except REFUSED:
        return
    try:
        good(again.get(a_key(rng)))
    finally:
        again.close()


NAMES = list(OPERATIONS)
WEIGHTS = [weight for weight, _ in OPERATIONS.values()]


def attempt(store: shmkv.Store, name: str, rng: random.Random) -> str | None:
    """Run one operation; what is wrong with its outcome, or None."""
    try:
        OPERATIONS[name][1](store, rng)
    except ALLOWED:
        return None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        return f"{name} raised {type(error).__name__}: {error}"
    return None
