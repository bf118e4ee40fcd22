"""What a new generation goes on after is on disk before that generation says so.

Owns: that coming back syncs the last journal: its writer may have ended before it did, and after a
power cut the length that the next one names would not be there.

Does not: fail system calls one by one (test_deaths.py).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.persist.conftest import Opener


def test_coming_back_syncs_the_last_journal(
    folder: Path, open_store: Opener, reborn: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(path=folder, journal="everysec")
    store["key"] = 1
    store._journal_round()
    (journal,) = folder.glob("journal-*")
    synced: list[tuple[int, int]] = []
    fsync = os.fsync

    def told(fd: int) -> None:
        synced.append((os.fstat(fd).st_ino, len(list(folder.glob("journal-*")))))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", told)
    assert reborn(store, path=folder)["key"] == 1
    assert (journal.stat().st_ino, 1) in synced
