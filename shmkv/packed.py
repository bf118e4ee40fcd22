"""The safe codec, and the calls that C makes for values which are not plain.

`encode` and `decode`, `unpack`, `array`, `encoded` are called by `_csrc/py_codec.c`, which imports
this file when it meets the first such value. What they raise over damaged bytes becomes `Corrupt`
there. The safe codec makes one MessagePack value with our extensions (`forms`), or an array.

Promises: a value that another thread changes while it is encoded is stored as some mixture, it does
no harm. Nesting was limited before any of this runs. Does not: know which codecs there are
(`codec`), or what an extension looks like (`forms`).
"""

from __future__ import annotations

import functools
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any

import ormsgpack
from ormsgpack import unpackb as unpackb  # what C calls for values without extensions

from shmkv import _core
from shmkv import codec as codecs
from shmkv.codec import NAME, PICKLE, Codec, Encoded
from shmkv.errors import CodecError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_OPTIONS = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_CONTAINERS: dict[type, int] = {
    list: _core.TYPE_LIST,
    dict: _core.TYPE_DICT,
    tuple: _core.TYPE_TUPLE,
    set: _core.TYPE_SET,
    frozenset: _core.TYPE_FROZENSET,
}
_SURE: frozenset[type] = frozenset({type(None), bool, float, bytes, bytearray})
_HOPED = _SURE | {int, str}
_is_name = re.compile(NAME).fullmatch
_FLAT = 2  # containers within the payload of an extension that is no container itself


# --- in ------------------------------------------------------------------------------------------


def encode(
    value: Any, codec: Codec | None, store: str, plain: bool = True
) -> tuple[int, bytes, Buffer]:
    """Type code and two buffers that make the value, for C. Raises CodecError.

    `plain`: everything within may be of a type that MessagePack has.
    """
    kind = type(value)
    if kind is Encoded:
        return _core.TYPE_CODEC, _head(value.codec), _buffer(value.data, value.codec)
    if codec is not None:
        name = codec.name
        return _core.TYPE_CODEC, _head(name), _buffer(codec.encode(value), name)
    try:
        code = _CONTAINERS.get(kind)
        if code is not None:
            return code, b"", pack(value, plain)
        forms = _forms()
        code = forms.TYPES.get(kind)
        if code is not None:
            return code, b"", pack(value, False)
        if forms.is_array(value):
            return _core.TYPE_ARRAY, *forms.of_array(value)
        raise forms.refuse(value)
    except CodecError as error:
        raise CodecError(f"store {store!r}: {error}") from None


def _head(name: str) -> bytes:
    if not isinstance(name, str) or not _is_name(name):
        raise CodecError(f"{name!r:.60} is no name of a codec: use 1 to 32 of a-z 0-9 . _ -")
    return bytes([len(name)]) + name.encode()


def _buffer(data: Buffer, name: str) -> Buffer:
    if type(data) is bytes:
        return data
    try:
        view = memoryview(data)
    except TypeError:
        made = type(data).__name__
        raise TypeError(f"codec {name!r} must make bytes, not {made}") from None
    return view if view.c_contiguous else view.tobytes()


def pack(value: Any, plain: bool = True) -> bytes:
    """One MessagePack value. Raises CodecError.

    The library is given no hook: while it walks a value no other code runs, for it does not survive
    that a list changes under it. What it lacks is lowered beforehand, into containers of our own:
    first in the hope that every int has 64 bits and every str is UTF-8, then looking at each.
    """
    try:
        return _pack(value, _core.DEPTH_MAX, _HOPED, plain)
    except TypeError:
        return _pack(value, _core.DEPTH_MAX, _SURE, False)


def _pack(value: Any, left: int, same: frozenset[type], plain: bool) -> bytes:
    if plain:
        try:
            return ormsgpack.packb(value, None, _OPTIONS)
        except TypeError:
            pass  # something that it lacks
    return ormsgpack.packb(_lowered(value, left, same), None, _OPTIONS)


def _lowered(value: Any, left: int, same: frozenset[type]) -> Any:
    """The same, of nothing but what MessagePack has; everything that is not is looked at, for the
    library would take its own Ext and Fragment without asking. Raises CodecError."""
    kind = type(value)
    if kind not in _CONTAINERS:
        return _scalar(value, kind, same)
    if left == 0:  # it was not so deep when C looked: somebody changes it meanwhile
        raise CodecError(f"cannot store a value nested more than {_core.DEPTH_MAX} deep")
    less = left - 1
    if kind is list:
        return [one if type(one) in same else _lowered(one, less, same) for one in value]
    if kind is dict:
        pairs = list(value.items())
        if all(type(key) is str for key, _ in pairs):
            return {
                key if str in same else _text(key): (
                    one if type(one) in same else _lowered(one, less, same)
                )
                for key, one in pairs
            }
    return _forms().lower(value, lambda inner: _pack(inner, left, same, False))


def _scalar(value: Any, kind: type, same: frozenset[type]) -> Any:
    if kind in same:
        return value
    if kind is str:
        return _text(value)
    if kind is int and -(1 << 63) <= value < 1 << 64:
        return value
    if kind is memoryview:
        return value.tobytes()
    return _forms().lower(value, lambda inner: _pack(inner, _FLAT, same, str in same))


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise CodecError(f"cannot store {value!r:.60}: {error}") from None
    return value


@functools.cache
def _forms() -> ModuleType:
    from shmkv import forms

    return forms


# --- out -----------------------------------------------------------------------------------------


def unpack(data: bytes, store: str) -> Any:
    """The value of one MessagePack value with extensions, which was scanned before."""
    try:
        return _raised(data)
    except CodecError as error:
        raise CodecError(f"store {store!r}: {error}") from None


def _raised(data: bytes) -> Any:
    failed: BaseException | None = None  # the library keeps only that the hook raised
    forms = _forms()

    def raise_(code: int, payload: bytes) -> Any:
        nonlocal failed
        try:
            return forms.raise_(code, payload, _raised)
        except BaseException as error:
            failed = error
            raise

    try:
        return unpackb(data, ext_hook=raise_)
    except ValueError:
        if failed is not None:
            raise failed from None
        raise
    finally:
        failed = None  # an error refers to this frame


def array(buffer: Buffer, store: str) -> Any:
    """The numpy array that lies in a buffer."""
    try:
        return _forms().to_array(buffer)
    except CodecError as error:
        raise CodecError(f"store {store!r}: {error}") from None


def encoded(data: bytes, store: str) -> Encoded:
    """Name and bytes of a value of another codec."""
    size = data[0]
    name = data[1 : 1 + size].decode("ascii")
    if not _is_name(name):
        raise ValueError("not the name of a codec")
    return Encoded(name, data[1 + size :])


def decode(data: bytes, store: str, codec: Codec | None) -> Any:
    """The value of another codec's bytes. Raises CodecError if this reader has not got that codec,
    or if it fails."""
    name, payload = encoded(data, store)
    if codec is None or codec.name != name:
        codec = codecs.registered.get(name)
    if codec is None:
        how = f'with codec="{name}"' if name == PICKLE else "after shmkv.register_codec()"
        raise CodecError(
            f"store {store!r}: this value was written by codec {name!r}: open it {how}"
        )
    try:
        return codec.decode(payload)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise CodecError(
            f"store {store!r}: codec {name!r} cannot read this value: {what}"
        ) from error
