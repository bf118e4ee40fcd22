"""The JSON form of every value: there and back, equal and of the same type; what is no form.

Does not: test lines and stores (`test_lines.py`).
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import struct
import uuid
import zoneinfo
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmkv.codec import Encoded
from shmkv.inspect.export import DEPTH, dumps, from_json, loads, to_json

ZONES = sorted(
    {"Europe/Berlin", "Asia/Kolkata", "America/New_York"} & zoneinfo.available_timezones()
)
UTC = dt.timezone.utc  # noqa: UP017 - as it is stored


def same(a: Any, b: Any) -> bool:
    """Equal, of the same type, in all depths: -0.0 is not 0.0, nan is nan, zones count."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, decimal.Decimal):
        return str(a) == str(b)
    if isinstance(a, (dt.datetime, dt.time)):
        naive = a.replace(tzinfo=None) == b.replace(tzinfo=None)
        return naive and a.fold == b.fold and same_zone(a.tzinfo, b.tzinfo)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def same_zone(a: dt.tzinfo | None, b: dt.tzinfo | None) -> bool:
    if isinstance(a, zoneinfo.ZoneInfo):
        return isinstance(b, zoneinfo.ZoneInfo) and a.key == b.key
    return a == b and (a is None or b is None or a.tzname(None) == b.tzname(None))


def again(value: Any) -> Any:
    """Through text and back."""
    return from_json(loads(dumps(to_json(value))))


# ---- there and back -----------------------------------------------------------------------------

