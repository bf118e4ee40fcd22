"""What the safe codec does not store is refused by name, wherever it is; the old value stays."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import sys
import uuid
import zoneinfo
from collections.abc import Iterator
from typing import Any, NamedTuple

import ormsgpack
import pytest

import shmkv
from shmkv import _core, packed
from tests.unit.codec_values import HASHING, NIGHT, PLACES, ROME, back


class _Colour(enum.Enum):
    RED = 1


class _Number(enum.IntEnum):
    ONE = 1


class _Word(enum.StrEnum):
    ONE = "one"


class _Bits(enum.Flag):
    ONE = 1


class _IntBits(enum.IntFlag):
    ONE = 1


@dataclasses.dataclass(frozen=True)
class _Record:
    a: int = 1


class _Pair(NamedTuple):
    left: int
    right: int


class _Moment(dt.datetime):
    pass


def subclass_of(kind: type, *args: Any) -> Any:
    """An instance of a subclass that is its base in everything but the name."""
    return type(f"Sub{kind.__name__}", (kind,), {})(*args)


def generator() -> Iterator[int]:
    """What gives values once."""
    yield 1


REFUSED: list[Any] = [
    *(
        subclass_of(kind)
        for kind in (
            *(int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset),
            *(dt.timedelta, dt.time, decimal.Decimal),
        )
    ),
    subclass_of(dt.date, 2024, 1, 1),
    subclass_of(uuid.UUID, "12345678123456781234567812345678"),
    _Moment(2024, 1, 1),
    collections.OrderedDict(),
    collections.defaultdict(int),
    collections.Counter(),
    collections.deque(),
    _Colour.RED,
    _Number.ONE,
    _Word.ONE,
    _Bits.ONE,
    _IntBits.ONE,
    _Record(),
    _Pair(1, 2),
    1j,
    generator(),
    range(3),
    object(),
    ...,
    int,
    len,
    {}.keys(),
    shmkv.Encoded("own", b"within"),
    ormsgpack.Ext(_core.EXT_INT, b"5"),
    ormsgpack.Ext(99, b""),
    ormsgpack.Fragment(b"\x05"),
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda v: type(v).__name__)
def test_others_are_refused_by_name_wherever_they_are(store: shmkv.Store, value: Any) -> None:
    store.set("k", b"stays", ttl=1000)
    places = [PLACES[place] for place in PLACES if place != "itself"]
    if type(value).__hash__ is not None:
        places += HASHING.values()
    for place in places:
        try:
            whole = place(value)
        except TypeError:
            continue  # it holds something that has no hash
        with pytest.raises(shmkv.CodecError, match=type(value).__name__) as raised:
            store.set("k", whole)
        assert "codec=" in str(raised.value)
        assert store.name in str(raised.value)
    assert store["k"] == b"stays"
    assert store.ttl("k") is not None


SURROGATE = "half \ud83d"


@pytest.mark.parametrize(
    "value",
    [
        [SURROGATE],
        (SURROGATE,),
        {"k": SURROGATE},
        {SURROGATE: 1},
        {SURROGATE: 1, 2: 3},
        {1: SURROGATE},
        {SURROGATE},
        [("a", {"b": {SURROGATE}})],
        {(SURROGATE,): 1},
        NIGHT.replace(tzinfo=dt.timezone(dt.timedelta(0), SURROGATE)),
    ],
    ids=ascii,
)
def test_text_that_is_no_utf8_is_refused(store: shmkv.Store, value: Any) -> None:
    store.set("k", b"stays")
    with pytest.raises(shmkv.CodecError, match="surrogates"):
        store.set("k", value)
    assert store["k"] == b"stays"


class _Zone(dt.tzinfo):
    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)

    def __repr__(self) -> str:
        raise RuntimeError("repr is not for messages")


class _OwnZoneInfo(zoneinfo.ZoneInfo):
    pass


@pytest.fixture(params=["own", "subclass", "without a key", "a key that is no str"])
def strange_zone(request: pytest.FixtureRequest) -> dt.tzinfo:
    """A zone that would mean something else, or nothing, to another reader."""
    if request.param == "own":
        return _Zone()
    if request.param == "subclass":
        return _OwnZoneInfo("UTC")
    with zoneinfo_file("UTC") as file:
        key: Any = 5 if request.param != "without a key" else None
        return zoneinfo.ZoneInfo.from_file(file, key=key)


def zoneinfo_file(name: str) -> Any:
    """The compiled rules of a zone."""
    from importlib import resources

    return resources.files("tzdata.zoneinfo").joinpath(name).open("rb")


def test_strange_zones_are_refused(store: shmkv.Store, strange_zone: dt.tzinfo) -> None:
    store.set("k", b"stays")
    name = type(strange_zone).__name__
    for value in (NIGHT.replace(tzinfo=strange_zone), dt.time(tzinfo=strange_zone)):
        for whole in (value, [value], {1: (value,)}):
            with pytest.raises(shmkv.CodecError, match=f"time zone.*{name}"):
                store.set("k", whole)
    assert store["k"] == b"stays"


def test_classes_that_hide_their_names_are_refused(store: shmkv.Store) -> None:
    class Meta(type):
        @property
        def __module__(cls) -> str:  # type: ignore[override]
            raise AttributeError("nowhere")

        def __repr__(cls) -> str:
            raise RuntimeError("repr is not for messages")

    listed: Any = type("Listed", (), {"__module__": []})
    for value in (Meta("Hidden", (), {})(), listed()):
        for whole in (value, [value]):
            with pytest.raises(shmkv.CodecError, match=r"Hidden|Listed"):
                store.set("k", whole)


def test_a_class_that_calls_itself_datetime_is_refused(store: shmkv.Store) -> None:
    fake: Any = type("datetime", (), {"__module__": "datetime", "__qualname__": "datetime"})()
    for whole in (fake, [fake], (fake,)):
        with pytest.raises(shmkv.CodecError, match=r"datetime\.datetime"):
            store.set("k", whole)


def test_an_unknown_zone_is_told(store: shmkv.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.set("k", [NIGHT.replace(tzinfo=ROME)])

    def unknown(key: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(key)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", unknown)
    with pytest.raises(shmkv.CodecError, match=r"Europe/Rome.*tzdata") as raised:
        store.get("k")
    assert store.name in str(raised.value)
    monkeypatch.undo()
    assert store["k"][0].tzinfo is ROME


def test_elements_chosen_to_have_one_hash(store: shmkv.Store) -> None:
    """A set of n of them takes n * n steps to make, so neither side makes a large one."""
    alike = [n * sys.hash_info.modulus for n in range(1, 20_001)]
    few = alike[:200] + list(range(1000))
    for whole in (set(few), frozenset(few), dict.fromkeys(few)):
        assert back(store, whole) == whole
    for whole in (set(alike[:300]), frozenset(alike[:300]), dict.fromkeys(alike[:300])):
        with pytest.raises(shmkv.CodecError, match="one hash"):
            store.set("k", [whole])
    elements = packed.pack(tuple(alike + alike))
    for code in (_core.EXT_SET, _core.EXT_FROZENSET, _core.EXT_DICT):
        forged = elements.replace(bytes([_core.EXT_TUPLE]), bytes([code]), 1)
        with pytest.raises(shmkv.CodecError, match="one hash"):
            packed.unpack(forged, "made up")
