"""The journal storm, and that its judge is not blind: what is planted is found.

SHMKV_TORTURE=1 makes it 100,000 kills of each mode, SHMKV_SEED repeats the plan of a run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shmkv.errors import PersistError
from tests import journal_files
from tests.stress import journal_work as work
from tests.stress.journal_storm import FULL, QUICK, Storm
from tests.stress.support import run_module, seed

TORTURE = os.environ.get("SHMKV_TORTURE") == "1"
KILLS = FULL if TORTURE else QUICK
LIMIT_S = 4 * 3600 if TORTURE else 600
MOVES = 400


@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("mode", list(journal_files.MODES))
def test_journal_storm(mode: str, store_name: str, tmp_path: Path) -> None:
    words = ["--kills", str(KILLS), "--seed", str(seed()), "--mode", mode, "--name", store_name]
    words += ["--folder", str(tmp_path)]
    line = run_module("tests.stress.journal_storm", *words, limit_s=LIMIT_S)
    print(line)
    assert line["violations"] == 0
    assert line["n"] >= KILLS


# ---- what is planted is found -------------------------------------------------------------------


class Scene:
    """A store in which one worker of slot 1 has worked; `early` is the folder half-way."""

    def __init__(self, storm: Storm, early: Path) -> None:
        self.storm, self.folder, self.early = storm, storm.folder, early
        worker = work.Worker(storm.store, storm.desks[1], 1, seed())
        for n in range(MOVES):
            if n % 100 == 50:
                storm.store._journal_next()
            if n == MOVES // 2:
                shutil.copytree(storm.folder, early)
            worker.advance()
            worker.count()
            worker.noise()
        storm.store._journal_sync()
        self.desk = storm.desks[1]

    def wrong(self) -> list[str]:
        """What the judge says."""
        try:
            return self.storm.judge()
        except (
            journal_files.Broken,
            PersistError,
        ) as broken:  # a file that was cut is seen at once
            return [str(broken)]

    def journals(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("journal-*.shmkv"))


@pytest.fixture(params=list(journal_files.MODES))
def scene(request: pytest.FixtureRequest, store_name: str, tmp_path: Path) -> Iterator[Scene]:
    folder = tmp_path / "journals"
    folder.mkdir()
    storm = Storm(store_name, request.param, folder, seed())
    try:
        yield Scene(storm, tmp_path / "early")
    finally:
        storm.close()


def removed(scene: Scene) -> None:
    i = next(i for i in range(work.OWN) if scene.desk.acked[i] % work.CYCLE > 1)
    scene.storm.store.delete(work.key_of(1, i))


def uncounted(scene: Scene) -> None:
    scene.storm.store.decr("count0")


def a_byte(scene: Scene) -> None:
    path = scene.journals()[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(scene: Scene) -> None:
    path = scene.journals()[-1]
    os.truncate(path, path.stat().st_size - 1)


def a_missing_file(scene: Scene) -> None:
    scene.journals()[1].unlink()


def older_files(scene: Scene) -> None:
    for path in scene.journals():
        path.unlink()
    shutil.copytree(scene.early, scene.folder, dirs_exist_ok=True)


def a_round_too_few(scene: Scene) -> None:
    path = scene.journals()[-1]
    found = journal_files.read_journal(path)
    assert found is not None
    os.truncate(path, found.rounds[-2][0] if len(found.rounds) > 1 else 32)


def test_what_is_right_passes(scene: Scene) -> None:
    assert scene.wrong() == []


PLANTS = [removed, uncounted, a_byte, cut_short, a_missing_file, older_files, a_round_too_few]


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_is_found(scene: Scene, plant: Callable[[Scene], None]) -> None:
    plant(scene)
    assert scene.wrong() != []


def test_an_unlogged_change_is_found(scene: Scene) -> None:
    """The live store differs from what comes back by a value, an item, a key's type, a deadline."""
    store = scene.storm.store
    changes: list[Callable[[Any], object]] = [
        lambda again: again.set("noise0", b"else"),
        lambda again: again.set("one more", 1),
        lambda again: again.set(b"noise-type", 1),
        lambda again: again.touch("noise-till", work.SOON_S + 1),
    ]
    for change in changes:
        store.set("noise0", b"this")
        store.set("noise-type", 1)
        store.set("noise-till", 1, ttl=work.SOON_S)
        store._journal_sync()
        with scene.storm._returned() as again:
            assert journal_files.differences(store, again) == []
            change(again)
            assert journal_files.differences(store, again) != []
