"""What stands in the journals of a directory, for tests: read, replayed, compared.

Owns a reader of journal files that shares no line with the package's own (shmkv/disk/README.md,
"Files"), the way back from the newest generation to the first, replaying into another store, and
the comparison of two stores item by item: key and its type, value and its type, deadline.

Promises: only whole rounds count, and of a generation that another one goes on after only the
bytes which that one names; a file that lacks some of them, or is missing, is `Broken`.
Does not: write files, know compression, or believe that a file is as it should be.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

import shmkv
from shmkv import _core
from shmkv.segment import object_name

EVICT, JOURNAL, ALWAYS = _core.OPT_EVICT, _core.OPT_JOURNAL, _core.OPT_ALWAYS
MODES = {"everysec": JOURNAL, "always": JOURNAL | ALWAYS}
FIRST = 1  # generation of a new store's journal
NONE, ALONE = 0, (1 << 64) - 1  # what `previous` says beside a place
SLACK_S = 0.010  # deadlines on disk are whole milliseconds of another clock
BUFFER = (1 << 20) + (256 << 10)

_BEGIN, _ITEMS, _PIECE, _ROUND = 1, 2, 3, 4
_LAST_PIECE, _ROUND_END = 1, 2
_HEAD = struct.Struct("<IBBHIIIIQ")
_MAGIC = 0x424B5653
_PLACE = 40


class Broken(AssertionError):
    """The journals are not a way from the beginning to the end."""


class File(NamedTuple):
    """One journal: `rounds` are (where it ends, its entries), `whole` is where the last one ends,
    `size` what the file has."""

    generation: int
    previous: int
    rounds: list[tuple[int, list[bytes]]]
    whole: int
    size: int


def make_store(name: str, options: int, *, size: int, seed: int, timeout: float = 5.0) -> Any:
    """A new store with these OPT_* and this seed of its hashes."""
    shm = object_name(name, os.geteuid())
    fd = os.open(f"/dev/shm{shm}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    config = (size, size, seed, options)
    store = _core.attach(shmkv.Store, name, fd, shm, config, False, timeout, False)
    assert isinstance(store, shmkv.Store), store
    return store


def lead(store: Any, folder: Path) -> None:
    """This handle may lead rounds."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        store._journal_open(fd)
    finally:
        os.close(fd)


# --- files ----------------------------------------------------------------------------------------


def _blocks(data: bytes) -> Iterator[tuple[int, int, bytes, int]]:
    """(kind, flags, payload, where it ends) as long as they are whole."""
    (file_id,) = struct.unpack_from("<Q", data, 16)
    at = 32
    while at + _HEAD.size <= len(data):
        magic, kind, packed, flags, stored, raw, _, where, total = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + stored
        payload = data[at + _HEAD.size : end]
        seed = xxhash.xxh64_intdigest(data[at : at + 24], file_id)
        if magic != _MAGIC or where != at or end > len(data) or packed or raw != stored:
            return
        if total != xxhash.xxh64_intdigest(payload, seed):
            return
        yield kind, flags, payload, end
        at = end


def read_journal(path: Path) -> File | None:
    """None: it was begun by somebody who died before its first block."""
    data = path.read_bytes()
    if len(data) < 32 or data[:8] != b"SHMKVDSK":
        return None
    if struct.unpack_from("<Q", data, 24)[0] != xxhash.xxh64_intdigest(data[:24], 0):
        return None
    begin: tuple[int, int] | None = None
    rounds: list[tuple[int, list[bytes]]] = []
    entries: list[bytes] = []
    piece, whole = b"", 0
    for kind, flags, payload, end in _blocks(data):
        if kind == _BEGIN:
            begin, whole = struct.unpack_from("<QQ", payload), end
            continue
        piece += payload
        if kind == _ROUND or flags & _LAST_PIECE:
            entries.append(piece)
            piece = b""
        if kind == _ROUND and flags & _ROUND_END:
            rounds.append((end, entries))
            entries, whole = [], end
    return None if begin is None else File(*begin, rounds, whole, len(data))


