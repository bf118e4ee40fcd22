"""shmkv: a key-value store in shared memory for every process on one machine.

    import shmkv

    with shmkv.open("web", size="256MiB") as store:
        store.set("greeting", "hello", ttl=60)
        store.get("greeting")

Public names only; `open` says what there is.
"""

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
from shmkv.types import MISSING, Info, Report, Stats

__all__ = [  # noqa: RUF022 - plain order, as people look it up
    "Busy",
    "Closed",
    "CodecError",
    "Corrupt",
    "Denied",
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
    "unlink",
]
