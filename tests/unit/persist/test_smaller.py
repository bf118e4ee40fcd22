"""Brought back into a store that has not the room for all of it: who is likely to be used stays."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.unit.persist.conftest import Opener

ITEMS, HOT = 12_000, 600


@pytest.mark.parametrize("journal", [None, "everysec"])
def test_what_was_used_stays(
    journal: str | None, folder: Path, open_store: Opener, reborn: Opener
) -> None:
    store = open_store(size="8MiB", path=folder, journal=journal)
    for number in range(ITEMS):
        store.set(f"key {number}", bytes(400))
    hot = random.Random(7).sample(range(ITEMS), HOT)
    for _ in range(3):
        assert all(store.get(f"key {number}") is not None for number in hot)
    store.snapshot()
    if journal:  # what the journal says of a key is newer, and says nothing of its use
        for number in hot[: HOT // 2]:
            store.set(f"key {number}", bytes(399))
        store._journal_sync()

    small = reborn(store, size="3MiB", path=folder)
    assert small.stats().items < ITEMS * 0.6  # many had to leave
    kept = sum(f"key {number}" in small for number in hot)
    cold = set(range(ITEMS)) - set(hot)
    others = sum(f"key {number}" in small for number in cold)
    print(f"{kept} of {HOT} hot, {others} of {len(cold)} others")
    assert kept >= 0.95 * HOT
    assert others < 0.6 * len(cold)
    assert small.check()
