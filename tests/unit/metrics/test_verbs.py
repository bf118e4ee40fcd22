"""`shmkv metrics` and `shmkv daemon --metrics`: as people call them, rightly and wrongly."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest

import shmkv
from shmkv.metrics import Address, endpoint, parse
from tests.conftest import segment_path
from tests.stress.support import brood, until
from tests.unit.cli.conftest import ROOT, SECONDS, Run, Start, finished, run, start
from tests.unit.daemon.conftest import orphans
from tests.unit.metrics.scrapes import connect, get, numbers

__all__ = ["finished", "orphans", "run", "start"]

Finished = Callable[..., tuple[int, bytes, bytes]]
Orphans = Callable[[], list[int]]


# ---- metrics ------------------------------------------------------------------------------------


def test_one_store(run: Run, store: shmkv.Store) -> None:
    store["k"] = "v"
    said = run("metrics", store.name)
    assert numbers(said.stdout_bytes)["shmkv_sets_total", store.name] == 1
    assert said.stderr == ""
    said = run("metrics", "--openmetrics", store.name, store.name)
    assert said.stdout.endswith("# EOF\n")
    assert said.stdout.count("shmkv_up{") == 1


def test_all_stores(run: Run, store: shmkv.Store, new_name: Callable[[], str]) -> None:
    """What the environment names is not looked at. A bad one is told; that is no failure."""
    bad = new_name()
    path = segment_path(bad)
    path.touch(mode=0o600)
    path.write_bytes(os.urandom(2 << 20))
    said = run("metrics", SHMKV_STORE=bad)
    found = numbers(said.stdout_bytes)
    assert found["shmkv_up", store.name] == 1
    assert found["shmkv_up", bad] == 0
    assert f"shmkv: store {bad!r}" in said.stderr


def test_stores_that_fail(run: Run, store: shmkv.Store) -> None:
    near = store.name + "x"
    said = run("metrics", near, store.name, code=3)
    found = numbers(said.stdout_bytes)
    assert (found["shmkv_up", near], found["shmkv_up", store.name]) == (0, 1)
    assert said.stderr == (f"shmkv: store {near!r} does not exist: did you mean {store.name!r}?\n")
    said = run("metrics", store.name, "a/b", code=3)
    assert said.stdout == ""
    assert "'a/b' is no name of a store" in said.stderr
    assert "does not exist" in run("metrics", "--owner", "4000000000", store.name, code=3).stderr
    assert run("metrics", "--owner", "4000000000").stdout == ""


def test_without_the_library(run: Run, store: shmkv.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith("shmkv.metrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    words = "shmkv: metrics need prometheus_client: pip install 'shmkv[metrics]'\n"
    assert run("metrics", store.name, code=3).stderr == words
    assert run("daemon", "-f", "-s", store.name, "--metrics", "unix:/x", code=3).stderr == words
    assert not store._daemon(False)


def test_other_verbs_do_without_it() -> None:
    """Nothing imports it that does not make metrics."""
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "import shmkv, shmkv.daemon, shmkv.cli.daemons, shmkv.cli.scraping\n"
        "from shmkv.cli.app import cli; cli(['metrics', '--help'])\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, timeout=SECONDS, capture_output=True
    )


# ---- daemon -------------------------------------------------------------------------------------


@pytest.fixture
def address() -> Iterator[Address]:
    """A socket's file that is not there yet, in a folder that will go."""
    with tempfile.TemporaryDirectory(prefix="shmkv-") as folder:
        yield parse(f"unix:{folder}/web.sock")


def up(address: Address, store: shmkv.Store) -> bool:
    """Does the endpoint answer, and for this store?"""
    try:
        return numbers(get(address)[2])["shmkv_up", store.name] == 1
    except (FileNotFoundError, ConnectionError):
        return False


