"""Codecs: which there are in this process, by name.

Plain values (bytes, str, int, float, bool, None) are encoded in C, whatever the codec: counters and
append work on them. Everything else is the codec's: the *safe* one (`packed`) makes one MessagePack
value or an array of it; any other makes bytes of its own, which are stored with its name, so that a
reader knows what it reads.

Owns: the registry and the pickle codec. Promises: nothing is unpickled but in a store that was
opened with codec="pickle". Does not: encode; imports nothing heavy, for every program pays for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

SAFE, PICKLE = "safe", "pickle"

NAME = r"[a-z0-9][a-z0-9._-]{0,31}"  # compiled where it is used: every import would pay for it


class Codec(Protocol):
    """What a codec of your own must have. It encodes every value that is not plain."""

    name: str
    """1 to 32 of a-z 0-9 . _ -; stored with each item, so it must not change its meaning."""

    def encode(self, value: Any, /) -> Buffer:
        """Bytes of a value; what it raises reaches the caller and nothing is stored."""

    def decode(self, data: bytes, /) -> Any:
        """The value of bytes that `encode` made."""


class Encoded(NamedTuple):
    """A value as another codec made it: what a store keeps of it."""

    codec: str
    data: bytes


class _Pickle:
    """Any object that pickle takes. Reading runs code that the writer chose."""

    name = PICKLE

    def encode(self, value: Any, /) -> bytes:
        import pickle

        return pickle.dumps(value, protocol=5)

    def decode(self, data: bytes, /) -> Any:
        import pickle

        return pickle.loads(data)


_pickle = _Pickle()
registered: dict[str, Codec] = {}
"""By name, but for the two that are always there."""


# --- which codecs there are ----------------------------------------------------------------------


def register_codec(codec: Codec) -> None:
    """Make a codec known in this process. `open(codec=codec.name)` writes with it, and every store
    of the process reads the items it made. Registering it again does nothing.

    Raises TypeError if it lacks name, encode or decode; ValueError if the name is no name of a
    codec or another codec has it.
    """
    name = getattr(codec, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"a codec needs a name (str): {codec!r:.80} has none")
    for part in ("encode", "decode"):
        if not callable(getattr(codec, part, None)):
            raise TypeError(f"codec {name!r:.60} needs a method {part}()")
    if re.fullmatch(NAME, name) is None:
        raise ValueError(f"{name!r:.60} is no name of a codec: use 1 to 32 of a-z 0-9 . _ -")
    if name in (SAFE, PICKLE) or registered.setdefault(name, codec) is not codec:
        raise ValueError(f"there is a codec {name!r} already: choose another name")


def find(name: str) -> Codec | None:
    """The codec of this name; None is the safe one. TypeError, ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"codec must be a str, not {type(name).__name__}")
    if name == SAFE:
        return None
    if name == PICKLE:
        return _pickle
    if name not in registered:
        known = ", ".join([SAFE, PICKLE, *sorted(registered)])
        raise ValueError(
            f"codec={name!r:.60} is not one of {known}: register it first (shmkv.register_codec)"
        )
    return registered[name]
