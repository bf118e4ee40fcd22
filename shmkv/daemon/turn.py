"""Whose turn it is: opening the store, and becoming its one daemon.

Owns: `take`, one attempt, and `Held`, the store of a daemon and the file it is.

Promises: who only looks needs no row of the store: an attempt opens read-only first and attaches
only where there is no daemon. The lock is the kernel's, on a byte of the segment's file: it ends
with the process, however that ends.

Does not: wait (`loop`), or create a store.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import NamedTuple

from shmkv import segment
from shmkv.errors import NotFound
from shmkv.store import Store
from shmkv.store import open as open_store

LOCK_TIMEOUT = 0.25  # seconds: a stopped process that holds a lock must not keep the daemon
TRIES = 100  # a name that is made anew while it is opened


@dataclass(frozen=True)
class Task:
    """The store to work for, and how."""

    name: str
    owner: int | None = None
    mode: int = 0o600
    standby: bool = False
    """Wait until the store exists and has no other daemon."""
    summary_s: float = 600.0
    """Seconds between lines that sum up."""
    history: bool = True
    """Keep the store's past, and ask what another size would do."""
    folder: str | None = None
    """The store's directory: the daemon does its journal's work there."""

    @property
    def path(self) -> str:
        """The file of the store."""
        return segment.file_path(self.name, os.geteuid() if self.owner is None else self.owner)

    def open(self, *, readonly: bool) -> Store:
        """The store, which exists."""
        with warnings.catch_warnings():  # of namesakes: said where the store was named
            warnings.simplefilter("ignore")
            return open_store(
                self.name,
                owner=self.owner,
                mode=self.mode,
                readonly=readonly,
                create=False,
                on_mismatch="attach",
                lock_timeout=LOCK_TIMEOUT,
                path=None if readonly else self.folder,
                daemon=False,
            )


def _identity(path: str) -> tuple[int, int] | None:
    """Which file bears the name; None: no file does."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class Held(NamedTuple):
    """A store whose daemon this process is."""

    store: Store
    path: str
    identity: tuple[int, int]

    def named(self) -> bool:
        """Does the name still mean this store?"""
        return _identity(self.path) == self.identity


def _opened(task: Task) -> Held:
    """The store, and surely the file that was opened: the name meant it before and after."""
    for _ in range(TRIES):
        before = _identity(task.path)
        store = task.open(readonly=False)
        if before is not None and before == _identity(task.path):
            return Held(store, task.path, before)
        store.close()
    raise NotFound(f"store {task.name!r} is made anew all the time: who does that?")


def take(task: Task) -> Held | None:
    """Become the daemon; None: another process is. What `open` raises comes through."""
    with task.open(readonly=True) as look:
        if look._daemon(False):
            return None
    held = _opened(task)
    if held.store._daemon(True):
        return held
    held.store.close()
    return None
