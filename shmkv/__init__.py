"""shmkv: a key-value store in shared memory for every process on one machine.

    import shmkv

    with shmkv.open("web", size="256MiB") as store:
        store.set("greeting", "hello", ttl=60)
        store.get("greeting")

Public names only; `open` says what there is. Importing it is part of every short program, so what
takes long to make, and few programs name, is loaded when it is named.
"""

from typing import TYPE_CHECKING, Any

from shmkv.codec import Codec, Encoded, register_codec
from shmkv.errors import (
    Busy,
    Closed,
    CodecError,
    Corrupt,
    Denied,
    Error,
    Exists,
    Full,
    Mismatch,
    NoSpace,
    NotFound,
    PersistError,
    ReadOnly,
    TooLarge,
)
from shmkv.segment import names, unlink
from shmkv.store import Store, open
from shmkv.types import MISSING, Info

if TYPE_CHECKING:
    from shmkv.types import Report, Stats

__version__ = "0.1.0"
"""As in pyproject.toml; a test holds them equal. Here so that asking reads no metadata."""

__all__ = [  # noqa: RUF022 - plain order, as people look it up
    "Busy",
    "Closed",
    "Codec",
    "CodecError",
    "Corrupt",
    "Denied",
    "Encoded",
    "Error",
    "Exists",
    "Full",
    "Info",
    "MISSING",
    "Mismatch",
    "NoSpace",
    "NotFound",
    "PersistError",
    "ReadOnly",
    "Report",
    "Stats",
    "Store",
    "TooLarge",
    "names",
    "open",
    "register_codec",
    "unlink",
]

if not TYPE_CHECKING:  # a checker sees the import above, and every name that is wrong

    def __getattr__(name: str) -> Any:
        if name in ("Report", "Stats"):
            from shmkv import types

            return getattr(types, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
