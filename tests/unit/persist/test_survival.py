"""The table "what is there afterwards" of README.md, cell by cell, as the cells say it.

A worker in a process of its own writes FIRST, lets a second pass (what `everysec` waits for is
waited for, not slept), writes LAST, and says so: all of that was acknowledged. Then the event of
the row happens. What comes back must be what the cell says; an event or a cell that is new in the
table fails here until somebody plays it.

A reboot is played by killing everybody and unlinking the segment: memory is gone, files are as the
kernel had them. A power cut loses also what no `fsync` had put on the disk: files are cut to the
length they had at the last one.
"""

from __future__ import annotations

import os
import re
import resource
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv.persist import verify
from tests.conftest import STORE_SIZE
from tests.stress.support import Child, brood, until
from tests.unit.cli.conftest import Start, start
from tests.unit.daemon.saving import generations
from tests.unit.persist.conftest import Opener

__all__ = ["start"]
README = Path(__file__).parents[3] / "README.md"
FIRST = {f"first:{n}": n for n in range(50)}
LAST = {f"last:{n}": n for n in range(50)}
OPTIONS: dict[str, dict[str, Any]] = {
    "no `path=`": {},
    "`path=`, snapshots": {"path": True},
    '`journal="everysec"`': {"path": True, "journal": "everysec"},
    '`journal="always"`': {"path": True, "journal": "always"},
}
WORDS = {  # what of FIRST and LAST must be there
    "all": (True, True),
    "all but the last second": (True, None),
    "the last snapshot": (True, False),
    "nothing": (False, False),
}
ON_FULL = [
    "all in memory",
    "`snapshot` raises, the former one stays",
    "writes go on; the journal is broken until the next snapshot",
    "writes raise `PersistError`",
]


def table() -> dict[str, list[str]]:
    """The rows of the table by their event."""
    section = README.read_text().partition("\n## Disk\n")[2]
    lines = section[section.index("| event |") :].partition("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows.pop(0) == ["event", *OPTIONS]
    return {event: cells for event, *cells in rows[1:]}


class Life:
    """A store, its worker, and its daemon where one is wanted."""

    def __init__(self, name: str, options: dict[str, Any], child: Any) -> None:
        self.name, self.options, self._child = name, options, child
        self.folder = Path(options["path"]) if "path" in options else None
        self.synced = dict[str, int]()
        self._worker: Child | None = None

    def work(self) -> None:
        """Let the worker write FIRST and LAST and stay; all of it is acknowledged."""
        told, go = os.pipe(), os.pipe()

        def body() -> None:
            with shmkv.open(self.name, size=STORE_SIZE, **self.options) as store:
                self._write(store, told[1], go[0])
                signal.pause()

        self._worker = self._child(body)
        for word in (b"1", b"2"):
            ready, _, _ = select.select([told[0]], [], [], 60)
            assert ready, self._worker.text
            assert os.read(told[0], 1) == word
            if word == b"1" or self.options.get("journal") == "always":
                self.synced = self._lengths()
            os.write(go[1], b"g")
        for fd in (*told, *go):
            os.close(fd)

    def _write(self, store: shmkv.Store, told: int, go: int) -> None:
        store.update(FIRST)
        if self.options.get("journal") == "everysec":
            # A second later: what is written then is a round that is synced.
            until(lambda: _second_passed(store), "a round is synced")
        elif self.folder is not None and "journal" not in self.options:
            store.snapshot()
        os.write(told, b"1")
        os.read(go, 1)
        store.update(LAST)
        os.write(told, b"2")

    def _lengths(self) -> dict[str, int]:
        """Of the files, as they are on disk for certain."""
        if self.folder is None:
            return {}
        return {one.name: one.stat().st_size for one in self.folder.iterdir()}

    def kill_worker(self) -> None:
        assert self._worker is not None
        self._worker.end()

    def cut_power(self) -> None:
        """What was not synced is lost."""
        if self.folder is not None:
            for one in self.folder.iterdir():
                os.truncate(one, self.synced.get(one.name, 0))


def _second_passed(store: shmkv.Store) -> bool:
    """No change waits for the file, and the file for the disk; somebody writes now and then."""
    before = store._journal_state()
    store["tick"] = 0
    after = store._journal_state()
    assert before is not None
    assert after is not None
    return before["dirty"] == 0 and before["done"] > 1 and after["synced_ms"] < 500


@pytest.fixture
def life(store_name: str, folder: Path) -> Iterator[Callable[[dict[str, Any]], Life]]:
    """Make one for a column."""
    with brood() as child:

        def make(options: dict[str, Any]) -> Life:
            where = {"path": folder} if "path" in options else {}
            return Life(store_name, options | where, child)

        yield make


def one_is_killed(life: Life, start: Start) -> None:
    """The worker, then a daemon; somebody else has the store open throughout."""
    with shmkv.open(life.name, create=False) as store:
        life.kill_worker()
        where = ["--path", str(life.folder)] if life.folder else []
        daemon = start("daemon", "-f", "-s", life.name, *where)
        until(lambda: store._daemon(False), "a daemon works")
        daemon.kill()
        daemon.wait(30)


def all_are_killed(life: Life, start: Start) -> None:
    where = ["--path", str(life.folder)] if life.folder else []
    daemon = start("daemon", "-f", "-s", life.name, *where)
    with shmkv.open(life.name, readonly=True) as look:
        until(lambda: look._daemon(False), "a daemon works")
    daemon.kill()
    life.kill_worker()
    daemon.wait(30)


def memory_goes(life: Life, _start: Start) -> None:
    life.kill_worker()
    shmkv.unlink(life.name)


def power_is_cut(life: Life, start: Start) -> None:
    memory_goes(life, start)
    life.cut_power()


EVENTS = {
    "a worker, or the daemon, is killed": one_is_killed,
    "all processes are killed, or their container restarts and `/dev/shm` stays": all_are_killed,
    "the container restarts and `/dev/shm` is new; the segment is unlinked": memory_goes,
    "the machine reboots": memory_goes,
    "power cut, kernel crash": power_is_cut,
}
FULL = "the disk is full or refuses"


def test_every_cell_is_played() -> None:
    rows = table()
    assert list(rows) == [*EVENTS, FULL]
    assert rows[FULL] == ON_FULL
    for event in EVENTS:
        assert len(rows[event]) == len(OPTIONS)
        assert set(rows[event]) <= set(WORDS)


@pytest.mark.parametrize("column", range(len(OPTIONS)), ids=["none", "path", "everysec", "always"])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: re.sub(r"\W+", "-", event)[:24])
def test_what_is_there_afterwards(
    event: str, column: int, life: Callable[..., Life], start: Start, open_store: Opener
) -> None:
    one = life(list(OPTIONS.values())[column])
    one.work()
    EVENTS[event](one, start)
    store = open_store(**one.options)
    found = {key: value for key, value in store.items() if key != "tick"}
    first, last = WORDS[table()[event][column]]
    assert FIRST.items() <= found.items() if first else not FIRST.keys() & found.keys()
    if last is not None:
        assert LAST.items() <= found.items() if last else not LAST.keys() & found.keys()
    assert found.items() <= (FIRST | LAST).items()
    assert store.check()
    assert one.folder is None or verify(str(one.folder))


