"""The verb doctor: prints what `inspect/doctor.py` finds.

Owns: how findings are shown. A store that is named is also verified as `shmkv check` does.

Does not: find anything by itself, or change anything.
"""

from __future__ import annotations

import os

import click

import shmkv
from shmkv import config, segment
from shmkv.cli import complete, output
from shmkv.cli.output import Failure
from shmkv.cli.target import look, missing
from shmkv.inspect.doctor import Places, examine
from shmkv.inspect.finding import Finding

COLOURS = {"ok": "green", "note": "blue", "warning": "yellow", "problem": "red"}


@click.command("doctor")
@click.argument("name", required=False, shell_complete=complete.names)
@click.option(
    "--path",
    type=click.Path(resolve_path=True),
    metavar="DIR",
    help="Look at the store's directory, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor_(ctx: click.Context, name: str | None, path: str | None, as_json: bool) -> None:
    """Look for what stands in the way of stores, and say what to type.

    Looks at the machine, /dev/shm, memory and process limits, systemd, and all
    your stores, or at one store thoroughly; at journals and snapshots, and with
    --path at where they go. Exit code 1 if there is a problem.
    """
    if name is not None:
        try:
            config.check_name(name)
        except ValueError as error:
            raise Failure(str(error)) from None
        if not os.path.lexists(segment.file_path(name, os.geteuid())):
            raise Failure(missing(name, None))
    places = ctx.obj if isinstance(ctx.obj, Places) else Places()
    findings = examine(places, name=name, folder=path)
    if name is not None:
        findings += _thorough(name)
    if as_json:
        output.json([one._asdict() for one in findings])
    else:
        for one in findings:
            _show(one)
    if any(one.severity == "problem" for one in findings):
        ctx.exit(1)


def _show(one: Finding) -> None:
    mark = output.colour(f"{one.severity:<8}", COLOURS[one.severity])
    output.line(f"{mark} {output.printable(one.topic)}: {output.printable(one.text)}")
    if one.fix is not None:
        output.line(f"         {output.printable(one.fix)}")


def _thorough(name: str) -> list[Finding]:
    """What a check of every invariant says, and whether there is a daemon: it needs none."""
    topic = f"store {name}"
    try:
        with look(name, os.geteuid(), lock_timeout=5.0) as store:
            report, has = store.check(), "a" if store._daemon(False) else "no"
    except (shmkv.Error, OSError):
        return []  # its state was a finding already
    if report:
        text = f"every invariant holds, {report.items} items; {has} daemon works for it"
        return [Finding("ok", topic, text)]
    text = f"{report.problem_count} invariants are broken, first: {report.problems[0]}"
    return [Finding("problem", topic, text, f"shmkv export -s {name} -o {name}.jsonl")]
