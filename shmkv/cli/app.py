"""The group of all verbs: loads the one that is asked for, and turns every end into an exit code.

Owns: the table of verbs, and the exit codes: 0 yes or done, 1 a miss or no, 2 usage, 3 the store or
the system refused, 130 interrupted. A reader that goes away (`shmkv scan web | head`) ends the
process by SIGPIPE, quietly, as it does any other tool.

Promises: never a traceback, unless SHMKV_DEBUG=1 asks for the one of an internal error. One verb
loads one module, so that `shmkv get` starts quickly.

Does not: know what verbs do.
"""

from __future__ import annotations

import importlib
import os
import signal
from typing import Any, NoReturn

import click

import shmkv
from shmkv.cli import output
from shmkv.cli.output import Failure
from shmkv.errors import Error

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
    "replay": "replaying",
    "rm": "stores",
    "doctor": "checkup",
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
        try:
            try:
                return super().invoke(ctx)
            finally:  # also what was printed before a failure
                output.flush()
        except (click.ClickException, click.exceptions.Exit):
            raise
        except BrokenPipeError:
            _end_by_pipe()
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(130)
        except Error as error:
            raise Failure(str(error)) from error
        except OSError as error:
            raise Failure(output.of_system(error)) from error
        except Exception as error:
            if os.environ.get("SHMKV_DEBUG") == "1":
                import traceback

                click.echo(traceback.format_exc(), err=True, nl=False)
            text = f"internal error: {type(error).__name__}: {error}"
            raise Failure(f"{text} (SHMKV_DEBUG=1 shows where)") from error


def _end_by_pipe() -> NoReturn:
    """Nobody reads any more: end as the signal ends others, which shells show as 141."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(128 + signal.SIGPIPE)  # where signals do not end a process: the first of a container


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
    --owner. No verb creates a store, but for `import --create`.

    Exit codes: 0 yes, found or done; 1 a miss or no; 2 usage; 3 the store or
    the system refused.

    \b
    Completion: put this line into the start file of your shell.
      bash   eval "$(_SHMKV_COMPLETE=bash_source shmkv)"
      zsh    eval "$(_SHMKV_COMPLETE=zsh_source shmkv)"
      fish   _SHMKV_COMPLETE=fish_source shmkv | source
    """
