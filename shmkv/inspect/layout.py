"""Where everything lies in a segment, said a second time and independently of the C core.

Owns: the structures of the layout as tables of offsets, the codes in them, the fingerprint, and the
version of all this.

Promises: nothing here is generated from or shared with `_csrc/layout.h`. Two writings of one layout
that agree (tests/layout compares them) are worth more than one; when the layout changes, both do,
and the version with them.

Does not: know where the parts of a segment begin (`geometry.py`), read one (`decode.py`) or judge
one (`problems.py`).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from typing import Any

MAGIC = 0x31564B4D48535F5F
LAYOUT_VERSION = 5
LINE = 64
GRANULE = 16
HEADER_BYTES = 4096
INDEX_BYTES = 4096
BUCKETS = 64
SLOTS = 12
RESERVATIONS = 8
PINS = 32
NOTES = 8  # of an attachment: its last operations
NOTE_KEY = 36  # bytes of a key in a note
DEATHS = 32  # remembered
DEATH_LOCKS = 8  # remembered of those a dead attachment held
APPENDERS = 16  # places: of the small queue, of main queues, the cleaners' own
MAINS = 6  # main queues that have an appender
QUEUES = 16  # 0: the small queue; from 1: main queues by the size of their items
GHOST_SHARE = 128  # this part of a store's size, at most, remembers who left
GHOST_LINE = 32  # fingerprints of 16 bits in a line, the newest first; 0 = nobody
CLEANERS = 8
WAIT_WORDS = 64
INDEX_PER_BASE = 16
OVERFLOW_STICKS = 255
NUMBER_MASK = 0x7FFFFFFF
KEY_MAX = 65_535
OPTION_EVICT = 1
OPTION_JOURNAL = 2
OPTION_ALWAYS = 4  # only with the one before
OPTIONS = (0, 1, 2, 3, 6, 7)
MARKS = 64  # of the journal, to one hint
MARK_SET = 1 << 20
MARK_FLIGHT = 1 << 21
PLACE_SHIFT = 40


class State(enum.IntEnum):
    """What a base page is."""

    FREE = 0
    TAKEN = 1
    OPEN = 2
    CLOSED = 3
    CLEANING = 4
    LIMBO = 5
    INDEX = 6
    INTERIOR = 7


class Type(enum.IntEnum):
    """What a value is, in memory."""

    BYTES = 1
    STR = 2
    INT = 3
    BIGINT = 4
    FLOAT = 5
    BOOL = 6
    NONE = 7
    LIST = 8
    DICT = 9
    TUPLE = 10
    SET = 11
    FROZENSET = 12
    DATETIME = 13
    DATE = 14
    TIME = 15
    TIMEDELTA = 16
    DECIMAL = 17
    UUID = 18
    ARRAY = 19
    CODEC = 20


TYPE_LAST = 31  # above: never valid


class Flag(enum.IntFlag):
    """Which optional words an item has, and what else is known of it."""

    NAMESPACE = 0x01
    DEADLINE = 0x02
    COUNTER = 0x04
    KEY_STR = 0x08
    KEEP = 0x10


FLAGS = 0x1F  # all that may be set
NOTED = (  # what a note tells of; 0 is nothing
    "",
    "set",
    "add",
    "replace",
    "cas",
    "rewrite",
    "delete",
    "incr",
    "append",
    "touch",
    "rename",
    "clear",
    "work",
    "round",
    "wait",
)
AWAITED = ("", "page", "journal")  # what is waited for, where it is no lock
NOTE_LOOKS = 32  # one of so many notes has looked at a clock itself ...
NOTE_LOOKS_FROM = NOTED.index("clear")  # ... and all of these
STATUSES = (  # what an operation ends with
    "ok",
    "miss",
    "exists",
    "recover",
    "again",
    "nopage",
    "noindex",
    "unmarked",
    "full",
    "busy",
    "intr",
    "toolarge",
    "type",
    "overflow",
    "corrupt",
    "nospace",
    "norows",
    "halfmade",
    "gone",
    "version",
    "stranger",
    "mismatch",
    "readonly",
    "invalid",
    "persist",
    "nomem",
    "os",
)
STATS_MAX = 24  # places; the last ones are spare
STATS = (
    "hits",
    "misses",
    "sets",
    "deletes",
    "expired",
    "evicted",
    "evicted_index",
    "refused_full",
    "refused_large",
    "recoveries",
    "folds",
    "written",
    "copied",
    "cleaned",
    "splits",
    "retries",
    "evicted_main",
    "promoted",
    "returned",
)


# ---- structures ---------------------------------------------------------------------------------


class Record:
    """A structure: its size and, for each field, the offset and the `struct` code."""

    def __init__(self, size: int, fields: Mapping[str, tuple[int, str]]) -> None:
        self.size = size
        self.fields = dict(fields)
        code, end = "<", 0
        for offset, what in self.fields.values():
            code += f"{offset - end}x{what}"
            end = offset + struct.calcsize("<" + what)
        self.struct = struct.Struct(f"{code}{size - end}x")

    def read(self, view: memoryview, at: int) -> dict[str, Any]:
        """The fields by name; arrays are tuples."""
        flat = self.struct.unpack_from(view, at)
        found: dict[str, Any] = {}
        i = 0
        for name, (_, what) in self.fields.items():
            n = 1 if what.endswith("s") else int(what[:-1] or 1)
            found[name] = flat[i] if n == 1 else flat[i : i + n]
            i += n
        return found


HEADER = Record(
    HEADER_BYTES,
    {
        "magic": (0, "Q"),
        "layout_version": (8, "I"),
        "fingerprint": (12, "I"),
        "config": (16, "32s"),
        "created_ms": (48, "Q"),
        "sampled": (56, "I"),
        "deaths": (60, "I"),
        "size": (64, "Q"),
        "watermark": (72, "Q"),
        "next_number": (80, "I"),
        "index_high": (84, "I"),
        "index_hint": (88, "I"),
        "take_hint": (92, "I"),
        "next_id": (96, "Q"),
        "nospace": (104, "I"),
        "damage": (108, "I"),
        "tidy_hint": (112, "I"),
        "ghost": (116, "I"),
        "daemon": (120, "I"),
        "ahead": (124, "I"),
        "next_birth": (128, "Q"),
        "next_sample": (136, "Q"),
        "tick_ns": (144, "Q"),
        "mortal": (152, "I"),
        "journal": (192, "64s"),
        "wait": (256, "64I"),
        "cleaners": (512, "512s"),
        "appenders": (1024, "1024s"),
    },
)
CONFIG = Record(
    32,
    {
        "size": (0, "Q"),
        "max_size": (8, "Q"),
        "seed": (16, "Q"),
        "options": (24, "I"),
        "appenders": (28, "I"),
    },
)
JOURNAL = Record(
    64,
    {
        "lock": (0, "I"),
        "wanted": (4, "I"),
        "broken": (8, "I"),
        "due": (12, "I"),
        "started": (16, "Q"),
        "done": (24, "Q"),
        "place": (32, "Q"),
        "saved_ms": (40, "Q"),
        "looked_ms": (48, "Q"),
        "synced_ms": (56, "Q"),
    },
)
CLEANER = Record(64, {"lock": (0, "I")})
APPENDER = Record(64, {"lock": (0, "I"), "current": (4, "I")})
ROW = Record(
    1024,
    {
        "number": (0, "I"),
        "pid": (4, "I"),
        "pid_start": (8, "Q"),
        "pid_namespace": (16, "Q"),
        "attached_ms": (24, "Q"),
        "first": (32, "I"),
        "reservation": (64, "8I"),
        "replaced": (96, "8I"),
        "pin": (128, "32I"),
        "stat": (256, "24Q"),
        "note": (512, "512s"),
    },
)
NOTE = Record(
    64,
    {
        "turn": (0, "I"),
        "what": (4, "B"),
        "ended": (5, "B"),
        "len": (6, "H"),
        "at_ns": (8, "Q"),
        "place": (16, "I"),
        "owner": (20, "I"),
        "waited_us": (24, "I"),
        "key": (28, "36s"),
    },
)
DEATH = Record(
    640,
    {
        "number": (0, "I"),
        "pid": (4, "I"),
        "pid_start": (8, "Q"),
        "pid_namespace": (16, "Q"),
        "attached_ms": (24, "Q"),
        "found_ms": (32, "Q"),
        "finder": (40, "I"),
        "locks": (44, "I"),
        "lock": (48, "8I"),
        "reservations": (80, "I"),
        "pins": (84, "I"),
        "clock_ns": (88, "Q"),
        "note": (128, "512s"),
    },
)
STRIPE = Record(
    64,
    {
        "lock": (0, "I"),
        "txn": (4, "I"),
        "ver": (8, "Q"),
        "live": (24, "Q"),
        "count": (32, "I"),
    },
)
BUCKET = Record(
    64, {"tag": (0, "12s"), "counters": (12, "3s"), "overflow": (15, "B"), "ref": (16, "12I")}
)
PAGE = Record(
    64,
    {
        "word": (0, "Q"),
        "tail": (8, "I"),
        "dead": (12, "I"),
        "birth": (16, "Q"),
        "suspect": (24, "I"),
        "walked": (28, "I"),
        "opened_ms": (40, "Q"),
        "expiry": (48, "8H"),
    },
)
INDEX_PAGE = Record(64, {"segment": (32, "16H")})  # the second half of the entry of an INDEX page
ITEM = Record(
    12,
    {
        "value_len": (0, "I"),
        "key_len": (4, "H"),
        "type": (6, "B"),
        "flags": (7, "B"),
        "version": (8, "I"),
    },
)
NAMESPACE_AT = 12
DEADLINE_AT = 16


def item_words(flags: int) -> int:
    """Bytes of an item before its key."""
    n = ITEM.size
    if flags & (Flag.NAMESPACE | Flag.DEADLINE | Flag.COUNTER):
        n += 4
    if flags & Flag.DEADLINE:
        n += 8
    if flags & Flag.COUNTER:
        n += 8
    return n


def item_gap(kind: int, key_end: int) -> int:
    """Unused bytes between the key of an item and its value: those of arrays are aligned."""
    return -key_end % GRANULE if kind == Type.ARRAY else 0


def counter_at(flags: int) -> int:
    """Where the counter word of an item lies."""
    return DEADLINE_AT + 8 if flags & Flag.DEADLINE else DEADLINE_AT


def round_up(n: int, to: int) -> int:
    """The next multiple."""
    return -(-n // to) * to


def fingerprint() -> int:
    """What must agree beyond the version, as a 64-bit little-endian machine computes it."""
    sizes = (HEADER.size, ROW.size, DEATH.size, PAGE.size, BUCKET.size, ITEM.size)
    f = 2_166_136_261
    for part in (2, 8, LINE, GRANULE, *sizes):
        f = (f ^ part) * 16_777_619 & 0xFFFFFFFF
    return f
