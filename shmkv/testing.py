"""Fixtures for the tests of programs that use shmkv: stores of their own, a clock that is moved.

A conftest.py (or a test file) that says `pytest_plugins = ["shmkv.testing"]` has them:

    def test_a_session_ends(shmkv_store, shmkv_clock):
        shmkv_store.set("session:7", "ann", ttl=1800)
        shmkv_clock.advance(1801)
        assert "session:7" not in shmkv_store

    def test_two_handles(shmkv_open):
        one, two = shmkv_open("web"), shmkv_open("web")  # the same store twice
        one["k"] = "v"
        assert two["k"] == "v"

Owns: `shmkv_store`, `shmkv_open`, `shmkv_clock`, `shmkv_no_leaks`, and the types one writes when
annotating them.

Promises: a store of these fixtures has a name that no other test, run or process has; its handles
are closed and its name is unlinked at the end of the test, also of one that fails. The clock shows
real time again at the end. pytest is imported here and nowhere else in the package.

Does not: replace anything by a double: the stores are stores, other processes open them by
`store.name`. A run that is killed leaves its segments; their names begin with `pytest-`. There are
no assertions here for pytest to rewrite (PYTEST_DONT_REWRITE), so that a file may both name this
module in `pytest_plugins` and import its types.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from shmkv import _core, segment
from shmkv import store as stores
from shmkv.store import Store

__all__ = ["Clock", "OpenStore", "shmkv_clock", "shmkv_no_leaks", "shmkv_open", "shmkv_store"]

SIZE = "4MiB"

_numbers = itertools.count(1)


# ---- stores -------------------------------------------------------------------------------------


class OpenStore(Protocol):
    """The type of `shmkv_open`."""

    def __call__(self, label: str | None = None, /, **options: Any) -> Store: ...


def _unique() -> str:
    return f"pytest-{os.getpid()}-{secrets.token_hex(4)}-{next(_numbers)}"


@pytest.fixture
def shmkv_open() -> Iterator[OpenStore]:
    """Opens stores: `shmkv_open()` a fresh one, `shmkv_open("web", evict=False)` one with a label.

    The same label is the same store within a test: another handle of it. The options are those of
    `shmkv.open`; the size is 4 MiB unless `size` says more, or nothing is to be created. The name
    is unique whatever the label: `store.name` has it. Everything is closed and unlinked at the end.
    """
    pid = os.getpid()
    names: dict[str, str] = {}
    with contextlib.ExitStack() as stack:

        def opener(label: str | None = None, /, **options: Any) -> Store:
            name = _unique() if label is None else names.setdefault(label, f"{_unique()}-{label}")
            if options.get("create", True) is not False and not options.get("readonly", False):
                options.setdefault("size", SIZE)
            store = stores.open(name, **options)
            stack.callback(segment.unlink, name, missing_ok=True, owner=options.get("owner"))
            stack.callback(store.close)
            return store

        yield opener
        if os.getpid() != pid:  # a fork of the test that came back here: nothing of this is its own
            stack.pop_all()


@pytest.fixture
def shmkv_store(shmkv_open: OpenStore) -> Store:
    """A fresh store of 4 MiB that evicts; other processes open it by `shmkv_store.name`."""
    return shmkv_open()


# ---- time ---------------------------------------------------------------------------------------


class Clock:
    """The clock by which this process judges deadlines. It goes on by itself and can be advanced.

    It cannot stand still: leave deadlines some slack. It is one for all stores of this process, it
    is not `time.time`, and it is not other processes' clock. Children made by fork keep it, moved
    as far as it was then. Spawned ones start with real time: give them `offset` and let them begin
    with `shmkv.testing.Clock().advance(offset)`. A deadline set under a moved clock lies as much
    later for who has not moved his.
    """

    def __init__(self) -> None:
        self._offset_ms = 0

    @property
    def offset(self) -> float:
        """Seconds by which it was advanced in all."""
        return self._offset_ms / 1000

    def advance(self, seconds: float | dt.timedelta) -> None:
        """Let time pass for every store of this process, at once."""
        if isinstance(seconds, dt.timedelta):
            seconds = seconds.total_seconds()
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds!r}: this clock goes forward only")
        self._offset_ms += round(seconds * 1000)
        _core.set_clock_offset(self._offset_ms)

    def reset(self) -> None:
        """Back to real time."""
        self._offset_ms = 0
        _core.set_clock_offset(0)


@pytest.fixture
def shmkv_clock() -> Iterator[Clock]:
    """A clock to advance, instead of sleeping until a deadline; real time returns at the end."""
    clock = Clock()
    try:
        yield clock
    finally:
        clock.reset()


# ---- leaks --------------------------------------------------------------------------------------


@pytest.fixture
def shmkv_no_leaks() -> Iterator[None]:
    """Fail a test that leaves stores of this user in /dev/shm. Nothing is removed.

    For all tests of a file: `pytestmark = pytest.mark.usefixtures("shmkv_no_leaks")`; for a whole
    project, an autouse fixture that asks for it. Stores of the fixtures above do not count, they go
    by themselves, nor do those that a process outside of this run has open (other runs, the
    program in use on this machine). Under pytest-xdist such a process may have closed its store and
    not yet unlinked it: check for leaks in a run of one process.
    """
    before = set(segment.names())
    yield
    new = [n for n in segment.names() if n not in before and not re.match(r"pytest-\d+-", n)]
    left = [name for name in new if not _in_use_elsewhere(name)]
    if left:
        pytest.fail(
            f"stores left in {segment.SHM}: {', '.join(left)}: close them and remove them with"
            " shmkv.unlink(name)",
            pytrace=False,
        )


def _in_use_elsewhere(name: str) -> bool:
    """Has a process that this one did not start mapped the store?"""
    path = segment.file_path(name, os.geteuid())
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError, ValueError):  # it has ended, or is not ours to look at
            if f" {path}\n" in maps.read_text() and not _is_ours(int(maps.parent.name)):
                return True
    return False


def _is_ours(pid: int) -> bool:
    """Is it this process or one that descends from it?"""
    while pid > 1 and pid != os.getpid():
        stat = Path("/proc", str(pid), "stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])  # the parent, after the name and the state
    return pid == os.getpid()
