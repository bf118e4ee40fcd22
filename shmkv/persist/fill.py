"""Filling a store that nobody else has from snapshots and journals, block by block.

Owns: `Fill`, which reads files and hands payloads to the core, and `joined`, which puts pieces
together.

Promises: a snapshot is loaded whole, by what its END says, or raises Damaged; a journal as far as
it counts. What does not fit into the store raises PersistError that says so. Pieces are put
together only up to what the store could hold.

Does not: choose files (`chain`), or make segments (`restore`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from shmkv import _core
from shmkv.config import show_size
from shmkv.errors import Full, PersistError, TooLarge
from shmkv.persist import chain
from shmkv.persist.belt import Belt
from shmkv.persist.blocks import Reader
from shmkv.persist.format import RAW_MAX, Flag, Kind
from shmkv.persist.save import Progress
from shmkv.persist.trouble import Damaged

Payload: TypeAlias = memoryview | bytearray
LOADERS = 4  # threads, at most


class Fill:
    """Brings files into a store that nobody else has."""

    def __init__(self, progress: Progress | None = None, total: int = 0) -> None:
        self.items = 0
        self.expired = 0
        self._progress = progress
        self._total = total
        self._before = 0  # bytes of files that are done

    def snapshot(self, store: _core.Store, reader: Reader) -> None:
        """Load a snapshot; it must be whole. Its items come in any order."""
        wanted, threads = reader.end(), min(len(os.sched_getaffinity(0)), LOADERS)
        got = self._all(store, reader, store._load, threads=threads)
        self._before += reader.size
        if got != wanted[:3]:
            text = f"it has {got[0]} items in {got[1]} bytes and {got[2]} blocks, END says"
            raise Damaged(reader.path, f"{text} {wanted[0]}, {wanted[1]}, {wanted[2]}", reader.size)

    def journal(self, store: _core.Store, reader: Reader, counted: int | None) -> int:
        """Replay a journal: so many bytes of it, or its longest prefix. Returns their number."""
        end = chain.whole_rounds(reader)[0] if counted is None else counted
        self._all(store, reader, store._replay, end=end)
        self._before += reader.size
        return end

    def _all(
        self,
        store: _core.Store,
        reader: Reader,
        step: Callable[[Payload], object],
        *,
        end: int | None = None,
        threads: int = 1,
    ) -> tuple[int, int, int]:
        """Everything in a file: items, their bytes, blocks before END. One reads and sums while
        others store."""
        stored = blocks = before = 0
        counting = threading.Lock()

        def take_in(_buffer: bytearray | None, one: Joined) -> None:
            loaded, expired = self._stored(store, reader, step, one)
            with counting:
                self.items, self.expired = self.items + loaded, self.expired + expired

        before = self.items + self.expired
        with Belt(take_in, RAW_MAX, threads) as belt:
            parts = joined(reader, store.size, end)
            while True:
                buffer = belt.take()
                reader.use(buffer)
                one = next(parts, None)
                if one is None or one.payload is None:
                    belt.give(buffer)
                    blocks = 0 if one is None else one.number
                    break
                stored += len(one.payload)
                if isinstance(one.payload, bytearray):  # put together, perhaps large: at once
                    belt.give(buffer)
                    belt.rest()
                    take_in(None, one)
                else:
                    belt.put(buffer, one)
                if self._progress:
                    self._progress(min(self._before + one.end, self._total), self._total)
        return self.items + self.expired - before, stored, blocks

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
