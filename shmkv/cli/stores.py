"""The verbs on whole stores: ls, info, stats, check, resize, rm.

Owns: how stores, their state and their totals are shown.

Promises: `ls` lists what nobody can attach to with its state and never fails because of it. `rm`
removes only what is named on the line, never what the environment names, and asks a person first.

Does not: judge machines (`doctor`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

import shmkv
from shmkv import config, segment
from shmkv.cli import complete, output
from shmkv.cli.call import exact_option, flag, json_option, owner_option, refuse, verb
from shmkv.cli.output import size, tell
from shmkv.cli.target import Call, look, missing, no, to_key

COLUMNS = ("NAME", "OWNER", "SIZE", "USED", "ITEMS", "ATTACHED", "STATE")
SIZES = {"size", "max_size"}  # of stats, besides bytes_*


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# ---- ls -----------------------------------------------------------------------------------------


def _listed(folder: Path, uid: int | None) -> list[dict[str, Any]]:
    """What is known of each store, as JSON."""
    from shmkv.inspect.survey import OK, survey

    rows = []
    for one in survey(folder, uid=uid):
        good = one.state == OK
        row: dict[str, Any] = {
            "name": one.name,
            "owner": one.uid,
            "size": one.size if good else None,
            "max_size": one.max_size if good else None,
            "used": one.backed if good else None,
            "items": None,
            "attached": one.attached if good else None,
            "state": one.state,
            "why": one.why or None,
        }
        if good:
            try:
                row["items"] = _items(one.name, one.uid)
            except (shmkv.Error, OSError, ValueError) as error:
                state = "damaged" if isinstance(error, shmkv.Corrupt) else "refused"
                row |= {"state": state, "why": str(error)}
        rows.append(row)
    return rows


def _items(name: str, uid: int) -> int:
    with look(name, uid) as store:
        return len(store)


@click.command("ls", cls=click.Command)
@click.option("--all", "everyone", is_flag=True, help="Stores of all users.")
@click.option("--bytes", "exact", is_flag=True, help="Print sizes in bytes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls_(everyone: bool, exact: bool, as_json: bool) -> None:
    """List stores.

    USED is what a store has taken from the system, STATE is ok, half made,
    damaged, other version, other machine, refused or unreadable.
    """

    rows = _listed(Path(segment.SHM), None if everyone else os.geteuid())
    if as_json:
        output.json(rows)
        return
    if not rows:
        return
    shown = [
        (
            output.printable(row["name"]),
            _user(row["owner"]),
            size(row["size"], exact),
            size(row["used"], exact),
            *("-" if row[what] is None else str(row[what]) for what in ("items", "attached")),
            row["state"],
        )
        for row in rows
    ]
    output.table(COLUMNS, shown, right=(2, 3, 4, 5))


# ---- info, stats --------------------------------------------------------------------------------


@verb("info", "[KEY]", exact_option(), json_option())
def info_(call: Call, exact: bool, as_json: bool) -> None:
    """Show what is known of a store, or of one item of it.

    An item is not read for that. Exit code 1 if there is no such key.
    """
    keys = [to_key(arg) for arg in call.take("[KEY]")]
    with call.open(readonly=True) as store:
        if keys:
            try:
                found = store.info(keys[0])._asdict()
            except KeyError:
                no(f"store {call.name!r} has no key {output.named(keys[0])}")
        else:
            found = _about(call, store)
    if as_json:
        from shmkv.inspect.export import to_json

        output.json(({"key": to_json(keys[0])} if keys else {}) | found)
    elif keys:
        ttl = found["ttl"]
        shown = [
            ("key", output.quoted(keys[0])),
            ("type", found["type"]),
            ("size", size(found["size"], exact)),
            ("ttl", "never" if ttl is None else f"{ttl:.3f} s"),
            ("age", f"{found['age']:.3f} s"),
        ]
        output.table((), shown, right=())
    else:
        created = dt.datetime.fromtimestamp(found["created"]).astimezone()
        found |= {"created": created.isoformat(sep=" ", timespec="seconds")}
        found |= {what: size(found[what], exact) for what in ("size", "max_size", "used")}
        found |= {"owner": _user(found["owner"]), "evict": "yes" if found["evict"] else "no"}
        _say_disk(found)
        output.table((), [(name, str(value)) for name, value in found.items()], right=())


def _about(call: Call, store: shmkv.Store) -> dict[str, Any]:

    from shmkv import _core

    stats = store.stats()
    uid = os.geteuid() if call.owner is None else call.owner
    path = segment.file_path(call.name, uid)
    with contextlib.suppress(OSError):
        uid = os.stat(path).st_uid
    return {
        "name": call.name,
        "owner": uid,
        "file": path,
        "size": stats.size,
        "max_size": stats.max_size,
        "used": stats.bytes_backed,
        "items": stats.items,
        "evict": store.evict,
        "layout_version": _core.LAYOUT_VERSION,
        "created": stats.created,
        "attached": stats.attached,
        "rows": stats.rows,
        "journal": stats.journal,
        "journal_broken": stats.journal_broken,
        "journal_pending": stats.journal_pending,
        "snapshot_time": stats.snapshot_time,
    }


def _say_disk(found: dict[str, Any]) -> None:
    """Journal and snapshot in words, for people."""
    from shmkv.inspect import words

    journal = words.journal(found)
    saved = words.snapshot(found, time.time())
    for name in ("journal_broken", "journal_pending", "snapshot_time"):
        del found[name]
    found |= {"journal": journal[0] if journal else "none", "snapshot": saved or "none"}


@verb("stats", "", exact_option(), json_option())
def stats_(call: Call, exact: bool, as_json: bool) -> None:
    """Print the totals of a store since it was created."""
    call.take("")
    with call.open(readonly=True) as store:
        stats = store.stats()
    totals = stats.as_dict()
    if as_json:
        output.json(totals)
        return
    asked = totals["hits"] + totals["misses"]
    shown = [
        ("hit_ratio", f"{totals['hits'] / asked:.4f}" if asked else "-"),
        ("copied_per_byte", f"{stats.copied_per_byte:.2f}"),
    ]
    _say_disk(totals)
    for queue, age in enumerate(totals.pop("ages")):
        if age is not None:
            shown.append((f"age_main_{queue}" if queue else "age_small", f"{age:.1f} s"))
    for name, value in totals.items():
        if name in SIZES or name.startswith("bytes_"):
            shown.append((name, size(value, exact)))
        elif name != "created":
            shown.append((name, str(value)))
    output.table((), sorted(shown), right=(1,))


# ---- check --------------------------------------------------------------------------------------


@verb(
    "check",
    "",
    flag("--fold", help="Give back what attachments of ended processes still hold."),
    json_option(),
)
def check_(call: Call, fold: bool, as_json: bool) -> None:
    """Verify every invariant of a store while others use it.

    Exit code 0 if all is well, 1 if there are problems. Reads all of the index
    and of the pages: seconds in a store of many GiB.
    """
    call.take("")
    from shmkv.inspect.survey import survey

    # Attaching to write folds the dead already: they are counted before.
    uid = os.geteuid() if call.owner is None else call.owner
    dead = sum(one.dead for one in survey(Path(segment.SHM), uid=uid, name=call.name))
    with call.open(readonly=not fold) as store:
        report = store.check()
    if as_json:
        output.json(report.as_dict() | {"dead_rows": dead})
    elif report:
        left = f", {dead} dead attachments{' folded' if fold else ''}" if dead or fold else ""
        output.line(f"ok: {report.items} items in {report.pages} pages{left}")
    else:
        for problem in report.problems:
            output.line(output.printable(problem))
        output.line(f"{report.problem_count} problems")
    if not report:
        raise click.exceptions.Exit(1)


# ---- resize -------------------------------------------------------------------------------------


@verb("resize", "SIZE")
def resize_(call: Call) -> None:
    """Raise the size of a store while it is in use.

    SIZE is 256MiB, 1g or bytes, at most the max_size of creation (see info).
    All processes have it at once; memory is taken as the store fills. A store
    never shrinks.
    """
    try:
        wanted = config.parse_size(call.take("SIZE")[0])
    except ValueError as error:
        refuse(str(error))
    with call.open() as store:
        try:
            store.resize(wanted)
        except ValueError as error:
            raise output.Failure(str(error)) from error


# ---- rm -----------------------------------------------------------------------------------------


@click.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete.names)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--missing-ok", is_flag=True, help="A store that is not there is no error.")
def rm_(names: tuple[str, ...], force: bool, missing_ok: bool, owner: int | None) -> None:
    """Remove stores and all that is in them.

    Processes that have one open go on with it until they close it; others find
    nothing. A person at a terminal is asked; anything else must say --force.
    Exit code 1 if a person said no.
    """
    if not force and not (sys.stdin is not None and sys.stdin.isatty()):
        refuse("there is no terminal to ask at: add --force to remove without asking")
    failed = declined = False
    for name in names:
        try:
            if force or _agreed(name, owner):
                shmkv.unlink(name, missing_ok=missing_ok, owner=owner)
            else:
                declined = True
        except shmkv.NotFound:
            failed = True
            tell(missing(name, owner))
        except (shmkv.Error, OSError, ValueError) as error:
            failed = True
            tell(str(error))
    if failed or declined:
        raise click.exceptions.Exit(3 if failed else 1)


rm_.params.append(owner_option())


def _agreed(name: str, owner: int | None) -> bool:
    """Ask about a store that exists; one that does not needs no answer."""

    config.check_name(name)
    uid = os.geteuid() if owner is None else owner
    if not os.path.lexists(segment.file_path(name, uid)):
        return True
    items = ""
    with contextlib.suppress(shmkv.Error, OSError):
        items = f" with {_items(name, uid)} items"
    click.echo(f"remove store {name!r}{items}? [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
