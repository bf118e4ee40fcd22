"""The disk fails at every step of saving, coming back and the journal: old or new, never half.

Every call of the system that the package makes is counted; the n-th fails with ENOSPC or EIO, or
nothing is done any more from there on (a death). What a store comes back as must be the state
before or the state after.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv.persist import verify
from tests.unit.persist.byhand import ALONE, Hand
from tests.unit.persist.conftest import Opener

CALLS = ["open", "writev", "fsync", "rename", "unlink", "preadv", "pread", "fstat", "listdir"]
CALLS += ["mkdir", "pwrite", "ftruncate"]
MOST = 200


class Death(BaseException):
    """The process ends here: nothing that comes after is done."""


class Shim:
    """Counts calls and lets one fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails_at = 0
        self.error: BaseException = OSError()
        self.seen = 0
        self.dead = False
        self.failed = ""
        for name in CALLS:
            monkeypatch.setattr(os, name, self._counted(name, getattr(os, name)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **how: Any) -> Any:
            if self.fails_at and not self._outside(args):
                self.seen += 1
                if self.dead:
                    raise self.error
                if self.seen == self.fails_at:
                    self.failed = name
                    self.dead = isinstance(self.error, Death)
                    raise self.error
            return call(*args, **how)

        return counted

    def _outside(self, args: tuple[Any, ...]) -> bool:
        """Is it about the segment, which is memory?"""
        return bool(args) and isinstance(args[0], str) and args[0].startswith("/dev/shm")

    def run(self, step: Callable[[], Any], n: int, error: BaseException) -> bool:
        """Do it with the n-th call failing; False: it makes fewer."""
        self.fails_at, self.error, self.seen, self.dead, self.failed = n, error, 0, False, ""
        try:
            step()
        except (shmkv.Error, OSError, Death):
            pass
        finally:
            self.fails_at = 0
        return bool(self.failed)


@pytest.fixture
def shim(monkeypatch: pytest.MonkeyPatch) -> Shim:
    """Calls of the system, failing on demand."""
    return Shim(monkeypatch)


def errors() -> Iterator[BaseException]:
    """What happens."""
    yield OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    yield OSError(errno.EIO, os.strerror(errno.EIO))
    yield Death()


@pytest.fixture(params=[0, 1, 2], ids=["full", "broken", "dead"])
def error(request: pytest.FixtureRequest) -> BaseException:
    """How a call fails."""
    return list(errors())[request.param]


def leftovers(folder: Path) -> list[str]:
    """Files that should not stay."""
    return [one.name for one in folder.iterdir() if one.name.endswith(".part")]


def test_a_file_is_the_old_or_the_new(
    tmp_path: Path, open_store: Opener, shim: Shim, error: BaseException
) -> None:
    store, path = open_store(), tmp_path / "copy.shmkv"
    for n in range(1, MOST):
        path.unlink(missing_ok=True)
        store["a"] = "old"
        store.snapshot(path)
        old = path.read_bytes()
        store["a"] = "new"
        done = not shim.run(lambda: store.snapshot(path), n, error)
        assert verify(str(path)), (n, shim.failed)
        if path.read_bytes() == old:
            assert not done
        elif not isinstance(error, Death):
            assert done or shim.failed in ("fsync", "rename", "listdir", "open"), shim.failed
        if not isinstance(error, Death):
            assert leftovers(tmp_path) == [], (n, shim.failed)
        for name in leftovers(tmp_path):
            (tmp_path / name).unlink()
        if done:
            break
    assert 8 < n < MOST - 1


@pytest.mark.parametrize("journal", [None, "always"])
def test_a_directory_always_comes_back(
    folder: Path,
    open_store: Opener,
    reborn: Opener,
    shim: Shim,
    error: BaseException,
    journal: Any,
) -> None:
    store = open_store(path=folder, journal=journal)
    store["a"] = 0
    store.snapshot()
    saved = 0
    for n in range(1, MOST):
        store["a"] = n
        done = not shim.run(store.snapshot, n, error)
        if not isinstance(error, Death):
            assert leftovers(folder) == [], (n, shim.failed)
        store = reborn(store, path=folder)
        assert store["a"] in ((n,) if journal or done else (n, saved)), (n, shim.failed)
        assert leftovers(folder) == []
        saved = store["a"]
        if done:
            break
    assert 12 < n < MOST - 1


@pytest.mark.parametrize("journal", [None, "always"])
def test_coming_back_fails_and_works_the_next_time(
    hand: Hand,
    open_store: Opener,
    reborn: Opener,
    shim: Shim,
    error: BaseException,
    journal: Any,
    store_name: str,
) -> None:
    hand.snapshot(1, {"a": 1}, options=3 if journal else 1)
    if journal:
        hand.journal(1, [{"a": 2}], previous=ALONE)
    before = hand.seen()
    handles: list[shmkv.Store] = []

    def attempt() -> None:
        handles.append(shmkv.open(store_name, path=hand.path))

    for n in range(1, MOST):
        shmkv.unlink(store_name, missing_ok=True)
        for name in hand.seen().keys() - before.keys():
            (hand.path / name).unlink()
        done = not shim.run(attempt, n, error)
        for handle in handles:
            handle.close()
        if not handles and not isinstance(error, Death):
            assert store_name not in shmkv.names(), (n, shim.failed)
        handles.clear()
        after = hand.seen()
        assert {name: after.get(name) for name in before} == before, (n, shim.failed)
        with reborn(path=hand.path) as store:
            assert dict(store) == {"a": 2 if journal else 1}, (n, shim.failed)
        if done:
            break
    assert 12 < n < MOST - 1


def test_full_is_said_clearly(tmp_path: Path, open_store: Opener, shim: Shim) -> None:
    store, said = open_store(), list[shmkv.PersistError]()

    def attempt() -> None:
        try:
            store.snapshot(tmp_path / "copy.shmkv")
        except shmkv.PersistError as error:
            said.append(error)
            raise

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for n in range(1, MOST):
        before = len(said)
        if not shim.run(attempt, n, full):
            break
        # A folder that cannot be listed can be saved into: only leftovers stay.
        assert len(said) == before + (shim.failed != "listdir"), shim.failed
    assert 8 < len(said) < MOST - 1
    for error in said:
        assert error.errno == errno.ENOSPC
        assert "No space left on device" in str(error)
        assert "make room there" in str(error)


def test_a_gap_is_closed_by_a_snapshot(hand: Hand, reborn: Opener, shim: Shim) -> None:
    hand.snapshot(1, {"a": 1}, options=3)
    hand.journal(1, [{"a": 2}], previous=ALONE)
    hand.journal(2, [{"a": 4}], previous=ALONE)
    with pytest.warns(RuntimeWarning, match="changes could not be written"):
        store = reborn(path=hand.path)
    assert dict(store) == {"a": 2}
    store["b"] = 1
    store._journal_sync()
    assert hand.snapshot_path(3).exists()
    assert dict(reborn(store, path=hand.path)) == {"a": 2, "b": 1}


def test_an_older_snapshot_takes_over(hand: Hand, reborn: Opener) -> None:
    hand.snapshot(1, {"a": 1}, options=3)
    hand.journal(1, [{"a": 2}], previous=ALONE)
    hand.journal(2, [{"b": 3}], after=1)
    path = hand.snapshot(2, {"a": 2}, options=3)
    data = bytearray(path.read_bytes())
    data[-120] ^= 1  # in an item: seen only when it is loaded
    path.write_bytes(data)
    with pytest.warns(RuntimeWarning, match="snapshot-0000000002.shmkv is damaged"):
        store = reborn(path=hand.path)
    assert dict(store) == {"a": 2, "b": 3}
