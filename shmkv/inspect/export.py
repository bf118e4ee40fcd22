"""Values as JSON and back: the forms that `shmkv export`, `import` and every `--json` speak.

Owns: the JSON form of every value a store holds (`to_json`, `from_json`) and its text (`dumps`,
`loads`).

    plain JSON    None, bool, int, finite float, str, list, dict with str keys without "$" in front
    {"$int": "-0x1f"}                        an int of more than 2,048 bits
    {"$float": "nan" | "inf" | "-inf"}       {"$bytes": base64}
    {"$tuple": [...]}  {"$set": [...]}  {"$frozenset": [...]}  {"$dict": [[key, value], ...]}
    {"$datetime": {"at": ISO, "fold": 1, "zone": ZONE}}    {"$time": the same}    {"$date": ISO}
        ZONE is {"key": "Europe/Berlin"} or {"offset": [days, seconds, us], "name": text}; fold,
        zone and name are left out where there is none
    {"$timedelta": [days, seconds, us]}      {"$decimal": text}    {"$uuid": text}
    {"$array": {"dtype": "<f8", "shape": [2, 3], "order": "C" | "F", "data": base64}}
    {"$codec": {"name": text, "data": base64}}    bytes of another codec, as they are

Promises: what is read back is equal and of the same type. What is no such form raises ValueError
that says what; nothing in a form is run or imported. Containers nest 64 deep at most, either way.

Does not: know items or stores (`lines.py`), or import numpy before an array comes.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import decimal
import json
import math
import re
import sys
import uuid
import zoneinfo
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from shmkv.codec import Encoded

DEPTH = 64  # containers within each other
INT_BITS = 2048  # larger ones go as hexadecimal: Python bounds the decimal digits it converts

Form = Any
_DTYPE = re.compile(r"[<>|=]?[biufcSUmM]\d{1,9}(\[\d{0,9}[A-Za-z]{1,2}\])?", re.ASCII)
_HEX = re.compile(r"-?0x[0-9a-f]+", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


# ---- values to forms ----------------------------------------------------------------------------


def to_json(value: Any, *, depth: int = 0) -> Form:
    """The JSON form of a value, as Python objects that `json` writes. ValueError: has none."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return _text(value)
    if kind is int:
        return value if value.bit_length() <= INT_BITS else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind in _LEAVES:
        tag, write = _LEAVES[kind]
        return {tag: write(value)}
    if kind in _CONTAINERS:
        if depth >= DEPTH:
            raise ValueError(f"containers are nested more than {DEPTH} deep")
        return _container(kind, value, depth + 1)
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray:
        return {"$array": _array(value)}
    if kind is Encoded:
        return {"$codec": {"name": _text(value.codec), "data": _base64(value.data)}}
    raise ValueError(f"a value of type {kind.__module__}.{kind.__qualname__} has no JSON form")


def _container(kind: type, value: Any, depth: int) -> Form:
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {_text(key): to_json(item, depth=depth) for key, item in value.items()}
        pairs = value.items()
        return {"$dict": [[to_json(k, depth=depth), to_json(v, depth=depth)] for k, v in pairs]}
    items = [to_json(item, depth=depth) for item in value]
    return items if kind is list else {_CONTAINERS[kind]: items}


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"text with lone surrogates is not storable: {value!a:.60}") from None
    return value


def _base64(data: Any) -> str:
    return base64.b64encode(data).decode("ascii")


