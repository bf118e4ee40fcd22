"""Options of `open`: what they may be, what they mean, and how sizes are read and shown.

Owns: the rules for names, sizes and the other options, as far as they can be judged without a
segment, and `Options`, the judged set. A refused option raises TypeError or ValueError that names
it. Does not: look at segments, know what the running system allows.
"""

from __future__ import annotations

import math
import os
import re
from typing import Literal, NamedTuple, TypeAlias

Create: TypeAlias = bool | Literal["new"]
OnMismatch: TypeAlias = Literal["fail", "recreate", "attach"]
OnCorrupt: TypeAlias = Literal["fail", "recreate"]
Journal: TypeAlias = Literal["everysec", "always"]
Path: TypeAlias = str | os.PathLike[str]

SIZE_MIN = 2 << 20
SIZE_MAX = 64 << 30
SIZE_DEFAULT = 64 << 20
SIZE_STEP = 4096
GROWTH = 4  # max_size as a multiple of size
TIMEOUT_MAX = 86_400 * 365.0

# Patterns are compiled where they are first used: every import would pay for them.
_NAME = r"[A-Za-z0-9._-]{1,100}"
_SIZE = r"(?ai)([0-9]{1,20}) ?(?:([kmg])(?:ib)?|b)?"
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def check_name(name: str) -> str:
    """The name, if it is one: 1 to 100 of letters, digits, dot, underscore and dash."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    if not re.fullmatch(_NAME, name) or name in (".", ".."):
        raise ValueError(
            f"name {name!a:.120} is no name of a store: use 1 to 100 of A-Z a-z 0-9 . _ -"
        )
    return name


def parse_size(size: int | str, what: str = "size") -> int:
    """Bytes of a size: an int, or a number with k, m or g (KiB, MiB, GiB), rounded up to 4096."""
    if isinstance(size, str):
        found = re.fullmatch(_SIZE, size)
        if found is None:
            raise ValueError(f'{what}={size!a:.60} is not a size: write bytes, or "256MiB", "1g"')
        number = int(found[1]) * _UNITS.get((found[2] or "").lower(), 1)
    elif isinstance(size, int) and not isinstance(size, bool):
        number = size
    else:
        raise TypeError(f"{what} must be an int or a str, not {type(size).__name__}")
    if not SIZE_MIN <= number <= SIZE_MAX:
        raise ValueError(f"{what}={size!r:.60} is not between 2 MiB and 64 GiB")
    return -(-number // SIZE_STEP) * SIZE_STEP


def show_size(number: int) -> str:
    """A size for people, exact: 64 MiB, 3084 KiB, 12345 bytes."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number and number % factor == 0:
            return f"{number // factor} {unit}"
    return f"{number} bytes"


