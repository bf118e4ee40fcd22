"""What a call of a verb means: which store, what the other arguments are, and how to open it.

Owns: the rule by which the store is told from the keys (`split`), keys on a command line, and the
words for a store that is not there.

Promises: how arguments are read depends on their number, on -s and on SHMKV_STORE; where that
leaves two readings and the first argument names a store, the call is refused. A store is never
created but by `import --create` and `restore`. Verbs that only look open read-only: they need no
row and change nothing.

Does not: know click, which takes longer to import than a `get` takes in all (`call` does).
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import shmkv
from shmkv import config, segment
from shmkv.cli.output import Failure, Negative, named, tell
from shmkv.types import Key

VARIABLE = "SHMKV_STORE"
KEY_MAX = 65_535
MODE = 0o600  # what a store's file may let in unless --mode says more


class Misuse(Exception):
    """A usage error: exit code 2. `call` makes it click's, which knows the usage."""


class Operands(NamedTuple):
    """The arguments a verb takes besides the store: words, [optional] ones, repeated ones..."""

    words: tuple[str, ...]
    least: int
    most: float

    @classmethod
    def of(cls, usage: str) -> Operands:
        """Read from the usage line: "KEY [DELTA]", "KEY..."."""
        words = tuple(usage.split())
        least = sum(not word.startswith("[") for word in words)
        return cls(words, least, math.inf if usage.endswith("...") else len(words))

    def fit(self, count: int) -> bool:
        """May there be so many?"""
        return self.least <= count <= self.most


class Ambiguous(Exception):
    """A line that has two meanings."""


class Misfit(Exception):
    """A line with too few or too many arguments."""


def split(
    args: Sequence[str],
    operands: Operands,
    *,
    option: str | None,
    default: str | None,
    is_store: Callable[[str], bool],
) -> tuple[str, list[str]]:
    """The store and the operands. `option` is from -s, `default` from the environment."""
    rest = list(args)
    if option is not None:
        if not operands.fit(len(rest)):
            raise Misfit
        return option, rest
    with_name = bool(rest) and operands.fit(len(rest) - 1)
    if default is not None and operands.fit(len(rest)):
        if with_name and is_store(rest[0]):
            raise Ambiguous
        return default, rest
    if not with_name:
        raise Misfit
    return rest[0], rest[1:]


class Call:
    """The store of a call and its other arguments."""

    def __init__(
        self, args: Sequence[str], store: str | None, owner: int | None, mode: int
    ) -> None:
        self.args = args
        self.option = store
        self.owner = owner
        self.mode = mode
        self.name = ""

    def take(self, usage: str) -> list[str]:
        """The arguments besides the store, as many as the usage says; settles the store."""
        operands = Operands.of(usage)
        default = os.environ.get(VARIABLE) or None
        try:
            self.name, rest = split(
                self.args,
                operands,
                option=self.option,
                default=default,
                is_store=self._is_store,
            )
        except Ambiguous:
            first, others = self.args[0], " ".join(map(named, self.args[1:]))
            raise Misuse(
                f"{first!r} is the name of a store, and {VARIABLE}={default} is set too: write"
                f" -s {first} {others}".rstrip()
                + f", or -s {default} {first!r} {others}".rstrip()
            ) from None
        except Misfit:
            known = self.option or default
            wanted = usage if self.option else f"[NAME] {usage}" if known else f"NAME {usage}"
            count = len(self.args)
            raise Misuse(
                f"{count or 'no'} argument{'s' * (count != 1)} given, this verb"
                f" takes {wanted}"
                + ("" if known else f" (NAME may be left out if {VARIABLE} is set)")
            ) from None
        return rest

    def _is_store(self, name: str) -> bool:
        uid = os.geteuid() if self.owner is None else self.owner
        try:
            config.check_name(name)
        except ValueError:
            return False
        return os.path.lexists(segment.file_path(name, uid))

    def open(self, *, readonly: bool = False, **options: Any) -> shmkv.Store:
        """The store, which exists unless the options say otherwise. Failure, Error."""
        if not readonly:
            options = {"create": False, "daemon": False} | options
        try:
            config.check_name(self.name)
        except ValueError as error:
            raise Failure(str(error)) from None
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                store = shmkv.open(
                    self.name, owner=self.owner, mode=self.mode, readonly=readonly, **options
                )
            except shmkv.NotFound as error:
                if self._is_store(self.name):  # half made
                    raise
                raise Failure(missing(self.name, self.owner)) from error
        for warning in said:
            tell(f"note: {warning.message}".replace("open it with owner=", "add --owner "))
        return store


def look(name: str, uid: int, *, lock_timeout: float = 0.0) -> shmkv.Store:
    """A store to look at, whatever its mode; one's own without it counting as use (`shmkv gc`)."""
    options = config.judge(
        name, owner=uid, readonly=True, mode=0o777, lock_timeout=lock_timeout, environ={}
    )
    return segment.attach(shmkv.Store, options, unseen=uid == os.geteuid())


def stores() -> list[tuple[int, str]]:
    """User ids and names of all stores there are."""
    found = []
    for entry in os.listdir(segment.SHM):
        prefix, _, rest = entry.partition(".")
        uid, _, name = rest.partition(".")
        if prefix == "shmkv" and uid.isascii() and uid.isdecimal() and name:
            found.append((int(uid), name))
    return sorted(found)


def missing(name: str, owner: int | None) -> str:
    """That a store does not exist, and which one may have been meant."""
    import difflib

    uid = os.geteuid() if owner is None else owner
    listed = stores()
    whose = "" if owner is None else f" of user {owner}"
    text = f"store {name!r}{whose} does not exist"
    namesakes = sorted(other for other, stored in listed if stored == name)
    if namesakes:
        return f"{text}: user {namesakes[0]} has one of that name: add --owner {namesakes[0]}"
    close = difflib.get_close_matches(name, [stored for other, stored in listed if other == uid], 1)
    if close:
        return f"{text}: did you mean {close[0]!r}?"
    close = difflib.get_close_matches(name, [stored for _, stored in listed], 1)
    if close:
        other = next(other for other, stored in listed if stored == close[0])
        return f"{text}: did you mean {close[0]!r} of user {other} (--owner {other})?"
    return f"{text}: shmkv ls lists those there are"


def to_key(arg: str) -> Key:
    """A key from the command line: text, or bytes where they are no UTF-8."""
    data = os.fsencode(arg)
    if not 1 <= len(data) <= KEY_MAX:
        raise Misuse(f"a key has 1 to {KEY_MAX} bytes, this one {len(data)}")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def no(text: str) -> NoReturn:
    """End with 1: a miss or a no."""
    raise Negative(text)
