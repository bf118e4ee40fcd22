"""Options of `open`: what they may be, what they mean, and how sizes are read and shown.

Owns: `OPTIONS`, the one table of them (defaults, bounds, words, which of them the environment may
set), the rules for names and sizes, and `Options`, the judged set. Who adds an option adds a row, a
field of `Options` and an argument of `open`; the table of the README is made from this one
(`tests/readme.py`). A refused option raises TypeError or ValueError that names it, a refused
variable WrongVariable.

An argument wins over the environment, and that over the default. What the environment may set is
what an operator tunes for a program that does not say: how large new stores are, how long to wait,
whether a daemon works for them. It never decides what a program means or whom it trusts:

* `codec`: a variable must not be able to switch on pickle, which runs what others wrote.
* `mode`, `owner`: whose memory it is and who may read it. `path`: one value for all stores would
  make them share their files.
* "recreate" of `on_mismatch`, and `on_corrupt`: what may empty a store stands in a program.
* `create`, `readonly`: they are what the call means.

`size`, `max_size` and `evict` of the environment are those of a store that is created. They are no
demand on one that is there: one variable speaks of all stores of a process, they differ.

Does not: look at segments, know what the running system allows.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

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
PREFIX = "SHMKV_"  # of variables of the environment

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


class WrongVariable(ValueError):
    """A variable of the environment has a value that its option does not take."""


# --- one by one -------------------------------------------------------------------------------


def check_owner(owner: int | None) -> int | None:
    """A user id or None."""
    if owner is None:
        return None
    if not isinstance(owner, int) or isinstance(owner, bool):
        raise TypeError(f"owner must be a user id (int) or None, not {type(owner).__name__}")
    if not 0 <= owner < (1 << 32) - 1:
        raise ValueError(f"owner={owner} is no user id")
    return owner


def _check_create(_what: str, create: Create) -> Create:
    if isinstance(create, bool) or create == "new":
        return create
    if isinstance(create, str):
        raise ValueError(f'create={create!r:.60} is not True, False or "new"')
    raise TypeError(f'create must be True, False or "new", not {type(create).__name__}')


def _word_of(*words: str) -> Callable[[str, Any], str]:
    def check(what: str, word: Any) -> str:
        if not isinstance(word, str):
            raise TypeError(f"{what} must be a str, not {type(word).__name__}")
        if word not in words:
            raise ValueError(f"{what}={word!r:.60} is not one of {', '.join(words)}")
        return word

    return check


def _check_mode(_what: str, mode: int) -> int:
    if not isinstance(mode, int) or isinstance(mode, bool):
        raise TypeError(f"mode must be an int such as 0o600, not {type(mode).__name__}")
    if not 0 <= mode <= 0o777 or mode & 0o600 != 0o600:
        raise ValueError(f"mode={mode:#o} must be of 0o000 to 0o777 and let the owner in (0o600)")
    return mode


def _check_timeout(what: str, timeout: float) -> float:
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
        raise TypeError(f"{what} must be seconds (float), not {type(timeout).__name__}")
    if math.isnan(timeout) or not 0 <= timeout <= TIMEOUT_MAX:
        raise ValueError(f"{what}={timeout!r} is not between 0 and {TIMEOUT_MAX:.0f} seconds")
    return float(timeout)


def _check_size(what: str, size: int | str) -> int:
    return parse_size(size, what)


def _check_owner(_what: str, owner: int) -> int | None:
    return check_owner(owner)


def _taken(_what: str, value: Any) -> Any:
    return value


def _check_path(what: str, path: Path) -> str:
    """The directory of a store, absolute: where a process stands may change."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, a path or None, not {type(path).__name__}")
    if not text or "\0" in text:
        raise ValueError(f"{what}={path!r:.60} names no directory")
    return os.path.abspath(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{0,9})?", text):
        raise ValueError
    return float(text)