def check_bool(what: str, value: bool) -> bool:
    """The value, if it is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {type(value).__name__}")
    return value


def check_owner(owner: int | None) -> int | None:
    """A user id or None."""
    if owner is None:
        return None
    if not isinstance(owner, int) or isinstance(owner, bool):
        raise TypeError(f"owner must be a user id (int) or None, not {type(owner).__name__}")
    if not 0 <= owner < (1 << 32) - 1:
        raise ValueError(f"owner={owner} is no user id")
    return owner


def _check_create(create: Create) -> Create:
    if isinstance(create, bool) or create == "new":
        return create
    if isinstance(create, str):
        raise ValueError(f'create={create!r:.60} is not True, False or "new"')
    raise TypeError(f'create must be True, False or "new", not {type(create).__name__}')


def _check_word(what: str, word: str, words: tuple[str, ...]) -> None:
    if not isinstance(word, str):
        raise TypeError(f"{what} must be a str, not {type(word).__name__}")
    if word not in words:
        raise ValueError(f"{what}={word!r:.60} is not one of {', '.join(words)}")


def _check_mode(mode: int) -> int:
    if not isinstance(mode, int) or isinstance(mode, bool):
        raise TypeError(f"mode must be an int such as 0o600, not {type(mode).__name__}")
    if not 0 <= mode <= 0o777 or mode & 0o600 != 0o600:
        raise ValueError(f"mode={mode:#o} must be of 0o000 to 0o777 and let the owner in (0o600)")
    return mode


def _check_path(path: Path | None) -> str | None:
    """The directory of a store, absolute: where a process stands may change."""
    if path is None:
        return None
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"path must be a str, a path or None, not {type(path).__name__}")
    if not text or "\0" in text:
        raise ValueError(f"path={path!r:.60} names no directory")
    return os.path.abspath(text)


def _check_timeout(timeout: float) -> float:
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
        raise TypeError(f"lock_timeout must be seconds (float), not {type(timeout).__name__}")
    if math.isnan(timeout) or not 0 <= timeout <= TIMEOUT_MAX:
        raise ValueError(f"lock_timeout={timeout!r} is not between 0 and {TIMEOUT_MAX:.0f} seconds")
    return float(timeout)


class Options(NamedTuple):
    """Judged options of one `open`. No dataclass: making one takes a third of `import shmkv`."""

    name: str
    size: int | None
    max_size: int | None
    create: Create
    mode: int
    owner: int | None
    readonly: bool
    evict: bool | None
    on_mismatch: OnMismatch
    on_corrupt: OnCorrupt
    lock_timeout: float
    daemon: bool
    path: str | None = None
    journal: Journal | None = None

    @property
    def new_size(self) -> int:
        """Bytes of the store if this open creates it."""
        if self.size is not None:
            return self.size
        return SIZE_DEFAULT if self.max_size is None else min(SIZE_DEFAULT, self.max_size)

    @property
    def new_max_size(self) -> int:
        """Bytes its size may be raised to."""
        if self.max_size is not None:
            return self.max_size
        return min(GROWTH * self.new_size, SIZE_MAX)


def _check_together(options: Options) -> None:
    """Refuse options that do not go together."""
    if options.new_max_size < options.new_size:
        raise ValueError(
            f"max_size={show_size(options.new_max_size)} is less than"
            f" size={show_size(options.new_size)}"
        )
    if options.readonly and options.create == "new":
        raise ValueError('readonly=True cannot create: leave out create="new"')
    if options.journal is not None and options.path is None:
        raise ValueError(f"journal={options.journal!r} needs a directory: add path=")
    if options.readonly and options.journal is not None:
        raise ValueError("readonly=True writes no journal: leave out journal=")
    if options.readonly and options.daemon:
        raise ValueError("readonly=True starts no daemon: leave out daemon=True")


def judge(
    name: str,
    *,
    size: int | str | None,
    max_size: int | str | None,
    create: Create,
    mode: int,
    owner: int | None,
    readonly: bool,
    evict: bool | None,
    path: Path | None,
    journal: Journal | None,
    on_mismatch: OnMismatch,
    on_corrupt: OnCorrupt,
    lock_timeout: float,
    daemon: bool,
) -> Options:
    """Options that are right one by one and together, or TypeError, ValueError."""
    if journal is not None:
        _check_word("journal", journal, ("everysec", "always"))
    _check_word("on_mismatch", on_mismatch, ("fail", "recreate", "attach"))
    _check_word("on_corrupt", on_corrupt, ("fail", "recreate"))
    options = Options(
        name=check_name(name),
        size=None if size is None else parse_size(size),
        max_size=None if max_size is None else parse_size(max_size, "max_size"),
        create=_check_create(create),
        mode=_check_mode(mode),
        owner=check_owner(owner),
        readonly=check_bool("readonly", readonly),
        evict=None if evict is None else check_bool("evict", evict),
        on_mismatch=on_mismatch,
        on_corrupt=on_corrupt,
        lock_timeout=_check_timeout(lock_timeout),
        daemon=check_bool("daemon", daemon),
        path=_check_path(path),
        journal=journal,
    )
    _check_together(options)
    return options
