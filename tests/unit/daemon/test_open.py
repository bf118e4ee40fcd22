"""`open(..., daemon=True)`: one daemon however many ask, nothing of who asked, and no errors."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from shmkv import launch
from tests.conftest import MIB
from tests.stress.support import Child, until
from tests.unit.cli.conftest import SECONDS

Open = Callable[..., shmkv.Store]
Orphans = Callable[[], list[int]]
MANY = 50


def test_one_is_started(
    open_store: Open, orphans: Orphans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_MINE", "never told")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/mine")
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    store = open_store(daemon=True)
    os.close(writer)
    until(lambda: store._daemon(False), "a daemon works")
    (pid,) = orphans()
    proc = Path("/proc", str(pid))
    assert os.getsid(pid) != os.getsid(0)
    assert f"PPid:\t{os.getpid()}\n" not in (proc / "status").read_text()
    assert os.readlink(proc / "cwd") == "/"
    told = (proc / "environ").read_bytes()
    assert b"never told" not in told
    assert b"NOTIFY_SOCKET" not in told
    assert os.read(reader, 1) == b"", "nobody else has the end that was open here"
    os.close(reader)
    open_store(daemon=True)
    assert orphans() == [pid]


def test_of_many_one_is_started(store: shmkv.Store, orphans: Orphans) -> None:
    """All ask at once; the daemon is there, and one process was started in all."""
    go, ready = os.pipe(), os.pipe()

    def ask() -> None:
        os.write(ready[1], b"r")
        os.close(go[1])
        os.read(go[0], 1)
        with shmkv.open(store.name, daemon=True):
            pass

    children = [Child(ask) for _ in range(MANY)]
    got = 0
    while got < MANY:
        got += len(os.read(ready[0], MANY))
    for fd in go:
        os.close(fd)
    for child in children:
        assert child.wait(SECONDS) == 0, child.text
    until(lambda: store._daemon(False), "a daemon works")
    assert len(orphans()) == 1
    for fd in ready:
        os.close(fd)


def test_after_its_death_the_next_open_starts_another(open_store: Open, orphans: Orphans) -> None:
    store = open_store(daemon=True)
    until(lambda: store._daemon(False), "a daemon works")
    (first,) = orphans()
    os.kill(first, signal.SIGKILL)
    until(lambda: not store._daemon(False), "its lock is free")
    again = pickle.loads(pickle.dumps(store))
    until(lambda: store._daemon(False), "another works")
    again.close()
    assert orphans() != [first]


def test_it_ends_with_the_store(open_store: Open, store_name: str, orphans: Orphans) -> None:
    store = open_store(daemon=True)
    until(lambda: store._daemon(False), "a daemon works")
    shmkv.unlink(store_name)
    until(lambda: not orphans(), "it has ended")


def test_options(open_store: Open, store_name: str, orphans: Orphans) -> None:
    """What the daemon must know to open the same store is handed on."""
    store = open_store(daemon=True, mode=0o660, owner=os.getuid())
    until(lambda: store._daemon(False), "a daemon works")
    (pid,) = orphans()
    words = Path("/proc", str(pid), "cmdline").read_bytes().decode().split("\0")
    assert words[words.index("--mode") + 1] == "660"
    assert words[words.index("--owner") + 1] == str(os.getuid())


def test_refused(store_name: str) -> None:
    with pytest.raises(ValueError, match="daemon"):
        shmkv.open(store_name, readonly=True, daemon=True)
    with pytest.raises(TypeError, match="daemon"):
        shmkv.open(store_name, daemon=1)  # type: ignore[arg-type]


def test_where_none_can_be_started(
    open_store: Open, orphans: Orphans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    with pytest.warns(RuntimeWarning, match="has no daemon"):
        store = open_store(daemon=True)
    store["k"] = "works"
    assert orphans() == []
    monkeypatch.undo()
    open_store(daemon=True)  # the claim was given up
    until(lambda: store._daemon(False), "a daemon works")


def test_where_there_is_one_nothing_is_started(
    open_store: Open, store: shmkv.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store._daemon(True)
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_store(daemon=True)


def test_the_package_is_found_wherever_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"lib{os.pathsep}{os.pathsep}/opt/lib")
    here = str(Path(launch.__file__).parents[1])
    found = launch._environment()["PYTHONPATH"].split(os.pathsep)
    assert found == [os.path.abspath("lib"), "/opt/lib", here]
    monkeypatch.setattr(launch, "__file__", "/usr/lib/python3/dist-packages/shmkv/launch.py")
    monkeypatch.delenv("PYTHONPATH")
    assert "PYTHONPATH" not in launch._environment()
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    assert launch._python() == f"{sys.prefix}/bin/python3"


def test_size_is_not_its_business(open_store: Open, orphans: Orphans) -> None:
    """A daemon attaches to what is there, whatever its size and policy."""
    store = open_store(size=2 * MIB, max_size=4 * MIB, evict=False, daemon=True)
    until(lambda: store._daemon(False), "a daemon works")
    assert len(orphans()) == 1
