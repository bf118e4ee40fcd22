"""Files of old versions are read as long as there are such files."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from shmkv.disk import verify
from shmkv.disk.restore import Brought
from tests.disk.content import CHANGES, DEADLINE, FIXTURES, LONG, VALUES
from tests.unit.codec_values import same
from tests.unit.disk.conftest import Opener

VERSIONS = sorted(one.name for one in FIXTURES.iterdir())


def holds(store: shmkv.Store, wanted: dict[str | bytes, object]) -> None:
    """Exactly these items, and the deadline."""
    assert set(store) == set(wanted)
    for key, value in wanted.items():
        assert same(store[key], value), key
    left = store.ttl("deadline")
    assert left is not None
    assert abs(time.time() + left - DEADLINE.timestamp()) < 5


def test_there_are_some() -> None:
    assert VERSIONS == ["v1"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "more"), [("plain", {}), ("packed", {"long": LONG})])
def test_a_snapshot(
    version: str,
    name: str,
    more: dict[str | bytes, object],
    bring: Callable[..., Brought],
    open_store: Opener,
) -> None:
    path = FIXTURES / version / f"{name}.shmkv"
    verdict = verify(str(path))
    assert verdict, verdict.problems
    assert verdict.files[0].items == len(VALUES) + len(more)
    assert bring(path) == Brought(len(VALUES) + len(more), 0, 4 << 20, ())
    holds(open_store(create=False), VALUES | more)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_directory(version: str, tmp_path: Path, new_name: object, open_store: Opener) -> None:
    shutil.copytree(FIXTURES / version / "directory", tmp_path / "copy")
    verdict = verify(str(tmp_path / "copy"))
    assert verdict, verdict.problems
    assert len(verdict.restores) == 3
    shmkv.unlink("fixture", missing_ok=True)
    try:
        store = open_store("fixture", size=None, path=tmp_path / "copy")
        holds(store, {key: one for key, one in (VALUES | CHANGES).items() if key != "none"})
    finally:
        shmkv.unlink("fixture", missing_ok=True)
