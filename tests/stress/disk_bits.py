"""Every turned bit and every cut of a snapshot and a journal of 64 KB, through the real reader.

A snapshot is refused; a journal counts to the end of the last round before the damage, or is
refused where its head is hit. Never anything else, whatever the bit. And nobody asks for more
memory than twice the file because a length in it says so: measured where lengths and counts stand,
and in a sample of all other bits.

    python -m tests.stress.disk_bits --step 1            # all 2 x 524,288 bits, all 131,072 cuts
    python -m tests.stress.disk_bits --step 16 --seed 3  # every 16th bit, the 3rd first

Owns: the two files, `Damage`, the loops. Does not: make a store of a file (disk_mutants.py does).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from shmkv.errors import PersistError
from shmkv.persist import chain, items
from shmkv.persist.blocks import Reader
from shmkv.persist.format import What
from tests.unit.persist.byhand import begin, journal, key_class, number, snapshot, state

SIZE = 64 << 10
SLACK = 64 << 10  # of the reader itself, and of its messages
MEASURED = 4000  # of the other bits


def make_snapshot(folder: Path) -> bytes:
    """A snapshot of 64 KB: items in blocks, one in pieces of its own."""
    chance = random.Random(1)
    blocks = [[number(f"key-{b}-{i}", i) for i in range(24)] for b in range(20)]
    rest = SIZE - len(snapshot(folder / "s", begin(1), [*blocks, [b""]]).read_bytes()) - 12
    filler = items.pack_item("long", 1, chance.randbytes(rest))
    return snapshot(folder / "s", begin(1), [*blocks, [filler]]).read_bytes()


def make_journal(folder: Path) -> tuple[bytes, list[int]]:
    """A journal of 64 KB, and where its rounds end."""
    chance = random.Random(2)
    rounds = [[state(f"key-{i}", r) for i in range(r, 200, 7)] for r in range(30)]
    ends = journal(folder / "j", begin(1), rounds)
    rest = SIZE - ends[-1] - 32 - len(items.pack_entry(0, [items.pack_item("long", 1, b"")]))
    rest //= 2
    for at in (9, 20):
        filler = items.pack_item("long", 1, chance.randbytes(rest))
        rounds[at].append(items.pack_entry(key_class("long"), [filler]))
    ends = journal(folder / "j", begin(1), rounds)
    return (folder / "j").read_bytes(), ends


class Damage:
    """A file in memory, and what must be made of it."""

    def __init__(self, data: bytes, ends: list[int] | None) -> None:
        self.data = data
        self.ends = ends
        self.fd = os.memfd_create("damage", os.MFD_CLOEXEC)
        os.write(self.fd, data)
        assert self.wrong(len(data)) is None
        with Reader(os.dup(self.fd), "sound") as reader:
            self.heads = [0, 32, *(part.offset for part in reader.parts())]

    def wrong(self, at: int) -> str | None:
        """Read it all; what is wrong with what came of it, when all before `at` is sound."""
        try:
            with Reader(os.dup(self.fd), "damaged") as reader:
                if reader.file.what is What.JOURNAL:
                    found = chain.whole_rounds(reader)[0]
                else:
                    reader.end()
                    for part in reader.parts():
                        found = part.end
        except PersistError:
            found = -1
        if self.ends is None:
            wanted = len(self.data) if at == len(self.data) else -1
        else:
            wanted = max((end for end in self.ends if end <= at), default=-1)
        return None if found == wanted else f"read to {found}, not to {wanted}"

    def turned(self, bit: int) -> str | None:
        """The same with one bit turned."""
        at = bit // 8
        os.pwrite(self.fd, bytes([self.data[at] ^ 1 << bit % 8]), at)
        try:
            return self.wrong(at)
        finally:
            os.pwrite(self.fd, self.data[at : at + 1], at)

    def cut(self, length: int) -> str | None:
        """The same, cut."""
        os.ftruncate(self.fd, length)
        try:
            return self.wrong(length)
        finally:
            os.pwrite(self.fd, self.data[length:], length)

    def asks(self, bit: int) -> int:
        """How much memory reading it asks for, with one bit turned."""
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        self.turned(bit)
        return tracemalloc.get_traced_memory()[1] - before

    def close(self) -> None:
        """It is gone."""
        os.close(self.fd)


def findings(what: str, damage: Damage, step: int, seed: int, tally: list[int]) -> Iterator[str]:
    """Bits, cuts, memory."""
    bits = 8 * len(damage.data)
    for bit in range(seed % step, bits, step):
        tally[0] += 1
        wrong = damage.turned(bit)
        if wrong:
            yield f"{what}: bit {bit}: {wrong}"
    for length in range(seed % step, len(damage.data), step):
        tally[0] += 1
        wrong = damage.cut(length)
        if wrong:
            yield f"{what}: cut to {length}: {wrong}"
    some = [8 * at + bit for at in damage.heads for bit in range(256)]
    some = random.Random(seed).sample(some, -(-len(some) // step))
    some += random.Random(seed).sample(range(bits), MEASURED // step + 1)
    tracemalloc.start()
    try:
        for bit in some:
            tally[0] += 1
            asked = damage.asks(bit)
            if asked > 2 * len(damage.data) + SLACK:
                yield f"{what}: bit {bit}: it asks for {asked} bytes of memory"
    finally:
        tracemalloc.stop()


def run(seed: int, step: int) -> tuple[str, list[str]]:
    """Both files: the line of JSON, and the findings."""
    begun, tally, found = time.monotonic(), [0], list[str]()
    with tempfile.TemporaryDirectory() as folder:
        files = {"snapshot": (make_snapshot(Path(folder)), None)}
        for what, (data, ends) in (files | {"journal": make_journal(Path(folder))}).items():
            assert abs(len(data) - SIZE) < 200, len(data)
            damage = Damage(data, ends)
            found += findings(what, damage, step, seed, tally)
            damage.close()
    line = {"name": "turned bits and cuts", "seed": seed, "n": tally[0], "violations": len(found)}
    return json.dumps({**line, "worst_ms": round((time.monotonic() - begun) * 1000, 1)}), found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", type=int, default=1)
    given = parser.parse_args()
    line, found = run(given.seed, given.step)
    print(*found[:20], line, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
