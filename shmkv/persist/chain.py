"""Which files of a directory make up a store: a snapshot, and journals as far as they count.

Owns: `plan`, the choice of the newest snapshot that looks whole, and the way of the journals: from
the highest generation that holds a whole round, back along `previous`, to the snapshot's own or to
an empty store. Of snapshots only BEGIN and END are read; whoever reads the rest tells of damage by
`bad`. A journal that goes on after nothing but its own snapshot (`ALONE`) was begun because changes
could not be written: if that snapshot never came, the store ends before this *gap*.

Promises: what is missing or of another store raises PersistError; nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import NamedTuple

from shmkv.errors import PersistError
from shmkv.persist import directory as names
from shmkv.persist.blocks import Reader
from shmkv.persist.directory import Directory
from shmkv.persist.format import ALONE, EMPTY, HEAD_MOST, OPT_JOURNAL, Begin, Flag, What
from shmkv.persist.trouble import Damaged

_SHIFT = 40  # `previous`: a generation, and below it a length
_LENGTH = (1 << _SHIFT) - 1


class Journal(NamedTuple):
    """A journal, by its head."""

    generation: int
    begin: Begin | None
    """None: its maker died before it was whole."""
    head: int
    """Bytes of it that are header and BEGIN."""
    size: int
    round: bool
    """Does it hold a whole round?"""


class Step(NamedTuple):
    """A journal to replay."""

    generation: int
    counted: int | None
    """So many bytes of it; None: its longest prefix of whole rounds."""


class Plan(NamedTuple):
    """How the store comes back."""

    snapshot: int | None
    """Its generation; None: it begins empty."""
    begin: Begin | None
    """What the store was made with, as the newest file says; None: there is nothing on disk."""
    steps: tuple[Step, ...]
    gap: int | None
    """The journal from which on nothing can be used, if there is one."""
    last: int
    """The highest generation of a file."""
    journaled: bool
    """Does a journal belong to it?"""
    notes: tuple[str, ...]
    """What a person should know."""
    idle: tuple[int, ...] = ()
    """Journals behind the last step that nobody has written to: heads, and nothing else."""


def after(generation: int, counted: int) -> int:
    """`previous` of a journal that goes on after so many bytes of that one."""
    return generation << _SHIFT | counted


def plan(directory: Directory, bad: Collection[int] = (), name: str | None = None) -> Plan:
    """How the store of a directory comes back; snapshots in `bad` are known not to be whole.

    `name`: the files must be of that store. Raises PersistError, Damaged.
    """
    return _Planner(directory, name).plan(bad)


class _Planner:
    """What is in a directory, by its heads."""

    def __init__(self, directory: Directory, name: str | None) -> None:
        self.directory = directory
        self.name = name
        self.files = directory.files()
        self.journals = {number: self._journal(number) for number in self.files.journals}
        self.notes: list[str] = []

    def plan(self, bad: Collection[int]) -> Plan:
        """The choice."""
        first: Damaged | None = None
        for number in reversed(self.files.snapshots):
            path = self.directory.at(names.snapshot_name(number))
            if number in bad:
                self.notes.append(f"{path} is damaged: what came before it is used")
                continue
            try:
                begin = self._snapshot(number)
            except Damaged as error:
                self.notes.append(f"{error}: what came before it is used")
                first = first or error
            else:
                return self._made(number, begin)
        begun = [one for one in self.journals.values() if one.begin is not None]
        if not begun and not self.files.snapshots:
            return Plan(None, None, (), None, self.files.last, False, ())
        try:
            if begun:
                return self._made(None, None)
        except PersistError:
            if not self.files.snapshots:
                raise
        raise first or PersistError(
            f"{self.directory.path}: none of its snapshots is whole (see: shmkv verify"
            f" {self.directory.path}); nothing was changed"
        )

    # ---- heads ----------------------------------------------------------------------------------

    def _journal(self, number: int) -> Journal:
        """A journal by its head; one that nobody finished has none."""
        name = names.journal_name(number)
        try:
            with self.directory.reader(name) as reader:
                if reader.file.what is not What.JOURNAL:
                    raise Damaged(reader.path, "it is no journal, though it is called so")
                if reader.begin.generation != number:
                    raise PersistError(
                        f"{reader.path} is of generation {reader.begin.generation}: it was renamed"
                    )
                return Journal(
                    number, reader.begin, reader.begin_end, reader.size, _has_round(reader)
                )
        except Damaged:
            fd = self.directory.open(name)
            size = os.fstat(fd).st_size
            os.close(fd)
            if size <= HEAD_MOST:
                return Journal(number, None, size, size, False)
            raise

    def _snapshot(self, number: int) -> Begin:
        """The BEGIN of a snapshot that ends as one should."""
        with self.directory.reader(names.snapshot_name(number)) as reader:
            if reader.file.what is not What.SNAPSHOT:
                raise Damaged(reader.path, "it is no snapshot, though it is called so")
            if reader.begin.generation != number:
                raise PersistError(
                    f"{reader.path} is of generation {reader.begin.generation}: call it"
                    f" {names.snapshot_name(reader.begin.generation)}, as its saver did"
                )
            reader.end()
            return reader.begin

    def missing(self, name: str) -> PersistError:
        """That a file is not there."""
        return PersistError(
            f"{self.directory.path}: {name} is missing, without it the store cannot come back as it"
            " was. Put it back; or bring a snapshot back by itself: shmkv restore FILE NAME"
        )

    # ---- the way --------------------------------------------------------------------------------

    def _made(self, snapshot: int | None, begin: Begin | None) -> Plan:
        """The plan that starts from a snapshot, or from an empty store."""
        least = -1 if snapshot is None else snapshot
        journals = {n: one for n, one in self.journals.items() if n >= least and one.begin}
        if begin is not None and snapshot not in journals:
            rounds = [n for n, one in journals.items() if one.round]
            if rounds or begin.options & OPT_JOURNAL:
                raise self.missing(names.journal_name(least))
        steps, gap = self._way(snapshot, journals)
        if gap is not None:
            self.notes.append(
                f"{self.directory.path}: changes could not be written before"
                f" {names.journal_name(gap)} began, and the snapshot that was to hold them never"
                " came: the store comes back as it was before"
            )
        heads = [one.begin for one in journals.values() if one.begin is not None]
        begin = begin or heads[0]
        self._same(begin, heads)
        newest = heads[-1] if heads else begin
        journaled = snapshot is None or snapshot in journals
        notes = tuple(self.notes)
        idle = self._idle(steps[-1].generation) if steps else ()
        return Plan(snapshot, newest, steps, gap, self.files.last, journaled, notes, idle)

    def _idle(self, last: int) -> tuple[int, ...]:
        """Journals after that one that are heads only, and belong to no snapshot."""
        theirs = {*self.files.snapshots, *self.files.parts}
        found = self.journals.items()
        return tuple(n for n, one in found if n > last and one.size == one.head and n not in theirs)

    def _way(
        self, snapshot: int | None, journals: dict[int, Journal]
    ) -> tuple[tuple[Step, ...], int | None]:
        """What to replay, in order, and the gap, if there is one."""
        rounds = [n for n, one in journals.items() if one.round]
        at = rounds[-1] if rounds else max(journals, default=None)
        steps: list[Step] = []
        gap = counted = None
        while at is not None:
            steps.append(Step(at, counted))
            previous = self._previous(journals[at])
            if at == snapshot or (previous == EMPTY and snapshot is None):
                break
            if previous == EMPTY:
                path = self.directory.at(names.journal_name(at))
                raise PersistError(f"{path} begins a store anew: it is not of this one")
            if previous == ALONE:
                before = [n for n in rounds if n < at]
                if not before and snapshot is None:
                    raise self.missing(names.snapshot_name(at))
                gap, steps, counted = at if journals[at].round or gap else gap, [], None
                at = before[-1] if before else None
                continue
            before_at, counted = previous >> _SHIFT, previous & _LENGTH
            if snapshot is not None and before_at < snapshot:
                break  # all that it says is in the snapshot
            if before_at not in journals:
                raise self.missing(names.journal_name(before_at))
            self._count(journals[before_at], counted)
            at = before_at
        return tuple(reversed(steps)), gap

    def _previous(self, one: Journal) -> int:
        """What a journal goes on after; never itself."""
        previous = EMPTY if one.begin is None else one.begin.previous
        if previous not in (EMPTY, ALONE) and previous >> _SHIFT >= one.generation:
            path = self.directory.at(names.journal_name(one.generation))
            raise Damaged(path, f"it goes on after generation {previous >> _SHIFT}")
        return previous

    def _count(self, one: Journal, counted: int) -> None:
        """Has it so many bytes?"""
        if not one.head <= counted <= one.size:
            path = self.directory.at(names.journal_name(one.generation))
            raise Damaged(path, f"{counted} bytes of it should count, it has {one.size}", one.size)

    def _same(self, begin: Begin, heads: list[Begin]) -> None:
        """Are all these of one store, and of the one that is wanted?"""
        path = self.directory.path
        for head in heads:
            if (head.seed, head.name) != (begin.seed, begin.name):
                raise PersistError(
                    f"{path} holds files of two stores: {begin.name!r} and {head.name!r}"
                    f" (generation {head.generation}): a store needs a directory of its own"
                )
        if self.name is not None and begin.name != self.name:
            raise PersistError(
                f"{path} belongs to the store {begin.name!r}, not to {self.name!r}: a store needs a"
                " directory of its own"
            )


def _has_round(reader: Reader) -> bool:
    """Is the first round of a journal whole?"""
    try:
        return any(part.flags & Flag.ROUND_END for part in reader.parts())
    except Damaged:
        return False


def whole_rounds(reader: Reader, end: int | None = None) -> tuple[int, int]:
    """Where the longest prefix of whole rounds ends, and how many rounds that is."""
    good, rounds = reader.begin_end, 0
    try:
        for part in reader.parts(end):
            if part.flags & Flag.ROUND_END:
                good, rounds = part.end, rounds + 1
    except Damaged:
        pass
    return good, rounds