offsets = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
names = st.text(max_size=8)
fixed = st.builds(dt.timezone, offsets) | st.builds(dt.timezone, offsets, names) | st.just(UTC)
named = st.sampled_from(ZONES).map(zoneinfo.ZoneInfo) if ZONES else fixed
zones = st.none() | fixed | named
folds = st.integers(0, 1)
moments = st.builds(lambda m, f: m.replace(fold=f), st.datetimes(timezones=zones), folds)
times = st.builds(lambda t, z, f: t.replace(tzinfo=z, fold=f), st.times(), zones, folds)
hashable_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2000, 3000).map(lambda bits: -(1 << bits))
    | st.floats()
    | st.text()
    | st.text().map(lambda text: "$" + text)
    | st.binary()
    | st.decimals().filter(lambda number: not number.is_snan())
    | st.uuids()
    | moments
    | times
    | st.dates()
    | st.timedeltas()
)
hashables = st.recursive(
    hashable_leaves,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
values = st.recursive(
    hashables | st.sets(hashables, max_size=3) | st.just(decimal.Decimal("-sNaN7")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(values)
def test_a_value_comes_back(value: Any) -> None:
    assert same(again(value), value)


@settings(deadline=None, max_examples=100)
@given(values)
def test_a_form_is_one_line_in_ascii_too(value: Any) -> None:
    text = dumps(to_json(value), ascii_only=True)
    assert text.isascii()
    assert "\n" not in text + dumps(to_json(value))
    assert same(from_json(loads(text)), value)


PLAIN = [
    None,
    True,
    False,
    0,
    -1,
    10**300,
    1.5,
    -0.0,
    "",
    "é",
    [],
    [1, [2]],
    {},
    {"a": {"b": None}},
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_json_is_itself(value: Any) -> None:
    assert to_json(value) == value
    assert same(again(value), value)


FORMS = [
    (b"\x00\xff", {"$bytes": "AP8="}),
    (float("nan"), {"$float": "nan"}),
    (float("-inf"), {"$float": "-inf"}),
    ((1, ()), {"$tuple": [1, {"$tuple": []}]}),
    ({1}, {"$set": [1]}),
    (frozenset(), {"$frozenset": []}),
    ({1: 2}, {"$dict": [[1, 2]]}),
    ({"$a": 2}, {"$dict": [["$a", 2]]}),
    (1 << 2048, {"$int": "0x1" + "0" * 512}),
    (dt.date(2026, 1, 2), {"$date": "2026-01-02"}),
    (dt.timedelta(-1, 2, 3), {"$timedelta": [-1, 2, 3]}),
    (decimal.Decimal("-0.10"), {"$decimal": "-0.10"}),
    (decimal.Decimal("sNaN12"), {"$decimal": "sNaN12"}),
    (uuid.UUID(int=5), {"$uuid": "00000000-0000-0000-0000-000000000005"}),
    (dt.time(1, 2, fold=1), {"$time": {"at": "01:02:00", "fold": 1}}),
    (
        dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.timezone(dt.timedelta(hours=2), "here")),
        {
            "$datetime": {
                "at": "2026-01-02T03:04:05.000006",
                "zone": {"offset": [0, 7200, 0], "name": "here"},
            }
        },
    ),
    (Encoded("pickle", b"\x80"), {"$codec": {"name": "pickle", "data": "gA=="}}),
]


@pytest.mark.parametrize(("value", "form"), FORMS, ids=lambda part: repr(part)[:40])
def test_the_form_is_as_documented(value: Any, form: Any) -> None:
    assert to_json(value) == form
    assert same(from_json(form), value)


ARRAYS = [
    np.arange(6, dtype="<f8").reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    np.arange(12, dtype="u1").reshape(3, 4)[::2, 1:],
    np.array(5, dtype="c16"),
    np.zeros((0, 3), dtype="?"),
    np.array(["a", "bcd"]),
    np.array(["2026-01-02"], dtype="M8[D]"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_an_array_comes_back(array: Any) -> None:
    back = again([array])[0]
    assert same(back, np.array(array))
    back.flags.writeable = True
    assert back.flags.owndata or back.base is not None


def test_an_array_keeps_its_order() -> None:
    assert to_json(ARRAYS[1])["$array"]["order"] == "F"
    assert again(ARRAYS[1]).flags.f_contiguous


# ---- what has no form ---------------------------------------------------------------------------


class Text(str):
    """No str by type."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "type builtins.object"),
        (Text("a"), "Text"),
        ([1, {"a": 1j}], "complex"),
        ("a\udc80", "surrogates"),
        ({"\ud800": 1}, "surrogates"),
        (np.array([object()]), "dtype object"),
        (np.zeros(1, dtype=[("a", "i4")]), "dtype"),
        (np.float64(1), "float64"),
    ],
    ids=lambda part: repr(part)[:30],
)
def test_what_has_no_form_is_named(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        to_json(value)


def nested(depth: int, kind: type) -> Any:
    value: Any = kind()
    for _ in range(depth - 1):
        value = kind([value])
    return value


@pytest.mark.parametrize("kind", [list, tuple, frozenset])
def test_depth_is_bounded_both_ways(kind: type) -> None:
    deepest = nested(DEPTH, kind)
    assert same(again(deepest), deepest)
    with pytest.raises(ValueError, match="more than 64 deep"):
        to_json(nested(DEPTH + 1, kind))
    form = to_json(deepest)
    tag = {"list": lambda f: [f], "tuple": lambda f: {"$tuple": [f]}}.get(
        kind.__name__, lambda f: {"$frozenset": [f]}
    )
    with pytest.raises(ValueError, match="more than 64 deep"):
        from_json(tag(form))


def test_depth_of_text_is_bounded() -> None:
    with pytest.raises(ValueError, match="64 deep"):
        from_json(loads("[" * 200_000 + "]" * 200_000))
    with pytest.raises(ValueError, match="64 deep"):
        from_json(loads('{"a":' * 70 + "1" + "}" * 70))


BAD = [
    ({"$what": 1}, "unknown tag"),
    ({"$": 1}, "unknown tag"),
    ({"$bytes": "AA=="} | {"a": 1}, "stand alone"),
    ({"a": 1, "$b": 1}, "unknown tag"),
    ({"$bytes": 1}, "must be text"),
    ({"$bytes": "A"}, "\\$bytes"),
    ({"$bytes": "AA==\n"}, "\\$bytes"),
    ({"$int": "12"}, "hexadecimal"),
    ({"$float": "1.0"}, "nan, inf"),
    ({"$float": 1.0}, "nan, inf"),
    ({"$tuple": {}}, "must be a list"),
    ({"$set": [1, True]}, "twice"),
    ({"$set": [[1]]}, "unhashable"),
    ({"$dict": [[1, 2], [1.0, 3]]}, "twice"),
    ({"$dict": [[1]]}, "pairs"),
    ({"$dict": [[[1], 2]]}, "unhashable"),
    ({"$dict": {}}, "must be a list"),
    ({"$date": "yesterday"}, "isoformat"),
    ({"$date": 5}, "must be text"),
    ({"$timedelta": [1, 2]}, "days, seconds"),
    ({"$timedelta": [1, 2, 3.0]}, "days, seconds"),
    ({"$timedelta": [10**12, 0, 0]}, "\\$timedelta"),
    ({"$timedelta": [True, 0, 0]}, "days, seconds"),
    ({"$decimal": "one"}, "no number"),
    ({"$decimal": 1}, "must be text"),
    ({"$uuid": "{00000000-0000-0000-0000-000000000005}"}, "8-4-4-4-12"),
    ({"$datetime": "2026-01-01"}, "must be an object"),
    ({"$datetime": {}}, "lacks 'at'"),
    ({"$datetime": {"at": "2026-01-01T00:00:00", "tz": 1}}, "unknown field"),
    ({"$datetime": {"at": "2026-01-01T00:00:00+01:00"}}, "has an offset"),
    ({"$datetime": {"at": "2026-01-01T00:00:00", "fold": 2}}, "fold"),
    ({"$datetime": {"at": "2026-01-01T00:00:00", "fold": True}}, "fold"),
    ({"$time": {"at": "00:00", "zone": {"key": "Nowhere/At_All"}}}, "no time zone"),
    ({"$time": {"at": "00:00", "zone": {"key": "../../etc/passwd"}}}, "no time zone"),
    ({"$time": {"at": "00:00", "zone": {"offset": [2, 0, 0]}}}, "strictly between"),
    ({"$time": {"at": "00:00", "zone": {"offset": [0, 0, 0], "key": "UTC"}}}, "unknown field"),
    ({"$array": []}, "must be an object"),
    ({"$array": {"dtype": "O", "shape": [1], "order": "C", "data": ""}}, "plain"),
    ({"$array": {"dtype": "<i3", "shape": [1], "order": "C", "data": "AAAA"}}, "\\$array"),
    ({"$array": {"dtype": "<i4", "shape": [2], "order": "C", "data": "AAAAAA=="}}, "fill"),
    ({"$array": {"dtype": "<i4", "shape": [-1], "order": "C", "data": ""}}, "shape"),
    ({"$array": {"dtype": "<i4", "shape": [0, 10**30], "order": "C", "data": ""}}, "array"),
    ({"$array": {"dtype": "<i4", "shape": [1], "order": "A", "data": "AAAAAA=="}}, "order"),
    ({"$array": {"dtype": "<i4", "shape": [1], "data": "AAAAAA=="}}, "lacks 'order'"),
    ({"$codec": {"name": 5, "data": ""}}, "must be text"),
    ({"$codec": {"name": "x"}}, "lacks 'data'"),
    (float("inf"), "\\$float"),
    ("a\ud800", "surrogates"),
    ({"\ud800": 1}, "surrogates"),
    ({1: 2}, "not text"),
    ((1,), "tuple is not JSON"),
]


@pytest.mark.parametrize(("form", "words"), BAD, ids=lambda part: repr(part)[:50])
def test_what_is_no_form_is_named(form: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_json(form)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a":1,"a":2}', "twice"),
        ("NaN", "NaN is not JSON"),
        ("-Infinity", "is not JSON"),
        ("{", "not JSON"),
        ("", "not JSON"),
        ("1 2", "character 3"),
        (b"\xff", "utf-8"),
    ],
)
def test_text_that_means_nothing_or_two_things(text: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        loads(text)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.text()
                | st.sampled_from(["$tuple", "$set", "$dict", "$bytes", "$array", "$time"]),
                inner,
            )
        ),
    )
)
def test_any_json_is_a_value_or_a_value_error(form: Any) -> None:
    try:
        value = from_json(form)
    except ValueError:
        return
    assert same(again(value), value)
