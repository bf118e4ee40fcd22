"""A clear in a store that may evict: what had left memory does not come back, what came later does.

Owns: that promise of `clear()` for items that making room took, and what a clear that was killed
leaves. The steps between are played in tests/c/test_wipe.c and tests/crash.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv.persist import verify
from tests.unit.persist.conftest import Opener

ROOMY = "16MiB"  # for all that is on disk
VICTIMS = [f"victim{i}" for i in range(5)]
SECONDS = 60.0


def evicting(open_store: Opener, folder: Path, journal: Any) -> shmkv.Store:
    """A store that had to make room: the victims are on disk only."""
    store = open_store(path=folder, journal=journal, size="2MiB", max_size=ROOMY, evict=True)
    store.set_many({name: name for name in VICTIMS})
    store._journal_sync()
    for i in range(200):
        store[f"filler{i}"] = bytes(60_000)
        if set(VICTIMS).isdisjoint(store.scan()):
            break
    assert store.stats().evictions >= len(VICTIMS)
    store._journal_sync()
    return store


@pytest.mark.parametrize("cleared", [False, True], ids=["not-cleared", "cleared"])
@pytest.mark.parametrize("journal", ["everysec", "always"])
def test_what_had_left_memory_does_not_come_back(
    folder: Path, open_store: Opener, reborn: Opener, journal: Any, cleared: bool
) -> None:
    store = evicting(open_store, folder, journal)
    if cleared:
        store.clear()
    store["after"] = 1
    if journal == "everysec":
        store._journal_sync()
    store = reborn(store, path=folder, size=ROOMY)
    if cleared:
        assert dict(store.items()) == {"after": 1}
    else:
        assert all(store[name] == name for name in VICTIMS)
        assert store["after"] == 1
    assert verify(str(folder))


def test_always_needs_no_later_write(folder: Path, open_store: Opener, reborn: Opener) -> None:
    store = evicting(open_store, folder, "always")
    store.clear()
    assert dict(reborn(store, path=folder, size=ROOMY).items()) == {}


def test_a_save_after_a_clear_has_what_came_later(
    folder: Path, open_store: Opener, reborn: Opener
) -> None:
    store = evicting(open_store, folder, "everysec")
    store.clear()
    store["after"] = 1
    store.snapshot()
    store["later"] = 2
    store._journal_sync()
    assert dict(reborn(store, path=folder, size=ROOMY).items()) == {"after": 1, "later": 2}


CLEARER = """
import sys, shmkv
store = shmkv.open(sys.argv[1], path=sys.argv[2], create=False)
for n in range(10**9):
    store.set_many({f"own{i}": (n, i) for i in range(300)})
    store.clear()
    print(n, flush=True)
"""


def test_who_writes_while_others_clear_loses_nothing_that_memory_has(
    folder: Path, open_store: Opener, reborn: Opener
) -> None:
    store = open_store(path=folder, journal="always", evict=True)
    for _ in range(3):
        clearer = subprocess.Popen(
            [sys.executable, "-c", CLEARER, store.name, str(folder)], stdout=subprocess.PIPE
        )
        try:
            assert clearer.stdout is not None
            assert clearer.stdout.readline() == b"0\n"
            end, n = time.monotonic() + SECONDS, 0
            while n < 80:
                assert time.monotonic() < end
                store[f"here{n % 40}"] = n
                n += 1
        finally:
            os.kill(clearer.pid, signal.SIGKILL)
            clearer.wait(SECONDS)
            clearer.stdout.close()
        store["last"] = n
        assert store.stats().evictions == 0
        held = dict(store.items())
        assert held["last"] == n
        store = reborn(store, path=folder)
        assert dict(store.items()) == held
        assert store.check()
