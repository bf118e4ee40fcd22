"""A store with a journal that can be put back, files and all, and the twin that it comes back as.

Owns `JournalStage`: a Stage whose attachments may lead rounds, whose image includes the files of
its directory, and whose `again()` is an empty store with the same seed, to be filled from them.
Items never leave it but by deletes, so that what comes back is to be equal to what there is; with
`evict`, what `lose` has lost, and nothing else: there is room for the rest.

The directory lies in memory: a kill leaves the same bytes there, and `fdatasync` costs nothing.
Promises: `close()` unlinks both stores and removes the directory whatever happened.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shmkv
from tests import journal_files
from tests.crash.stage import LOCK_TIMEOUT_S, MIB, Stage, value

BROKEN_AT, DUE_AT, LOOKED_AT, SYNCED_AT = 200, 204, 240, 248  # in the segment's header
WIPE = 2  # at DUE_AT: a clear has ended
ROOM = 60_000  # bytes of what others are evicted for
_numbers = itertools.count(1)


class JournalStage(Stage):
    """One segment, one directory."""

    def __init__(
        self,
        mode: str,
        *,
        size: int = 2 * MIB,
        seed: int = 1,
        begun: bool = True,
        evict: bool = False,
    ) -> None:
        self.name = f"t{os.getpid()}-crash-journal-{next(_numbers)}"
        self.path = Path(f"/dev/shm/shmkv.{os.getuid()}.{self.name}")
        self.folder = Path(f"/dev/shm/shmkv-{self.name}")
        self.options: dict[str, Any] = {"create": False, "on_mismatch": "attach"}
        self.seed = seed
        self.mode = mode
        self._files: dict[str, bytes] = {}
        self._again = f"{self.name}-again"
        self._empty = Path(f"/dev/shm/shmkv.{os.getuid()}.{self._again}")
        self.folder.mkdir(mode=0o700)
        options = journal_files.MODES[mode] | (journal_files.EVICT if evict else 0)
        with journal_files.make_store(self.name, options, size=size, seed=seed) as store:
            self.geometry: dict[str, int] = dict(store._geometry())
            journal_files.lead(store, self.folder)
            if begun:
                store._journal_begin(journal_files.FIRST, journal_files.NONE)
        room = 2 * size if evict else size  # for what is on disk only
        journal_files.make_store(self._again, 0, size=room, seed=seed).close()
        self._nothing = self._empty.read_bytes()

    def open(self, *, leads: bool = True, **options: Any) -> Any:
        """An attachment, that knows the directory or does not."""
        wanted = {"lock_timeout": LOCK_TIMEOUT_S, **self.options, **options}
        store = shmkv.open(self.name, **wanted)
        if leads and not store.readonly:
            journal_files.lead(store, self.folder)
        return store

    @contextlib.contextmanager
    def again(self) -> Iterator[Any]:
        """An empty store without a journal, for what comes back."""
        with self._empty.open("r+b") as file:
            file.write(self._nothing)
        with shmkv.open(self._again, create=False, on_mismatch="attach") as store:
            yield store

    def close(self) -> None:
        """Nothing is left."""
        for name in (self.name, self._again):
            shmkv.unlink(name, missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- bytes -----------------------------------------------------------------------------

    def save(self) -> bytes:
        """The segment's image; the files are kept here."""
        self._files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        return super().save()

    def restore(self, image: bytes) -> None:
        """Segment and files as they were when they were saved last; nobody is attached."""
        super().restore(image)
        for path in self.folder.iterdir():
            if path.name not in self._files:
                path.unlink()
        for name, data in self._files.items():
            (self.folder / name).write_bytes(data)

    def poke(self, at: int, number: int) -> None:
        """One of these fields; nobody is attached."""
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(number.to_bytes(4 if at in (BROKEN_AT, DUE_AT) else 8, "little"))

    def lose(self, keys: dict[bytes, Any]) -> None:
        """Store these, let others take their room, and remove the others: they are on disk only."""
        with self.open() as store:
            for key, what in keys.items():
                store.set(key, what)
            store._journal_sync()
            for i in itertools.count():
                store.set(f"room{i}", value(b"room", i, ROOM))
                if keys.keys().isdisjoint(store.scan()):
                    break
                assert i * ROOM < 4 * store.size, "room was made of something else"
            assert store.stats().evictions >= len(keys)
            for other in range(i + 1):
                store.delete(f"room{other}")
            store._journal_sync()

    # --- keys ------------------------------------------------------------------------------

    def crowded(self, prefix: str) -> Iterator[bytes]:
        """Keys whose marks may take the same places, as many as one wants; the places of a mark
        begin at a group of eight, chosen by the hash from bit 22 on."""
        groups = self.geometry["words"] // 8
        for key in self.keys(prefix):
            if (self.hash(key) >> 25) % groups == 1:
                yield key
