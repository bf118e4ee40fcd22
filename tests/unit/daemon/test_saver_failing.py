"""A save that fails: what was asked for is still wanted.

Owns: that the daemon's saver tries again after a failure whatever the reason for the save was; a
journal that broke counts as whole as soon as its next generation has begun, long before the
snapshot it needs is there.

Does not: write snapshots (tests/unit/persist), or run a daemon.
"""

from __future__ import annotations

import _thread
import errno
import threading
from pathlib import Path

import pytest

import shmkv
from shmkv.daemon import saver as module
from shmkv.daemon.saver import Saver

WAIT_S = 60.0


def test_a_save_that_failed_is_tried_again(
    store: shmkv.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    done = threading.Event()
    file = tmp_path / "file"
    file.touch()

    def save(*_: object, **__: object) -> Path:
        calls.append(1)
        if len(calls) < 3:
            raise OSError(errno.ENOSPC, "full")
        done.set()
        return file

    monkeypatch.setattr(module.persist, "save", save)
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    keeper = Saver(store, str(tmp_path), rules=())
    with keeper.running():
        keeper.ask()
        assert done.wait(WAIT_S)
    assert len(calls) == 3


def test_no_memory_for_its_thread(
    store: shmkv.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies before its first line: nobody waits for it for ever, and the directory is free."""
    monkeypatch.setattr("shmkv.thread.START_S", 0.01)
    monkeypatch.setattr(_thread, "start_new_thread", lambda _body, _args: 1)
    saver = Saver(store, str(tmp_path), ())
    with pytest.raises(MemoryError, match="thread that saves"), saver.running():
        pass
    monkeypatch.undo()
    with saver.running():
        pass
