"""The verb report: a page about a store, to keep or to send.

Owns: which store is meant and whether it can be looked at, where the page goes, and the sentence
for who lacks the libraries.

Promises: the store is only read, whomever its file lets in, and let go before the page is made. A
store that is damaged gives a page of what could be read, a line on standard error, and exit code 3.
The file appears whole or not at all. Where all processors are busy it takes its time (`aside`).

Does not: look or format (`shmkv/report`), which needs jinja2, matplotlib and numpy and is imported
when it is needed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from shmkv import config, segment
from shmkv.cli import output
from shmkv.cli.call import verb
from shmkv.cli.output import Failure, size, tell
from shmkv.cli.target import Call, look, missing
from shmkv.errors import Corrupt

if TYPE_CHECKING:
    from shmkv.inspect.survey import Found
    from shmkv.report import Seen

NEEDS = "report needs {}: pip install 'shmkv[report]'"
WAIT_S = 1.0  # for a lock that a reader of damaged bytes may meet


@verb(
    "report",
    "",
    click.Option(
        ["-o", "--output"],
        type=click.Path(allow_dash=True),
        metavar="FILE",
        help="Where the page goes (NAME.report.html); - is standard output.",
    ),
)
def report_(call: Call, output: str | None) -> None:
    """Make a page about a store: one HTML file that needs nothing else.

    Its memory page by page, the hit ratio over time and what another size
    would bring (if the store has a daemon, which remembers), sizes, ages and
    deadlines of items, prefixes of keys. The store is only read; of large ones
    a sample is taken. A damaged store gives a page of what could be read, and
    exit code 3.
    """
    call.take("")
    _report(call, output)


def _report(call: Call, path: str | None) -> None:
    room = _room()
    seen = _seen(room, call)
    page = room.render(seen)
    path = path or f"{call.name}.report.html"
    with output.file(path) as stream:
        stream.write(page)
    if path != "-":
        output.line(f"{output.printable(path)}: {size(len(page))}")
    if seen.troubles:
        for text in seen.troubles:
            tell(f"store {call.name!r}: {text}")
        raise click.exceptions.Exit(3)


def _room() -> Any:
    try:
        import shmkv.report as found
    except ImportError as error:
        raise Failure(NEEDS.format(error.name)) from error
    return found


def _seen(room: Any, call: Call) -> Seen:
    """What is there of the store. Failure, Error."""
    from shmkv.inspect import survey

    uid = os.geteuid() if call.owner is None else call.owner
    try:
        config.check_name(call.name)
    except ValueError as error:
        raise Failure(str(error)) from None
    listed = survey.survey(Path(segment.SHM), uid=uid, name=call.name)
    if not listed:
        raise Failure(missing(call.name, call.owner))
    found: Found = listed[0]
    now = time.time()
    why = found.why
    if found.state == survey.OK:
        try:
            with look(call.name, uid, lock_timeout=WAIT_S) as store:
                return cast("Seen", room.gather(store, found, when=now))
        except Corrupt as error:
            why = str(error)
    elif found.state != survey.DAMAGED:
        raise Failure(f"store {call.name!r} is {found.state}: {why}; shmkv doctor says more")
    return cast("Seen", room.salvage(found, why, when=now))
