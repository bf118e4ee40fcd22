"""A table of fixed slots in shared memory under one named semaphore, as tutorials show it.

Owns: the memory `/NAME` and the semaphore `/NAME` of posix_ipc. A slot is {used:1, key length:1,
value length:4, key, value}; a key stands in the first free slot from its hash on. Every operation,
reads too, holds the semaphore for as long as it looks.

Does not: know who holds the semaphore, nor notice that its holder has died. That is the point of
measuring it: a POSIX semaphore has no owner.
"""

import mmap
import struct
import zlib
from collections.abc import Callable

import posix_ipc  # type: ignore[import-not-found]

_HEAD = struct.Struct("<BBI")
KEY_BYTES = 18


class SemaphoreTable:
    """One process's view."""

    def __init__(self, name: str, slots: int, value_bytes: int, *, create: bool) -> None:
        flags = posix_ipc.O_CREX if create else 0
        self._slots, self._each = slots, _HEAD.size + KEY_BYTES + value_bytes
        size = self._slots * self._each if create else 0
        memory = posix_ipc.SharedMemory(f"/{name}", flags, size=size)
        self._map = mmap.mmap(memory.fd, memory.size)
        memory.close_fd()
        self._lock = posix_ipc.Semaphore(f"/{name}", flags, initial_value=1)

    def _find(self, key: bytes) -> tuple[int, int]:
        """(offset of its slot or of the free one for it, length of its value or -1)."""
        first = zlib.crc32(key) % self._slots
        for step in range(self._slots):
            at = (first + step) % self._slots * self._each
            used, key_length, length = _HEAD.unpack_from(self._map, at)
            if not used:
                return at, -1
            start = at + _HEAD.size
            if self._map[start : start + key_length] == key:
                return at, length if used == 1 else -1
        raise MemoryError("the table is full")

    def _value(self, at: int, length: int) -> bytes:
        start = at + _HEAD.size + KEY_BYTES
        return bytes(self._map[start : start + length])

    def _store(self, at: int, key: bytes, value: bytes) -> None:
        if len(value) > self._each - _HEAD.size - KEY_BYTES or len(key) > KEY_BYTES:
            raise ValueError("too long for a slot")
        start = at + _HEAD.size
        self._map[start : start + len(key)] = key
        self._map[start + KEY_BYTES : start + KEY_BYTES + len(value)] = value
        _HEAD.pack_into(self._map, at, 1, len(key), len(value))

    def get(self, name: str) -> bytes | None:
        """The value, or None."""
        with self._lock:
            at, length = self._find(name.encode())
            return None if length < 0 else self._value(at, length)

    def set(self, name: str, value: bytes) -> None:
        """Store."""
        key = name.encode()
        with self._lock:
            self._store(self._find(key)[0], key, value)

    def delete(self, name: str) -> bool:
        """Remove; was it there? The slot stays the key's."""
        with self._lock:
            at, length = self._find(name.encode())
            if length >= 0:
                self._map[at] = 2
            return length >= 0

    def change(self, name: str, by: Callable[[bytes | None], bytes]) -> bytes:
        """Read and write under one lock."""
        key = name.encode()
        with self._lock:
            at, length = self._find(key)
            value = by(None if length < 0 else self._value(at, length))
            self._store(at, key, value)
            return value

    def free(self) -> bool:
        """Does nobody hold the semaphore?"""
        return bool(self._lock.value)
