"""The verb postmortem: what processes were doing when they died.

Owns: the words for what `inspect/postmortem.py` reports, and its JSON.

Promises: attaches to nothing and changes nothing; a store that is damaged is looked at as far as
its notes can be found. Keys cannot act on a terminal. Exit code 1: nobody has died.

Does not: read or judge notes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from shmkv import config, segment
from shmkv.cli import output
from shmkv.cli.call import flag, json_option, verb
from shmkv.cli.output import Failure
from shmkv.cli.target import Call, missing, no
from shmkv.inspect import postmortem as report
from shmkv.inspect import survey as states
from shmkv.inspect.blackbox import of_file
from shmkv.inspect.decode import DecodeError
from shmkv.inspect.postmortem import Attachment, Operation, Postmortem, Wait
from shmkv.inspect.words import ago

MOST = 5  # attachments shown, unless asked for more

WHAT = {
    "rewrite": "rewrite of",
    "work": "a turn of the daemon's work",
    "round": "a round of the journal",
    "wait": "something that changes nothing",
}
KEYLESS = ("clear", "work", "round", "wait")
RESULT = {
    "ok": "done",
    "miss": "no such key",
    "exists": "the key was there, or another value",
    "full": "refused, the store was full",
    "busy": "gave up waiting (Busy)",
    "intr": "interrupted by a signal",
    "toolarge": "refused, too large",
    "type": "refused, a value of another type",
    "overflow": "refused, beyond 64 bits",
    "corrupt": "refused, damaged bytes (Corrupt)",
    "nospace": "refused, /dev/shm is full (NoSpace)",
    "norows": "refused, every row belongs to a living process",
    "readonly": "refused, read-only",
    "persist": "the journal could not be written (PersistError)",
    "nomem": "the process was out of memory",
    "os": "a system call failed",
}
AWAITED = {"page": "memory", "journal": "a round of the journal"}


@verb(
    "postmortem",
    "",
    click.Option(
        ["-n"], type=click.IntRange(1), metavar="N", help=f"So many attachments ({MOST})."
    ),
    flag("--live", "--all", "live", help="Living attachments, too."),
    json_option(),
)
def postmortem_(call: Call, n: int | None, live: bool, as_json: bool) -> None:
    """Tell what processes were doing when they died.

    Of each attachment that ended without closing, the newest first: the
    operation it was in, the key, what it waited for, the locks it held, and
    the operations before. The last 32 deaths are remembered, also after
    others have cleaned up. Reads, and processes that never changed anything,
    leave no notes; of keys the first 36 bytes are kept. A process id may belong
    to another process by now.

    Times are the earliest possible; those with + may be some milliseconds to
    seconds later, for not each operation looks at a clock.

    It only reads, and needs no sound store. --json tells of all, unless -n
    says less. Exit code 1 if nobody has died.
    """
    call.take("")
    found = _examined(call, live)
    if as_json:
        output.json(_form(call.name, found, n))
    else:
        _show(call.name, found, n or MOST)
    if not found.attachments:
        no(f"no attachment of store {call.name!r} has ended without closing")


def _examined(call: Call, live: bool) -> Postmortem:
    """The report; Failure: there is none, and why."""
    name, uid = call.name, os.geteuid() if call.owner is None else call.owner
    try:
        config.check_name(name)
    except ValueError as error:
        raise Failure(str(error)) from None
    seen = states.survey(Path(segment.SHM), uid=uid, name=name)
    if not seen:
        raise Failure(missing(name, call.owner))
    (one,) = seen
    if one.state not in (states.OK, states.DAMAGED):
        raise Failure(f"store {name!r} is {one.state}: {one.why}")
    try:
        found = of_file(one.path, living=live)
    except FileNotFoundError:
        raise Failure(missing(name, call.owner)) from None
    except DecodeError as error:
        raise Failure(f"store {name!r} is damaged, its notes cannot be found: {error}") from None
    if one.state == states.DAMAGED:
        output.tell(f"store {name!r} is damaged ({one.why}): this is what its notes tell")
    return found


def _form(name: str, found: Postmortem, n: int | None) -> dict[str, Any]:
    """The report as JSON; keys in the forms of `export`."""
    from shmkv.inspect.export import to_json

    form = found.as_dict()
    form["attachments"] = form["attachments"][:n]
    for one in form["attachments"]:
        for did in (*one["doing"], *one["before"]):
            did["key"] = to_json(_text(did["key"]))
    return {"store": name} | form


# ---- words --------------------------------------------------------------------------------------


def _show(name: str, found: Postmortem, n: int) -> None:
    shown = found.attachments[:n]
    for one in shown:
        for text in lines(one, found.now):
            output.line(text)
        output.line("")
    left = len(found.attachments) - len(shown)
    if left:
        output.line(f"and {left} more: shmkv postmortem -s {name} -n {len(found.attachments)}")


def lines(one: Attachment, now: float) -> list[str]:
    """An attachment in words."""
    daemon = ", the daemon" if one.is_daemon else ""
    started = "" if one.started is None else f" (started {moment(one.started)})"
    texts = [
        f"process {one.pid}{started}, attachment {one.number}{daemon}",
        f"  attached  {moment(one.attached)}",
        f"  {_end(one, now)}",
    ]
    doing = [text for did in one.doing for text in _doing(did, one, now)] or [_nothing(one)]
    texts += [f"  {'doing' if not i else '':<9} {text}" for i, text in enumerate(doing)]
    if one.locks_held:
        held = ", ".join(lock.name for lock in one.locks)
        more = one.locks_held - len(one.locks)
        texts.append(f"  held      {held}{f' and {more} more' if more > 0 else ''}")
    for count, words in ((one.reservations, "pages to write into"), (one.pins, "items to read")):
        if count:
            texts.append(f"  kept      {words}: {count}")
    for i, did in enumerate(one.before):
        texts.append(f"  {'before' if not i else '':<9} {_time(did, one)} {_done(did)}")
    return texts


def _end(one: Attachment, now: float) -> str:
    if one.state == report.LIVING:
        return "lives"
    if one.found is None:
        return "died      what it held is given back by the next who need it"
    finder = "one that was just attaching"
    if one.finder:
        finder = f"attachment {one.finder}{_of(one.finder_pid)}"
    return f"found     dead {moment(one.found)} ({ago(now - one.found)}), by {finder}"


def _nothing(one: Attachment) -> str:
    if one.before:
        return "nothing: its last operation had ended"
    return "nothing is noted: it changed nothing, and waited for nobody"


def _doing(did: Operation, one: Attachment, now: float) -> list[str]:
    """An operation that had not ended."""
    texts = [_words(did)]
    if did.began is not None:
        least = "" if did.exact else " at the earliest"
        texts.append(f"begun {moment(did.began, one.found)}{least}")
    if did.wait is not None:
        texts.append(_waited(did.wait, did, one.found or now))
    return texts


def _waited(wait: Wait, did: Operation, until: float) -> str:
    """Of an operation that had not ended: a wait of its, which may be the last thing it did."""
    if wait.waited_us:
        return f"waited {seconds(wait.waited_us)} for {_awaited(wait)}"
    most = "" if did.began is None else f", for at most {until - did.began:.1f} s"
    return f"waiting for {_awaited(wait)}{most}"


def _awaited(wait: Wait) -> str:
    what = AWAITED.get(wait.what, wait.what)
    if not wait.holder:
        return what
    return f"{what}, which attachment {wait.holder}{_of(wait.holder_pid)} had"


def _done(did: Operation) -> str:
    result = did.result or ""
    text = f"{_words(did)}: {RESULT.get(result, f'ended with status {result}')}"
    if did.wait is None:
        return text
    return f"{text}, waited {seconds(did.wait.waited_us)} for {_awaited(did.wait)}"


def _words(did: Operation) -> str:
    """What it does to which key."""
    what = WHAT.get(did.what, did.what)
    if did.what in KEYLESS:
        return what
    cut = did.key_length > len(did.key)
    key = output.named(_whole(did.key) if cut else did.key)
    return f"{what} {key}{f'… ({did.key_length} bytes)' if cut else ''}"


def _whole(key: bytes) -> bytes:
    """Without the beginning of a character whose rest was cut off, if the rest is text."""
    for n in range(4):
        shorter = key[: len(key) - n]
        if isinstance(_text(shorter), str):
            return shorter
    return key


def _text(key: bytes) -> str | bytes:
    try:
        return key.decode()
    except UnicodeDecodeError:
        return key


def _of(pid: int | None) -> str:
    return "" if pid is None else f" (process {pid})"


def _time(did: Operation, one: Attachment) -> str:
    """When an operation began, in a column; with "+" where it may have been later."""
    if did.began is None:
        return "at some time"
    return f"{moment(did.began, one.found or one.attached)}{' ' if did.exact else '+'}"


def moment(when: float, near: float | None = None) -> str:
    """Local time with seconds; of the day of `near` without the date."""
    try:
        local = time.localtime(when)
        if near is not None and local[:3] == time.localtime(near)[:3]:
            return time.strftime("%H:%M:%S", local)
        return time.strftime("%Y-%m-%d %H:%M:%S", local)
    except (OverflowError, ValueError, OSError):
        return "at a time that cannot be"


def seconds(us: int) -> str:
    """A time spent waiting."""
    return f"{us / 1e6:.1f} s" if us >= 1_000_000 else f"{us / 1000:.1f} ms"
