"""What is done with the disk while a process dies or a call fails, and what must be there then.

Owns: `SCENES`: saves into a directory and into a file, by the library and by the command line;
rounds, acknowledged writes, a new generation, a torn tail; coming back by `open(path=)` and by
`shmkv restore`; a daemon that leads rounds and saves. A scene prepares in the child, acts there,
and says which states may be found afterwards: those after so many of `CHANGES`.

Does not: end processes, or judge (disk_deaths).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import shmkv
from shmkv import launch
from shmkv.cli import main as command_line
from shmkv.config import judge
from shmkv.daemon import loop, saver, turn
from shmkv.daemon.notify import Told
from shmkv.daemon.stop import Stop
from shmkv.persist import bring_back
from tests.conftest import MIB, SHM

Content = dict[str, Any]
SIZE = 4 * MIB
PATIENCE = 1.0  # seconds that a write waits for a disk that refuses
LONG = bytes(range(256)) * 1100  # in pieces
BASE: Content = {"a": 1, "b": "text", "c": b"\0" * 90, "gone": None, "long": LONG, "n": [1, (2,)]}
CHANGES: list[tuple[str, Any]] = [
    ("a", 2),
    ("new", "x" * 300),
    ("gone", shmkv.errors.Error),  # deleted; see `changed`
    ("long", LONG[::-1]),
    ("a", 3),
]
_GONE = shmkv.errors.Error
ALL = len(CHANGES)


def changed(count: int) -> Content:
    """The items after so many changes."""
    found = dict(BASE)
    for key, value in CHANGES[:count]:
        if value is _GONE:
            del found[key]
        else:
            found[key] = value
    return found


class Stage:
    """A store's name, its directory, and the way back to how they were."""

    def __init__(self, root: Path, name: str, journal: str | None, scene: str) -> None:
        self.name = name
        self.root = root
        self.folder = root / "store"
        self.file = root / "copy.shmkv"
        self.kept = root.parent / f"{root.name}.kept"
        self.journal = journal
        self.scene = scene
        self.acknowledged = mmap.mmap(-1, 4096)
        launch.ensure = lambda *args, **how: None  # no daemon but the scene's own

    def make(self) -> None:
        """The files to begin with: a snapshot, and journals after it."""
        shmkv.unlink(self.name, missing_ok=True)
        self.root.mkdir()
        options: Any = {"size": SIZE, "path": self.folder, "journal": self.journal}
        with shmkv.open(self.name, **options) as store:
            store.set_many({key: value for key, value in BASE.items() if key != "n"})
            store.snapshot(self.file)
            store.snapshot()
            store["n"] = BASE["n"]
            if self.journal is None:
                store.snapshot()
            else:
                store._journal_sync()
        shmkv.unlink(self.name)
        shutil.rmtree(self.kept, ignore_errors=True)
        shutil.copytree(self.root, self.kept)

    def reset(self) -> None:
        """Nothing in memory, and the files as they were."""
        self.forget()
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.kept, self.root)
        self.acknowledged[0] = 0

    def forget(self) -> None:
        """As a reboot does: what is in memory is gone."""
        for left in SHM.glob(f"shmkv.{os.geteuid()}.*{self.name}*"):
            left.unlink(missing_ok=True)

    def open(self, folder: Path | None = None, **options: Any) -> shmkv.Store:
        """The store of the directory."""
        return shmkv.open(self.name, path=folder or self.folder, **{"lock_timeout": 3.0, **options})

    def end(self) -> None:
        """Nothing is left."""
        self.forget()
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.kept, ignore_errors=True)
        self.acknowledged.close()


Act = Callable[[], object]
Prepare = Callable[[Stage], Act]


class Scene(NamedTuple):
    """What is done, in a child, and what may be found afterwards."""

    prepare: Prepare
    journal: str | None
    disk: tuple[int, ...]
    """So many changes may be on disk when it did not come to its end; negative: acknowledged ones
    and one more."""
    goal: int
    """So many are when it did."""
    daemon: bool = False


SCENES: dict[str, Scene] = {}


def scene(
    journal: str | None, disk: tuple[int, ...], goal: int, *, daemon: bool = False
) -> Callable[[Prepare], Prepare]:
    """Enter a function as a scene."""

    def enter(prepare: Prepare) -> Prepare:
        SCENES[prepare.__name__] = Scene(prepare, journal, disk, goal, daemon)
        return prepare

    return enter


def change(store: shmkv.Store, stage: Stage | None = None) -> None:
    """All the changes, each one told when it is acknowledged."""
    for count, (key, value) in enumerate(CHANGES, 1):
        if value is _GONE:
            del store[key]
        else:
            store[key] = value
        if stage is not None:
            stage.acknowledged[0] = count


def opened(stage: Stage) -> shmkv.Store:
    """The store, with all the changes made."""
    store = stage.open()
    change(store)
    return store


# ---- saving -------------------------------------------------------------------------------------


@scene(None, (0, ALL), ALL)
def save(s: Stage) -> Act:
    return opened(s).snapshot


@scene("always", (ALL,), ALL)
def save_journaled(s: Stage) -> Act:
    return opened(s).snapshot


@scene("everysec", tuple(range(ALL + 1)), ALL)
def save_everysec(s: Stage) -> Act:
    return opened(s).snapshot


