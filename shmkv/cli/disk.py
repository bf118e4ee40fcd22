"""The verbs of the disk: snapshot, restore, verify.

Owns: their options, what they print, and a bar of progress where a person watches.

Promises: `restore` overwrites a store only with --replace, and then when the new one is complete;
`verify` changes nothing and needs no store.

Does not: know files or blocks (`shmkv/disk`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Iterator

import click

import shmkv
from shmkv import config, segment
from shmkv.cli import output
from shmkv.cli.call import Mode, exact_option, flag, json_option, owner_option, refuse, verb
from shmkv.cli.output import Failure, size, tell
from shmkv.cli.target import MODE, Call
from shmkv.disk import bring_back, save
from shmkv.disk import verify as examine
from shmkv.disk.directory import Directory
from shmkv.disk.save import KEEP, Progress
from shmkv.disk.verify import File, Verdict


@contextlib.contextmanager
def _watched(label: str, silent: bool) -> Iterator[Progress | None]:
    """A bar on standard error, if that is a terminal."""
    if silent or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1000, label=label, file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.update(1000 * done // max(total, 1) - bar.pos)

        yield progress


# ---- snapshot -----------------------------------------------------------------------------------


@verb(
    "snapshot",
    "[PATH]",
    flag("--compress", help="With zstd."),
    click.Option(
        ["--keep"],
        type=click.IntRange(min=1),
        metavar="N",
        help=f"Snapshots that stay in the directory ({KEEP}).",
    ),
    click.Option(["--path"], metavar="DIR", help="The directory of the store."),
    json_option(),
)
def snapshot_(
    call: Call, compress: bool, keep: int | None, path: str | None, as_json: bool
) -> None:
    """Save a store to a file, or to its directory, while others use it.

    PATH is a file. With --path DIR the snapshot goes into that directory, from
    which shmkv.open(name, path=DIR) brings the store back; a store with a
    journal needs that. What is there already is replaced when the new one is
    whole and on disk.
    """
    given = call.take("[PATH]")
    if bool(given) == (path is not None):
        refuse("name a file to save to, or the store's directory with --path DIR")
    if given and keep is not None:
        refuse("--keep goes with --path: a file is one snapshot")
    begun = time.monotonic()
    compression = "zstd" if compress else None
    with _watched("saving", as_json) as progress:
        if path is None:
            with call.open(readonly=True) as store:
                made = save(store, given[0], compression=compression, progress=progress)
                items = len(store)
        else:
            path = os.path.abspath(path)
            with _opened(call, path) as store, Directory(path, owner=call.owner) as folder:
                made = save(
                    store, folder, compression=compression, keep=keep or KEEP, progress=progress
                )
                items = len(store)
    seconds, stored = time.monotonic() - begun, os.stat(made).st_size
    if as_json:
        found = {"path": str(made), "items": items, "bytes": stored, "seconds": round(seconds, 3)}
        output.json(found)
    else:
        output.line(f"{output.quoted(str(made))}: {size(stored)} in {seconds:.1f} s")


def _opened(call: Call, path: str) -> shmkv.Store:
    """The store, which exists, with its directory, which is made if there is none."""
    call.open(readonly=True).close()
    Directory(path, make=True, owner=call.owner).close()
    return call.open(path=path)


# ---- restore ------------------------------------------------------------------------------------


@click.command("restore")
@click.argument("source", metavar="FROM", type=click.Path(exists=True))
@click.argument("name")
@click.option("--size", "wanted", metavar="SIZE", help="Of the new store: 256MiB, 1g; as it was.")
@click.option("--replace", is_flag=True, help="Replace a store of that name.")
@click.option("--mode", type=Mode(), default=MODE, metavar="OCTAL", help="Of its file (600).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore_(
    source: str,
    name: str,
    wanted: str | None,
    replace: bool,
    mode: int,
    as_json: bool,
    owner: int | None,
) -> None:
    """Make a store of a snapshot, or of a directory with its journal.

    FROM is a file that `shmkv snapshot` made, or the directory of a store. The
    new store has no directory: one that shall go on with its journal comes
    back by shmkv.open(name, path=DIR) instead.
    """
    try:
        options = config.judge(name, size=wanted, create="new", mode=mode, owner=owner)
    except ValueError as error:
        refuse(str(error))
    uid = os.geteuid() if owner is None else owner
    if not replace and os.path.lexists(segment.file_path(name, uid)):
        raise Failure(f"store {name!r} exists: add --replace, or restore under another name")
    begun = time.monotonic()
    with warnings.catch_warnings(), _watched("restoring", as_json) as progress:
        warnings.simplefilter("ignore")
        found = bring_back(source, shmkv.Store, options, replace=replace, progress=progress)
    for note in found.notes:
        tell(f"note: {note}")
    if as_json:
        output.json({"store": name} | found._asdict())
        return
    left = f", {found.expired} had expired" if found.expired else ""
    seconds = time.monotonic() - begun
    output.line(f"store {name!r} of {size(found.size)}: {found.items} items{left}, {seconds:.1f} s")


restore_.params.append(owner_option())


# ---- verify -------------------------------------------------------------------------------------


@click.command("verify")
@click.argument("path", type=click.Path(exists=True), metavar="FILE|DIR")
def verify_(path: str, exact: bool, as_json: bool) -> None:
    """Look whether a snapshot, a journal or a whole directory is good.

    Every sum and every item is looked at; no store is needed and nothing is
    changed. Exit code 0 if all is well, 1 if there are problems.
    """
    with _watched("verifying", as_json) as progress:
        verdict = examine(path, progress)
    if as_json:
        output.json(verdict.as_dict())
    else:
        _show(verdict, exact)
    if not verdict:
        raise click.exceptions.Exit(1)


verify_.params += [exact_option(), json_option()]


def _show(verdict: Verdict, exact: bool) -> None:
    for file in verdict.files:
        output.line(f"{output.quoted(file.path)}: {_about(file, exact)}")
    for note in verdict.notes:
        output.line(f"note: {output.printable(note)}")
    for problem in verdict.problems:
        output.line(output.printable(problem))
    for i, path in enumerate(verdict.restores):
        output.line(f"{'comes back from' if i == 0 else 'and then'} {output.quoted(path)}")
    count = len(verdict.problems)
    output.line("ok" if verdict else f"{count} problem{'s' * (count != 1)}")


def _about(file: File, exact: bool) -> str:
    """A file in a line."""
    if not file.store:
        return f"{file.what}, {size(file.bytes, exact)}"
    text = f"{file.what} {file.generation} of {file.store!r}, {size(file.bytes, exact)}"
    if file.what == "journal":
        return f"{text}, {file.rounds} rounds, {file.entries} entries"
    return f"{text}, {file.items} items"
