"""How click reads a call of a verb.

Owns: the decorator `verb`, the options every verb has (-s, --owner, --mode), durations, users and
modes on a command line, and the end by exit code 2.

Promises: what is read here is a `target.Call`, whose rules hold for all verbs.

Does not: do what verbs do, or print results.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

import click

from shmkv import config
from shmkv.cli import complete
from shmkv.cli.target import MODE, VARIABLE, Call, Misuse

NEVER = math.inf
TTL_MOST = 2.8e11  # seconds: where the store's clock ends
# Patterns are compiled where they are used: most calls need none of them.
_DURATION = r"([0-9]{1,15}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ms|s|m|h|d|w)?"
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


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

    def invoke(self, ctx: click.Context) -> Any:
        """Misuse is shown with the usage of the verb."""
        try:
            return super().invoke(ctx)
        except Misuse as misuse:
            raise click.UsageError(str(misuse), ctx) from misuse


def _is_negative(arg: str) -> bool:
    """Is it a negative number, such as -5 or -1.5?"""
    digits = arg[1:].replace(".", "", 1)
    return arg.startswith("-") and arg.isascii() and digits.isdigit()


def refuse(text: str) -> NoReturn:
    """A usage error: exit code 2."""
    raise click.UsageError(text, click.get_current_context())


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


class FromTable(click.ParamType):  # type: ignore[type-arg]  # older ones are not generic
    """A value of an option of `shmkv.open`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The judged value."""
        option = config.BY_NAME[self.name]
        try:
            return option.check(option.name, value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def table_option(name: str, help: str) -> click.Option:
    """An option of `shmkv.open`, with its bounds and its variable.

    `open` reads the variable by itself and knows what it means for stores that exist: what came
    from there (`from_variable`) is checked here, shown in the help, and not to be handed on.
    """
    return click.Option(
        ["--" + name.replace("_", "-")],
        type=FromTable(name),
        metavar=name.upper(),
        envvar=config.BY_NAME[name].variable,
        show_envvar=True,
        help=help,
    )


def from_variable(name: str) -> bool:
    """Was the value of this option taken from its variable?"""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.ENVIRONMENT


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
        click.Option(["--mode"], type=Mode(), default=MODE, metavar="OCTAL", help=mode_help),
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
