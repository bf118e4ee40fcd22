"""How a store comes back: a new segment is filled from a snapshot and the journals after it.

Owns: `Comeback`, what fills a store, `Choice`, from which files, and `bring_back`, what `shmkv
restore` does.

Promises: nobody attaches before all is there; whatever goes wrong, nothing on disk was overwritten
and no segment is left. A newest snapshot that is damaged is passed over for the one before it, with
a warning, where the journals since then are there too. A journal counts as far as its rounds are
whole. Loading runs no code and believes no length.

Does not: choose files (`chain`), or know what is in a payload: the core stores it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from shmkv import _core, removal, segment
from shmkv.config import GROWTH, SIZE_MAX, Options
from shmkv.errors import PersistError
from shmkv.persist import chain, save
from shmkv.persist.blocks import Reader, opened
from shmkv.persist.chain import Plan
from shmkv.persist.directory import Directory, journal_name, snapshot_name
from shmkv.persist.fill import Fill
from shmkv.persist.format import (
    ALONE,
    EMPTY,
    OPT_ALWAYS,
    OPT_EVICT,
    OPT_JOURNAL,
    Begin,
    What,
)
from shmkv.persist.save import Progress
from shmkv.persist.trouble import Damaged, refused

StoreT = TypeVar("StoreT", bound=_core.Store)


class Choice:
    """Plans, from the newest snapshot to the oldest."""

    def __init__(self, folder: Directory, name: str | None = None) -> None:
        self._folder = folder
        self._name = name
        self._bad: dict[int, Damaged] = {}

    def plan(self) -> Plan:
        """The next one. Where there is none, what is wrong with the newest."""
        try:
            return chain.plan(self._folder, self._bad, self._name)
        except PersistError:
            for error in self._bad.values():
                raise error from None
            raise

    def pass_over(self, plan: Plan, error: Damaged) -> None:
        """Its snapshot is not whole. Raises what is no snapshot's damage."""
        number = plan.snapshot
        if number is None or error.path != self._folder.at(snapshot_name(number)):
            raise error
        self._bad[number] = error


