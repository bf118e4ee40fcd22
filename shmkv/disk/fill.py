"""Filling a store that nobody else has from snapshots and journals, block by block.

Owns: `Fill`, which reads files and hands payloads to the core, and `joined`, which puts pieces
together.

Promises: a snapshot is loaded whole, by what its END says, or raises Damaged; a journal as far as
it counts. What does not fit into the store raises PersistError that says so. Pieces are put
together only up to what the store could hold.

Does not: choose files (`chain`), or make segments (`restore`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from shmkv import _core
from shmkv.config import show_size
from shmkv.disk import chain
from shmkv.disk.blocks import Reader
from shmkv.disk.format import Flag, Kind
from shmkv.disk.save import Progress
from shmkv.disk.trouble import Damaged
from shmkv.errors import Full, PersistError, TooLarge

Payload: TypeAlias = memoryview | bytearray


class Fill:
    """Brings files into a store that nobody else has."""

    def __init__(self, progress: Progress | None = None, total: int = 0) -> None:
        self.items = 0
        self.expired = 0
        self._progress = progress
        self._total = total
        self._before = 0  # bytes of files that are done

    def snapshot(self, store: _core.Store, reader: Reader) -> None:
        """Load a snapshot; it must be whole."""
        items = stored = blocks = 0
        wanted = reader.end()
        for one in joined(reader, store.size):
            if one.payload is None:
                blocks = one.number
                break
            loaded, expired = self._stored(store, reader, store._load, one)
            items, stored = items + loaded + expired, stored + len(one.payload)
            self.items, self.expired = self.items + loaded, self.expired + expired
        self._before += reader.size
        if (items, stored, blocks) != wanted[:3]:
            text = f"it has {items} items in {stored} bytes and {blocks} blocks, END says"
            raise Damaged(reader.path, f"{text} {wanted[0]}, {wanted[1]}, {wanted[2]}", reader.size)

    def journal(self, store: _core.Store, reader: Reader, counted: int | None) -> int:
        """Replay a journal: so many bytes of it, or its longest prefix. Returns their number."""
        end = chain.whole_rounds(reader)[0] if counted is None else counted
        for one in joined(reader, store.size, end):
            if one.payload is not None:
                self._stored(store, reader, store._replay, one)
        self._before += reader.size
        return end

    def _stored(
        self, store: _core.Store, reader: Reader, step: Callable[[Payload], object], one: Joined
    ) -> tuple[int, int]:
        """Give a payload to the store."""
        assert one.payload is not None
        try:
            found = step(one.payload)
        except (Full, TooLarge) as error:
            raise PersistError(
                f"{reader.path} does not fit into store {store.name!r} of"
                f" {show_size(store.size)}: {error}. Bring it back with a larger size="
            ) from error
        except ValueError as error:
            raise Damaged(reader.path, str(error), one.offset, one.number) from None
        if self._progress:
            self._progress(min(self._before + one.end, self._total), self._total)
        return found if isinstance(found, tuple) else (0, 0)


class Joined(NamedTuple):
    """Whole items or entries of a file."""

    number: int
    """Of the block, the last one where it took several."""
    offset: int
    """Where they begin in the file."""
    end: int
    payload: Payload | None
    """None: the END of a snapshot."""


def joined(reader: Reader, most: int, end: int | None = None) -> Iterator[Joined]:
    """The payloads of a file, pieces put together.

    What is longer than `most` is nothing that the store may hold: it is refused before it is read.
    """
    whole, offset = bytearray(), 0
    for part in reader.parts(end):
        if part.kind is not Kind.PIECE:
            payload = None if part.kind is Kind.END else part.payload
            yield Joined(part.number, part.offset, part.end, payload)
            continue
        offset = offset or part.offset
        if len(whole) + len(part.payload) > most:
            raise PersistError(
                f"{reader.path} does not fit: the item at byte {offset} is larger than the store."
                " Bring it back with a larger size="
            )
        whole += part.payload
        if part.flags & Flag.LAST:
            yield Joined(part.number, offset, part.end, whole)
            whole, offset = bytearray(), 0
