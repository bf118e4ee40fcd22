"""Fixtures of the disk: a directory of one's own, and stores that come and go.

Promises: no daemon is started by a test of this folder unless it asks for one: `open(journal=...)`
would start it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv import launch
from shmkv.config import judge
from shmkv.disk import bring_back
from shmkv.disk.restore import Brought
from tests.unit.disk.byhand import Hand

Opener = Callable[..., shmkv.Store]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that does not exist yet."""
    return tmp_path / "store"


@pytest.fixture
def hand(tmp_path: Path, store_name: str) -> Hand:
    """A directory of the store `store_name`, to be filled by hand."""
    return Hand(tmp_path / "store", store_name)


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls that would have started a daemon."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(launch, "ensure", lambda store, **how: calls.append(how))
    return calls


@pytest.fixture
def reborn(open_store: Opener, store_name: str) -> Opener:
    """Let a store vanish from memory as in a reboot, then open it again."""

    def again(store: shmkv.Store | None = None, **options: Any) -> shmkv.Store:
        if store is not None:
            store.close()
        shmkv.unlink(store_name, missing_ok=True)
        return open_store(size=options.pop("size", None), **options)

    return again


@pytest.fixture
def bring(store_name: str) -> Callable[..., Brought]:
    """What `shmkv restore` does, of the store `store_name`."""

    def go(source: Path, size: str | None = None, **how: Any) -> Brought:
        options = judge(store_name, size=size, create="new", lock_timeout=1.0)
        return bring_back(str(source), shmkv.Store, options, **how)

    return go
