"""Files and directories made by hand, without a store and without the core.

Owns: `snapshot`, `journal` and `Hand`, a directory of such files. What they hold is given as packed
items and entries; all is good unless the caller damages it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from shmkv import _core
from shmkv.disk import format, items
from shmkv.disk.blocks import Writer
from shmkv.disk.format import ALONE, EMPTY, Begin, End, Flag, Kind, What

SEED = 0x5EED
SIZE = 4 << 20
STR, INT = items.STR, items.INT


def begin(generation: int = 0, previous: int = 0, name: str = "web", options: int = 1) -> Begin:
    """BEGIN of a store of 4 MiB."""
    return Begin(generation, previous, 1_700_000_000_000, SEED, SIZE, 4 * SIZE, options, name)


def number(key: str, value: int) -> bytes:
    """An item: a key and an int."""
    return items.pack_item(key, INT, value.to_bytes(8, "little", signed=True))


def key_class(key: str) -> int:
    """The class of a key: its hash without the two lowest bits that address nothing."""
    return _core.hash(key.encode(), SEED)


def state(key: str, value: int | None) -> bytes:
    """An entry: of the keys of this class, this one exists, or none."""
    return items.pack_entry(key_class(key), [] if value is None else [number(key, value)])


def snapshot(path: Path, head: Begin, blocks: Sequence[Sequence[bytes]]) -> Path:
    """A snapshot with these items in these blocks."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        out = Writer(fd, str(path), What.SNAPSHOT, head)
        for block in blocks:
            out.block(Kind.ITEMS, b"".join(block), count=len(block))
        count = sum(map(len, blocks))
        size = sum(len(item) for block in blocks for item in block)
        out.block(Kind.END, format.pack_end(End(count, size, out.blocks, head.ms)))
    finally:
        os.close(fd)
    return path


def journal(path: Path, head: Begin, rounds: Sequence[Sequence[bytes]]) -> list[int]:
    """A journal with these entries in these rounds; where BEGIN and each round ends."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        out = Writer(fd, str(path), What.JOURNAL, head)
        ends = [out.offset]
        for entries in rounds:
            out.block(Kind.ROUND, b"".join(entries), count=len(entries), flags=Flag.ROUND_END)
            ends.append(out.offset)
    finally:
        os.close(fd)
    return ends


class Hand:
    """A directory of a store, filled by hand."""

    def __init__(self, path: Path, name: str = "web") -> None:
        self.path = path
        self.name = name
        path.mkdir(mode=0o700, exist_ok=True)
        self.ends: dict[int, list[int]] = {}

    def snapshot(self, generation: int, content: dict[str, int], *, options: int = 1) -> Path:
        """A snapshot of these pairs."""
        head = begin(generation, name=self.name, options=options)
        packed = [[number(key, value) for key, value in content.items()]]
        return snapshot(self.snapshot_path(generation), head, packed if content else [])

    def journal(
        self,
        generation: int,
        rounds: Sequence[dict[str, int | None]],
        *,
        after: int | None = None,
        previous: int | None = None,
    ) -> Path:
        """A journal of these changes; it goes on after all of generation `after`."""
        if previous is None:
            previous = EMPTY if after is None else after << 40 | self.ends[after][-1]
        head = begin(generation, previous, self.name, options=3)
        path = self.journal_path(generation)
        packed = [[state(key, value) for key, value in one.items()] for one in rounds]
        self.ends[generation] = journal(path, head, packed)
        return path

    def snapshot_path(self, generation: int) -> Path:
        """Where it lies."""
        return self.path / f"snapshot-{generation:010d}.shmkv"

    def journal_path(self, generation: int) -> Path:
        """Where it lies."""
        return self.path / f"journal-{generation:010d}.shmkv"

    def seen(self) -> dict[str, bytes]:
        """All there is."""
        return {one.name: one.read_bytes() for one in self.path.iterdir() if one.name != "lock"}


__all__ = ["ALONE", "EMPTY", "Hand", "begin", "journal", "number", "snapshot", "state"]
