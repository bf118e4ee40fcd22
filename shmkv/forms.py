"""What the types beyond MessagePack look like: object <-> payload of an extension.

Owns one pair of functions for each extension code of `_csrc/packed.h`, and the head of an array.
Imported when the first such value is met, for most stores never meet one; numpy only when an array
is met. What a payload may be is judged here as if a stranger had written it: anything wrong raises.

Does not: know nesting limits (`codec`), or stores.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import math
import re
import struct
import sys
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import ormsgpack

from shmkv import _core
from shmkv.errors import CodecError

if TYPE_CHECKING:
    from typing_extensions import Buffer

Pack: TypeAlias = Callable[[Any], bytes]
Unpack: TypeAlias = Callable[[bytes], Any]

_ARRAY_HEAD = struct.Struct("<HBBB")  # bytes of the head, order, length of the dtype, dimensions
_ARRAY_ALIGN = 16
_DTYPE = re.compile(  # no zeros: numpy divides by the counts of its units of time
    r"[<>|][biufcSU][1-9][0-9]{0,8}"
    r"|[<>][mM]8(\[([1-9][0-9]{0,8})?(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)
_PLAIN_KINDS = "biufcmMSU"
_ALIKE_MAX = 256  # elements of one hash: a set of n of them takes n * n steps


def _named(kind: type) -> str:
    """Its name with its module, whatever the class makes of these."""
    return type.__repr__(kind)[len("<class '") : -len("'>")]


def refuse(value: Any) -> CodecError:
    """The refusal of a value whose type is not among those the codec stores."""
    return CodecError(
        f"cannot store a value of type {_named(type(value))}: the safe codec stores exactly None,"
        " bool, int, float, str, bytes, list, tuple, dict, set, frozenset, datetime, date, time,"
        " timedelta, Decimal, UUID and numpy arrays, no subclasses: convert it, or open the store"
        ' with a registered codec or codec="pickle"'
    )


# --- time ----------------------------------------------------------------------------------------


def _zone(zone: dt.tzinfo | None) -> Any:
    if zone is None:
        return None
    if type(zone) is dt.timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return [offset // dt.timedelta(microseconds=1), *name]
    zoneinfo = sys.modules.get("zoneinfo")
    if zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo:
        key = getattr(zone, "key", None)
        if type(key) is str:
            return key
    raise CodecError(
        f"cannot store a time zone of type {_named(type(zone))}: only zoneinfo.ZoneInfo (made from"
        " a key) and datetime.timezone keep their meaning elsewhere: convert it with astimezone()"
    )


def _zone_from(zone: Any) -> dt.tzinfo | None:
    if zone is None:
        return None
    if isinstance(zone, list):
        offset, *name = zone
        return dt.timezone(dt.timedelta(microseconds=offset), *name)
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(zone)
    except zoneinfo.ZoneInfoNotFoundError:
        raise CodecError(
            f"this value has the time zone {zone!r:.80}, which this machine does not know:"
            " install its time zones (Debian: tzdata, pip: tzdata)"
        ) from None


def _of_datetime(value: dt.datetime, pack: Pack) -> bytes:
    date = [value.year, value.month, value.day]
    time = [value.hour, value.minute, value.second, value.microsecond]
    return pack([*date, *time, value.fold, _zone(value.tzinfo)])


def _to_datetime(payload: bytes, unpack: Unpack) -> dt.datetime:
    *numbers, fold, zone = unpack(payload)
    year, month, day, hour, minute, second, microsecond = numbers
    return dt.datetime(
        year, month, day, hour, minute, second, microsecond, _zone_from(zone), fold=fold
    )


def _of_time(value: dt.time, pack: Pack) -> bytes:
    time = [value.hour, value.minute, value.second, value.microsecond]
    return pack([*time, value.fold, _zone(value.tzinfo)])


def _to_time(payload: bytes, unpack: Unpack) -> dt.time:
    hour, minute, second, microsecond, fold, zone = unpack(payload)
    return dt.time(hour, minute, second, microsecond, _zone_from(zone), fold=fold)


def _of_date(value: dt.date, pack: Pack) -> bytes:
    return pack([value.year, value.month, value.day])


def _to_date(payload: bytes, unpack: Unpack) -> dt.date:
    year, month, day = unpack(payload)
    return dt.date(year, month, day)


def _of_timedelta(value: dt.timedelta, pack: Pack) -> bytes:
    return pack([value.days, value.seconds, value.microseconds])


def _to_timedelta(payload: bytes, unpack: Unpack) -> dt.timedelta:
    days, seconds, microseconds = unpack(payload)
    return dt.timedelta(days, seconds, microseconds)


# --- containers, numbers -------------------------------------------------------------------------


def _spread(elements: list[Any]) -> list[Any]:
    """The same; CodecError if they were chosen to have the same hash, which numbers allow."""
    if len(elements) > _ALIKE_MAX:
        hashes = list(map(hash, elements))
        if len(hashes) - len(set(hashes)) >= _ALIKE_MAX:
            alike = max(collections.Counter(hashes).values())
            if alike > _ALIKE_MAX:
                raise CodecError(
                    f"cannot hold a set or dict with {alike} elements of one hash: they are"
                    " multiples of sys.hash_info.modulus, or the like"
                )
    return elements


def _of_tuple(value: tuple[Any, ...], pack: Pack) -> bytes:
    return pack(list(value))


def _of_set(value: set[Any] | frozenset[Any], pack: Pack) -> bytes:
    return pack(_spread(list(value)))


def _to_tuple(payload: bytes, unpack: Unpack) -> tuple[Any, ...]:
    return tuple(unpack(payload))


def _to_set(payload: bytes, unpack: Unpack) -> set[Any]:
    return set(_spread(unpack(payload)))


def _to_frozenset(payload: bytes, unpack: Unpack) -> frozenset[Any]:
    return frozenset(_spread(unpack(payload)))


def _of_dict(value: dict[Any, Any], pack: Pack) -> bytes:
    pairs = list(value.items())
    _spread([key for key, _ in pairs])
    return pack([part for pair in pairs for part in pair])


def _to_dict(payload: bytes, unpack: Unpack) -> dict[Any, Any]:
    flat = unpack(payload)
    return dict(zip(_spread(flat[::2]), flat[1::2], strict=True))


def _of_int(value: int, pack: Pack) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _to_int(payload: bytes, unpack: Unpack) -> int:
    return int.from_bytes(payload, "little", signed=True)


def _of_decimal(value: decimal.Decimal, pack: Pack) -> bytes:
    return str(value).encode()


def _to_decimal(payload: bytes, unpack: Unpack) -> decimal.Decimal:
    return decimal.Decimal(payload.decode("ascii"))


def _of_uuid(value: uuid.UUID, pack: Pack) -> bytes:
    return value.bytes


def _to_uuid(payload: bytes, unpack: Unpack) -> uuid.UUID:
    return uuid.UUID(bytes=payload)


# --- arrays --------------------------------------------------------------------------------------


def is_array(value: Any) -> bool:
    """Is it exactly a numpy.ndarray?"""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is getattr(numpy, "ndarray", None)


def of_array(value: Any) -> tuple[bytes, Buffer]:
    """Head and elements of an array: its own memory if it is contiguous."""
    import numpy as np

    kind = value.dtype
    if kind.kind not in _PLAIN_KINDS or kind.itemsize == 0 or _DTYPE.fullmatch(kind.str) is None:
        raise CodecError(
            f"cannot store an array of dtype {kind}: only bool, int, uint, float, complex,"
            " datetime64, timedelta64 and text of a fixed length: convert it with astype()"
        )
    fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    if not fortran and not value.flags.c_contiguous:
        value = np.ascontiguousarray(value)
    dtype = kind.str.encode()
    shape = struct.pack(f"<{value.ndim}Q", *value.shape)
    size = _ARRAY_HEAD.size + len(dtype) + len(shape)
    size += -size % _ARRAY_ALIGN
    head = _ARRAY_HEAD.pack(size, fortran, len(dtype), value.ndim) + dtype + shape
    flat = (value.T if fortran else value).reshape(-1).view(np.uint8)
    return head.ljust(size, b"\0"), flat.data


def to_array(buffer: Buffer) -> Any:
    """The array that lies in a buffer; it can be written if the buffer can."""
    try:
        import numpy as np
    except ImportError:
        raise CodecError("this value is a numpy array: install numpy to read it") from None
    view = memoryview(buffer)
    size, fortran, dtype_len, ndim = _ARRAY_HEAD.unpack_from(view)
    at = _ARRAY_HEAD.size + dtype_len
    end = at + 8 * ndim
    name = str(view[_ARRAY_HEAD.size : at], "ascii")
    if _DTYPE.fullmatch(name) is None or fortran > 1 or size != end + -end % _ARRAY_ALIGN:
        raise ValueError("not the head of an array")
    dtype = np.dtype(name)
    shape = struct.unpack_from(f"<{ndim}Q", view, at)
    if dtype.str != name or math.prod(shape) * dtype.itemsize != len(view) - size:
        raise ValueError("an array of another size")
    return np.ndarray(shape, dtype, view, offset=size, order="F" if fortran else "C")


def _of_inner_array(value: Any, pack: Pack) -> bytes:
    head, data = of_array(value)
    return head + bytes(data)


def _to_inner_array(payload: bytes, unpack: Unpack) -> Any:
    return to_array(bytearray(payload))


# --- the table -----------------------------------------------------------------------------------

TYPES: dict[type, int] = {
    dt.datetime: _core.TYPE_DATETIME,
    dt.date: _core.TYPE_DATE,
    dt.time: _core.TYPE_TIME,
    dt.timedelta: _core.TYPE_TIMEDELTA,
    decimal.Decimal: _core.TYPE_DECIMAL,
    uuid.UUID: _core.TYPE_UUID,
}
"""Type codes of items: of those that are neither containers nor arrays."""

_BY_TYPE: dict[type, tuple[int, Callable[[Any, Pack], bytes]]] = {
    tuple: (_core.EXT_TUPLE, _of_tuple),
    set: (_core.EXT_SET, _of_set),
    frozenset: (_core.EXT_FROZENSET, _of_set),
    dict: (_core.EXT_DICT, _of_dict),
    int: (_core.EXT_INT, _of_int),
    dt.datetime: (_core.EXT_DATETIME, _of_datetime),
    dt.date: (_core.EXT_DATE, _of_date),
    dt.time: (_core.EXT_TIME, _of_time),
    dt.timedelta: (_core.EXT_TIMEDELTA, _of_timedelta),
    decimal.Decimal: (_core.EXT_DECIMAL, _of_decimal),
    uuid.UUID: (_core.EXT_UUID, _of_uuid),
}

_BY_CODE: dict[int, Callable[[bytes, Unpack], Any]] = {
    _core.EXT_TUPLE: _to_tuple,
    _core.EXT_SET: _to_set,
    _core.EXT_FROZENSET: _to_frozenset,
    _core.EXT_DICT: _to_dict,
    _core.EXT_INT: _to_int,
    _core.EXT_DATETIME: _to_datetime,
    _core.EXT_DATE: _to_date,
    _core.EXT_TIME: _to_time,
    _core.EXT_TIMEDELTA: _to_timedelta,
    _core.EXT_DECIMAL: _to_decimal,
    _core.EXT_UUID: _to_uuid,
    _core.EXT_ARRAY: _to_inner_array,
}


def lower(value: Any, pack: Pack) -> ormsgpack.Ext:
    """The extension of a value that MessagePack lacks. Raises CodecError."""
    found = _BY_TYPE.get(type(value))
    if found is not None:
        code, payload = found
    elif is_array(value):
        code, payload = _core.EXT_ARRAY, _of_inner_array
    else:
        raise refuse(value)
    return ormsgpack.Ext(code, payload(value, pack))


def raise_(code: int, payload: bytes, unpack: Unpack) -> Any:
    """The value of an extension. Raises CodecError, or anything if the payload is damaged."""
    return _BY_CODE[code](payload, unpack)
