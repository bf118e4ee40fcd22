"""Fixtures every test may use.

Owns: unique store names that are unlinked whatever happens, a store of a handy size, a factory for
further handles, a clock that tests move by hand, and the watch over /dev/shm.

Promises: a test that asks for `store_name`, `new_name`, `store` or `open_store` leaves no handle
open and no segment behind, also when it fails. The suite fails when /dev/shm holds more `shmkv.`
entries at its end than at its start; those of another test run that still lives, or that a
process of another run has mapped, do not count, nor what goes by itself: what is met between its
making and its removal is some other process's.

Does not: start processes, or create anything for tests that ask for nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv import _core
from shmkv.config import OPTIONS

SHM = Path("/dev/shm")
MIB = 1 << 20
STORE_SIZE = 8 * MIB
GONE_S = 10.0  # what is left stays for ever; what others make may be about to go

for _option in OPTIONS:  # of the person who runs the tests
    os.environ.pop(_option.variable or "", None)

_run_tag = f"t{os.getpid()}-{secrets.token_hex(3)}"
_numbers = itertools.count(1)


def unique_name() -> str:
    """A store name no other test, run or user has; it carries this run's process id."""
    return f"{_run_tag}-{next(_numbers)}"


def segment_path(name: str) -> Path:
    """The file that backs the store `name` of this user."""
    return SHM / f"shmkv.{os.getuid()}.{name}"


def segment_entries() -> set[str]:
    """Names of all shmkv segments of this machine."""
    return {entry.name for entry in SHM.iterdir() if entry.name.startswith("shmkv.")}


def _of_other_living_run(entry: str) -> bool:
    found = re.fullmatch(r"shmkv\.\d+\.\.?[a-z]+-?(\d+)(?:-.*)?", entry)  # all tests name them so
    if found is None or int(found[1]) == os.getpid():
        return False
    return Path("/proc", found[1]).exists()


def _mapped_in_other_session(entry: str) -> bool:
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # the process has ended, or is not ours to look at
            other = os.getsid(int(maps.parent.name)) != os.getsid(0)
            if other and f"/{entry}\n" in maps.read_text():
                return True
    return False


def _new_since(before: set[str]) -> set[str]:
    new = segment_entries() - before
    return {e for e in new if not (_of_other_living_run(e) or _mapped_in_other_session(e))}


@pytest.fixture(scope="session", autouse=True)
def shm_is_left_as_found() -> Iterator[None]:
    """Fail the run when it leaves segments; what is left of ours is removed after the report."""
    before = segment_entries()
    yield
    left, end = _new_since(before), time.monotonic() + GONE_S
    while any(_run_tag not in entry for entry in left) and time.monotonic() < end:
        time.sleep(0.01)  # between two looks, for GONE_S at most
        left &= _new_since(before)
    for entry in left:
        if _run_tag in entry:
            (SHM / entry).unlink(missing_ok=True)
    assert not left, f"segments left in /dev/shm: {sorted(left)}"


@pytest.fixture
def new_name() -> Iterator[Callable[[], str]]:
    """A factory of unique names; each is unlinked at the end."""
    with contextlib.ExitStack() as stack:

        def make() -> str:
            name = unique_name()
            stack.callback(shmkv.unlink, name, missing_ok=True)
            return name

        yield make


@pytest.fixture
def store_name(new_name: Callable[[], str]) -> str:
    """One unique name, unlinked at the end."""
    return new_name()


@pytest.fixture
def open_store(store_name: str) -> Iterator[Callable[..., shmkv.Store]]:
    """`shmkv.open`, by default of `store_name` with 8 MiB; every handle is closed at the end."""
    handles: list[shmkv.Store] = []

    def opener(name: str = store_name, **options: Any) -> shmkv.Store:
        attaches = options.get("create") is False or options.get("readonly", False)
        if not attaches:
            options.setdefault("size", STORE_SIZE)
        handle = shmkv.open(name, **options)
        handles.append(handle)
        return handle

    yield opener
    with contextlib.ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.close)


@pytest.fixture
def store(open_store: Callable[..., shmkv.Store]) -> shmkv.Store:
    """A fresh, evicting store of 8 MiB."""
    return open_store()


class Clock:
    """The store's clock of this process, moved by hand."""

    def __init__(self) -> None:
        self._offset_ms = 0

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass for every store of this process."""
        self._offset_ms += round(seconds * 1000)
        _core.set_clock_offset(self._offset_ms)

    def reset(self) -> None:
        """Back to real time."""
        self._offset_ms = 0
        _core.set_clock_offset(0)

    @staticmethod
    def now_ms() -> int:
        """What the stores take for the present."""
        return _core.clock_ms()


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock to advance; real time returns at the end."""
    hand = Clock()
    try:
        yield hand
    finally:
        hand.reset()
