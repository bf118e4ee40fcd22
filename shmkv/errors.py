"""Every exception of the package, and the one table from conditions to classes.

Owns: the family under `Error`, each member also a builtin that callers may already expect, and
`BY_STATUS`, from which the C extension and `segment` take the class for a condition of the core.

Promises: messages say what happened, in which store, and what to do; errors survive a pickle.

Does not: import anything. Plain `TypeError`, `ValueError`, `KeyError` and `OverflowError` are
raised for wrong types, bad arguments, missing keys and counters beyond 64 bits.
"""

from __future__ import annotations


class Error(Exception):
    """The base of all errors of this package."""


class NotFound(Error, FileNotFoundError):
    """There is no store of this name, and `open` was not to create it."""


class Exists(Error, FileExistsError):
    """A store of this name exists already, and `open` was to create it (`create="new"`)."""


class Denied(Error, PermissionError):
    """The segment is not one to trust or to enter: its owner, mode, type or links are wrong."""


class NoSpace(Error, OSError):
    """The system has no shared memory left (`/dev/shm` is full)."""


class Mismatch(Error):
    """The store differs from what was asked: size, policy, layout version or machine."""


class Corrupt(Error):
    """The segment holds bytes that no correct writer stores."""


class Closed(Error, ValueError):
    """The store was closed."""


class ReadOnly(Error):
    """A change was asked of a store opened with `readonly=True`."""


class TooLarge(Error, ValueError):
    """The item is larger than an eighth of the store's memory."""


class Full(Error):
    """No memory is left and the store may not evict (`evict=False`). Nothing was lost."""


class Busy(Error, TimeoutError):
    """A living process, or a view or operation of this one, kept what was waited for too long."""


class CodecError(Error, ValueError):
    """A value of a type that the codec does not store, or stored bytes that it cannot read."""


class PersistError(Error, OSError):
    """Saving to disk or loading from it failed."""


BY_STATUS: dict[str, type[Exception]] = {
    "miss": KeyError,
    "exists": Exists,
    "full": Full,
    "busy": Busy,
    "too large": TooLarge,
    "type": TypeError,
    "overflow": OverflowError,
    "corrupt": Corrupt,
    "no space": NoSpace,
    "no rows": Busy,
    "half made": NotFound,
    "gone": NotFound,
    "version": Mismatch,
    "stranger": Mismatch,
    "mismatch": Mismatch,
    "read only": ReadOnly,
    "invalid": ValueError,
    "persist": PersistError,
    "no memory": MemoryError,
    "system": OSError,
    "closed": Closed,
    "codec": CodecError,
}
