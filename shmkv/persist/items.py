"""Items and entries on disk, read a second time and independently of the core.

Owns: `items` and `entries`, which walk over a payload and judge every length, code and text in it,
and `pack_item`, `pack_entry` for who makes files by hand.

Promises: nothing is copied but keys; nothing is read beyond the payload; bytes that the core would
not write raise ItemError with their offset in the payload.

Does not: decode structured values: they are bytes of a codec, which judges them when they are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from shmkv.persist.format import Bytes

KEY_STR, DEADLINE, COUNTER, MAIN = 0x01, 0x02, 0x0C, 0x10
FLAGS = KEY_STR | DEADLINE | COUNTER | MAIN
TYPES = (
    *("bytes", "str", "int", "bigint", "float", "bool", "None", "list", "dict", "tuple", "set"),
    *("frozenset", "datetime", "date", "time", "timedelta", "Decimal", "UUID", "array", "other"),
)
STR, INT, FLOAT, BOOL, NONE = 2, 3, 5, 6, 7
_FIXED = {INT: 8, FLOAT: 8, BOOL: 1, NONE: 0}  # bytes of the value
_HEAD = struct.Struct("<IHBB")
_WORD = struct.Struct("<Q")
_ENTRY = struct.Struct("<QH")
CLASS_MOST = 768  # keys of one class
WIPE = 3 << 20  # the class of an entry that empties the store
HEAD_MOST = _HEAD.size + _WORD.size + 65_535  # bytes of an item before its value


class ItemError(Exception):
    """Bytes that are no item, and where they are in the payload."""

    def __init__(self, at: int, text: str) -> None:
        super().__init__(text)
        self.at = at
        self.text = text


class Item(NamedTuple):
    """An item as it stands on disk."""

    key: bytes
    key_str: bool
    type: int
    deadline: int | None
    """Wall-clock ms."""
    counter: int
    main: bool
    value_at: int
    """Where its value begins in the payload."""
    value_bytes: int

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.value_at + self.value_bytes

    @property
    def type_name(self) -> str:
        """The type, for people."""
        return TYPES[self.type - 1]


def head(data: Bytes, at: int) -> Item:
    """The item that begins at `at`; of its value only the length need be there."""
    if len(data) - at < _HEAD.size:
        raise ItemError(at, f"{len(data) - at} bytes are left where an item should begin")
    value_bytes, key_bytes, kind, flags = _HEAD.unpack_from(data, at)
    if not 1 <= kind <= len(TYPES):
        raise ItemError(at, f"an item of unknown type {kind}")
    if flags & ~FLAGS:
        raise ItemError(at, f"an item with unknown flags {flags:#x}")
    if key_bytes == 0:
        raise ItemError(at, "an item without a key")
    if _FIXED.get(kind, value_bytes) != value_bytes:
        raise ItemError(at, f"a value of type {TYPES[kind - 1]} with {value_bytes} bytes")
    key_at = at + _HEAD.size + (_WORD.size if flags & DEADLINE else 0)
    if len(data) < key_at + key_bytes:
        raise ItemError(at, f"an item whose key of {key_bytes} bytes is cut off")
    key = bytes(data[key_at : key_at + key_bytes])
    if flags & KEY_STR and not _is_text(key):
        raise ItemError(at, "an item whose key is no UTF-8, though it is a str")
    deadline = _WORD.unpack_from(data, at + _HEAD.size)[0] if flags & DEADLINE else None
    counter = (flags & COUNTER) >> 2
    value_at = key_at + key_bytes
    return Item(
        key,
        bool(flags & KEY_STR),
        kind,
        deadline,
        counter,
        bool(flags & MAIN),
        value_at,
        value_bytes,
    )


def item(data: Bytes, at: int) -> Item:
    """The whole item that begins at `at`."""
    found = head(data, at)
    if found.end > len(data):
        raise ItemError(
            at, f"an item with a value of {found.value_bytes} bytes of which some are cut off"
        )
    value = data[found.value_at : found.end]
    if found.type == STR and not _is_text(value):
        raise ItemError(at, "a str that is no UTF-8")
    if found.type == BOOL and value[0] > 1:
        raise ItemError(at, f"a bool that is {value[0]}")
    return found


def _is_text(data: Bytes) -> bool:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def items(data: Bytes) -> Iterator[Item]:
    """The items of a payload, one after the other."""
    at = 0
    while at < len(data):
        found = item(data, at)
        yield found
        at = found.end


def entry(data: Bytes, at: int) -> tuple[int, list[Item], int]:
    """The entry that begins at `at`: its class, its items, and where the next one begins."""
    if len(data) - at < _ENTRY.size:
        raise ItemError(at, f"{len(data) - at} bytes are left where an entry should begin")
    key_class, n = _ENTRY.unpack_from(data, at)
    if n > CLASS_MOST or (key_class == WIPE and n):
        raise ItemError(at, f"an entry of {n} items")
    end, found = at + _ENTRY.size, []
    for _ in range(n):
        found.append(item(data, end))
        end = found[-1].end
    return key_class, found, end


def entries(data: Bytes) -> Iterator[tuple[int, list[Item]]]:
    """The entries of a payload."""
    at = 0
    while at < len(data):
        key_class, found, at = entry(data, at)
        yield key_class, found


# ---- writing ------------------------------------------------------------------------------------


def pack_item(
    key: bytes | str,
    kind: int,
    value: Bytes,
    *,
    deadline: int | None = None,
    counter: int = 0,
    main: bool = False,
) -> bytes:
    """An item."""
    flags = counter << 2 | (MAIN if main else 0) | (KEY_STR if isinstance(key, str) else 0)
    word = b"" if deadline is None else _WORD.pack(deadline)
    flags |= DEADLINE if word else 0
    name = key.encode() if isinstance(key, str) else key
    return _HEAD.pack(len(value), len(name), kind, flags) + word + name + bytes(value)


def pack_entry(key_class: int, packed: Sequence[bytes]) -> bytes:
    """An entry: of the keys of this class, exactly these items exist."""
    return _ENTRY.pack(key_class, len(packed)) + b"".join(packed)