def _yes_no(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError
    return text == "1"


# --- the table --------------------------------------------------------------------------------


class Option(NamedTuple):
    """A row of the table."""

    name: str
    default: Any
    """What holds if neither the caller nor the environment says; None is not checked."""
    shown: str
    """The default in words."""
    help: str
    check: Callable[[str, Any], Any]
    """(name, value) -> the judged value, or TypeError, ValueError."""
    read: Callable[[str], Any] | None = None
    """What a variable's text means to `check`; None: the environment has no say."""
    texts: str = ""
    """What a variable may hold, in words."""

    @property
    def variable(self) -> str | None:
        """The variable of the environment that sets it."""
        return None if self.read is None else PREFIX + self.name.upper()

    def of(self, environ: Mapping[str, str]) -> Any:
        """What the environment says, judged; None: nothing. An empty variable says nothing."""
        text = environ.get(self.variable) if self.variable else None
        if not text or self.read is None:
            return None
        try:
            return self.check(self.name, self.read(text))
        except ValueError:
            raise WrongVariable(
                f"{self.variable}={text!a:.60} in the environment is refused: {self.name} takes"
                f" {self.texts}"
            ) from None


_SIZES = "2 MiB to 64 GiB, as in 256MiB, 1g, or bytes"
OPTIONS = (
    Option(
        "size",
        None,
        "what is there, or 64 MiB",
        "bytes of the store: it never takes more",
        _check_size,
        str,
        _SIZES,
    ),
    Option(
        "max_size",
        None,
        "4 x `size`",
        "what `size` may be raised to while the store is in use",
        _check_size,
        str,
        _SIZES,
    ),
    Option("create", True, "`True`", 'may it create? `False`; `"new"`: it must', _check_create),
    Option("mode", 0o600, "`0o600`", "permission bits of the segment's file", _check_mode),
    Option("owner", None, "this user", "user id the store belongs to", _check_owner),
    Option("readonly", False, "`False`", "look only: create and change nothing", check_bool),
    Option(
        "evict",
        None,
        "as it is, or `True`",
        "may items leave to make room? If not, a full store raises `Full`",
        check_bool,
        _yes_no,
        "0 or 1",
    ),
    Option("codec", "safe", '`"safe"`', "what stores values that are not plain", _taken),
    Option("path", None, "none", "directory of the store: it comes back from there", _check_path),
    Option(
        "journal",
        None,
        "as it is, or none",
        'what is written is on disk soon (`"everysec"`) or before a write returns (`"always"`)',
        _word_of("everysec", "always"),
    ),
    Option(
        "on_mismatch",
        "fail",
        '`"fail"`',
        'another size or policy than asked: `"attach"` takes it, `"recreate"` empties it',
        _word_of("fail", "recreate", "attach"),
        lambda text: {"fail": text, "attach": text}.get(text, ""),
        "fail or attach (recreate only as an argument)",
    ),
    Option(
        "on_corrupt",
        "fail",
        '`"fail"`',
        'a damaged store: `"recreate"` empties it',
        _word_of("fail", "recreate"),
    ),
    Option(
        "lock_timeout",
        5.0,
        "`5.0`",
        "seconds to wait for what a living process holds, before `Busy`",
        _check_timeout,
        _seconds,
        f"seconds from 0 to {TIMEOUT_MAX:.0f}",
    ),
    Option(
        "daemon",
        False,
        "`False`",
        "start a daemon for the store if it has none",
        check_bool,
        _yes_no,
        "0 or 1",
    ),
)
BY_NAME = {option.name: option for option in OPTIONS}


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
    codec: str
    path: str | None
    journal: Journal | None
    on_mismatch: OnMismatch
    on_corrupt: OnCorrupt
    lock_timeout: float
    daemon: bool
    fresh_size: int | None
    """What the environment says of a store that is created; so are the next two."""
    fresh_max_size: int | None
    fresh_evict: bool | None

    @property
    def new_size(self) -> int:
        """Bytes of the store if this open creates it."""
        if self.size is not None:
            return self.size
        wanted = SIZE_DEFAULT if self.fresh_size is None else self.fresh_size
        most = self.max_size if self.fresh_size is not None else self._most
        return wanted if most is None else min(wanted, most)

    @property
    def new_max_size(self) -> int:
        """Bytes its size may be raised to."""
        if self.max_size is not None:
            return self.max_size
        if self.fresh_max_size is None:
            return min(GROWTH * self.new_size, SIZE_MAX)
        return self.fresh_max_size if self.size is None else max(self.fresh_max_size, self.size)

    @property
    def _most(self) -> int | None:
        return self.fresh_max_size if self.max_size is None else self.max_size

    @property
    def new_evict(self) -> bool:
        """May items of the store leave, if this open creates it?"""
        if self.evict is not None:
            return self.evict
        return self.fresh_evict is not False


_FRESH = ("size", "max_size", "evict")  # the environment sets them for new stores only


def judge(name: str, *, environ: Mapping[str, str] | None = None, **given: Any) -> Options:
    """Options that are right one by one and together, or TypeError, ValueError.

    `given` are arguments of `open`; what is left out, and None where that means nothing, is taken
    from the environment and from the table.
    """
    said = os.environ if environ is None else environ
    asked_daemon = given.get("daemon") is True
    judged: dict[str, Any] = {"name": check_name(name)}
    for option in OPTIONS:
        value = given.pop(option.name, None if option.read else option.default)
        meant = option.of(said)
        if option.name in _FRESH:
            judged[f"fresh_{option.name}"] = meant
            meant = None
        if value is None and option.read:
            value = option.default if meant is None else meant
        if value is not None or option.default is not None:
            value = option.check(option.name, value)
        judged[option.name] = value
    if given:
        raise TypeError(f"there is no option {', '.join(sorted(given))}")
    options = Options(**judged)
    most, size = show_size(options.new_max_size), show_size(options.new_size)
    if options.new_max_size < options.new_size and options.size is None:
        raise WrongVariable(f"SHMKV_MAX_SIZE={most} is less than SHMKV_SIZE={size}")
    if options.new_max_size < options.new_size:
        raise ValueError(f"max_size={most} is less than size={size}")
    if options.readonly and options.create == "new":
        raise ValueError('readonly=True cannot create: leave out create="new"')
    if options.journal is not None and options.path is None:
        raise ValueError(f"journal={options.journal!r} needs a directory: add path=")
    if options.readonly and options.journal is not None:
        raise ValueError("readonly=True writes no journal: leave out journal=")
    if options.readonly and asked_daemon:
        raise ValueError("readonly=True starts no daemon: leave out daemon=True")
    return options._replace(daemon=options.daemon and not options.readonly)
