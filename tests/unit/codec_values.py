"""Values of every type the safe codec stores, ways to nest them, and what equal means for them.

Owns the tables the tests of structured values share, a codec, every way to read, and `same`, which
looks at everything that `==` overlooks: types at every place, the sign of zero, NaNs, fold and time
zone, exponents, the order of a dict, dtype and shape of an array.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import struct
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

import shmkv
from shmkv import _core

ROME = zoneinfo.ZoneInfo("Europe/Rome")
ODD = dt.timezone(dt.timedelta(hours=5, minutes=29, microseconds=17), "odd")
NIGHT = dt.datetime(2024, 10, 27, 2, 30, 15, 999_999)  # happens twice in Rome
DEPTH = _core.DEPTH_MAX

SCALARS: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1 << 63,
    (1 << 63) - 1,
    -(1 << 63),
    -(1 << 63) - 1,
    (1 << 64) - 1,
    1 << 64,
    -(1 << 64),
    1 << 4000,
    -(1 << 4000) + 1,
    0.0,
    -0.0,
    1.5,
    math.inf,
    -math.inf,
    math.nan,
    5e-324,
    "",
    "a",
    "caf\u00e9 \U0001f40d \0",
    "x" * 70_000,
    b"",
    b"\x00\xff",
    b"y" * 70_000,
    dt.date(1, 1, 1),
    dt.date(9999, 12, 31),
    dt.datetime(1, 1, 1),
    dt.datetime.max,
    NIGHT,
    NIGHT.replace(fold=1),
    NIGHT.replace(tzinfo=ROME),
    NIGHT.replace(tzinfo=ROME, fold=1),
    NIGHT.replace(tzinfo=dt.UTC),
    NIGHT.replace(tzinfo=ODD),
    NIGHT.replace(tzinfo=dt.timezone(-dt.timedelta(hours=23, minutes=59))),
    NIGHT.replace(tzinfo=zoneinfo.ZoneInfo("UTC")),
    dt.time(),
    dt.time.max,
    dt.time(2, 30, fold=1),
    dt.time(2, 30, tzinfo=ROME),
    dt.time(2, 30, tzinfo=ODD, fold=1),
    dt.time(2, 30, tzinfo=dt.timezone(dt.timedelta(0), "")),
    dt.timedelta(),
    dt.timedelta.min,
    dt.timedelta.max,
    dt.timedelta(microseconds=-1),
    *map(
        decimal.Decimal,
        [
            "0",
            "-0",
            "0E-19",
            "1.10",
            "-1E+400",
            "123456789012345678901234567890.12345678901234567890",
            "Infinity",
            "-Infinity",
            "NaN",
            "-NaN",
            "NaN123",
            "sNaN",
            "-sNaN99",
            "9.99E+999999999999999",
        ],
    ),
    uuid.UUID(int=0),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
]
CONTAINERS: list[Any] = [
    [],
    (),
    {},
    set(),
    frozenset(),
    [1, [2, [3, []]]],
    (1, (2, (3, ()))),
    {"a": {"b": {}}},
    {"\0": 1, "": 2, "caf\u00e9": 3},
    {1: "int", "1": "str", b"1": "bytes", 1.5: "float", None: "none"},
    {(1, "a"): 1, frozenset({1, (2,)}): 2, (): 3, frozenset(): 4},
    {True: 1, False: 0},
    {NIGHT: 1, NIGHT.date(): 2, dt.time(1): 3, dt.timedelta(1): 4, decimal.Decimal("1.5"): 5},
    {uuid.UUID(int=1): {2: {3: {}}}},
    {1 << 80: -(1 << 80)},
    {1, "a", b"a", None, 2.5, (1, frozenset({2}))},
    frozenset({(1, 2), (), frozenset()}),
    list(range(20_000)),
    {str(n): n for n in range(5000)},
    dict.fromkeys(range(5000)),
    [()] * 1000,
    [{"id": n, "when": NIGHT, "price": decimal.Decimal("9.90")} for n in range(50)],
]
HASHABLE = [v for v in SCALARS if not (isinstance(v, decimal.Decimal) and v.is_snan())]
PLACES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda v: v,
    "list": lambda v: [1, v, v],
    "tuple": lambda v: ("t", v),
    "dict value": lambda v: {"k": v},
    "value of an int key": lambda v: {7: v},
    "all ways": lambda v: [{"a": (v, {2: [v]})}, {(): {"b": [v, (v,)]}}],
}
HASHING: dict[str, Callable[[Any], Any]] = {
    "key": lambda v: {v: 1},
    "key among str": lambda v: {"a": 0, v: 1},
    "set": lambda v: {v, "other"},
    "frozenset": lambda v: frozenset({v}),
    "key in a tuple": lambda v: {(v, 1): {v}},
}


def shown(value: Any) -> str:
    """Short, for the name of a test."""
    return f"{type(value).__name__} {ascii(value)[:24]}"


def back(store: shmkv.Store, value: Any) -> Any:
    """What a store makes of a value."""
    store.set("k", value)
    return store["k"]


# ---- depth -------------------------------------------------------------------------------------

WRAPS: dict[str, Callable[[Any], Any]] = {
    "list": lambda v: [v],
    "tuple": lambda v: (v,),
    "dict": lambda v: {"k": v},
    "dict of int": lambda v: {1: v},
    "set": lambda v: {v},
    "frozenset": lambda v: frozenset({v}),
    "key": lambda v: {(v,): 1},
}


def nested(depth: int, kinds: list[str]) -> Any:
    """Containers within containers, `depth` of them, the innermost empty."""
    value: Any = ()
    for n in range(depth - 1):
        value = WRAPS[kinds[n % len(kinds)]](value)
    return value


# ---- equality ----------------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """Could nobody tell them apart?"""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is float:
        return struct.pack("<d", one) == struct.pack("<d", other)
    if kind is decimal.Decimal:
        return bool(one.as_tuple() == other.as_tuple())
    if kind in (dt.datetime, dt.time):
        naive = one.replace(tzinfo=None) == other.replace(tzinfo=None)
        return naive and one.fold == other.fold and _same_zone(one.tzinfo, other.tzinfo)
    if kind in (list, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if kind is dict:
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if kind in (set, frozenset):
        return len(one) == len(other) and _same_elements(list(one), list(other))
    if kind.__module__ == "numpy":
        return _same_array(one, other)
    return bool(one == other)


def _same_zone(one: dt.tzinfo | None, other: dt.tzinfo | None) -> bool:
    if isinstance(one, dt.timezone) and isinstance(other, dt.timezone):
        return one == other and one.tzname(None) == other.tzname(None)
    return one is other  # ZoneInfo gives one object for a key


def _same_elements(some: list[Any], others: list[Any]) -> bool:
    for one in some:
        found = next((at for at, other in enumerate(others) if same(one, other)), None)
        if found is None:
            return False
        del others[found]
    return True


def _same_array(one: Any, other: Any) -> bool:
    if one.dtype.str != other.dtype.str or one.shape != other.shape:
        return False
    return bool(one.tobytes() == other.tobytes())


# ---- codecs -------------------------------------------------------------------------------------


class Own:
    """JSON, marked."""

    def __init__(self, name: str) -> None:
        self.name = name

    def encode(self, value: Any, /) -> Any:
        """As text."""
        return b"own" + json.dumps(value).encode()

    def decode(self, data: bytes, /) -> Any:
        """The marked text."""
        assert type(data) is bytes
        assert data.startswith(b"own")
        return json.loads(data[3:])


READS: dict[str, Callable[[shmkv.Store], Any]] = {
    "get": lambda s: s.get("k"),
    "get with a default": lambda s: s.get("k", 5),
    "[]": lambda s: s["k"],
    "gets": lambda s: s.gets("k"),
    "get_many": lambda s: s.get_many(["a", "k", "b"]),
    "pop": lambda s: s.pop("k"),
    "pop with a default": lambda s: s.pop("k", None),
    "popitem": lambda s: [s.popitem() for _ in range(3)],
    "items": lambda s: list(s.items()),
    "values": lambda s: list(s.values()),
    "in values": lambda s: object() in s.values(),
    "dict": lambda s: dict(s),
    "update_with": lambda s: s.update_with("k", lambda v: v),
    "update_with a default": lambda s: s.update_with("k", lambda v: v, default=1),
    "setdefault": lambda s: s.setdefault("k", 1),
}
