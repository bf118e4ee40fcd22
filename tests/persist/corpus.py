"""Small files and payloads that mutations begin with: python -m tests.persist.corpus writes them.

    NAME.items      payload of ITEMS: whole items, as the core writes them or as nobody does
    NAME.entries    payload of ROUND: whole entries; classes for the seed of `byhand`
    NAME.shmkv      whole files

Owns: `FOLDER`, what lies in it, and `read`. Whatever once made something crash is added by hand and
stays. Used by tests/stress/disk_mutants.py, tests/c/test_image.c and tests/fuzz.
"""

from __future__ import annotations

import itertools
import secrets
from pathlib import Path

import shmkv
from shmkv.persist import items
from tests.persist.content import fill
from tests.unit.persist.byhand import begin, journal, key_class, number, snapshot, state

FOLDER = Path(__file__).parent / "corpus"
_PIECE = 3


def read(kind: str) -> dict[str, bytes]:
    """Those of a kind: items, entries or shmkv."""
    found = {one.name: one.read_bytes() for one in sorted(FOLDER.glob(f"*.{kind}"))}
    assert found, f"there is no {FOLDER}/*.{kind}"
    return found


def every_type() -> list[bytes]:
    """An item of each type, cut from what the core writes."""
    name = f"corpus-{secrets.token_hex(4)}"
    with shmkv.open(name, size="2MiB", create="new", daemon=False) as store:
        shmkv.unlink(name)
        fill(store)
        buffer = bytearray((1 << 20) + (256 << 10))
        kind, used, _, _ = store._dump().fill(buffer)
        assert kind != _PIECE
        payload = bytes(buffer[:used])
    return _cut(payload)


def payloads() -> dict[str, bytes]:
    """What is made, by name."""
    every = every_type()
    keys = {f"key-{i}": number(f"key-{i}", i) for i in range(6)}
    late = items.pack_item("late", items.STR, "é".encode() * 30, deadline=4_102_444_800_000)
    passed = items.pack_item("passed", items.STR, b"x", deadline=1_000)
    long = items.pack_item("k" * 65_535, 1, b"v")
    deep = items.pack_item("deep", 8, b"\x91" * 200)
    big = items.pack_item("big", 8, b"\xdd\xff\xff\xff\xff")
    entries = [state(key, i) for i, key in enumerate(keys)] + [state("key-1", None)]
    entries += [items.pack_entry(key_class("late"), [late])]
    two = items.pack_entry(key_class("key-2"), [keys["key-2"], keys["key-2"]])
    return {
        "every_type.items": b"".join(every),
        "numbers.items": b"".join(keys.values()),
        "deadlines.items": late + passed,
        "long_key.items": long[:70_000],
        "bad_values.items": deep + big,
        "states.entries": b"".join(entries),
        "twice.entries": two,
        "nothing.entries": state("key-3", None),
    }


def main() -> None:
    """Write them."""
    FOLDER.mkdir(exist_ok=True)
    made = payloads()
    for name, data in made.items():
        (FOLDER / name).write_bytes(data)
    blocks = [[made["every_type.items"]], [made["numbers.items"]]]
    many = [len(list(items.items(block[0]))) for block in blocks]
    split = [list(_cut(block[0])) for block in blocks]
    assert [len(block) for block in split] == many
    snapshot(FOLDER / "snapshot.shmkv", begin(1), split)
    rounds = [[state("key-1", 1), state("key-2", 2)], [state("key-1", None)], [state("key-2", 5)]]
    journal(FOLDER / "journal.shmkv", begin(1, options=3), rounds)


def _cut(payload: bytes) -> list[bytes]:
    ends = [0, *(one.end for one in items.items(payload))]
    return [payload[a:b] for a, b in itertools.pairwise(ends)]


if __name__ == "__main__":
    main()
