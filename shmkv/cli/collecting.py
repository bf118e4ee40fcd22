"""The verb gc: removes segments that nobody can use, and on request what nobody has used for long.

Owns: how that is asked, shown and answered by exit codes: 0 done, or nothing to do; 1 a person said
no, or one that was named stays; 2 usage; 3 one could not be removed. Like `rm` it never looks at
SHMKV_STORE.

Promises: what holds data goes only after a person at a terminal has agreed, or with --yes.

Does not: judge or remove (`shmkv/leftovers.py`).
"""

from __future__ import annotations

import os
import sys

import click

from shmkv import config, leftovers
from shmkv.cli import complete, output
from shmkv.cli.call import DURATION, NEVER, json_option, refuse
from shmkv.cli.output import Failure
from shmkv.cli.target import missing
from shmkv.leftovers import Done, Outcome


@click.command("gc")
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=complete.names)
@click.option(
    "--idle",
    type=DURATION,
    metavar="TIME",
    help="Also stores that nobody has open and nobody has used for so long: 12h, 7d.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask, with --idle.")
@click.pass_context
def gc_(
    ctx: click.Context,
    names: tuple[str, ...],
    idle: float | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove segments that nobody can use any more, and say why for each.

    These are half made and left, have a damaged header, or the layout of
    another version or machine, and no process has them open. With --idle also
    sound stores; a person at a terminal is asked, anything else must say --yes.

    Never one that a process has open, in whatever container, and never another
    user's. Use is to open, to close, and to write into memory that the process
    had not written to; `ls`, `doctor` and `gc` are none. If a process that had a
    store open was killed, nobody knows when: the time begins when gc finds it.
    Names limit it to those; exit code 1 if one of them stays.
    """
    if idle == NEVER:
        refuse("--idle takes a time: leave it out to keep all sound stores")
    chosen = _chosen(names)
    asks = idle is not None and not (yes or dry_run)
    if asks and not (sys.stdin is not None and sys.stdin.isatty()):
        refuse("there is no terminal to ask at: add --yes, or --dry-run to see what would go")
    agreed, seen = True, leftovers.collect(names=chosen, idle_s=idle) if asks else []
    if asks:
        agreed = _agreed([one for one in seen if one.done is Done.WOULD and not one.useless])
        # Only what was told of: while a person thinks, other stores grow old.
        stay = [one for one in seen if one.done is not Done.WOULD and not one.found.dead]
        chosen = frozenset(one.found.name for one in seen) - {one.found.name for one in stay}
        seen = stay
    seen += leftovers.collect(names=chosen, idle_s=idle if agreed else None, remove=not dry_run)
    found = sorted(seen, key=lambda one: (one.found.uid, one.found.name))
    _show(found, as_json, named=bool(names))
    if any(one.done is Done.FAILED for one in found):
        ctx.exit(3)
    if not agreed or (names and any(one.done is Done.KEPT for one in found)):
        ctx.exit(1)


gc_.params.append(json_option())


def _chosen(names: tuple[str, ...]) -> frozenset[str] | None:
    """The names that were given, which mean something of some user; None: all."""
    if not names:
        return None
    present = {one.found.name for one in leftovers.collect(names=frozenset(names))}
    for name in names:
        try:
            config.check_name(name)
        except ValueError as error:
            raise Failure(str(error)) from None
        if name not in present:
            raise Failure(missing(name, None))
    return frozenset(names)


def _agreed(going: list[Outcome]) -> bool:
    """Ask once about all that holds data."""
    if not going:
        return True
    for one in going:
        held = output.size(one.found.memory)
        click.echo(f"store {_shown(one)}: {one.why}, {held}", err=True)
    what = "this store and all that is in it"
    if len(going) > 1:
        what = f"these {len(going)} stores and all that is in them"
    click.echo(f"remove {what}? [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _shown(one: Outcome) -> str:
    return output.named(one.found.name)


def _show(found: list[Outcome], as_json: bool, *, named: bool) -> None:
    """All in JSON; for people what went, what ought to but stays, and what was named."""
    if as_json:
        output.json(
            [
                {
                    "name": one.found.name,
                    "owner": one.found.uid,
                    "state": one.found.state,
                    "done": one.done.value,
                    "why": one.why,
                    "bytes": one.found.memory,
                }
                for one in found
            ]
        )
        return
    me, others = os.geteuid(), 0
    for one in found:
        if one.done is Done.KEPT and not named and one.found.uid != me:
            others += 1
        elif one.done is not Done.KEPT or named or one.useless or one.found.dead:
            freed = f" ({output.size(one.found.memory)})" if one.done is not Done.KEPT else ""
            line = f"{one.done.value}: store {_shown(one)}{freed}: {one.why}"
            output.line(output.printable(line))
    if others:
        output.tell(f"{others} segments of other users are not touched: see shmkv ls --all")
