"""What a report tells, read from a store or from what is left of one.

Owns: `Seen`, and the two ways to it: `gather` looks at a store that can be attached to, `salvage`
at the file of one whose header is damaged.

Promises: only reads. The parts are read one after the other while others work; no lock and no row
is taken. Trouble in one part is told and costs that part alone. Nothing is formatted here, so a
caller can close the store before the page is made. The present is a parameter.

Does not: decide which store is meant, or judge its file (`inspect/survey`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from shmkv import _core, history
from shmkv.errors import Corrupt
from shmkv.history import Remembered
from shmkv.inspect.geometry import Config, Geometry, geometry_of
from shmkv.inspect.layout import CONFIG, HEADER, HEADER_BYTES, ROW, STATS
from shmkv.inspect.survey import Found
from shmkv.report import items as sampling
from shmkv.report.items import Items
from shmkv.report.pages import Map, Read, read_map
from shmkv.store import Store
from shmkv.top.sample import Sample, take

NOTHING = Remembered((), None)


@dataclass(frozen=True, slots=True)
class Seen:
    """A store as a report shows it; None: that part could not be read."""

    found: Found
    """Its file: name, owner, mode, state."""
    when: float
    """Unix time."""
    sample: Sample | None
    counts: dict[str, int] | None
    """Of a damaged store: what the rows counted, by the names of the layout."""
    map: Map | None
    items: Items | None
    past: Remembered
    troubles: tuple[str, ...]
    """What could not be read, and why."""
    took: float
    """Seconds for reading it."""


def gather(
    store: Store,
    found: Found,
    *,
    when: float,
    clock: Callable[[], float] = time.monotonic,
    most: int = sampling.MOST,
) -> Seen:
    """Look at a store; at `most` items of it."""
    began = clock()
    look = replace(take(store), when=when)
    troubles: list[str] = []
    chart = None
    try:
        with store._raw() as raw:
            chart = _charted(lambda at, size: bytes(raw[at : at + size]))
    except (Corrupt, ValueError) as error:
        troubles.append(f"The page table could not be read: {error}")
    if chart is None and not troubles:
        troubles.append("The page table could not be read: the header makes no sense")
    seen = sampling.sample(store, clock=clock, most=most)
    if seen.trouble:
        troubles.append(f"Not all keys could be read: {seen.trouble}")
    if look.totals["damage"]:
        troubles.append(f"Damaged bytes were met {look.totals['damage']} times: shmkv check")
    return Seen(
        found=found,
        when=when,
        sample=look,
        counts=None,
        map=chart,
        items=seen,
        past=history.read(store),
        troubles=tuple(troubles),
        took=clock() - began,
    )


def salvage(
    found: Found, why: str, *, when: float, clock: Callable[[], float] = time.monotonic
) -> Seen:
    """Look at the file of a store that nobody can attach to, because of `why`. OSError."""
    began = clock()
    how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(found.path, how)
    try:

        def read(at: int, size: int) -> bytes:
            return os.pread(fd, min(size, max(found.file_bytes - at, 0)), at)

        chart, counts = _charted(read), _counted(read)
    finally:
        os.close(fd)
    troubles = [f"Nobody can attach to this store ({why})"]
    if chart is None:
        troubles.append("Its header tells of no store, so that pages and counts cannot be found")
    else:
        troubles.append(
            "Pages and counts are shown as they lie in the file, keys are not looked at"
        )
    return Seen(
        found=found,
        when=when,
        sample=None,
        counts=counts,
        map=chart,
        items=None,
        past=NOTHING,
        troubles=tuple(troubles),
        took=clock() - began,
    )


def _header(read: Read) -> tuple[Geometry, int, int] | None:
    """Geometry, size and watermark, both within bounds; None: there is no geometry."""
    raw = read(0, HEADER_BYTES)
    if len(raw) < HEADER_BYTES:
        return None
    header = HEADER.read(memoryview(raw), 0)
    geometry = geometry_of(Config(**CONFIG.read(memoryview(header["config"]), 0)))
    if geometry is None:
        return None
    size = min(max(header["size"], geometry.size), geometry.max_size)
    return geometry, size, min(header["watermark"], geometry.max_size)


def _charted(read: Read) -> Map | None:
    head = _header(read)
    return None if head is None else read_map(read, *head, clock_ms=_core.clock_ms())


def _counted(read: Read) -> dict[str, int] | None:
    """The sums of the rows' counters."""
    head = _header(read)
    if head is None:
        return None
    raw = memoryview(read(head[0].off_rows, head[0].rows * ROW.size))
    rows = [ROW.read(raw, at)["stat"] for at in range(0, len(raw) - ROW.size + 1, ROW.size)]
    return {name: sum(row[i] for row in rows) for i, name in enumerate(STATS)}