class Comeback:
    """A store in the making: what it is made with, and what fills it."""

    def __init__(
        self,
        folder: Directory,
        plan: Plan,
        options: Options,
        progress: Progress | None = None,
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.options = as_it_was(options, plan.begin)
        self.journal = _journal_bits(options, plan.begin)
        self.filler = Fill(progress, _total(folder, plan) if progress else 0)

    def making(self) -> segment.Making:
        """What `segment.attach` is given."""
        random = int.from_bytes(os.urandom(8), "little")
        seed = random if self.plan.begin is None else self.plan.begin.seed
        return segment.Making(seed, self.journal, self.fill)

    def fill(self, store: _core.Store) -> None:
        """Load, replay, and begin the journal's next generation."""
        end = self.load(store)
        if self.plan.snapshot is not None:
            with self.folder.reader(snapshot_name(self.plan.snapshot)) as reader:
                store._saved(reader.end().ms, 0)
        if self.journal:
            self._begin_journal(store, end)
        self.folder.sweep()

    def load_only(self, store: _core.Store) -> None:
        """Load and replay into a store without a journal."""
        self.load(store)

    def load(self, store: _core.Store) -> int:
        """Load and replay; returns how many bytes of the last journal count."""
        plan, end = self.plan, 0
        if plan.snapshot is not None:
            with self.folder.reader(snapshot_name(plan.snapshot)) as reader:
                self.filler.snapshot(store, reader)
        for step in plan.steps:
            with self.folder.reader(journal_name(step.generation)) as reader:
                end = self.filler.journal(store, reader, step.counted)
        if self.journal and plan.steps:
            self._hold(journal_name(plan.steps[-1].generation))
        return end

    def _hold(self, name: str) -> None:
        """Its writer may have ended before it synced; the next generation says that it counts."""
        fd = self.folder.open(name)
        try:
            os.fsync(fd)
        except OSError as error:
            raise refused(error, "cannot sync", self.folder.at(name)) from None
        finally:
            os.close(fd)

    def _begin_journal(self, store: _core.Store, end: int) -> None:
        plan, generation = self.plan, self.plan.last + 1
        store._journal_open(self.folder.fd)
        if plan.begin is None:
            store._journal_begin(generation, EMPTY)
        elif plan.gap is not None:
            # What lies behind the gap must never be replayed: a snapshot begins anew.
            store._journal_begin(generation, ALONE)
            save.save_in(store, self.folder, generation=generation)
        elif plan.steps:
            store._journal_begin(generation, chain.after(plan.steps[-1].generation, end))
        else:
            assert plan.snapshot is not None
            # A snapshot without a journal gets its own; one begun by somebody who died goes.
            self.folder.remove(journal_name(plan.snapshot))
            store._journal_begin(plan.snapshot, ALONE)
        # Else every start would leave one. They go when the next one is there: numbers only rise.
        for number in plan.idle:
            self.folder.remove(journal_name(number))


def as_it_was(options: Options, begin: Begin | None) -> Options:
    """The options with what was not asked for as the files say."""
    if begin is None:
        return options
    size = options.size
    if size is None:
        size = min(begin.size, options.max_size or begin.size)
    most = options.max_size
    if most is None:
        most = begin.max_size if begin.max_size >= size else min(GROWTH * size, SIZE_MAX)
    evict = bool(begin.options & OPT_EVICT) if options.evict is None else options.evict
    return options._replace(size=size, max_size=most, evict=evict)


def _journal_bits(options: Options, begin: Begin | None) -> int:
    """The option bits of the journal the store shall have."""
    if options.journal is not None:
        always = _core.OPT_ALWAYS if options.journal == "always" else 0
        return _core.OPT_JOURNAL | always
    bits = 0 if begin is None else begin.options
    always = _core.OPT_ALWAYS if bits & OPT_ALWAYS else 0
    return _core.OPT_JOURNAL | always if bits & OPT_JOURNAL else 0


def _total(folder: Directory, plan: Plan) -> int:
    """Bytes to read."""
    names = [journal_name(step.generation) for step in plan.steps]
    if plan.snapshot is not None:
        names.append(snapshot_name(plan.snapshot))
    total = 0
    for name in names:
        with folder.reader(name) as reader:
            total += reader.size
    return total


# ---- shmkv restore ------------------------------------------------------------------------------


class Brought(NamedTuple):
    """What came back."""

    items: int
    expired: int
    """Items left out, their time having passed."""
    size: int
    notes: tuple[str, ...]


def bring_back(
    source: str,
    cls: type[StoreT],
    options: Options,
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> Brought:
    """Make a store, without a journal, of a snapshot or of a directory.

    With `replace` a store of that name is replaced when the new one is complete: who has the old
    one open goes on with it, as after `unlink`.
    """
    wanted, finish = options._replace(create="new", path=None), _nothing
    if replace:
        wanted, finish = _beside(wanted)
    source = os.path.abspath(source)
    if os.path.isdir(source):
        with Directory(source, owner=options.owner) as folder:
            return _from_folder(cls, folder, wanted, progress, finish)
    with Reader(opened(source), source) as reader:
        return _from_file(cls, reader, wanted, progress, finish)


def _nothing() -> None:
    """Is to be done: the store bears its name."""


def _beside(options: Options) -> tuple[Options, Callable[[], None]]:
    """A name for the new store, and what gives it the one of the old.

    That is done while the new one is open: what nobody has open was left by one who died, and goes.
    """
    uid = os.geteuid() if options.owner is None else options.owner
    begin = f".{options.name[:60]}."
    left = re.compile(re.escape(begin) + r"[0-9]+\.[0-9a-f]{8}")
    for name in segment.names(owner=options.owner):
        if left.fullmatch(name):
            removal.remove_unused(segment.file_path(name, uid))
    made = options._replace(name=f"{begin}{os.getpid()}.{os.urandom(4).hex()}")
    temporary, path = (segment.file_path(one.name, uid) for one in (made, options))

    def finish() -> None:
        try:
            os.rename(temporary, path)
        except OSError as error:
            segment.unlink(made.name, missing_ok=True, owner=options.owner)
            raise refused(error, "cannot replace the store", temporary) from None

    return made, finish


def _from_folder(
    cls: type[StoreT],
    folder: Directory,
    options: Options,
    progress: Progress | None,
    finish: Callable[[], None],
) -> Brought:
    choice = Choice(folder)
    while True:
        plan = choice.plan()
        if plan.begin is None:
            raise PersistError(f"{folder.path} holds no snapshot and no journal")
        comeback = Comeback(folder, plan, options, progress)
        making = segment.Making(plan.begin.seed, 0, comeback.load_only)
        try:
            store = segment.attach(cls, comeback.options, making)
        except Damaged as error:
            choice.pass_over(plan, error)
            continue
        return _brought(store, comeback.filler, plan.notes, finish)


def _from_file(
    cls: type[StoreT],
    reader: Reader,
    options: Options,
    progress: Progress | None,
    finish: Callable[[], None],
) -> Brought:
    if reader.file.what is not What.SNAPSHOT:
        raise PersistError(
            f"{reader.path} is a journal, which is nothing by itself: name the directory it lies in"
        )
    filler = Fill(progress, reader.size)

    def fill(store: _core.Store) -> None:
        filler.snapshot(store, reader)

    making = segment.Making(reader.begin.seed, 0, fill)
    store = segment.attach(cls, as_it_was(options, reader.begin), making)
    return _brought(store, filler, (), finish)


def _brought(
    store: _core.Store, filler: Fill, notes: tuple[str, ...], finish: Callable[[], None]
) -> Brought:
    try:
        finish()
        return Brought(len(store), filler.expired, store.size, notes)
    finally:
        store.close()
