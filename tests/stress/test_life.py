"""The lives of processes (life.py), and that its eyes are open: what is left behind is found.

Quick by default, the full form with SHMKV_TORTURE=1; SHMKV_SEED repeats the plan of a run.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from collections.abc import Callable

import pytest

import shmkv
from tests.conftest import MIB, segment_path
from tests.crash.faultbuild import FAULT_BUILD
from tests.stress import life
from tests.stress.support import brood, seed, until


@pytest.mark.timeout(24 * 3600 if life.full() else 180)
@pytest.mark.parametrize("name", list(life.SCENES))
def test_scene(new_name: Callable[[], str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name in ("exits", "waits") and not list(FAULT_BUILD.glob("_core*.so")):
        pytest.skip("NOT RUN: there is no build with fault points, 'make build' makes it")
    store_name, scene = new_name(), life.SCENES[name]
    shmkv.open(store_name, size=16 * MIB, max_size=16 * MIB).close()
    with capsys.disabled():
        line = life.run(name, store_name, scene.full if life.full() else scene.quick, seed())
    assert line["violations"] == 0


def test_what_is_left_behind_is_found(store: shmkv.Store) -> None:
    """A row with a pin of a killed process, and a lock word that names nobody."""
    store.set("k", b"v" * 100_000)
    assert life.left_behind(store) == []

    def dies() -> None:
        with store.view("k"):
            os.kill(os.getpid(), signal.SIGKILL)

    with brood() as make:
        assert make(dies).wait() == -signal.SIGKILL
    with segment_path(store.name).open("r+b") as file:
        file.seek(store._geometry()["off_stripes"] + 64)
        file.write(struct.pack("<I", 123_456_789))
    found = life.left_behind(store)
    assert any("stripe 1 is locked by 123456789" in text for text in found)
    assert any("bears the number" in text for text in found)
    assert any("holds" in text for text in found)
    assert life.last_look(store) == []


def test_who_has_not_left_is_found(store: shmkv.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "LEAVE_S", 0.05)
    with shmkv.open(store.name, create=False):
        assert "2 are attached" in life.last_look(store)[0]


def test_closed_descriptors_do_not_end_a_life(store: shmkv.Store) -> None:
    """Daemons close all descriptors; who has used the store before is not dead by that."""
    board = mmap.mmap(-1, 2)

    def closes() -> None:
        store.incr("n")
        os.closerange(3, 256)
        board[0] = 1
        until(lambda: board[1] != 0, "the parent has looked")

    with brood() as make:
        child = make(closes)
        until(lambda: board[0] != 0, "the child has closed its descriptors")
        attached = store.stats().attached
        dead = store.check().dead_rows
        board[1] = 1
        child.wait()
    board.close()
    assert (attached, dead) == (2, 0)
