"""The words of the public face: keys, times, the sentinel, and what a store tells about itself.

Owns: type aliases, `MISSING`, and the results `Info`, `Stats` and `Report`. Nothing here knows a
segment. All results are immutable. `Stats` and `Report` are in `results`, which is loaded when one
is asked for: making dataclasses takes longer than everything else that opening a store needs.
"""

from __future__ import annotations

import datetime as dt
import enum
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from shmkv.types.results import Report as Report
    from shmkv.types.results import Stats as Stats

Key: TypeAlias = str | bytes
Ttl: TypeAlias = float | dt.timedelta | None
When: TypeAlias = float | dt.datetime


class Missing(enum.Enum):
    """The type of `MISSING`."""

    MISSING = "MISSING"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "MISSING"

    __str__ = __repr__


MISSING: Final = Missing.MISSING
"""Stands for "no value was given" where `None` is a value. It is falsy."""


class Info(NamedTuple):
    """What is known of one item."""

    type: str
    """Name of the type the value comes back as: bytes, str, int, float, bool, NoneType, list, …,
    ndarray; `encoded` for a value of another codec."""
    size: int
    """Bytes of the value in the store; of a `str` its UTF-8, of a counter or a float 8."""
    ttl: float | None
    """Seconds until it expires; None: never."""
    age: float
    """Seconds since its page was opened: at least the time since it was written or moved."""


if not TYPE_CHECKING:  # a checker sees the imports above, and every name that is wrong

    def __getattr__(name: str) -> Any:
        if name in ("Report", "Stats"):
            from shmkv.types import results

            return getattr(results, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
