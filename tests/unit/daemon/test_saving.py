"""Daemons that save: whole processes, their signals, their options, their deaths.

Owns: what `shmkv daemon --path` does to a directory. When it saves: `test_saver.py`.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shmkv
from shmkv import _core
from shmkv.daemon import End
from shmkv.daemon.loop import PAUSE_MAX
from shmkv.persist import verify
from shmkv.persist.directory import Directory
from tests.stress.support import brood, until
from tests.unit.cli.conftest import SECONDS, Start
from tests.unit.daemon.conftest import Working
from tests.unit.daemon.saving import break_journal, generations
from tests.unit.persist.conftest import Opener, folder, reborn, started

__all__ = ["folder", "reborn", "started"]  # no daemon is started by open(journal=...)
Daemon = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def saving(start: Start, folder: Path) -> Daemon:
    """Start a daemon in front that knows the directory, and wait until it can be asked to save."""

    def begin(store: shmkv.Store, *args: str) -> subprocess.Popen[bytes]:
        process = start("daemon", "-f", "-s", store.name, "--path", str(folder), *args)
        until(lambda: store._daemon(False) and is_locked(folder), "it works")
        return process

    return begin


def is_locked(folder: Path) -> bool:
    """Has a daemon the directory, and so a saver that hears requests?"""
    with Directory(str(folder)) as directory:
        try:
            with directory.locked(0):
                return False
        except shmkv.Busy:
            return True


def told(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> tuple[int, str]:
    """Tell it to stop: its exit code and its log."""
    process.send_signal(number)
    _, err = process.communicate(timeout=SECONDS)
    return process.returncode, err.decode()


def asked(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Ask it to save until there is a newer snapshot, and the older ones have gone (--keep 1)."""
    before = generations(folder)
    process.send_signal(signal.SIGUSR1)
    until(lambda: generations(folder)[-1:] not in ([], before[-1:]), "it saves")
    until(lambda: len(generations(folder)) == 1, "the older one goes")


# ---- requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", [None, "everysec"])
def test_usr1_saves(
    open_store: Opener, reborn: Opener, folder: Path, saving: Daemon, journal: str | None
) -> None:
    store = open_store(path=folder, journal=journal)
    store["a"] = 1
    daemon = saving(store, "--save", "never", "--keep", "1")
    asked(daemon, folder)
    store["a"] = 2
    asked(daemon, folder)
    until(lambda: (store.stats().snapshot_time or 0) > time.time() - 60, "it says when")
    code, log = told(daemon)
    assert code == 0
    assert log.count("(on request)") == 2
    assert dict(reborn(store, path=folder)) == {"a": 2}


def test_a_rule_saves(open_store: Opener, folder: Path, saving: Daemon) -> None:
    store = open_store(path=folder)
    daemon = saving(store, "--save", "3600 1", "--save", "1 20")
    store.update({str(n): n for n in range(20)})
    until(lambda: bool(generations(folder)), "it saves")
    code, log = told(daemon)
    assert code == 0
    assert "saved" in log
    assert "(20 changes in " in log


def test_without_a_directory_usr1_is_no_death(start: Start, store: shmkv.Store) -> None:
    process = start("daemon", "-f", "-s", store.name)
    until(lambda: store._daemon(False), "it works")
    process.send_signal(signal.SIGUSR1)
    standby = start("daemon", "-f", "--standby", "-s", store.name)
    assert standby.stderr is not None
    assert b"standing by" in standby.stderr.readline()
    standby.send_signal(signal.SIGUSR1)
    assert b"SIGUSR1: nothing is saved" in standby.stderr.readline()
    assert told(standby)[0] == 0
    code, log = told(process)
    assert code == 0
    assert "SIGUSR1: nothing is saved without --path" in log


def test_a_request_waits_for_the_turn(
    open_store: Opener, folder: Path, start: Start, saving: Daemon
) -> None:
    store = open_store(path=folder)
    first = saving(store)
    args = ["daemon", "-f", "--standby", "-s", store.name, "--path", str(folder)]
    second = start(*args)
    assert second.stderr is not None
    assert b"standing by" in second.stderr.readline()
    second.send_signal(signal.SIGUSR1)
    assert told(first)[0] == 0
    until(lambda: bool(generations(folder)), "it saves when it works")
    assert told(second)[0] == 0


def test_a_journal_that_breaks_under_a_daemon_is_mended(
    open_store: Opener, reborn: Opener, folder: Path, saving: Daemon
) -> None:
    store = open_store(path=folder, journal="everysec")
    break_journal(store.name)
    daemon = saving(store, "--save", "never")
    until(lambda: not store.stats().journal_broken, "it is mended")
    until(lambda: bool(generations(folder)), "by a snapshot")
    count = len(store)
    store["after"] = 1
    until(lambda: store.stats().journal_pending == 0, "a round")
    code, log = told(daemon)
    assert code == 0
    assert "(the journal is broken)" in log
    assert len(reborn(store, path=folder)) == count + 1


def test_it_compresses(open_store: Opener, folder: Path, saving: Daemon) -> None:
    pytest.importorskip("zstandard")
    store = open_store(path=folder)
    store["text"] = b"over and over " * 50_000
    daemon = saving(store, "--compress", "--keep", "1")
    asked(daemon, folder)
    (path,) = folder.glob("snapshot-*.shmkv")
    assert path.stat().st_size < 50_000
    assert told(daemon)[0] == 0
    assert verify(str(folder))


# ---- ends ---------------------------------------------------------------------------------------


