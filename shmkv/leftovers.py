"""Segments that nobody can use any more, or that nobody has used for long: found and removed.

    for one in collect(idle_s=7 * 86_400, remove=True):
        print(one.found.name, one.done, one.why)

Owns: the judgement which segments go, and why. Those that no `open` accepts: half made and left by
the creator, a damaged header, another layout or machine. With `idle_s` also sound ones that nobody
has used for so long. Only this user's.

What counts as use. Being open or mapped does, in any process of the machine. Of the past, the
kernel and shmkv keep in the file's times: when it was last opened (the kernel notes a mapping, to a
day where one has been noted since the last write; see relatime in mount(8)), when a process first
wrote to one of its pages, and when it was last closed (`segment_mark`). What they do not keep is
when a killed process last used it: its row is found without an owner. Such a segment stays; its
dead are folded, which counts as use, so that its time begins now. A process that opened read-only
and was killed leaves the time of its opening. To look (`ls`, `doctor`, `gc` itself) is no use. No
store is idle for longer than the machine runs: a clock set forward at its start does not make new
stores old.

Promises: a segment goes only while its judge is alone with it (`removal.Alone`), after it has been
looked at again in that state. What cannot be known leaves it there, with the reason. A kill at any
moment leaves each segment there or gone.

Does not: ask anybody, print, attach to what it judges, or know other files that programs leave.
"""

from __future__ import annotations

import enum
import os
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from shmkv import removal, segment
from shmkv.errors import Error
from shmkv.inspect import survey as states
from shmkv.inspect.survey import Found, look_at, survey
from shmkv.store import open as open_store

USELESS = {states.HALF_MADE, states.DAMAGED, states.OTHER_VERSION, states.OTHER_MACHINE}


class Done(enum.Enum):
    """What became of a segment."""

    REMOVED = "removed"
    WOULD = "would be removed"
    KEPT = "kept"
    FAILED = "not removed"


class Outcome(NamedTuple):
    """A segment, what was done and why."""

    found: Found
    done: Done
    why: str

    @property
    def useless(self) -> bool:
        """Can no open of this shmkv use it, whether somebody has it or not?"""
        return self.found.state in USELESS


def collect(
    *,
    names: frozenset[str] | None = None,
    idle_s: float | None = None,
    remove: bool = False,
    folder: Path = Path(segment.SHM),
    now: float | None = None,
) -> list[Outcome]:
    """Look at all segments, or at those named, and remove what is to go if `remove` says so.

    Without, nothing changes and `Done.WOULD` says what would go. `now`: Unix time.
    """
    limit = None if idle_s is None else _Limit(idle_s, time.time() if now is None else now)
    chosen = [one for one in survey(folder) if names is None or one.name in names]
    return [_outcome(one, limit, remove) for one in chosen]


class _Limit(NamedTuple):
    """For how long a store must not have been used."""

    idle_s: float
    now: float

    def idle(self, one: Found) -> float:
        """Seconds since it was used, at least."""
        return min(self.now - one.used, time.clock_gettime(time.CLOCK_BOOTTIME))


def _verdict(one: Found, limit: _Limit | None) -> tuple[bool, str]:
    """May it go if nobody has it, and why or why not?"""
    if one.uid != os.geteuid() or one.owner not in (one.uid, -1):
        owner = one.uid if one.owner in (one.uid, -1) else one.owner
        return False, f"of user {owner}: other users' are not touched"
    if one.state in USELESS:
        return True, f"{one.state}: {one.why}"
    if one.state != states.OK:
        return False, f"{one.state}: {one.why}"
    if one.attached:
        return False, f"in use by {one.attached} attachments"
    if limit is None:
        return False, "sound and nobody has it open: its data stays (--idle says otherwise)"
    idle = limit.idle(one)
    if idle < limit.idle_s:
        return False, f"used {_ago(idle)} ago"
    return True, f"not used for {_ago(idle)}"


def _ago(seconds: float) -> str:
    """A time for people: 3 s, 12 min, 5 h, 9 d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _outcome(one: Found, limit: _Limit | None, remove: bool) -> Outcome:
    goes, why = _verdict(one, limit)
    if not goes:
        return Outcome(one, Done.KEPT, why)
    try:
        with removal.Alone(str(one.path)) as alone:
            held = look_at(one.path, one.uid, one.name, os.fstat(alone.fd), alone.fd)
            goes, why = _verdict(held, limit)
            if not goes:
                return Outcome(held, Done.KEPT, why)
            if held.dead == 0 and not remove:
                return Outcome(held, Done.WOULD, why)
            if held.dead == 0:
                alone.remove()
                return Outcome(held, Done.REMOVED, why)
    except FileNotFoundError:
        return Outcome(one, Done.KEPT, "somebody else has removed it meanwhile")
    except removal.InUse:
        return Outcome(one, Done.KEPT, f"a process has it open; it would go for this: {why}")
    except removal.Unsure as error:
        return Outcome(one, Done.FAILED, f"whether somebody uses it cannot be known: {error}")
    except OSError as error:
        return Outcome(one, Done.FAILED, error.strerror or str(error))
    return _begin(held, remove)


def _begin(one: Found, remove: bool) -> Outcome:
    """Processes were killed that had it, nobody knows when: its time begins now."""
    why = f"{one.dead} of its processes were killed, nobody knows when: its time begins now"
    if not remove:
        return Outcome(one, Done.KEPT, why)
    try:
        with warnings.catch_warnings():  # of namesakes
            warnings.simplefilter("ignore")
            with open_store(
                one.name,
                create=False,
                mode=one.mode,
                on_mismatch="attach",
                lock_timeout=1.0,
                daemon=False,
            ) as store:
                store._work(0)
    except (Error, OSError) as error:
        return Outcome(one, Done.FAILED, f"its dead cannot be folded: {error}")
    return Outcome(one, Done.KEPT, why)
