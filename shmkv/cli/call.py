"""One call of a verb: which store it means, what the other arguments are, and how to open it.

Owns: the decorator `verb`, the options every verb has (-s, --owner, --mode), the rule by which the
store is told from the keys (`split`), the meaning of keys and durations on a command line, and the
words for a store that is not there.

Promises: how arguments are read depends on their number, on -s and on SHMKV_STORE; where that
leaves two readings and the first argument names a store, the call is refused. A store is never
created but by `import --create`. Verbs that only look open read-only: they need no row and change
nothing.

Does not: do what verbs do, or print results.
"""

from __future__ import annotations

import inspect
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import click

import shmkv
from shmkv import config, segment
from shmkv.cli import complete
from shmkv.cli.output import Failure, named, tell
from shmkv.types import Key

VARIABLE = "SHMKV_STORE"
KEY_MAX = 65_535
NEVER = math.inf
TTL_MOST = 2.8e11  # seconds: where the store's clock ends
# Patterns are compiled where they are used: most calls need none of them.
_DURATION = r"([0-9]{1,15}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ms|s|m|h|d|w)?"
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


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


class Verb(click.Command):
    """A verb; a negative number may stand last without `--` before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`incr web hits -5` has no option -5."""
        after_option = len(args) > 1 and args[-2].startswith("-")
        if args and "--" not in args and not after_option and _is_negative(args[-1]):
            options = {name for param in self.params for name in param.opts}
            if args[-1][:2] not in options:
                args = [*args[:-1], "--", args[-1]]
        return super().parse_args(ctx, args)


def _is_negative(arg: str) -> bool:
    """Is it a negative number, such as -5 or -1.5?"""
    digits = arg[1:].replace(".", "", 1)
    return arg.startswith("-") and arg.isascii() and digits.isdigit()


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
            refuse(
                f"{first!r} is the name of a store, and {VARIABLE}={default} is set too: write"
                f" -s {first} {others}".rstrip()
                + f", or -s {default} {first!r} {others}".rstrip()
            )
        except Misfit:
            known = self.option or default
            wanted = usage if self.option else f"[NAME] {usage}" if known else f"NAME {usage}"
            count = len(self.args)
            refuse(
                f"{count or 'no'} argument{'s' * (count != 1)} given, this verb"
                f" takes {wanted}"
                + ("" if known else f" (NAME may be left out if {VARIABLE} is set)")
            )
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
            options.setdefault("create", False)
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


def refuse(text: str) -> NoReturn:
    """A usage error: exit code 2."""
    raise click.UsageError(text, click.get_current_context())


def missing(name: str, owner: int | None) -> str:
    """That a store does not exist, and which one may have been meant."""
    import difflib

    uid = os.geteuid() if owner is None else owner
    stores = complete.stores()
    whose = "" if owner is None else f" of user {owner}"
    text = f"store {name!r}{whose} does not exist"
    namesakes = sorted(other for other, stored in stores if stored == name)
    if namesakes:
        return f"{text}: user {namesakes[0]} has one of that name: add --owner {namesakes[0]}"
    close = difflib.get_close_matches(name, [stored for other, stored in stores if other == uid], 1)
    if close:
        return f"{text}: did you mean {close[0]!r}?"
    close = difflib.get_close_matches(name, [stored for _, stored in stores], 1)
    if close:
        other = next(other for other, stored in stores if stored == close[0])
        return f"{text}: did you mean {close[0]!r} of user {other} (--owner {other})?"
    return f"{text}: shmkv ls lists those there are"


def to_key(arg: str) -> Key:
    """A key from the command line: text, or bytes where they are no UTF-8."""
    data = os.fsencode(arg)
    if not 1 <= len(data) <= KEY_MAX:
        refuse(f"a key has 1 to {KEY_MAX} bytes, this one {len(data)}")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def no(text: str) -> NoReturn:
    """End with 1: a miss or a no. A person at a terminal is told why."""
    if sys.stderr is not None and sys.stderr.isatty():
        tell(text)
    raise click.exceptions.Exit(1)


class Duration(click.ParamType):  # type: ignore[type-arg]  # older ones are not generic
    """Seconds, or 500ms 90s 15m 2h 7d 1w, or never."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds; NEVER is infinity."""
        if isinstance(value, float):
            return value
        if value == "never":
            return NEVER
        found = re.fullmatch(_DURATION, value)
        seconds = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
        if not 0.001 <= seconds <= TTL_MOST:
            self.fail(
                f"{value!r} is no duration: write seconds (1.5), 500ms, 15m, 2h, 7d, or never;"
                " it is at least 1ms",
                param,
                ctx,
            )
        return seconds


class Owner(click.ParamType):  # type: ignore[type-arg]  # older ones are not generic
    """A user id, or the name of a user."""

    name = "user"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The user id."""
        if isinstance(value, int):
            return value
        if value.isascii() and value.isdecimal() and int(value) < (1 << 32) - 1:
            return int(value)
        import pwd

        try:
            return pwd.getpwnam(value).pw_uid
        except (KeyError, ValueError):
            self.fail(f"there is no user {value!r}", param, ctx)


class Mode(click.ParamType):  # type: ignore[type-arg]  # older ones are not generic
    """Permission bits in octal."""

    name = "octal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The bits."""
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"(0o?)?[67][0-7]{2}", value):
            self.fail(f"{value!r} is no mode such as 660: it must let the owner in", param, ctx)
        return int(value.removeprefix("0o"), 8)


DURATION = Duration()


def flag(*names: str, help: str) -> click.Option:
    """An option without a value."""
    return click.Option(names, is_flag=True, help=help)


def owner_option() -> click.Option:
    """Whose stores are meant."""
    return click.Option(
        ["--owner"], type=Owner(), metavar="USER", help="Whose store: a user id or name."
    )


def json_option() -> click.Option:
    """The same on every verb that prints data."""
    return flag("--json", "as_json", help="Print JSON.")


def exact_option() -> click.Option:
    """The same wherever sizes are shown."""
    return flag("--bytes", "exact", help="Print sizes in bytes.")


def _common(usage: str) -> list[click.Parameter]:
    """What every verb takes that works on one store."""
    mode_help = "Open it though its file allows others so much (600)."
    return [
        click.Option(
            ["-s", "--store"],
            metavar="NAME",
            shell_complete=complete.names,
            help=f"The store; else ${VARIABLE}, else the first argument.",
        ),
        owner_option(),
        click.Option(["--mode"], type=Mode(), default=0o600, metavar="OCTAL", help=mode_help),
        click.Argument(
            ["args"],
            nargs=-1,
            required=False,
            metavar=f"[NAME] {usage}".rstrip(),
            shell_complete=complete.operands(usage),
        ),
    ]


def verb(
    name: str, usage: str, *options: click.Option
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function the verb `name`: it gets a Call, then its own options by name.

    `usage` names the operands besides the store, as in "KEY [DELTA]".
    """

    def wrap(function: Callable[..., None]) -> click.Command:
        def run(
            args: tuple[str, ...], store: str | None, owner: int | None, mode: int, **own: Any
        ) -> None:
            function(Call(args, store, owner, mode), **own)

        return Verb(
            name,
            params=[*options, *_common(usage)],
            callback=run,
            help=inspect.cleandoc(function.__doc__ or ""),
        )

    return wrap
