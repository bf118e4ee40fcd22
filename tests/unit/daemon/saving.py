"""Stores of tests about saving: one with a journal, and what breaks it.

Owns: `break_journal`, which does to a journal what a disk that refuses does, and `generations`.
"""

from __future__ import annotations

from pathlib import Path

import shmkv

WORDS_MOST = 200_000  # more than the marks of any store of these tests


def break_journal(name: str) -> None:
    """Write to a store of "everysec", knowing no directory, until its marks are used up."""
    with shmkv.open(name, create=False, lock_timeout=0.05, daemon=False) as blind:
        for n in range(WORDS_MOST):
            blind.set(b"%d" % n, 0)
            if n % 1000 == 0 and blind.stats().journal_broken:
                return
    raise AssertionError(f"store {name!r} took {WORDS_MOST} changes that nobody logged")


def generations(folder: Path, what: str = "snapshot") -> list[int]:
    """Of the snapshots, or journals, of a directory."""
    return sorted(int(one.name[-16:-6]) for one in folder.glob(f"{what}-*.shmkv"))
