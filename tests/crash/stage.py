"""A store that can be put back to the same bytes as often as it takes.

Owns `Stage`: one small segment, its name, its image (the bytes of the file while nobody is
attached), keys chosen by where their hash leads, and values that tell which write they are of.

Putting the bytes back into the file is a fresh store at the price of copying 2 MiB (0.3 ms): nobody
is attached then, and whoever was is dead or closed. The hash seed is written into the header of the
new segment, because keys are chosen by their hash and a run must be repeatable; nothing hashed with
the old seed exists at that moment.

Promises: `close()` unlinks whatever happened. Does not: start processes, judge anything.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import xxhash

import shmkv
from shmkv import _core

MIB = 1 << 20
LOCK_TIMEOUT_S = 5.0
_HEADER = struct.Struct("<QIIQQQ")  # magic, version, fingerprint, size, max_size, seed
_SEED_AT = 32
_MORTAL_AT = 152
ROW_BYTES = 1024
HELD_IN_ROW = (64, 256)  # reservations, what they replace, pins
_numbers = itertools.count(1)

Action = Callable[[Any], object]


def counts() -> dict[str, int]:
    """Visits of every fault point by every process so far."""
    return dict(_core.fault_sites())


def value(key: bytes, generation: int, size: int) -> bytes:
    """`size` bytes that belong to this write of this key and to no other."""
    word = b"%s#%d|" % (key, generation)
    return (word * (size // len(word) + 1))[:size]


class Stage:
    """One segment and the ways to it."""

    def __init__(
        self, *, size: int = 2 * MIB, growth: int = 1, evict: bool = True, seed: int = 1
    ) -> None:
        self.name = f"t{os.getpid()}-crash-{next(_numbers)}"
        self.path = Path(f"/dev/shm/shmkv.{os.getuid()}.{self.name}")
        most = growth * size
        self.options: dict[str, Any] = {"size": size, "max_size": most, "evict": evict}
        self.seed = seed
        with self.open(create="new") as store:
            self.geometry: dict[str, int] = dict(store._geometry())
        self._plant_seed(size, most)

    def _plant_seed(self, size: int, most: int) -> None:
        with self.path.open("r+b") as file:
            fields = _HEADER.unpack(file.read(_HEADER.size))
            assert fields[3:5] == (size, most), "the header is not laid out as this file believes"
            file.seek(_SEED_AT)
            file.write(struct.pack("<Q", self.seed))

    def open(self, **options: Any) -> Any:
        """An attachment."""
        return shmkv.open(self.name, **{"lock_timeout": LOCK_TIMEOUT_S, **self.options, **options})

    def close(self) -> None:
        """The name goes."""
        shmkv.unlink(self.name, missing_ok=True)

    # --- bytes -----------------------------------------------------------------------------

    def save(self) -> bytes:
        """The image; nobody is attached."""
        return self.path.read_bytes()

    def restore(self, image: bytes) -> None:
        """Everything as it was when the image was made; nobody is attached."""
        with self.path.open("r+b") as file:
            file.write(image)

    def row_numbers(self, numbers: list[int]) -> None:
        """Write these attachment numbers into their rows, as dead owners leave them behind."""
        rows = self.geometry["rows"]
        with self.path.open("r+b") as file:
            for number in numbers:
                file.seek(self.geometry["off_rows"] + number % rows * ROW_BYTES)
                file.write(struct.pack("<I", number))

    def mortal(self) -> bool:
        """Does the header say that some item has, or had, a deadline?"""
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), 4, _MORTAL_AT) != bytes(4)

    def rows_left(self, own: int) -> list[int]:
        """Rows that still bear a number (the attachment `own` excepted), a reservation or a pin."""
        rows, at = self.geometry["rows"], self.geometry["off_rows"]
        with self.path.open("rb") as file:
            file.seek(at)
            table = file.read(rows * ROW_BYTES)
        left = []
        for row in range(rows):
            one = table[row * ROW_BYTES : (row + 1) * ROW_BYTES]
            number = int.from_bytes(one[:4], "little")
            if number not in (0, own) or any(one[slice(*HELD_IN_ROW)]):
                left.append(row)
        return left

    # --- keys ------------------------------------------------------------------------------

    def hash(self, key: bytes) -> int:
        """As the core computes it."""
        return xxhash.xxh64_intdigest(key, self.seed)

    def stripe(self, key: bytes) -> int:
        """The stripe a key belongs to."""
        return self.hash(key) * self.geometry["stripes"] >> 64

    def keys(self, prefix: str, stripe: int | None = None) -> Iterator[bytes]:
        """Keys of eight bytes without end, all of one stripe if it is given."""
        for i in itertools.count():
            key = f"{prefix}{i:0{8 - len(prefix)}d}".encode()
            if stripe is None or self.stripe(key) == stripe:
                yield key

    def colliding_keys(self, prefix: str, stripe: int) -> Iterator[bytes]:
        """Keys that no split of this stripe can part."""
        bits = self.geometry["dir_bits"]
        for key in self.keys(prefix, stripe):
            if self.hash(key) >> (56 - bits) & ((1 << bits) - 1) == 0:
                yield key

    # --- the moment before -----------------------------------------------------------------

    def brink(self, actions: Iterator[Action], name: str, nth: int = 1) -> Action:
        """Act until the fault point `name` was visited by the nth action to do so; the store is
        then as it was before that action, which is returned. Nobody is attached meanwhile.

        An action may let time pass. The clock is put back before all is done again, else what had
        expired would have its time still before it.
        """
        image = self.save()
        done: list[Action] = []
        with self.open() as store:
            for action in actions:
                before = counts()[name]
                action(store)
                nth -= counts()[name] > before
                if nth == 0:
                    break
                done.append(action)
            else:
                raise AssertionError(f"{name} was not reached by {len(done)} actions")
        self.restore(image)
        _core.set_clock_offset(0)
        with self.open() as store:
            for again in done:
                again(store)
        return action
