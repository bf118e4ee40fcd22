"""Which codecs there are: how values that are not plain bytes become bytes.

The types of the safe codec in this version (bytes, str, int, float, bool, None) are encoded in C;
here stands only which names `open` takes.
"""

from __future__ import annotations

CODECS = ("safe",)
PLANNED = ("pickle",)


def check(codec: str) -> None:
    """Raise unless `codec` names a codec of this version: TypeError, ValueError."""
    if not isinstance(codec, str):
        raise TypeError(f"codec must be a str, not {type(codec).__name__}")
    if codec in PLANNED:
        raise ValueError(f'codec={codec!r} is not available in this version: use codec="safe"')
    if codec not in CODECS:
        raise ValueError(f"codec={codec!r} is not one of {', '.join(CODECS)}")
