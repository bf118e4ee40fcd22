"""A store in plain Python: what shmkv has to do, said with a dict.

Owns: `Model`, the oracle of the property tests. It has the methods of a store with the same
results and the same exceptions, a clock that only moves when told (`now_ms`), and for each item a
pair (generation, edits) from which the tests know what a `cas` token must say.

Promises: exact where the contract is exact. Where the contract leaves room, the model gives the
bounds: `len_range` (expired items may be counted until they are freed) and `Item.spellings` (the
types a key may show when an item was written as `str` and changed as `bytes`).

Does not: evict, refuse for want of space, share anything, or measure time. The tests that use it
keep stores so large that nothing is evicted. Keys and values are taken as valid; what must be
refused is the unit tests' matter.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Key = str | bytes
Keys = set[bytes]
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


class _Missing:
    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


def raw(key: Key) -> bytes:
    """The bytes that name the item: a `str` and its UTF-8 bytes are one key."""
    return key.encode() if isinstance(key, str) else key


@dataclass
class Item:
    """One living item.

    `generation` changes with every new value, `edits` with every change in place: a count, which a
    token must tell, or a new deadline, which it may or may not tell.
    """

    value: Any
    deadline_ms: int | None
    generation: int
    edits: int = 0
    spellings: set[type] = field(default_factory=set)


class Model:
    """The contract of a store, single-threaded, with a clock of its own."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.items: dict[bytes, Item] = {}
        self.ghosts: set[bytes] = set()  # expired, perhaps not yet freed
        self._generations = 0

    # --- time -------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due is gone for everyone at once."""
        self.now_ms += round(seconds * 1000)
        for name, item in list(self.items.items()):
            if item.deadline_ms is not None and item.deadline_ms <= self.now_ms:
                del self.items[name]
                self.ghosts.add(name)

    def _deadline(self, ttl: float | None) -> int | None:
        return None if ttl is None else self.now_ms + round(ttl * 1000)

    def ttl(self, key: Key) -> float | None:
        """Seconds left."""
        deadline = self._need(key).deadline_ms
        return None if deadline is None else (deadline - self.now_ms) / 1000

    def touch(self, key: Key, ttl: float | None) -> bool:
        """A new deadline for what is there."""
        item = self.items.get(raw(key))
        if item is None:
            return False
        item.deadline_ms = self._deadline(ttl)
        item.edits += 1
        item.spellings.add(type(key))
        return True

    # --- one item ---------------------------------------------------------------------------

    def _need(self, key: Key) -> Item:
        try:
            return self.items[raw(key)]
        except KeyError:
            raise KeyError(key) from None

    def _put(self, key: Key, value: Any, deadline_ms: int | None) -> Item:
        self._generations += 1
        item = Item(value, deadline_ms, self._generations, spellings={type(key)})
        self.items[raw(key)] = item
        self.ghosts.discard(raw(key))
        return item

    def set(self, key: Key, value: Any, *, ttl: float | None = None) -> None:
        """Replace value and deadline."""
        self._put(key, value, self._deadline(ttl))

    def get(self, key: Key, default: Any = None) -> Any:
        """The value or `default`."""
        item = self.items.get(raw(key))
        return default if item is None else item.value

    def __getitem__(self, key: Key) -> Any:
        return self._need(key).value

    def __contains__(self, key: Key) -> bool:
        return raw(key) in self.items

    def __delitem__(self, key: Key) -> None:
        self._need(key)
        del self.items[raw(key)]

    def add(self, key: Key, value: Any, *, ttl: float | None = None) -> bool:
        """Set where nothing is."""
        if key in self:
            return False
        self.set(key, value, ttl=ttl)
        return True

    def replace(self, key: Key, value: Any, *, ttl: float | None = None) -> bool:
        """Set where something is."""
        if key not in self:
            return False
        self.set(key, value, ttl=ttl)
        return True

    def delete(self, key: Key) -> bool:
        """Remove; was it there?"""
        return self.items.pop(raw(key), None) is not None

    def pop(self, key: Key, default: Any = MISSING) -> Any:
        """Remove and return."""
        if key not in self and default is not MISSING:
            return default
        value = self[key]
        del self[key]
        return value

    def setdefault(self, key: Key, default: Any = None) -> Any:
        """Add, then get."""
        self.add(key, default)
        return self[key]

    def rename(self, old: Key, new: Key) -> None:
        """The item of `old` under the name `new`, with its deadline."""
        item = self._need(old)
        del self[old]
        renamed = self._put(new, item.value, item.deadline_ms)
        if raw(old) == raw(new):
            renamed.spellings |= item.spellings

    def append(self, key: Key, tail: str | bytes) -> int:
        """Lengthen a string; creates."""
        item = self.items.get(raw(key))
        if item is None:
            item = self._put(key, tail, None)
        elif type(item.value) is not type(tail):
            raise TypeError("append: other type")
        else:
            before = item
            longer: Any = before.value + tail
            item = self._put(key, longer, before.deadline_ms)
            item.spellings |= before.spellings
        return len(raw(item.value))

    # --- counters ---------------------------------------------------------------------------

    def incr(
        self, key: Key, delta: int = 1, *, default: int | None = 0, ttl: float | None = None
    ) -> int:
        """Add to a counter; the deadline counts only when the key is created."""
        item = self.items.get(raw(key))
        if item is None and default is None:
            raise KeyError(key)
        before = default if item is None else item.value
        if type(before) is not int:
            raise TypeError("incr: not an int")
        after = before + delta
        if not (INT64_MIN <= before <= INT64_MAX and INT64_MIN <= after <= INT64_MAX):
            raise OverflowError("incr: beyond 64 bits")
        if item is None:
            self._put(key, after, self._deadline(ttl))
        else:
            item.value = after
            item.edits += 1
            item.spellings.add(type(key))
        return after

    def decr(
        self, key: Key, delta: int = 1, *, default: int | None = 0, ttl: float | None = None
    ) -> int:
        """Subtract from a counter."""
        return self.incr(key, -delta, default=default, ttl=ttl)

    # --- compare and set --------------------------------------------------------------------

    def update_with(
        self,
        key: Key,
        fn: Callable[[Any], Any],
        *,
        default: Any = MISSING,
        ttl: float | None = None,
    ) -> Any:
        """Atomic read-modify-write; returns the new value."""
        value = fn(self[key] if default is MISSING else self.get(key, default))
        self.set(key, value, ttl=ttl)
        return value

    # --- many -------------------------------------------------------------------------------

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """What is there of `keys`, under the key objects given."""
        return {key: self[key] for key in keys if key in self}

    def set_many(self, mapping: Mapping[Key, Any], *, ttl: float | None = None) -> None:
        """Set each."""
        for key, value in mapping.items():
            self.set(key, value, ttl=ttl)

    def delete_many(self, keys: Iterable[Key]) -> int:
        """Remove each; how many were there?"""
        return sum(self.delete(key) for key in keys)

    def clear(self) -> None:
        """Remove all."""
        self.items.clear()
        self.ghosts.clear()

    # --- walking ----------------------------------------------------------------------------

    def scan(self, *, prefix: Key | None = None, match: str | None = None) -> Keys:
        """The raw keys that a scan must yield."""
        start = b"" if prefix is None else raw(prefix)
        pattern = "*" if match is None else match
        return {
            name
            for name in self.items
            if name.startswith(start)
            and fnmatch.fnmatchcase(name.decode(errors="surrogateescape"), pattern)
        }

    def len_range(self) -> range:
        """The lengths the store may report."""
        return range(len(self.items), len(self.items) + len(self.ghosts) + 1)
