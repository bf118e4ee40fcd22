"""What the service manager hears, through real sockets, and how a daemon is told to stop."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import shmkv
from shmkv.daemon import End, Stop, Told, stop_on_signals
from tests.stress.support import until
from tests.unit.daemon.conftest import Working


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and NOTIFY_SOCKET."""
    given = str(tmp_path / "notify") if request.param == "path" else f"@{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(given if given[0] == "/" else "\0" + given[1:])
        one.settimeout(30)
        yield one, given


def test_the_life_of_a_daemon_as_systemd_sees_it(
    manager: tuple[socket.socket, str], store: shmkv.Store, working: Working
) -> None:
    hears, address = manager
    env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "40000", "WATCHDOG_PID": str(os.getpid())}
    daemon = working(store.name, told=Told(env))
    said = [hears.recv(4096).decode()]
    assert said == [f"READY=1\nSTATUS=daemon of store {store.name!r}"]
    while said.count("WATCHDOG=1") < 3 or not any(one.startswith("STATUS=") for one in said):
        said.append(hears.recv(4096).decode())
    assert any("free" in one for one in said)
    daemon.stop.set()
    while said[-1] != "STOPPING=1":  # heard while it ends: a socket that is full hears no more
        said.append(hears.recv(4096).decode())
    assert daemon.ended().end is End.STOPPED


def test_a_standby_is_ready_and_alive(
    manager: tuple[socket.socket, str], store: shmkv.Store, working: Working
) -> None:
    hears, address = manager
    assert store._daemon(True)
    env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "40000"}
    working(store.name, standby=True, told=Told(env))
    assert hears.recv(4096).decode().startswith("READY=1\nSTATUS=standing by: ")
    assert [hears.recv(4096) for _ in range(2)] == [b"WATCHDOG=1"] * 2


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "relative"},
        {"NOTIFY_SOCKET": "/nowhere/at/all"},
        {"NOTIFY_SOCKET": "@" + "x" * 200, "WATCHDOG_USEC": "1000"},
    ],
)
def test_nobody_listens(env: dict[str, str]) -> None:
    told = Told(env)
    told.ready("ready")
    told.status("status")
    told.alive(1.0)
    told.stopping()


def test_signs_of_life_come_in_time_and_only_if_wanted(
    manager: tuple[socket.socket, str],
) -> None:
    hears, address = manager
    hears.setblocking(False)

    def count(env: dict[str, str]) -> int:
        told, signs = Told(env | {"NOTIFY_SOCKET": address}), 0
        for tenth in range(100):  # ten seconds, by a clock of the test's own
            told.alive(tenth / 10)
            try:
                signs += hears.recv(64) == b"WATCHDOG=1"
            except BlockingIOError:
                continue
        return signs

    assert count({"WATCHDOG_USEC": "2000000"}) == 10
    assert count({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid() + 1)}) == 0
    assert count({"WATCHDOG_USEC": "soon"}) == 0
    assert count({}) == 0


def test_readiness_is_reported_once() -> None:
    heard: list[str] = []
    told = Told({}, on_ready=heard.append)
    told.ready("standing by")
    told.ready("daemon")
    assert heard == ["standing by"]


def test_stopping_ends_a_wait_from_a_thread_and_from_a_signal() -> None:
    stop = Stop()
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    start = time.monotonic()
    assert stop.wait(60)
    assert time.monotonic() - start < 30
    assert stop.wait(60)
    timer.join()
    stop.close()


def test_signals_that_are_ignored_or_blocked() -> None:
    """nohup stays in force; what was blocked by who started the process is heard all the same."""
    hup, term = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.wait(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            until(stop.is_set, "the signal has come")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        signal.signal(signal.SIGHUP, hup)
    assert signal.getsignal(signal.SIGTERM) is term


def test_the_handler_goes_with_the_block() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as told:
        assert not told.wait(0)
        os.kill(os.getpid(), signal.SIGTERM)
        until(told.is_set, "the signal has come")
    assert signal.getsignal(signal.SIGTERM) is former
