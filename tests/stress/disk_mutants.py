"""Files that were changed on purpose, read with checksums that are always right, and then used.

A checksum keeps damage from the code behind it; here it does not. Payloads and files of
tests/persist/corpus are changed where it hurts (lengths, counts, types, classes, flags; cut,
doubled, spliced) and go through the real reader, `_load` and `_replay` into a store; whatever came
of it, the store is used: all keys are read, values decoded, items set and deleted, `check` asked.

Wrong is: an end by a signal, a hang, an error of another class than ours, a store that `check`
finds fault with, and `verify` that raises. Cases run in children, a batch each, that say which case
they are at. By hand:

    python -m tests.stress.disk_mutants --n 100000 --seed 1
    python -m tests.stress.disk_mutants --case 4711 --seed 1     # one case, in this process

Owns: the mutations, the switch that turns checksums off, the use. Does not: damage memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import random
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import xxhash

import shmkv
from shmkv import config, segment
from shmkv.errors import Error
from shmkv.persist import format
from shmkv.persist.blocks import Reader
from shmkv.persist.fill import Fill
from shmkv.persist.format import What
from shmkv.persist.verify import verify_file
from tests.conftest import unique_name
from tests.persist import corpus
from tests.stress.support import Child
from tests.unit.persist.byhand import SEED

BATCH = 5000
LIMIT_S = 120.0
LENGTHS = (0, 1, 7, 8, 9, 0x7F, 0xFF, 0x100, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF)
WIDE = (0, 1, (1 << 48) - 1, 1 << 48, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
OCTETS = range(256)
# Of items, of entries, of headers of blocks, and some beside: form, offset, numbers.
FIELDS = [("<I", 0, LENGTHS), ("<H", 4, LENGTHS), ("<B", 6, OCTETS), ("<B", 7, OCTETS)]
FIELDS += [("<Q", 8, WIDE), ("<I", 8, LENGTHS), ("<I", 12, LENGTHS), ("<Q", 0, WIDE)]
FIELDS += [("<B", 8, OCTETS), ("<I", 9, LENGTHS), ("<B", 4, OCTETS), ("<I", 16, LENGTHS)]
Bytes = bytearray
KINDS = ("items", "entries", "shmkv")
SHARES = (45, 40, 15)


# ---- mutations ----------------------------------------------------------------------------------


def places(data: bytes, kind: str) -> list[int]:
    """Where records, or blocks, begin."""
    found, at = [0], 0
    while at + 32 <= len(data) and len(found) < 200:
        if kind == "shmkv":
            at += 32 + (struct.unpack_from("<I", data, at + 8)[0] if at else 0)
        else:
            at += 9 if kind == "entries" and len(found) % 2 else 0
            value, key = struct.unpack_from("<IH", data, at)
            at += 8 + value + key + (8 if data[at + 7] & 2 else 0)
        found.append(at)
    return [at for at in found if at < len(data)]


def field(rng: random.Random, data: Bytes, at: int) -> None:
    """A field of what begins there gets another number."""
    form, offset, numbers = rng.choice(FIELDS)
    size = struct.calcsize(form)
    if at + offset + size > len(data):
        return
    (old,) = struct.unpack_from(form, data, at + offset)
    new = rng.choice((rng.choice(numbers), old + 1, old - 1, old * 2, rng.getrandbits(64)))
    struct.pack_into(form, data, at + offset, new & ((1 << 8 * size) - 1))


def spliced(rng: random.Random, data: Bytes, other: bytes) -> None:
    """A part is cut out, doubled, or replaced by one of another file."""
    at, length = rng.randrange(len(data) + 1), rng.randrange(1, 64)
    source = rng.choice((b"", bytes(data), other, rng.randbytes(64)))
    begin = rng.randrange(len(source) + 1)
    data[at : at + rng.choice((0, length))] = source[begin : begin + length]


def mutated(rng: random.Random, base: bytes, kind: str, other: bytes) -> Bytes:
    """One to four changes."""
    data, where = bytearray(base), places(base, kind)
    for _ in range(rng.choice((1, 1, 2, 4))):
        way = rng.randrange(10)
        if way < 5:
            field(rng, data, rng.choice(where))
        elif way < 7 and data:
            at = rng.randrange(len(data))
            data[at] ^= 1 << rng.randrange(8)
        elif way < 8:
            del data[rng.randrange(len(data) + 1) :]
        else:
            spliced(rng, data, other)
    if kind == "shmkv" and len(data) >= 32:
        data[24:32] = xxhash.xxh64(data[:24]).digest()[::-1]
    return data


# ---- use ----------------------------------------------------------------------------------------


def checksums_off() -> None:
    """In this process every block has the sum that stands in it."""
    format.seal = lambda head, payload, number: struct.unpack_from("<Q", head, 24)[0]


class Bench:
    """A store that takes whatever comes."""

    def __init__(self) -> None:
        checksums_off()
        options = config.judge(unique_name(), size="2MiB", max_size="2MiB", create="new")
        making = segment.Making(SEED, 0, lambda store: None)
        self.store = segment.attach(shmkv.Store, options, making)
        shmkv.unlink(options.name)
        self.corpus = {kind: list(corpus.read(kind).values()) for kind in KINDS}
        self.accepted = 0

    def case(self, number: int, seed: int) -> None:
        """One mutant; raises what must not be."""
        rng = random.Random(seed << 32 | number)
        (kind,) = rng.choices(KINDS, SHARES)
        base, other = rng.choice(self.corpus[kind]), rng.choice(self.corpus[rng.choice(KINDS)])
        data = mutated(rng, base, kind, other)
        try:
            self._take(kind, data)
            self.accepted += 1
        except Error:
            pass
        except ValueError as error:
            if not str(error).endswith("is no record of an item"):
                raise
        self._use(rng, number)

    def _file(self, data: Bytes | bytes) -> None:
        fd = os.memfd_create("mutant", os.MFD_CLOEXEC)
        try:
            os.write(fd, data)
            verify_file(os.dup(fd), "mutant")
            with Reader(os.dup(fd), "mutant") as reader:
                if reader.file.what is What.JOURNAL:
                    Fill().journal(self.store, reader, None)
                else:
                    Fill().snapshot(self.store, reader)
        finally:
            os.close(fd)

    def sound(self) -> None:
        """Nothing of the corpus that is whole is refused."""
        for kind in KINDS:
            for base in self.corpus[kind]:
                self._take(kind, base)

    def _take(self, kind: str, data: Bytes | bytes) -> None:
        take: dict[str, Callable[[Any], object]]
        take = {"items": self.store._load, "entries": self.store._replay, "shmkv": self._file}
        take[kind](data)

    def _use(self, rng: random.Random, number: int) -> None:
        store = self.store
        for key in store:
            with contextlib.suppress(KeyError, Error):  # its codec says what is wrong with it
                store[key]
        key = f"key-{rng.randrange(6)}"
        store.set(key, number)
        assert store[key] == number
        assert store.delete(key)
        if number % 50 == 0:
            report = store.check()
            assert report.ok, report.problems[:3]
        if number % 8 == 0:
            store.clear()


# ---- batches ------------------------------------------------------------------------------------


def batch(first: int, count: int, seed: int, board: mmap.mmap) -> None:
    """In a child: so many cases."""
    bench = Bench()
    bench.sound()
    for number in range(first, first + count):
        struct.pack_into("<QQ", board, 0, number, bench.accepted)
        bench.case(number, seed)
    report = bench.store.check()
    assert report.ok, report.problems[:3]
    struct.pack_into("<QQ", board, 0, first + count, bench.accepted)
    bench.store.close()


def findings(seed: int, n: int, taken: list[int]) -> Iterator[str]:
    """All batches; a batch that ends badly goes on behind the case that ended it."""
    first, bad = 0, 0
    while first < n and bad < 20:
        board = mmap.mmap(-1, 4096)
        count = min(BATCH, n - first)
        child = Child(lambda f=first, c=count, b=board: batch(f, c, seed, b))  # type: ignore[misc]
        try:
            code = child.wait(LIMIT_S)
            text = child.text.strip()[-800:]
        except AssertionError:
            code, text = -1, f"it hangs for {LIMIT_S:g} s"
        finally:
            child.end()
        number, accepted = struct.unpack_from("<QQ", board)
        board.close()
        taken[0] += accepted
        first += count
        if code:
            bad += 1
            first = number + 1
            yield f"--case {number} --seed {seed}: ended with {code}: {text}"


def run(seed: int, n: int) -> tuple[str, list[str]]:
    """The line of JSON, and the findings."""
    begun, taken = time.monotonic(), [0]
    found = list(findings(seed, n, taken))
    line = {"name": "mutants of files", "seed": seed, "n": n, "accepted": taken[0]}
    line["violations"] = len(found)
    return json.dumps({**line, "worst_ms": round((time.monotonic() - begun) * 1000, 1)}), found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--case", type=int, default=-1)
    given = parser.parse_args()
    if given.case >= 0:
        Bench().case(given.case, given.seed)
        return 0
    line, found = run(given.seed, given.n)
    print(*found, line, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