def _span(value: dt.timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _moment(value: dt.datetime | dt.time) -> Form:
    form: dict[str, Any] = {"at": value.replace(tzinfo=None).isoformat()}
    if value.fold:
        form["fold"] = value.fold
    if value.tzinfo is not None:
        form["zone"] = _zone(value.tzinfo)
    return form


def _zone(zone: dt.tzinfo) -> Form:
    if type(zone) is zoneinfo.ZoneInfo:
        if zone.key is None:
            raise ValueError("a ZoneInfo without a key has no JSON form")
        return {"key": _text(zone.key)}
    if type(zone) is dt.timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return {"offset": _span(offset)} | ({"name": _text(name[0])} if name else {})
    raise ValueError(f"a time zone of type {type(zone).__qualname__} has no JSON form")


def _array(value: Any) -> Form:
    if not _DTYPE.fullmatch(value.dtype.str):
        raise ValueError(f"an array of dtype {value.dtype} has no JSON form")
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    return {
        "dtype": value.dtype.str,
        "shape": list(value.shape),
        "order": order,
        "data": _base64(value.tobytes(order=order)),
    }


_CONTAINERS: dict[type, str] = {
    list: "",
    dict: "$dict",
    tuple: "$tuple",
    set: "$set",
    frozenset: "$frozenset",
}
_LEAVES: dict[type, tuple[str, Callable[[Any], Form]]] = {
    bytes: ("$bytes", _base64),
    dt.datetime: ("$datetime", _moment),
    dt.time: ("$time", _moment),
    dt.date: ("$date", dt.date.isoformat),
    dt.timedelta: ("$timedelta", _span),
    decimal.Decimal: ("$decimal", str),
    uuid.UUID: ("$uuid", str),
}


# ---- forms to values ----------------------------------------------------------------------------


def from_json(form: Form, *, depth: int = 0) -> Any:
    """The value of a form. ValueError says what is wrong with it."""
    kind = type(form)
    if form is None or kind is bool or kind is int:
        return form
    if kind is str:
        return _text(form)
    if kind is float:
        if not math.isfinite(form):
            raise ValueError(f'a number is {form}: write it as {{"$float": "{form}"}}')
        return form
    if kind is not list and kind is not dict:
        raise ValueError(f"a {kind.__name__} is not JSON")
    if kind is list:
        return _items(form, "a list", depth)
    if any(type(key) is not str for key in form):
        raise ValueError("an object has a key that is not text")
    tags = [key for key in form if key.startswith("$")]
    if not tags:
        deeper = _deeper(depth)
        return {_text(key): from_json(item, depth=deeper) for key, item in form.items()}
    tag = tags[0]
    if tag not in _READERS:
        raise ValueError(f"{tag!a:.60} is an unknown tag")
    if len(form) != 1:
        raise ValueError(f"{tag} must stand alone in its object")
    try:
        return _READERS[tag](form[tag], depth)
    except (TypeError, OverflowError, ArithmeticError, binascii.Error) as error:
        raise ValueError(f"{tag}: {error}") from None


def _deeper(depth: int) -> int:
    if depth >= DEPTH:
        raise ValueError(f"containers are nested more than {DEPTH} deep")
    return depth + 1


def _a(form: Form, kind: type, what: str) -> Any:
    if type(form) is not kind:
        raise ValueError(f"{what} must be {_JSON[kind]}, not {_JSON.get(type(form), 'a number')}")
    return form


_JSON: dict[type, str] = {
    str: "text",
    list: "a list",
    dict: "an object",
    int: "a whole number",
    bool: "true or false",
    type(None): "null",
}


def _fields(
    form: Form, what: str, needed: AbstractSet[str], optional: AbstractSet[str] = frozenset()
) -> Any:
    _a(form, dict, what)
    for name in sorted(needed - form.keys()):
        raise ValueError(f"{what} lacks {name!r}")
    for name in sorted(form.keys() - needed - optional):
        raise ValueError(f"{what} has an unknown field {name!a:.60}")
    return form


def _items(form: Form, what: str, depth: int) -> list[Any]:
    deeper = _deeper(depth)
    return [from_json(item, depth=deeper) for item in _a(form, list, what)]


def _read_members(form: Form, depth: int) -> set[Any]:
    items = _items(form, "a set", depth)
    members = set(items)
    if len(members) != len(items):
        raise ValueError("a set holds a member twice")
    return members


def _read_dict(form: Form, depth: int) -> dict[Any, Any]:
    deeper = _deeper(depth)
    found: dict[Any, Any] = {}
    for pair in _a(form, list, "$dict"):
        if type(pair) is not list or len(pair) != 2:
            raise ValueError("$dict must be a list of pairs")
        found[from_json(pair[0], depth=deeper)] = from_json(pair[1], depth=deeper)
    if len(found) != len(form):
        raise ValueError("$dict holds a key twice")
    return found


def _read_bytes(form: Form, _depth: int = 0) -> bytes:
    return base64.b64decode(_a(form, str, "base64"), validate=True)


def _read_int(form: Form, _depth: int) -> int:
    if not _HEX.fullmatch(_a(form, str, "$int")):
        raise ValueError(f"$int must be hexadecimal as in -0x1f, not {form!a:.60}")
    return int(form, 16)


def _read_float(form: Form, _depth: int) -> float:
    if form not in ("nan", "inf", "-inf"):
        raise ValueError(f"$float must be nan, inf or -inf, not {form!a:.60}")
    return float(form)


def _read_span(form: Form, _depth: int = 0) -> dt.timedelta:
    parts = _a(form, list, "a time span")
    if len(parts) != 3 or any(type(part) is not int for part in parts):
        raise ValueError("a time span must be [days, seconds, microseconds]")
    return dt.timedelta(*parts)


def _read_moment(kind: type[Any], form: Form, what: str) -> Any:
    _fields(form, what, {"at"}, {"fold", "zone"})
    moment = kind.fromisoformat(_a(form["at"], str, f"{what}: at"))
    if moment.tzinfo is not None:
        raise ValueError(f"{what}: at {form['at']!a:.60} has an offset: write it as zone")
    fold = form.get("fold", 0)
    if type(fold) is not int or fold not in (0, 1):
        raise ValueError(f"{what}: fold must be 0 or 1")
    zone = _read_zone(form["zone"]) if "zone" in form else None
    return moment.replace(tzinfo=zone, fold=fold)


def _read_zone(form: Form) -> dt.tzinfo:
    if "key" not in _a(form, dict, "zone"):
        _fields(form, "zone", {"offset"}, {"name"})
        named = [_text(_a(form["name"], str, "zone: name"))] if "name" in form else []
        return dt.timezone(_read_span(form["offset"]), *named)
    key = _a(_fields(form, "zone", {"key"})["key"], str, "zone: key")
    try:
        return zoneinfo.ZoneInfo(key)
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        raise ValueError(f"this system knows no time zone {key!a:.60}") from None


def _read_date(form: Form, _depth: int) -> dt.date:
    return dt.date.fromisoformat(_a(form, str, "$date"))


def _read_decimal(form: Form, _depth: int) -> decimal.Decimal:
    try:
        return decimal.Decimal(_a(form, str, "$decimal"))
    except decimal.InvalidOperation:
        raise ValueError(f"$decimal is no number: {form!a:.60}") from None


def _read_uuid(form: Form, _depth: int) -> uuid.UUID:
    if not _UUID.fullmatch(_a(form, str, "$uuid")):
        raise ValueError(f"$uuid must be 8-4-4-4-12 hexadecimal digits, not {form!a:.60}")
    return uuid.UUID(form)


def _read_array(form: Form, _depth: int) -> Any:
    _fields(form, "$array", {"dtype", "shape", "order", "data"})
    if not _DTYPE.fullmatch(_a(form["dtype"], str, "$array: dtype")):
        raise ValueError(f"$array: dtype {form['dtype']!a:.60} is not a plain one")
    shape = _a(form["shape"], list, "$array: shape")
    if any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("$array: shape must be a list of whole numbers from 0")
    if form["order"] not in ("C", "F"):
        raise ValueError("$array: order must be C or F")
    data = _read_bytes(form["data"])
    import numpy

    dtype = numpy.dtype(form["dtype"])
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"$array: {len(data)} bytes do not fill shape {shape} of {dtype}")
    try:
        return numpy.ndarray(shape, dtype, bytearray(data), order=form["order"])
    except ValueError as error:
        raise ValueError(f"$array: {error}") from None