@scene(None, (0,), 0)
def save_file(s: Stage) -> Act:
    store = opened(s)
    return lambda: store.snapshot(s.file)


def _called(*words: object) -> Act:
    """The command line, in this process."""
    sys.argv = ["shmkv", *map(str, words)]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)

    def act() -> None:
        try:
            command_line()
        except SystemExit as end:
            if end.code:
                raise shmkv.PersistError(f"the command line ended with {end.code}") from None

    return act


@scene("always", (ALL,), ALL)
def cli_snapshot(s: Stage) -> Act:
    store = opened(s)
    act = _called("snapshot", "-s", s.name, "--path", s.folder)
    store.close()
    return act


# ---- the journal --------------------------------------------------------------------------------


@scene("everysec", tuple(range(ALL + 1)), ALL)
def round_(s: Stage) -> Act:
    return opened(s)._journal_sync


@scene("always", (-1,), ALL)
def writes(s: Stage) -> Act:
    store = s.open(lock_timeout=PATIENCE)
    return lambda: change(store, s)


@scene("always", (ALL,), ALL)
def rotation(s: Stage) -> Act:
    return opened(s)._journal_next


@scene("everysec", tuple(range(ALL + 1)), ALL)
def torn_tail(s: Stage) -> Act:
    """A leader died in its append: the next one begins a generation."""
    store = opened(s)
    newest = max(s.folder.glob("journal-*"))
    with newest.open("ab") as file:
        file.write(b"SVKB\4 half a block")
    return store._journal_sync


# ---- coming back --------------------------------------------------------------------------------


@scene("always", (0,), 0)
def come_back(s: Stage) -> Act:
    return s.open


@scene(None, (0,), 0)
def come_back_plain(s: Stage) -> Act:
    (s.folder / "snapshot-0000000009.part").write_bytes(b"SHMKVDSK of a dead saver")
    return s.open


@scene("always", (0,), 0)
def come_back_behind_a_gap(s: Stage) -> Act:
    """Changes were lost before a generation whose snapshot never came: a save goes with it."""
    store = s.open()
    folder = os.open(s.folder, os.O_RDONLY)
    store._journal_begin(90, (1 << 64) - 1)
    os.close(folder)
    store.close()
    s.forget()
    return s.open


def restored_name(s: Stage) -> str:
    """What `shmkv restore` makes."""
    return f"{s.name}-r"


@scene("always", (0,), 0)
def cli_restore(s: Stage) -> Act:
    return _called("restore", s.folder, restored_name(s))


@scene("always", (0,), 0)
def cli_replace(s: Stage) -> Act:
    with shmkv.open(restored_name(s), size=SIZE) as old:
        old["old"] = 1
    return _called("restore", "--replace", s.folder, restored_name(s))


# ---- a daemon -----------------------------------------------------------------------------------


class _UntilSaved(Stop):
    """Stops when the directory has another snapshot, or could not be listed twice in a row."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._before = self._snapshots()
        self._blind = 0

    def is_set(self) -> bool:
        try:
            found = self._snapshots()
        except OSError:
            self._blind += 1
            return self.gave_up
        self._blind = 0
        return found != self._before

    @property
    def gave_up(self) -> bool:
        return self._blind >= 2

    def _snapshots(self) -> set[str]:
        names = os.listdir(self._folder)  # which says what was refused
        return {name for name in names if name.startswith("snapshot-") and name.endswith(".shmkv")}


@scene("everysec", tuple(range(ALL + 1)), ALL, daemon=True)
def daemon(s: Stage) -> Act:
    """It leads rounds and saves; both in threads of their own."""
    store = opened(s)
    saver.LOOK_S = 0.01
    task = turn.Task(name=s.name, owner=None, mode=0o600, standby=False, folder=str(s.folder))

    @contextlib.contextmanager
    def beside(held: shmkv.Store) -> Iterator[None]:
        mine = saver.Saver(held, str(s.folder))
        mine.ask()
        with mine.running():
            yield

    stop = _UntilSaved(s.folder)

    def act() -> None:
        result = loop.serve(task, stop, Told(), beside=beside)
        if stop.gave_up or result.end is not loop.End.STOPPED:
            raise shmkv.PersistError(f"not saved: {result.text}")
        store.close()

    return act


# ---- looking ------------------------------------------------------------------------------------


def content(store: shmkv.Store) -> Content:
    """All items."""
    return {str(key): store[key] for key in store}


def of_file(stage: Stage, path: Path) -> Content:
    """What a snapshot holds, brought back under another name."""
    name = f"{stage.name}-f"
    bring_back(str(path), shmkv.Store, judge(name, create="new"))
    try:
        with shmkv.open(name, create=False) as store:
            return content(store)
    finally:
        shmkv.unlink(name)


@contextlib.contextmanager
def staged(name: str, store_name: str) -> Iterator[Stage]:
    """A stage for a scene, which is gone afterwards. Its files lie in memory: a death of a process
    loses nothing that the kernel has, and nobody waits for a disk."""
    with tempfile.TemporaryDirectory(prefix="disk-", dir=SHM) as folder:
        stage = Stage(Path(folder, "d"), store_name, SCENES[name].journal, name)
        try:
            stage.make()
            yield stage
        finally:
            stage.end()
