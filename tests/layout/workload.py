"""Random life of a store, and the comparison of what the core and the decoder say about it.

Owns: `Workload`, a seeded sequence of operations with values of all plain types and sizes up to
extents, and `compare`, the agreement of a decoded copy with the living store.

Promises: the same seed does the same. Nothing is assumed about what was evicted; what is
there must be what was last stored.

Does not: run in more than one process; the copy is made while nobody writes.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import shmkv
from shmkv.inspect import Segment, decode
from shmkv.inspect.layout import State, Type
from tests.conftest import Clock, segment_path
from tests.property.strategies import same

Key = str | bytes
TYPES: dict[type, set[int]] = {
    bytes: {Type.BYTES},
    str: {Type.STR},
    int: {Type.INT, Type.BIGINT},
    float: {Type.FLOAT},
    bool: {Type.BOOL},
    type(None): {Type.NONE},
}
SOON_MS = 60_000
HELD = (State.TAKEN, State.CLEANING, State.LIMBO)


def raw(key: Key) -> bytes:
    """The bytes that name the item."""
    return key.encode() if isinstance(key, str) else key


def copy_of(name: str) -> Segment:
    """The store's segment, decoded from a copy made now."""
    return decode(segment_path(name).read_bytes())


class Workload:
    """Operations on one store; `written` is what each key was last given."""

    def __init__(self, store: shmkv.Store, clock: Clock, seed: int, *, keys: int) -> None:
        self.store = store
        self.clock = clock
        self.rng = random.Random(seed)
        self.keys = [self._new_key(i) for i in range(keys)]
        self.written: dict[bytes, Any] = {}
        self.largest = store.size // 12

    def _new_key(self, i: int) -> Key:
        text = f"{i}:" + "k" * self.rng.choice([0, 3, 10, 10, 40, 300])
        if i % 500 == 3:
            text += "long" * 5000
        return text.encode() + b"\xff" if i % 3 == 0 else text + "\u00e9" * (i % 2)

    def value(self) -> Any:
        """A value of any plain type; mostly small."""
        rng, size = self.rng, self.size()
        makers: list[Callable[[], Any]] = [
            lambda: None,
            lambda: rng.random() < 0.5,
            lambda: rng.randrange(-(1 << 63), 1 << 63),
            lambda: rng.randrange(-10, 10),
            lambda: rng.getrandbits(rng.randrange(64, 4000)) * rng.choice([1, -1]),
            lambda: rng.choice([0.0, -0.0, 1.5, float("inf"), float("nan"), rng.random()]),
            lambda: "\u00e9\u2603x" * (size // 6),
        ]
        return rng.choice([*makers, *[lambda: rng.randbytes(size)] * 5])()

    def size(self) -> int:
        """Bytes of a value."""
        border = self.rng.choice([0, 16, 100, 100, 100, 100, 1000, 4000])
        if self.rng.random() < 0.01:
            border = self.rng.choice([16_384, 32_768, 65_536, 131_072, 262_144])
        if self.rng.random() < 0.002:
            border = self.largest
        return min(max(0, border + self.rng.randrange(-20, 200)), self.largest)

    def run(self, steps: int) -> None:
        """So many operations."""
        operations = [self._set] * 12 + [self._delete, self._read, self._incr, self._append]
        operations += [self._touch, self._add, self._rename, self._pass_time]
        for _ in range(steps):
            with contextlib.suppress(shmkv.Full):  # a store that keeps everything
                self.rng.choice(operations)(self.rng.choice(self.keys))

    def _ttl(self) -> float | None:
        return self.rng.choice([None, None, None, 5.0, 30.0, 100_000.0])

    def _set(self, key: Key) -> None:
        value = self.value()
        self.store.set(key, value, ttl=self._ttl())
        self.written[raw(key)] = value

    def _add(self, key: Key) -> None:
        value = self.value()
        if self.store.add(key, value, ttl=self._ttl()):
            self.written[raw(key)] = value

    def _delete(self, key: Key) -> None:
        self.store.delete(key)
        self.written.pop(raw(key), None)

    def _read(self, key: Key) -> None:
        self.store.get(key)

    def _incr(self, key: Key) -> None:
        with contextlib.suppress(TypeError, OverflowError):
            self.written[raw(key)] = self.store.incr(key, self.rng.randrange(-5, 6), ttl=50.0)

    def _append(self, key: Key) -> None:
        before = self.store.get(key, b"")
        if type(before) not in (bytes, str) or len(before) > 2000:
            return
        tail = b"+tail" if type(before) is bytes else "+tail"
        length = self.store.append(key, tail)
        fresh = length == len(raw(tail))  # it had just expired
        self.written[raw(key)] = tail if fresh else before + tail

    def _touch(self, key: Key) -> None:
        self.store.touch(key, self._ttl())

    def _rename(self, key: Key) -> None:
        other = self.rng.choice(self.keys)
        value = self.store.get(key, self)
        if raw(other) == raw(key) or value is self:
            return
        try:
            self.store.rename(key, other)
        except KeyError:  # it has just expired
            return
        self.written[raw(other)] = value
        self.written.pop(raw(key), None)

    def _pass_time(self, _: Key) -> None:
        if self.rng.random() < 0.05:
            self.clock.advance(self.rng.choice([1.0, 3.0, 30.0]))


def compare(store: shmkv.Store, segment: Segment, now_ms: int) -> int:
    """The decoder and the living store say the same, item by item and in sum; how many items.

    Items that are due within a minute of `now_ms` may expire while this runs: they are left out.
    """
    items = list(segment.items())
    soon = {i.key for i in items if now_ms < i.deadline_ms <= now_ms + SOON_MS}
    later = (i for i in items if not i.deadline_ms or i.deadline_ms > now_ms + SOON_MS)
    living = {item.key: item for item in later}
    scanned = {raw(key): type(key) for key in store.scan() if raw(key) not in soon}
    assert scanned == {key: str if item.is_str else bytes for key, item in living.items()}
    for item in living.values():
        key = item.key.decode() if item.is_str else item.key
        value = store.get(key, living)
        assert same(item.plain(), value), key[:50]
        assert item.type in TYPES[type(value)], key[:50]
        left = store.ttl(key)
        assert (left is None) == (item.deadline_ms == 0), key[:50]
        if left is not None:
            assert abs(item.deadline_ms - now_ms - left * 1000) < 2000, key[:50]
    stats = store.stats()
    assert stats.items == len(store) == len(items) == sum(s.count for s in segment.stripes)
    assert stats.bytes_live == sum(item.size for item in items)
    assert (stats.size, stats.max_size) == (segment.header.size, segment.geometry.max_size)
    assert stats.bytes_backed == segment.header.watermark + len(segment.ghost)
    assert len(segment.ghost) == 64 * segment.header.ghost
    return len(living)


def garbage_is_never_overstated(segment: Segment) -> None:
    """The hint `dead` of a page counts no living item; holds when one process wrote."""
    living = {item.ref for item in segment.items()}
    for page in segment.pages:
        garbage = sum(item.size // 16 for item in page.items if item.ref not in living)
        assert page.state not in (State.OPEN, State.CLOSED) or page.dead <= garbage, page.base
