"""The notes of a segment, read from its file while others use it.

Owns: `look`, which reads the front of a segment through two questions (bytes, and who holds a byte
lock of the kernel), and `of_file`, which asks them of a file and reads the clocks.

Promises: reads only, a few hundred KiB whatever the store's size, and attaches to nothing; to look
at one's own store counts as no use. What a page of the segment holds does not matter: a store that
nobody can open any more may still tell who died. DecodeError, if not even its configuration is
sound; OSError, if the file cannot be read.

Does not: judge what file is to be trusted (`survey.py`), or make a report (`postmortem.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from shmkv.inspect.decode import Read, attachments
from shmkv.inspect.layout import ROW
from shmkv.inspect.parts import Attachments
from shmkv.inspect.postmortem import Clocks, Postmortem, postmortem
from shmkv.inspect.survey import ROW_LOCKS, held, opened

LOOKS = 3  # at a segment in which rows are given back meanwhile


def look(read: Read, is_held: Callable[[int], bool]) -> tuple[Attachments, frozenset[int]]:
    """Who is known to a segment, and the indexes of rows whose process lives.

    A row that is given back between the two looks belongs to no dead one; if it was folded, its
    death is recorded by then: so all is read again, a few times at most.
    """
    for _ in range(LOOKS):
        known = attachments(read)
        rows = [row for row in known.rows if row.number]
        alive = frozenset(row.index for row in rows if is_held(ROW_LOCKS + row.index))
        gone = {
            row.index
            for row in rows
            if row.index not in alive
            and read(known.geometry.off_rows + row.index * ROW.size, 4)
            != row.number.to_bytes(4, "little")
        }
        if not gone:
            break
    stay = tuple(row for row in known.rows if row.index not in gone)
    return replace(known, rows=stay), alive


def clocks() -> Clocks:
    """The present."""
    return Clocks(
        wall_ms=time.time_ns() / 1e6,
        clock_ns=time.monotonic_ns(),
        boot_s=time.clock_gettime(time.CLOCK_BOOTTIME),
        ticks_per_s=os.sysconf("SC_CLK_TCK"),
    )


def of_file(path: Path, *, living: bool = False) -> Postmortem:
    """The report on a segment's file. DecodeError, OSError."""
    fd = opened(path, os.stat(path, follow_symlinks=False))
    try:
        known, alive = look(lambda at, n: os.pread(fd, n, at), lambda byte: held(fd, byte))
    finally:
        os.close(fd)
    return postmortem(known, alive, clocks(), living=living)