def _read_encoded(form: Form, _depth: int) -> Any:
    _fields(form, "$codec", {"name", "data"})
    name = _text(_a(form["name"], str, "$codec: name"))
    return Encoded(name, _read_bytes(form["data"]))


_READERS: dict[str, Callable[[Form, int], Any]] = {
    "$int": _read_int,
    "$float": _read_float,
    "$bytes": _read_bytes,
    "$tuple": lambda form, depth: tuple(_items(form, "$tuple", depth)),
    "$set": _read_members,
    "$frozenset": lambda form, depth: frozenset(_read_members(form, depth)),
    "$dict": _read_dict,
    "$datetime": lambda form, _: _read_moment(dt.datetime, form, "$datetime"),
    "$time": lambda form, _: _read_moment(dt.time, form, "$time"),
    "$date": _read_date,
    "$timedelta": _read_span,
    "$decimal": _read_decimal,
    "$uuid": _read_uuid,
    "$array": _read_array,
    "$codec": _read_encoded,
}


# ---- text ---------------------------------------------------------------------------------------


def dumps(form: Form, *, ascii_only: bool = False) -> str:
    """A form as one line of text, without the newline."""
    return json.dumps(form, ensure_ascii=ascii_only, allow_nan=False, separators=(",", ":"))


def loads(text: str | bytes) -> Form:
    """The form in a text. ValueError: not JSON, or JSON that means two things."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(f"containers are nested more than {DEPTH} deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from None


def _once(pairs: list[tuple[str, Form]]) -> Form:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _no_constant(name: str) -> Form:
    raise ValueError(f"{name} is not JSON: write it as $float")
