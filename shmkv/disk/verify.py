"""Looking at files on disk without a store: is everything whole, and what is wrong where?

Owns: `verify`, of one file or of a directory, and `Verdict`. Items are decoded a second time, in
plain Python (`items`), so that what the core writes is judged by something that shares no code with
it. All of a file is read, block by block.

Promises: changes nothing, needs no store, and never raises for what is in a file: it is a problem
in the verdict. What cannot be opened raises PersistError.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from shmkv.disk import chain, format, items
from shmkv.disk.blocks import Part, Reader, opened
from shmkv.disk.directory import Directory, journal_name, snapshot_name
from shmkv.disk.format import Flag, Kind, What
from shmkv.disk.items import HEAD_MOST, ItemError
from shmkv.disk.save import Progress
from shmkv.disk.trouble import Damaged
from shmkv.errors import PersistError


@dataclass
class File:
    """What is known of one file."""

    path: str
    what: str = "unknown"
    bytes: int = 0
    generation: int = 0
    store: str = ""
    written: float = 0.0
    """Unix time of its BEGIN."""
    blocks: int = 0
    items: int = 0
    """Items in a snapshot, states of keys in a journal."""
    entries: int = 0
    rounds: int = 0
    whole: int = 0
    """Bytes up to which everything is whole."""
    problems: list[str] = field(default_factory=list)
    torn: int = 0
    """Bytes at the end of a journal that are no whole round: what a crash leaves, no problem."""

    def problem(self, text: str, offset: int, block: int) -> None:
        """Something is wrong."""
        self.problems.append(f"{self.path}: byte {offset}, block {block}: {text}")


@dataclass
class Verdict:
    """The result; it is true when there is no problem."""

    files: list[File]
    problems: list[str]
    notes: list[str] = field(default_factory=list)
    restores: list[str] = field(default_factory=list)
    """Of a directory: the files the store would come back from, in order."""

    def __bool__(self) -> bool:
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"ok": bool(self)} | asdict(self)


def verify(path: str, progress: Progress | None = None) -> Verdict:
    """Verify a snapshot, a journal, or the directory of a store."""
    path = os.path.abspath(path)
    if not os.path.isdir(path):
        file = verify_file(opened(path), path, progress)
        if file.torn and file.what == "journal":
            note = f"{path}: {file.torn} bytes at its end are no whole round: they do not count"
            return Verdict([file], file.problems, [note])
        return Verdict([file], file.problems)
    with Directory(path, owner=os.stat(path).st_uid, mode=0o022) as folder:
        return _verify_folder(folder, progress)


def _verify_folder(folder: Directory, progress: Progress | None) -> Verdict:
    found = folder.files()
    names = [snapshot_name(n) for n in found.snapshots] + [journal_name(n) for n in found.journals]
    verdict = Verdict([], [])
    for name in names:
        verdict.files.append(verify_file(folder.open(name), folder.at(name), progress))
        verdict.problems += verdict.files[-1].problems
    bad = [
        number
        for number in found.snapshots
        if any(f.problems for f in verdict.files if f.path == folder.at(snapshot_name(number)))
    ]
    try:
        plan = chain.plan(folder, bad)
    except PersistError as error:
        verdict.problems.append(str(error))
        return verdict
    verdict.notes += plan.notes
    if plan.snapshot is not None:
        verdict.restores.append(folder.at(snapshot_name(plan.snapshot)))
    sizes = {file.path: file for file in verdict.files}
    for step in plan.steps:
        path = folder.at(journal_name(step.generation))
        verdict.restores.append(path)
        file = sizes[path]
        if step.counted is not None and step.counted > file.whole:
            text = f"{step.counted} bytes of it count, it is whole up to {file.whole} only"
            verdict.problems.append(f"{path}: {text}")
        elif step.counted is None and file.torn:
            verdict.notes.append(f"{path}: {file.torn} bytes at its end are no whole round")
    return verdict


# ---- one file -----------------------------------------------------------------------------------


def verify_file(fd: int, path: str, progress: Progress | None = None) -> File:
    """Verify the file behind a descriptor, which is closed."""
    file = File(path, bytes=os.fstat(fd).st_size)
    try:
        reader = Reader(fd, path)
    except Damaged as error:
        if path.rpartition("/")[2].startswith("journal-") and file.bytes <= format.HEAD_MOST:
            file.what, file.torn = "journal", file.bytes  # its maker died: it never counted
        else:
            file.problem(error.text, error.offset, error.block)
        return file
    except PersistError as error:
        file.problems.append(str(error))
        return file
    with reader:
        file.what = reader.file.what.name.lower()
        file.generation, file.store = reader.begin.generation, reader.begin.name
        file.written = reader.begin.ms / 1000
        file.whole, file.blocks = reader.begin_end, 1
        look = _Look(reader, file)
        try:
            for part in reader.parts():
                look.part(part)
                if progress:
                    progress(part.end, reader.size)
        except Damaged as error:
            if reader.file.what is What.JOURNAL:
                file.torn = reader.size - file.whole
            else:
                file.problem(error.text, error.offset, error.block)
        except PersistError as error:
            file.problems.append(str(error))
        if reader.file.what is What.JOURNAL:
            file.torn = reader.size - file.whole
    return file


class _Look:
    """What is in the blocks of one file, as they come."""

    def __init__(self, reader: Reader, file: File) -> None:
        self.reader = reader
        self.file = file
        self.journal = reader.file.what is What.JOURNAL
        self.stored = 0
        self.piece = bytearray()  # of a snapshot's item: its head; of an entry: all of it
        self.length = 0  # of the pieces so far
        self.at = 0  # where the pieces begin

    def part(self, part: Part) -> None:
        """One more block."""
        self.file.blocks += 1
        if part.kind is Kind.END:
            self._end(part)
        elif part.kind is Kind.PIECE:
            self._piece(part)
        else:
            self._payload(part.payload, part)
        if self.journal:
            if part.flags & Flag.ROUND_END:
                self.file.rounds += 1
                self.file.whole = part.end
        else:
            self.file.whole = part.end

    def _payload(self, payload: memoryview | bytearray, part: Part) -> None:
        """Whole items, or whole entries."""
        count = 0
        try:
            if self.journal:
                for _, found in items.entries(payload):
                    count += 1
                    self.file.items += len(found)
            else:
                for _ in items.items(payload):
                    count += 1
        except ItemError as error:
            self._wrong(f"item {count} of it, byte {error.at} of its payload: {error}", part)
            return
        self._counted(count, len(payload), part)

    def _counted(self, count: int, length: int, part: Part) -> None:
        self.stored += length
        if self.journal:
            self.file.entries += count
        else:
            self.file.items += count
        if count != part.many:
            self._wrong(f"it holds {count}, its header says {part.many}", part)

    def _piece(self, part: Part) -> None:
        """A part of an item; of a long one only the head is kept."""
        if self.length == 0:
            self.at = part.offset
        self.length += len(part.payload)
        room = len(part.payload) if self.journal else max(HEAD_MOST - len(self.piece), 0)
        self.piece += part.payload[:room]
        if not part.flags & Flag.LAST:
            if part.many:
                self._wrong(f"it ends nothing, its header says {part.many}", part)
            return
        piece, length, self.piece, self.length = self.piece, self.length, bytearray(), 0
        if self.journal:
            self._payload(piece, part)
            return
        try:
            end = items.head(piece, 0).end
        except ItemError as error:
            self._wrong(f"the item that begins at byte {self.at}: {error}", part)
            return
        if end != length:
            text = f"the item that begins at byte {self.at} has {end} bytes, its pieces {length}"
            self._wrong(text, part)
        self._counted(1, length, part)

    def _end(self, part: Part) -> None:
        try:
            end = format.parse_end(part.payload)
        except format.FormatError as error:
            self._wrong(str(error), part)
            return
        found = (self.file.items, self.stored, part.number)
        if found != end[:3]:
            text = "END says {} items, {} bytes, {} blocks".format(*end[:3])
            self._wrong(text + ", there are {}, {} and {}".format(*found), part)

    def _wrong(self, text: str, part: Part) -> None:
        self.file.problem(text, part.offset, part.number)