def test_in_front(start: Start, store: shmkv.Store, address: Address) -> None:
    """It is there while the daemon works; one that was killed leaves a file that does no harm."""
    command = ("daemon", "-f", "-s", store.name, "--metrics", str(address))
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = start(*command)
        until(lambda: up(address, store), "metrics are served")
        assert store._daemon(False)
        assert numbers(get(address)[2])["shmkv_attached_processes", store.name] == 2
        process.send_signal(number)
        _, err = process.communicate(timeout=SECONDS)
        assert os.path.lexists(str(address.path)) == (number == signal.SIGKILL)
    assert process.returncode == 0
    assert f"metrics: {address}" in err.decode()


def test_who_stands_by_takes_the_address_over(
    start: Start, store: shmkv.Store, address: Address
) -> None:
    """Two of one unit file: the second has no metrics until it is the daemon."""
    command = ("daemon", "-f", "--standby", "-s", store.name, "--metrics", str(address))
    first = start(*command)
    until(lambda: up(address, store), "the first serves")
    second = start(*command)
    assert second.stderr is not None
    assert b"standing by" in second.stderr.readline()
    first.kill()
    first.wait(SECONDS)
    until(lambda: up(address, store), "the second serves")
    assert numbers(get(address)[2])["shmkv_attached_processes", store.name] == 2
    assert second.poll() is None
    second.send_signal(signal.SIGTERM)
    assert f"metrics: {address}" in second.communicate(timeout=SECONDS)[1].decode()


def test_in_the_background(
    finished: Finished, store: shmkv.Store, orphans: Orphans, address: Address
) -> None:
    """A path is meant from where the command is given, not from where the daemon is."""
    assert address.path is not None
    relative = os.path.relpath(address.path, ROOT)
    options = ("-s", store.name, "--metrics", f"unix:{relative}")
    assert finished("daemon", *options)[0] == 0
    assert up(address, store)
    (pid,) = orphans()
    os.kill(pid, signal.SIGTERM)
    until(lambda: not orphans(), "it has ended")
    assert not os.path.lexists(address.path)


def test_a_port_that_is_taken(finished: Finished, store: shmkv.Store, orphans: Orphans) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        where = f"127.0.0.1:{port}"
        words = f"shmkv: metrics: http://{where}/metrics is taken by another process: name"
        for options in (["-f"], []):
            code, out, err = finished("daemon", *options, "-s", store.name, "--metrics", where)
            assert (code, out) == (3, b"")
            assert err.decode().splitlines()[-1].startswith(words)
            until(lambda: not orphans(), "no daemon stays")
    assert not store._daemon(False)


@pytest.mark.parametrize("where", ["0.0.0.0:9101", "9101", "unix:", "example.org:80"])
def test_where_it_is_not_served(run: Run, store: shmkv.Store, where: str) -> None:
    said = run("daemon", "-f", "-s", store.name, "--metrics", where, code=2).stderr
    assert "Invalid value for '--metrics': " in said
    assert "127.0.0.1:PORT" in said


ASKING_S = 600.0  # that a client may hold its connection: long after the test has failed
PATIENT = f"""
from shmkv.cli import main
from shmkv.metrics import endpoint

endpoint.REQUEST_S = {ASKING_S}
main()
"""


@pytest.fixture
def patiently() -> Iterator[Start]:
    """Start the command line as a process whose endpoints have more patience with clients."""
    with contextlib.ExitStack() as stack:

        def begin(*args: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen([sys.executable, "-c", PATIENT, *args], cwd=ROOT)
            stack.callback(process.wait, SECONDS)
            stack.callback(process.kill)
            return process

        yield begin


def test_clients_that_hang_hold_up_no_work(
    patiently: Start, store: shmkv.Store, address: Address
) -> None:
    """All connections are held for long; what a dead process held is given back as ever."""
    process = patiently("daemon", "-f", "-s", store.name, "--metrics", str(address))
    until(lambda: up(address, store), "metrics are served")
    with contextlib.ExitStack() as stack, brood() as child:
        for _ in range(endpoint.CONNECTIONS):
            stack.enter_context(connect(address)).send(b"GET /metrics HTTP/1.0\r\n")
        folds = store.stats().folds
        one = child(lambda: (shmkv.open(store.name), signal.pause()))
        until(lambda: store.stats().attached == 3, "it is attached")
        one.end()
        until(lambda: store.stats().folds > folds, "the daemon folds", ASKING_S / 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
