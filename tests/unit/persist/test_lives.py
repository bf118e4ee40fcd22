"""Whole lives: a daemon that leads rounds, processes that are killed, all of them at once.

Owns: what is true of the journal only with other processes around. A reboot is played by killing
everybody and unlinking the segment: memory is gone, files are as the kernel had them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from shmkv.errors import PersistError
from shmkv.persist import verify
from tests.unit.cli.conftest import Start, start
from tests.unit.persist.conftest import Opener

__all__ = ["start"]
SECONDS = 60.0


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.005)


@pytest.fixture
def led(
    start: Start, folder: Path, open_store: Opener
) -> Callable[[shmkv.Store], subprocess.Popen[bytes]]:
    """Start a daemon that leads rounds for a store."""

    def begin(store: shmkv.Store) -> subprocess.Popen[bytes]:
        args = ["daemon", "-f", "-s", store.name, "--path", str(folder)]
        daemon = start(*args)
        until(lambda: store._daemon(False), "a daemon works")
        return daemon

    return begin


Led = Callable[[shmkv.Store], "subprocess.Popen[bytes]"]


def test_a_daemon_writes_for_who_does_not_know_the_directory(
    folder: Path, open_store: Opener, reborn: Opener, led: Led
) -> None:
    store = open_store(path=folder, journal="always")
    name = store.name
    store.close()
    store = open_store(name, create=False, lock_timeout=0.2)
    with pytest.raises(shmkv.PersistError, match=r"^store .* nobody who knows its directory"):
        store["a"] = 1
    daemon = led(store)
    store["a"] = 2
    store["b"] = 3
    daemon.send_signal(signal.SIGKILL)
    daemon.wait(SECONDS)
    assert dict(reborn(store, path=folder)) == {"a": 2, "b": 3}


def test_everysec_reaches_the_disk_by_itself(
    folder: Path, open_store: Opener, reborn: Opener, led: Led
) -> None:
    store = open_store(path=folder, journal="everysec")
    daemon = led(store)
    before = store._journal_state()
    store["a"] = 1
    begun = time.monotonic()

    def written() -> bool:
        state = store._journal_state()
        assert state is not None
        assert before is not None
        return state["dirty"] == 0 and state["bytes"] > before["bytes"]

    until(written, "a round is written")
    assert time.monotonic() - begun < 20, "a second, and what the machine is busy with"
    daemon.terminate()
    assert daemon.wait(SECONDS) == 0
    assert dict(reborn(store, path=folder)) == {"a": 1}


WRITER = """
import sys, shmkv
store = shmkv.open(sys.argv[1], path=sys.argv[2], create=False)
who = sys.argv[3]
for n in range(1, 10**9):
    store[f"{who}:{n % 7}"] = n
    store[who] = n
    if n % 50 == 0 and who == "0":
        store.snapshot()
    print(n, flush=True)
"""


def test_acknowledged_writes_survive_everybody(
    folder: Path, open_store: Opener, reborn: Opener
) -> None:
    store = open_store(path=folder, journal="always")
    for _ in range(3):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, store.name, str(folder), str(who)],
                stdout=subprocess.PIPE,
            )
            for who in range(3)
        ]
        end = time.monotonic() + SECONDS
        acknowledged = [0, 0, 0]
        try:
            while min(acknowledged) < 60:
                assert time.monotonic() < end
                for who, writer in enumerate(writers):
                    assert writer.stdout is not None
                    acknowledged[who] = int(writer.stdout.readline())
        finally:
            for writer in writers:
                os.kill(writer.pid, signal.SIGKILL)
        for who, writer in enumerate(writers):
            assert writer.stdout is not None
            with writer.stdout as said:
                rest = said.read()  # to its end: the process is dead
            writer.wait(SECONDS)
            whole = rest.rpartition(b"\n")[0].split()
            acknowledged[who] = int(whole[-1]) if whole else acknowledged[who]
        store = reborn(store, path=folder)
        assert verify(str(folder))
        assert store.check()
        for who, least in enumerate(acknowledged):
            assert least <= store[str(who)] <= least + 2
            for n in range(max(1, least - 6), least + 1):
                assert store[f"{who}:{n % 7}"] >= n


def test_who_keeps_a_removed_store_leaves_its_directory_alone(
    folder: Path, open_store: Opener
) -> None:
    old = open_store(path=folder, journal="always", lock_timeout=0.2)
    old.set("k", "old")
    shmkv.unlink(old.name)
    new = open_store(old.name, path=folder)
    new.set("k", "new")
    with pytest.raises(PersistError, match="removed"):
        old.set("k", "late")
    with pytest.raises(PersistError, match="removed"):
        old.snapshot()
    shmkv.unlink(new.name)
    assert open_store(old.name, path=folder)["k"] == "new"
