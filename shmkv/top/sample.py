"""One look at a store: its totals, its attachments, its memory, its daemon.

Owns: `Sample`, `take`, and whether a name still means the store that is open (`fate`).

Promises: only reads; a few microseconds and a walk of the page table. The parts are read one after
the other while others work. What another process's name is comes from /proc where its process id
means something here, else it is unknown.

Does not: compare looks (`model`).
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from shmkv import segment
from shmkv.inspect.layout import CONFIG, HEADER, HEADER_BYTES, MAGIC, STATS, State
from shmkv.store import Store

NAMESPACE = "/proc/self/ns/pid"


class Attachment(NamedTuple):
    """A process that is attached to write."""

    number: int
    pid: int
    program: str
    """Empty: unknown."""
    since: float
    """Unix time."""
    alive: bool
    is_daemon: bool
    totals: dict[str, int]
    """Its row's counters: they go on from those of who had the row before."""


class Part(NamedTuple):
    """Pages of one queue in one state."""

    queue: int
    """0: the small one; from 1: main queues by the size of their items."""
    state: str
    bytes: int
    filled: int
    """Of these: taken by items, dead ones included."""
    garbage: int
    """Of these: known to be dead or expired."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A store at a moment."""

    at: float
    """Monotonic, seconds."""
    when: float
    """Unix time."""
    totals: dict[str, Any]
    """As `Stats.as_dict()`."""
    attachments: tuple[Attachment, ...]
    memory: tuple[Part, ...]
    has_daemon: bool


def take(store: Store) -> Sample:
    """Look."""
    at, when = time.monotonic(), time.time()
    totals = store.stats().as_dict()
    has_daemon = store._daemon(False)
    helper = _header(store)["daemon"] if has_daemon else None
    memory = tuple(
        Part(queue, State(state).name.lower(), *sizes) for queue, state, *sizes in store._memory()
    )
    return Sample(at, when, totals, _attachments(store, helper), memory, has_daemon)


def _header(store: Store) -> dict[str, Any]:
    with store._raw() as raw, raw[:HEADER_BYTES] as header:
        return HEADER.read(header, 0)


def _attachments(store: Store, helper: int | None) -> tuple[Attachment, ...]:
    here = 0
    with contextlib.suppress(OSError):
        here = os.stat(NAMESPACE).st_ino
    return tuple(
        Attachment(
            number=number,
            pid=pid,
            program=_program(pid) if alive and namespace == here else "",
            since=attached_ms / 1000,
            alive=alive,
            is_daemon=number == helper,
            totals=dict(zip(STATS, counters, strict=True)),
        )
        for _, number, pid, _, namespace, attached_ms, alive, counters in store._rows()
    )


def _program(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as stream:
            return stream.read(64).decode(errors="replace").strip()
    except OSError:
        return ""


def fate(store: Store, uid: int) -> str | None:
    """None: the name means this store. Else "removed", or "remade": another store has it."""
    try:
        fd = os.open(
            segment.file_path(store.name, uid), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        )
    except FileNotFoundError:
        return "removed"
    except OSError:
        return None  # it cannot be told
    try:
        raw = os.pread(fd, HEADER_BYTES, 0)
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(raw) < HEADER_BYTES:
        return "remade"
    there, ours = HEADER.read(memoryview(raw), 0), _header(store)
    if there["magic"] != MAGIC:
        return "remade" if ours["magic"] == MAGIC else None
    return None if _identity(there) == _identity(ours) else "remade"


def _identity(header: dict[str, Any]) -> tuple[int, int]:
    """No two stores have the same: the seed is drawn when a store is created."""
    seed: int = CONFIG.read(memoryview(header["config"]), 0)["seed"]
    created: int = header["created_ms"]
    return seed, created