def test_told_to_stop_during_a_save(open_store: Opener, folder: Path, saving: Daemon) -> None:
    store = open_store(path=folder, size="64MiB")
    store.update({f"k{n}": os.urandom(1 << 20) for n in range(40)})
    daemon = saving(store, "--save", "never")
    daemon.send_signal(signal.SIGUSR1)
    until(lambda: bool(list(folder.glob("*.part"))) or bool(generations(folder)), "it has begun")
    code, log = told(daemon)
    assert (code, list(folder.glob("*.part"))) == (0, [])
    assert log.splitlines()[-1].endswith("0 pages freed")
    assert not generations(folder) or verify(str(folder))


def test_told_to_stop_while_it_listens_for_rounds(
    open_store: Opener, folder: Path, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not hear who tells it meanwhile: it never listens for long."""
    store = open_store(path=folder, journal="always")
    real, listened = shmkv.Store._journal_listen, list[int]()

    def listen(one: shmkv.Store, limit_ms: int) -> None:
        listened.append(limit_ms)
        real(one, limit_ms)

    monkeypatch.setattr(shmkv.Store, "_journal_listen", listen, raising=False)
    worker = working(store.name, folder=str(folder))
    until(lambda: store._daemon(False), "it works")
    until(lambda: len(listened) > 1, "it sleeps")
    assert worker.end().end is End.STOPPED
    assert max(listened) <= 1000 * PAUSE_MAX


def test_a_signal_ends_the_sleep_of_who_listens(open_store: Opener, folder: Path) -> None:
    """However long it would be: handlers run at once."""
    store = open_store(path=folder, journal="always")
    heard: list[int] = []

    def listen() -> None:
        signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
        os.write(ready[1], b"r")
        begun = time.monotonic()
        store._journal_listen(600_000)
        assert heard == [signal.SIGUSR1] * len(heard)
        assert time.monotonic() - begun < 60

    ready = os.pipe()
    with brood() as child:
        one = child(listen)
        assert os.read(ready[0], 1) == b"r"
        state = Path("/proc", str(one.pid), "stat")
        until(lambda: state.read_text().rpartition(")")[2].split()[0] == "S", "it sleeps")
        one.send(signal.SIGUSR1)
        one.good()
    for fd in ready:
        os.close(fd)


def test_what_is_written_last_is_synced_when_it_stops(
    open_store: Opener, folder: Path, working: Working
) -> None:
    store = open_store(path=folder, journal="everysec")
    worker = working(store.name, folder=str(folder))
    until(lambda: store._daemon(False), "it works")
    store["a"] = 1
    told_ms = _core.clock_ms()
    worker.end()
    state = store._journal_state()
    assert state is not None
    assert state["dirty"] == 0
    assert _core.clock_ms() - state["synced_ms"] >= told_ms, "not synced since it was told"


def test_a_disk_that_refuses_the_last_round_is_said(
    open_store: Opener,
    folder: Path,
    working: Working,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_store(path=folder, journal="everysec")
    worker = working(store.name, folder=str(folder))
    until(lambda: store._daemon(False), "it works")

    def refuses(_store: shmkv.Store) -> None:
        raise shmkv.PersistError("no luck")

    monkeypatch.setattr(shmkv.Store, "_journal_sync", refuses, raising=False)
    with caplog.at_level(logging.INFO, "shmkv.daemon"):
        assert worker.end().end is End.STOPPED
    assert "the last round is not on disk: no luck" in [one.message for one in caplog.records]


# ---- deaths -------------------------------------------------------------------------------------

WRITER = """
import sys, shmkv
store = shmkv.open(sys.argv[1], path=sys.argv[2], create=False)
for n in range(1, 10**9):
    store[f"{sys.argv[3]}:{n % 9}"] = store[sys.argv[3]] = n
    print(n, flush=True)
"""


@pytest.fixture
def writers(folder: Path, open_store: Opener) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two workers that know the directory and write what waits for the disk."""
    store = open_store(path=folder, journal="always")
    made = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, store.name, str(folder), str(who)],
            stdout=subprocess.PIPE,
        )
        for who in range(2)
    ]
    yield made
    for one in made:
        one.kill()
        assert one.stdout is not None
        one.stdout.close()
        one.wait(SECONDS)


def acknowledged(writer: subprocess.Popen[bytes], more: int) -> int:
    """So many writes later: the last one that was acknowledged."""
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(more)]
    assert lines[-1].endswith(b"\n"), "it has ended"
    return int(lines[-1])


def test_workers_go_on_whenever_the_daemon_is_killed(
    writers: list[subprocess.Popen[bytes]],
    store_name: str,
    folder: Path,
    reborn: Opener,
    saving: Daemon,
) -> None:
    """They lead rounds themselves; what the daemon was saving is swept by the next one."""
    for n in range(4):
        with shmkv.open(store_name, create=False) as store:
            daemon = saving(store, "--save", "never")
            for one in writers:
                acknowledged(one, 5)
            daemon.send_signal(signal.SIGUSR1)
            for one in writers:
                acknowledged(one, 1 + 4 * n)
            daemon.kill()
            daemon.communicate(timeout=SECONDS)
            until(lambda store=store: not store._daemon(False), "it is dead")  # type: ignore[misc]
        for one in writers:
            acknowledged(one, 20)
    least = [acknowledged(one, 1) for one in writers]
    for one in writers:
        one.kill()
        one.wait(SECONDS)
    back = reborn(path=folder)
    for who, n in enumerate(least):
        assert back[str(who)] >= n
        assert all(back[f"{who}:{m % 9}"] >= m for m in range(max(1, n - 8), n + 1))
    assert back.check()
    assert verify(str(folder))
    assert not list(folder.glob("*.part"))
