"""`open(path=...)`: the store of a directory, attached to, brought back, or new.

Owns: `open_store`, and which directory belongs to which store.

Promises: of several that open at once one does the work and the others wait for it. Who attaches to
a store that is in memory with the directory of another one is refused, before anything is written.

Does not: fill a store (`restore`).
"""

from __future__ import annotations

import os
import warnings
from typing import TypeVar

from shmkv import _core, filling, segment
from shmkv.config import Options
from shmkv.errors import Mismatch, NotFound, PersistError
from shmkv.persist.directory import Directory, journal_name, snapshot_name
from shmkv.persist.format import Begin
from shmkv.persist.restore import Choice, Comeback
from shmkv.persist.trouble import Damaged

StoreT = TypeVar("StoreT", bound=_core.Store)
LOCK_S = 5.0  # at least, to wait for the directory: the daemon of a removed store ends within


def open_store(cls: type[StoreT], options: Options) -> StoreT:
    """The store of a directory: attached to, or brought back, or new."""
    assert options.path is not None
    creates = options.create is not False and not options.readonly
    others = options.mode if options.mode & 0o022 else 0
    with Directory(options.path, make=creates, owner=options.owner, mode=others) as folder:
        if options.create != "new" or not creates:
            try:
                store = segment.attach(cls, options._replace(create=False))
            except NotFound:
                if not creates:
                    raise
            else:
                return _joined(store, folder, options)
        uid = os.geteuid() if options.owner is None else options.owner

        def patient() -> bool:
            return filling.going_on(options.name, uid)

        with folder.locked(max(options.lock_timeout, LOCK_S), patient=patient):
            return _under_lock(cls, folder, options)


def _under_lock(cls: type[StoreT], folder: Directory, options: Options) -> StoreT:
    """Look again, then create: nobody else restores from this directory meanwhile."""
    if options.create != "new":
        try:
            store = segment.attach(cls, options._replace(create=False))
        except NotFound:
            pass
        else:
            return _joined(store, folder, options)
    choice = Choice(folder, options.name)
    while True:
        comeback = Comeback(folder, choice.plan(), options)
        try:
            store = segment.attach(cls, comeback.options, comeback.making())
        except Damaged as error:
            choice.pass_over(comeback.plan, error)
            continue
        if not store._created:
            return _joined(store, folder, options)
        for note in comeback.plan.notes:
            warnings.warn(f"store {options.name!r}: {note}", RuntimeWarning, stacklevel=4)
        return store


def _joined(store: StoreT, folder: Directory, options: Options) -> StoreT:
    """A store that is in memory already: this process may do its journal's work."""
    try:
        state = None if options.readonly else store._journal_state()
        if state is not None:
            _is_its_folder(store, folder, state["generation"])
            store._journal_open(folder.fd)
        _is_nobody_elses(store, folder)
    except BaseException:
        store.close()
        raise
    return store


def _is_its_folder(store: _core.Store, folder: Directory, generation: int) -> None:
    """The directory must hold the journal that the store writes now."""
    name, seed = journal_name(generation), store._geometry()["seed"]
    begin: Begin | None = None
    if generation in folder.files().journals:
        with folder.reader(name) as reader:
            begin = reader.begin
    if begin is None or (begin.seed, begin.name) != (seed, store.name):
        raise Mismatch(
            f"store {store.name!r} writes its journal elsewhere: {folder.path} has no {name} of it."
            " Open it with the path= it was created with, or without"
        )


def _is_nobody_elses(store: _core.Store, folder: Directory) -> None:
    """The newest snapshot that can be read must be of this store: the next one lies beside it."""
    for number in reversed(folder.files().snapshots):
        try:
            with folder.reader(snapshot_name(number)) as reader:
                name = reader.begin.name
        except Damaged:
            continue
        if name != store.name:
            raise PersistError(
                f"{folder.path} belongs to the store {name!r}, not to {store.name!r}: a store needs"
                " a directory of its own"
            )
        return