def read_all(folder: Path) -> dict[int, File]:
    """By generation, those that are journals at all."""
    found = (read_journal(path) for path in sorted(folder.glob("journal-*.shmkv")))
    return {one.generation: one for one in found if one is not None}


def way(folder: Path, since: int = 0) -> list[tuple[File, int]]:
    """What is to be replayed after the snapshot of generation `since` (0: after nothing), in this
    order: files, and how many bytes of each count."""
    files = read_all(folder)
    found = [g for g, one in files.items() if g >= since and one.rounds]
    if not found:
        return []
    steps: list[tuple[File, int]] = []
    generation, limit = max(found), -1
    while True:
        one = files.get(generation)
        if one is None:
            raise Broken(f"journal {generation} is missing")
        if limit > one.whole:
            raise Broken(f"journal {generation}: {one.whole} bytes are whole, wanted {limit}")
        steps.append((one, one.whole if limit < 0 else limit))
        if generation == since or one.previous == NONE:
            return steps[::-1]
        if one.previous == ALONE:
            raise Broken(f"journal {generation} goes on after a snapshot that is not there")
        generation, limit = one.previous >> _PLACE, one.previous & ((1 << _PLACE) - 1)


class Snapshot(NamedTuple):
    """A save that is kept in memory: its generation, and payloads as `Store._load` wants them."""

    generation: int
    payloads: list[bytes]


def save(store: Any) -> Snapshot:
    """Begin a generation, and save everything."""
    generation = store._journal_next()
    dump, buffer = store._dump(), bytearray(BUFFER)
    payloads: list[bytes] = []
    piece = b""
    while True:
        kind, used, _, last = dump.fill(buffer)
        if kind == 0:
            store._saved(0, generation)
            return Snapshot(generation, payloads)
        piece += buffer[:used]
        if kind == _ITEMS or last:
            payloads.append(piece)
            piece = b""


def replay(folder: Path, target: Any, snapshot: Snapshot | None = None) -> int:
    """Fill an empty store from snapshot and journals; how many entry payloads there were."""
    n = 0
    for payload in snapshot.payloads if snapshot else ():
        target._load(payload)
    for one, limit in way(folder, snapshot.generation if snapshot else 0):
        for end, entries in one.rounds:
            for payload in entries if end <= limit else ():
                target._replay(payload)
                n += 1
    return n


# --- items ----------------------------------------------------------------------------------------


class Held(NamedTuple):
    """An item; its deadline lies between `low` and `high` of the segment's clock."""

    key: str | bytes
    value: Any
    low: float | None
    high: float | None


def held(store: Any, key: str | bytes) -> Held | None:
    """What a key holds; the clock is read before and after, until both agree well enough."""
    for _ in range(1000):
        before = _core.clock_ms() / 1000
        try:
            value, ttl = store[key], store.ttl(key)
        except KeyError:
            return None
        after = _core.clock_ms() / 1000
        if ttl is None:
            return Held(key, value, None, None)
        if after - before <= SLACK_S / 2:
            return Held(key, value, before + ttl, after + ttl)
    raise AssertionError("the clock cannot be read twice within 5 ms")


def items(store: Any) -> dict[str | bytes, Held]:
    """Everything in a store at rest."""
    found = ((key, held(store, key)) for key in store.scan())
    return {key: item for key, item in found if item is not None}


def same(a: Held | None, b: Held | None) -> bool:
    """Same key and value, of the same types, until the same moment."""
    if a is None or b is None:
        return a is b
    if type(a.key) is not type(b.key) or type(a.value) is not type(b.value) or a.value != b.value:
        return False
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return a.low is b.low
    return a.low <= b.high + SLACK_S and b.low <= a.high + SLACK_S


def differences(live: Any, again: Any, only: Iterable[str | bytes] | None = None) -> list[str]:
    """What a store that came back holds otherwise than the one it came from."""
    ours, theirs = items(live), items(again)
    keys = set(ours) | set(theirs) if only is None else set(only)
    wrong = []
    for key in sorted(keys, key=repr):
        if not same(ours.get(key), theirs.get(key)):
            here, there = (repr(x.get(key))[:90] for x in (ours, theirs))
            wrong.append(f"{key!r} is {here}, comes back as {there}")
    return wrong
