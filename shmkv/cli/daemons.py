"""The verb daemon: the one process that works ahead for a store, in front or in the background.

Owns: the options of that verb, where its lines of log go, what it has beside its work (metrics,
saving), and its exit codes: 0 it was told to stop, or there is a daemon already, or the store was
removed; 3 it had to give up.

Promises: without --foreground the call returns when the daemon works, or says why it does not.

Does not: work (`shmkv/daemon`).
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import click

from shmkv import config, daemon
from shmkv.cli import output
from shmkv.cli.call import DURATION, NEVER, flag, refuse, verb
from shmkv.cli.output import Failure
from shmkv.cli.target import Call
from shmkv.daemon.detach import Report, detach

if TYPE_CHECKING:
    from shmkv.daemon.saver import Rule, Saver
    from shmkv.metrics import Address
    from shmkv.store import Store

KEEP = 2  # snapshots; as in `persist/save.py`, which is not loaded without need
FORMAT = "%(asctime)s %(levelname)-7s %(message)s"

Rules: TypeAlias = "tuple[Rule, ...] | None"
Beside: TypeAlias = "Callable[[Store], contextlib.AbstractContextManager[None]]"


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


def _rules(_ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> Rules:
    """When to save; None: nothing was said."""
    if not texts:
        return None
    if texts == ("never",):
        return ()
    from shmkv.daemon.saver import Rule

    try:
        return tuple(Rule.parse(text) for text in texts)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


class Saving(NamedTuple):
    """How a daemon that knows the store's directory saves."""

    rules: Rules
    keep: int
    compression: str | None


def _saving(path: str | None, rules: Rules, keep: int | None, compress: bool) -> Saving:
    """What was asked for; what cannot be done is refused before anything is begun."""
    if path is None and (rules is not None or keep is not None or compress):
        refuse("--save, --keep and --compress take --path DIR, the directory of the store")
    compression = "zstd" if compress else None
    if compress:
        from shmkv.persist.save import packer_for

        packer_for(compression)
    return Saving(rules, KEEP if keep is None else keep, compression)


class Request:
    """What SIGUSR1 does, as long as this process works or stands by: by itself it would end it."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._saver: Saver | None = None
        self._waits = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self._folder is None:
            text = "SIGUSR1: nothing is saved without --path"
            logging.getLogger("shmkv.daemon").warning(text)
        elif self._saver is None:
            self._waits = True  # until it is this process's turn
        else:
            self._saver.ask()

    def goes_to(self, saver: Saver | None) -> None:
        """From now on this one is asked; None: nobody."""
        self._saver = saver
        if saver is not None and self._waits:
            self._waits = False
            saver.ask()


@contextlib.contextmanager
def _requests(folder: str | None) -> Iterator[Request]:
    """Hear SIGUSR1 while the block runs, also where who started this process blocks it."""
    request = Request(folder)
    before = signal.signal(signal.SIGUSR1, request)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1,))
    try:
        yield request
    finally:
        signal.signal(signal.SIGUSR1, before)


def _beside(task: daemon.Task, metrics: Address | None, saving: Saving, request: Request) -> Beside:
    """What the daemon has beside its work: its store's metrics, and saves."""

    @contextlib.contextmanager
    def beside(store: Store) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if metrics is not None:
                _serve_metrics(stack, task, metrics)
            _serve_saves(stack, task, saving, store, request)
            yield

    return beside


def _serve_metrics(stack: contextlib.ExitStack, task: daemon.Task, metrics: Address) -> None:
    from shmkv.cli.scraping import room

    collector = room().StoreCollector(task.name, owner=task.owner)
    try:
        address = stack.enter_context(room().Endpoint(metrics, collector))
    except OSError as error:
        raise Failure(output.of_system(error)) from error
    logging.getLogger("shmkv.daemon").info("metrics: %s", address)


def _serve_saves(
    stack: contextlib.ExitStack, task: daemon.Task, saving: Saving, store: Store, request: Request
) -> None:
    """By rules and on SIGUSR1, where the directory is known."""
    if task.folder is None:
        return
    from shmkv.daemon.saver import USUAL, Saver

    saver = Saver(
        store,
        task.folder,
        USUAL if saving.rules is None else saving.rules,
        keep=saving.keep,
        compression=saving.compression,
        owner=task.owner,
        mode=task.mode,
    )
    stack.enter_context(saver.running())
    request.goes_to(saver)
    stack.callback(request.goes_to, None)


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
        help="The store's directory: write its journal there, and snapshots.",
    ),
    click.Option(
        ["--save"],
        multiple=True,
        callback=_rules,
        metavar="RULE",
        help='Save after so many seconds if so much was changed: "300 100"; or never: then only'
        ' for a journal that is broken or long. Often possible. ("3600 1", "300 100", "60 10000")',
    ),
    click.Option(
        ["--keep"],
        type=click.IntRange(min=1),
        metavar="N",
        help=f"Snapshots to keep ({KEEP}).",
    ),
    flag("--compress", help="Compress snapshots (zstd)."),
    click.Option(
        ["--summary"],
        type=DURATION,
        default="10m",
        metavar="TIME",
        help="Sum up in the log so often, or never (10m).",
    ),
    flag("--no-history", help="Keep no past of the store (shmkv report)."),
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
    save: Rules,
    keep: int | None,
    compress: bool,
    summary: float,
    no_history: bool,
    metrics: Address | None,
) -> None:
    """Work ahead for a store: free memory, expired items, what the dead held.

    A store needs none, but with one its writers seldom have to free memory
    themselves. A store has one daemon; where there is one already, this ends
    with exit code 0, or waits for its end with --standby. SIGTERM stops it,
    SIGUSR1 makes it save.
    """
    call.take("")
    saving = _saving(path, save, keep, compress)
    if _has_one(call, standby):
        output.line(f"store {call.name!r} has a daemon already")
        return
    task = daemon.Task(
        name=call.name,
        owner=call.owner,
        mode=call.mode,
        standby=standby,
        summary_s=0.0 if summary == NEVER else summary,
        history=not no_history,
        folder=path,
    )
    if foreground:
        _log_to(log)
        result = _serve(task, daemon.Told(), metrics, saving)
        if result.end is daemon.End.FAILED:
            raise Failure(result.text)
        if result.end is daemon.End.TAKEN:  # between the look and the try
            output.line(result.text)
        return
    word = detach(lambda report: _detached(task, log, metrics, saving, report))
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


def _serve(
    task: daemon.Task, told: daemon.Told, metrics: Address | None, saving: Saving
) -> daemon.Result:
    """Be the daemon, and hear signals."""
    with daemon.stop_on_signals() as stop, _requests(task.folder) as request:
        return daemon.serve(task, stop, told, beside=_beside(task, metrics, saving, request))


def _detached(
    task: daemon.Task, log: str | None, metrics: Address | None, saving: Saving, report: Report
) -> int:
    """What the detached process does."""
    if log is not None:
        _log_to(log)
    told = daemon.Told(os.environ, on_ready=lambda text: report(0, text))
    result = _serve(task, told, metrics, saving)
    code = 3 if result.end is daemon.End.FAILED else 0
    report(code, result.text)
    return code
