"""What shmkv tells a program's log, under the logger `shmkv`: silent unless somebody listens.

    logging.getLogger("shmkv").setLevel(logging.DEBUG)

Owns: the way to that logger. `logging` takes longer to import than this package does in all that
`shmkv get` needs; so it is not imported here. A program that has not imported it has set up no
handler, and nobody can be listening; one that has it pays for a look-up a call. The first line that
is told finds a NullHandler there: without handlers of the program nothing is printed.

Levels: WARNING for what a person should look into (data given up, damage, memory refused), INFO
for what happens seldom (a store created, a name removed, the dead of whom something was taken over
or folded), DEBUG for each attach, detach and refusal.

Promises: no line on the way of a get or a set, none under a lock, none with a key or a value in it.

Does not: set levels, add handlers but that one, or log for the daemon, which has lines of its own
under `shmkv.daemon`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

DEBUG, INFO, WARNING = 10, 20, 30


def listener(level: int) -> logging.Logger | None:
    """The logger, if a line of this level may reach somebody."""
    if "logging" not in sys.modules:
        return None
    import logging  # it is there, or another thread is at it: then this waits

    logger = logging.getLogger("shmkv")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger if logger.isEnabledFor(level) else None


def tell(level: int, text: str, *values: Any) -> None:
    """A line, formed only if somebody listens."""
    logger = listener(level)
    if logger is not None:
        logger.log(level, text, *values, stacklevel=2)


def opened(store: Any, readonly: bool) -> None:
    """That a store was attached to or created."""
    what = "created" if store._created else "attached to read" if readonly else "attached"
    tell(
        INFO if store._created else DEBUG,
        "store %r %s: %d bytes of at most %d, evict=%s",
        store.name,
        what,
        store.size,
        store.max_size,
        store.evict,
    )


# Totals of a store that a person should hear of when they rise.
_SIGNS = {
    "lock_recoveries": (INFO, "locks were taken over from processes that ended"),
    "folds": (INFO, "attachments of processes that ended were folded"),
    "nospace": (WARNING, "times the system refused memory: the store works with less"),
    "damage": (WARNING, "times damaged bytes were met and cut out: shmkv check"),
}


def befallen(name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    """What has happened in a store between two looks at its totals."""
    for what, (level, text) in _SIGNS.items():
        if now[what] > before[what]:
            tell(level, "store %r: %d " + text, name, now[what] - before[what])
