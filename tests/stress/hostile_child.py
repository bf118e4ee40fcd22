"""Hostile values: a process that writes bytes into an item behind the store's back and reads them.

`python -m tests.stress.hostile_child SCENE STORE SEED COUNT` prints one JSON object and ends with 0
when every read gave a value, Corrupt or CodecError, soon and with little memory. What is written is
a value of the codec, mutated, cut, spliced or made up, under any type code; the item's header stays
sound, for damaged headers are other tests' affair. A crash or a hang ends the process without the
object: the seed repeats it.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import random
import resource
import struct
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

import shmkv
from shmkv import _core, packed
from tests.conftest import segment_path
from tests.unit.codec_values import CONTAINERS, NIGHT, ROME, SCALARS, nested

T = TypeVar("T")
KEY = b"hostile-values-hurt!"  # 12 bytes of header and these: the value begins at a granule
ROOM = 16_384
FIRST, LAST = _core.TYPE_LIST, 31
SLOW_S = 2.0  # of processor time, for one read of at most ROOM bytes
_EXT_HEADS = frozenset(b"\xc7\xc8\xc9\xd4\xd5\xd6\xd7\xd8")
HEADS = bytes([*range(0x80, 0xA0), *range(0xC0, 0xE0), 0x00, 0xFF])
GOOD = (shmkv.Corrupt, shmkv.CodecError)


class Item:
    """The one item, and its bytes in the segment."""

    def __init__(self, store: shmkv.Store) -> None:
        self.store = store
        store.set(KEY, b"\0" * ROOM)
        with segment_path(store.name).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._at = self._map.find(struct.pack("<IHBB", ROOM, len(KEY), 1, 0))
        self._value = self._at + 12 + len(KEY)
        assert self._value % 16 == 0
        assert self._map[self._value - len(KEY) : self._value] == KEY

    def write(self, kind: int, data: bytes) -> None:
        """Make it a value of this type code."""
        struct.pack_into("<IHB", self._map, self._at, len(data), len(KEY), kind)
        self._map[self._value : self._value + len(data)] = data


def samples() -> list[tuple[int, bytes]]:
    """Type code and bytes of every type of value."""
    arrays = [np.arange(12.0).reshape(3, 4), np.array("text"), np.zeros((0, 3), "M8[s]")]
    values = [
        *(value for value in SCALARS if type(value).__module__ != "builtins"),
        *CONTAINERS,
        *arrays,
        np.asfortranarray(arrays[0]),
        [arrays, (arrays[0],)],
        nested(64, ["list", "tuple", "dict of int"]),
        nested(64, ["dict", "tuple"]),
        {"zones": [NIGHT.replace(tzinfo=ROME), NIGHT.time().replace(tzinfo=ROME)]},
    ]
    made = [packed.encode(value, None, "") for value in values]
    made += [packed.encode(shmkv.Encoded(n, b"\x80\x04."), None, "") for n in ("pickle", "other")]
    return [(kind, head + bytes(data)) for kind, head, data in made if len(data) < 2000]


# ---- mutation -----------------------------------------------------------------------------------


def below(rng: random.Random, n: int) -> int:
    """0 to n - 1; much faster than randrange."""
    return int(rng.random() * n)


def one(rng: random.Random, options: Sequence[T]) -> T:
    """Any of them."""
    return options[int(rng.random() * len(options))]


def _number(rng: random.Random, data: bytearray) -> None:
    width = one(rng, [1, 2, 4, 8])
    at = below(rng, len(data))
    number = one(rng, [0, 1, 2**7, 2**15, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
    data[at : at + width] = (number % 256**width).to_bytes(width, one(rng, ["big", "little"]))


def _cut(rng: random.Random, data: bytearray) -> None:
    at = below(rng, len(data))
    del data[at : at + one(rng, [1, 2, 8, len(data)])]


def _repeat(rng: random.Random, data: bytearray) -> None:
    at = below(rng, len(data))
    data[at:at] = data[at : at + 1 + below(rng, 20)] * one(rng, [1, 2, 50])


def _nest(rng: random.Random, data: bytearray) -> None:
    head = one(rng, [b"\x91", b"\x81\xa1k", b"\xdd\0\0\0\1", b"\x92", b""])
    code = 1 + below(rng, 4)
    for _ in range(one(rng, [1, 2, 30, 63, 64, 65])):
        data[:0] = head or struct.pack(">BHBB", 0xC8, min(len(data) + 1, 65_535), code, 0x91)


def _set(rng: random.Random, data: bytearray) -> None:
    data[below(rng, len(data))] = one(rng, HEADS)


def _any(rng: random.Random, data: bytearray) -> None:
    data[below(rng, len(data))] = below(rng, 256)


def _flip(rng: random.Random, data: bytearray) -> None:
    data[below(rng, len(data))] ^= 1 << below(rng, 8)


def _code(rng: random.Random, data: bytearray) -> None:
    """Another extension, if there is one."""
    begin = below(rng, len(data))
    at = next((at for at in range(begin, len(data)) if data[at] in _EXT_HEADS), None)
    if at is not None:
        data[min(len(data) - 1, at + 1 + below(rng, 3))] = below(rng, 14)


MUTATIONS = [_number, _cut, _repeat, _nest, *[_set] * 3, *[_any] * 3, *[_flip] * 4, *[_code] * 3]


def hostile(rng: random.Random, sound: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Type codes and bytes, for ever."""
    while True:
        kind, sample = one(rng, sound)
        data = bytearray(sample)
        for _ in range(one(rng, [0, 1, 1, 1, 2, 3, 8])):
            one(rng, MUTATIONS)(rng, data)
            if not data:
                data += b"\0"
        if rng.random() < 0.1:  # two halves that do not fit
            other = one(rng, sound)[1]
            data[len(data) // 2 :] = other[below(rng, len(other)) :]
        if rng.random() < 0.1:
            data = bytearray(rng.randbytes(below(rng, 40)))
        if rng.random() < 0.3:
            kind = FIRST + below(rng, LAST + 1 - FIRST)
        yield kind, bytes(data[:ROOM])


# ---- reading ------------------------------------------------------------------------------------


def _viewed(store: shmkv.Store) -> Any:
    with store.view(KEY) as memory:
        return memory.size if isinstance(memory, np.ndarray) else len(memory)


READS: list[Callable[[shmkv.Store], Any]] = [
    *[lambda store: store.get(KEY)] * 12,
    lambda store: store[KEY],
    lambda store: store.gets(KEY),
    lambda store: store.get_many([KEY, b"other"]),
    lambda store: list(store.values()),
    lambda store: store._get_encoded(KEY),
]


def outcome(read: Callable[[shmkv.Store], Any], store: shmkv.Store) -> str:
    """What came of it; anything but a value and the two errors is raised."""
    try:
        read(store)
    except GOOD as error:
        return type(error).__name__
    return "value"


def limit_memory(more: int) -> None:
    """Let this process grow by so many bytes only."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))


def mutate(store: shmkv.Store, seed: int, count: int) -> dict[str, Any]:
    """Many small values."""
    rng = random.Random(seed)
    item, reader = Item(store), shmkv.open(store.name, readonly=True)
    sound = samples()
    for kind, data in sound:
        item.write(kind, data)
        assert outcome(lambda s: s.get(KEY), store) in {"value", "CodecError"}
    counts: Counter[str] = Counter()
    handles, worst = [store, store, reader], 0.0
    limit_memory(256 << 20)
    for n, (kind, data) in zip(range(count), hostile(rng, sound), strict=False):
        item.write(kind, data)
        if n % 1000 == 0:
            faulthandler.dump_traceback_later(60, exit=True)
        began = time.process_time()
        view = kind == _core.TYPE_ARRAY and rng.random() < 0.3
        read = _viewed if view else one(rng, READS)
        try:
            counts[outcome(read, one(rng, handles))] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, type {kind}, {data!r}") from error
        took = time.process_time() - began
        worst = max(worst, took)
        assert took < SLOW_S, f"{took:.1f} s: seed {seed}, type {kind}, {data!r}"
    faulthandler.cancel_dump_traceback_later()
    reader.close()
    return {**counts, "worst_ms": round(worst * 1000, 1)}


# A length of four bytes that says far more than there is.
PROMISES = [
    *(head + b"\xff\xff\xff\xff" for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6")),
    *(b"\xc9\xff\xff\xff\xff" + bytes([code]) + b"\xdd\xff\xff\xff\xff" for code in range(1, 13)),
    *(b"\xc7\x05" + bytes([code]) + b"\xdd\xff\xff\xff\xff" for code in range(1, 13)),
    b"\xdd\x00\xff\xff\xff" * 60,
]
_SHAPES = [(2**40,), (2**63,), (2**32, 2**32), (0, 2**62), (2**64 - 1,), (1,) * 200]
ARRAYS = [
    struct.pack("<HBBB", size, 0, len(dtype), len(shape))
    + dtype
    + struct.pack(f"<{len(shape)}Q", *shape)
    for dtype in (b"|u1", b"|S0", b"<U0", b"|S999999999", b"<U99999999", b"<M8[0s]", b"|O", b"|V8")
    for shape in _SHAPES
    for size in (0, 16, 32, 48, 65_535)
]


def memory(store: shmkv.Store, seed: int, count: int) -> dict[str, Any]:
    """A read takes a small multiple of what it reads, and no promise of a length is believed."""
    rng = random.Random(seed)
    item, sound = Item(store), samples()
    store.get(KEY)
    for kind, data in sound:  # what is imported stays
        item.write(kind, data)
        outcome(lambda s: s.get(KEY), store)
    made = [(rng.randrange(FIRST, 19), data) for data in PROMISES]
    made += [(_core.TYPE_ARRAY, data + b"\0" * n) for data in ARRAYS for n in (0, 16, 48)]
    made += [pair for pair, _ in zip(hostile(rng, sound), range(count), strict=False)]
    worst = 0.0
    tracemalloc.start()
    for kind, data in made:
        item.write(kind, data)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        came = outcome(lambda s: s.get(KEY), store)
        took = tracemalloc.get_traced_memory()[1] - before
        limit = 100_000 + 250 * len(data)
        assert took < limit, f"{took} B for {len(data)}: seed {seed}, type {kind}, {data!r}: {came}"
        worst = max(worst, took / (len(data) + 400))
    tracemalloc.stop()
    return {"read": len(made), "worst_multiple": round(worst, 1)}


SCENES = {scene.__name__: scene for scene in (mutate, memory)}


def main() -> None:
    """Run one scene."""
    scene, name, seed, count = sys.argv[1:]
    os.environ.pop("PYTHONTRACEMALLOC", None)
    with shmkv.open(name, create=False) as store:
        print(json.dumps(SCENES[scene](store, int(seed), int(count))))


if __name__ == "__main__":
    main()