# ---- a disk that is full ------------------------------------------------------------------------


def is_full(longest: int) -> None:
    """From now on no file of this process grows beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest, resource.RLIM_INFINITY))


def longest(folder: Path) -> int:
    return max(one.stat().st_size for one in folder.iterdir())


def test_a_full_disk_without_a_journal(folder: Path, open_store: Opener, reborn: Opener) -> None:
    store = open_store(path=folder)
    store.update(FIRST)
    store.snapshot()

    def full() -> None:
        is_full(longest(folder))
        store.update(LAST)
        with pytest.raises(shmkv.PersistError, match="cannot save"):
            store.snapshot()

    with brood() as child:
        child(full).good()
    assert dict(store) == FIRST | LAST, "all is in memory"
    assert generations(folder) == [1]
    assert not list(folder.glob("*.part"))
    assert dict(reborn(store, path=folder)) == FIRST


def test_a_full_disk_with_everysec(
    folder: Path, open_store: Opener, reborn: Opener, store_name: str
) -> None:
    store = open_store(path=folder, journal="everysec")
    store.update(FIRST)
    store._journal_sync()

    def full() -> None:
        is_full(longest(folder))
        with shmkv.open(store_name, path=folder, create=False, lock_timeout=0.05) as own:
            for n in range(200_000):
                own.set(b"%d" % n, n)
                if n % 1000 == 0 and own.stats().journal_broken:
                    break
            own["written"] = n

    with brood() as child:
        child(full).good()
    assert store.stats().journal_broken
    assert len(store) > len(FIRST) + store["written"]
    store.snapshot()  # there is room again
    assert not store.stats().journal_broken
    store.update(LAST)
    store._journal_sync()
    kept = dict(store)
    assert dict(reborn(store, path=folder)) == kept


def test_a_full_disk_with_always(
    folder: Path, open_store: Opener, reborn: Opener, store_name: str
) -> None:
    store = open_store(path=folder, journal="always")
    store.update(FIRST)

    def full() -> None:
        is_full(longest(folder))
        with shmkv.open(store_name, path=folder, create=False, lock_timeout=0.05) as own:
            for key, value in list(LAST.items())[:5]:
                with pytest.raises(shmkv.PersistError):
                    own[key] = value

    with brood() as child:
        child(full).good()
    store["after"] = 1  # there is room again
    found = dict(reborn(store, path=folder))
    assert (FIRST | {"after": 1}).items() <= found.items() <= (FIRST | LAST | {"after": 1}).items()
