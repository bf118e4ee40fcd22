"""The verb daemon: the one process that works ahead for a store, in front or in the background.

Owns: the options of that verb, where its lines of log go, what it has beside its work (metrics),
and its exit codes: 0 it was told to stop, or there is a daemon already, or the store was removed; 3
it had to give up.

Promises: without --foreground the call returns when the daemon works, or says why it does not.

Does not: work (`shmkv/daemon`).
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from shmkv import config, daemon
from shmkv.cli import output
from shmkv.cli.call import DURATION, NEVER, flag, verb
from shmkv.cli.output import Failure
from shmkv.cli.target import Call
from shmkv.daemon.detach import Report, detach

if TYPE_CHECKING:
    from shmkv.metrics import Address

FORMAT = "%(asctime)s %(levelname)-7s %(message)s"

Beside = Callable[[], contextlib.AbstractContextManager[None]]


def _address(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Address | None:
    """Where to serve metrics; read before anything is begun."""
    if value is None:
        return None
    from shmkv.cli.scraping import room

    try:
        found: Address = room().parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return found


def _beside(task: daemon.Task, metrics: Address | None) -> Beside:
    """What the daemon has beside its work: nothing, or its store's metrics."""
    if metrics is None:
        return contextlib.nullcontext
    from shmkv.cli.scraping import room

    @contextlib.contextmanager
    def served() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            collector = room().StoreCollector(task.name, owner=task.owner)
            try:
                address = stack.enter_context(room().Endpoint(metrics, collector))
            except OSError as error:
                raise Failure(output.of_system(error)) from error
            logging.getLogger("shmkv.daemon").info("metrics: %s", address)
            yield

    return served


@verb(
    "daemon",
    "",
    flag("-f", "--foreground", help="Stay, and log to standard error."),
    flag("--standby", help="Wait until the store exists and has no other daemon."),
    click.Option(
        ["--log"],
        type=click.Path(dir_okay=False, resolve_path=True),
        metavar="FILE",
        help="Append lines of log to a file; it may be rotated.",
    ),
    click.Option(
        ["--path"],
        type=click.Path(file_okay=False, resolve_path=True),
        metavar="DIR",
        help="The store's directory: do its journal's work.",
    ),
    click.Option(
        ["--summary"],
        type=DURATION,
        default="10m",
        metavar="TIME",
        help="Sum up in the log so often, or never (10m).",
    ),
    click.Option(
        ["--metrics"],
        callback=_address,
        metavar="ADDRESS",
        help="Serve metrics: unix:/path or 127.0.0.1:PORT.",
    ),
)
def daemon_(
    call: Call,
    foreground: bool,
    standby: bool,
    log: str | None,
    path: str | None,
    summary: float,
    metrics: Address | None,
) -> None:
    """Work ahead for a store: free memory, expired items, what the dead held.

    A store needs none, but with one its writers seldom have to free memory
    themselves. A store has one daemon; where there is one already, this ends
    with exit code 0, or waits for its end with --standby. SIGTERM stops it.
    """
    call.take("")
    if _has_one(call, standby):
        output.line(f"store {call.name!r} has a daemon already")
        return
    task = daemon.Task(
        name=call.name,
        owner=call.owner,
        mode=call.mode,
        standby=standby,
        summary_s=0.0 if summary == NEVER else summary,
        folder=path,
    )
    if foreground:
        _log_to(log)
        with daemon.stop_on_signals() as stop:
            result = daemon.serve(task, stop, daemon.Told(), beside=_beside(task, metrics))
        if result.end is daemon.End.FAILED:
            raise Failure(result.text)
        if result.end is daemon.End.TAKEN:  # between the look and the try
            output.line(result.text)
        return
    word = detach(lambda report: _detached(task, log, _beside(task, metrics), report))
    if word.code != 0:
        raise Failure(word.text)
    output.line(f"{word.text}, process {word.pid}" if word.pid else word.text)


def _has_one(call: Call, standby: bool) -> bool:
    """Is there a daemon? A store that is not there is an error, unless one may wait for it."""
    if standby:
        try:
            config.check_name(call.name)
        except ValueError as error:
            raise Failure(str(error)) from None
        return False
    with call.open(readonly=True) as store:
        return store._daemon(False)


def _log_to(file: str | None) -> None:
    handler: logging.Handler = logging.StreamHandler()
    if file is not None:
        handler = logging.handlers.WatchedFileHandler(file)
    handler.setFormatter(logging.Formatter(FORMAT))
    logger = logging.getLogger("shmkv.daemon")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _detached(task: daemon.Task, log: str | None, beside: Beside, report: Report) -> int:
    """What the detached process does."""
    if log is not None:
        _log_to(log)
    told = daemon.Told(os.environ, on_ready=lambda text: report(0, text))
    with daemon.stop_on_signals() as stop:
        result = daemon.serve(task, stop, told, beside=beside)
    code = 3 if result.end is daemon.End.FAILED else 0
    report(code, result.text)
    return code
