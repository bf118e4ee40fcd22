"""The group of all verbs: loads the one that is asked for.

Owns: the table of verbs, what the help says of all of them, and `--version`.

Promises: one verb loads one module, so that it starts quickly.

Does not: know what verbs do, or how they end (`ends`).
"""

from __future__ import annotations

import importlib
from typing import Any

import click

import shmkv
from shmkv.cli import ends

VERBS = {
    "ls": "stores",
    "info": "stores",
    "stats": "stores",
    "get": "keys",
    "set": "keys",
    "del": "keys",
    "exists": "keys",
    "incr": "keys",
    "ttl": "keys",
    "scan": "streams",
    "export": "streams",
    "import": "streams",
    "check": "stores",
    "daemon": "daemons",
    "metrics": "scraping",
    "replay": "replaying",
    "resize": "stores",
    "snapshot": "disk",
    "restore": "disk",
    "verify": "disk",
    "rm": "stores",
    "gc": "collecting",
    "doctor": "checkup",
    "top": "eyes",
    "hot": "eyes",
    "watch": "eyes",
    "plan": "eyes",
    "postmortem": "postmortem",
    "report": "reporting",
}


class Verbs(click.Group):
    """The verbs, each imported when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which people learn them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb `get` is `get_` of its module."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"shmkv.cli.{VERBS[cmd_name]}")
        found: click.Command = getattr(module, f"{cmd_name}_")
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Says which verb may have been meant."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f": did you mean {close[0]!r}?" if close else ": see shmkv --help"
            raise click.UsageError(f"there is no verb {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; whatever it raises becomes a line and an exit code."""
        with ends.settled(click.ClickException, click.exceptions.Exit):
            try:
                return super().invoke(ctx)
            except click.Abort:
                ctx.exit(130)


def _version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"shmkv {shmkv.__version__}")
        ctx.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version)
@click.help_option("-h", "--help")
def cli() -> None:
    """Look into stores in shared memory, and change them.

    \b
    Which store a verb means:
      -s NAME         says it, wherever it stands: what scripts should write
      shmkv get NAME KEY
                      the first argument is the store
      shmkv get KEY   the store of the environment variable SHMKV_STORE
    If SHMKV_STORE is set, a line that fits both ways (such as `del A B`) means
    its store; but if A is the name of a store too, shmkv refuses to guess.

    Keys that begin with a dash come after `--`. Stores of other users need
    --owner. No verb creates a store, but for `import --create` and `restore`.

    Exit codes: 0 yes, found or done; 1 a miss or no; 2 usage; 3 the store or
    the system refused.

    \b
    Completion: put this line into the start file of your shell.
      bash   eval "$(_SHMKV_COMPLETE=bash_source shmkv)"
      zsh    eval "$(_SHMKV_COMPLETE=zsh_source shmkv)"
      fish   _SHMKV_COMPLETE=fish_source shmkv | source
    """
