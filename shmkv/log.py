"""What shmkv tells a program's log, under the logger `shmkv`: silent unless somebody listens.

    logging.getLogger("shmkv").setLevel(logging.DEBUG)

Owns: the way to that logger. `logging` takes longer to import than this package does in all that
`shmkv get` needs; so it is not imported here. A program that has not imported it has set up no
handler, and nobody can be listening; one that has it pays for a look-up a call. The first line that
is told finds a NullHandler there: without handlers of the program nothing is printed.

Levels: WARNING for what a person should look into (data given up, damage, memory refused), INFO
for what happens seldom (a store created, a name removed, the dead of whom something was taken over
or folded), DEBUG for each attach, detach and refusal.

Promises: no line on the way of a get or a set, none under a lock, none with a value in it. Keys
appear at DEBUG only, and shortened (`key`).

Does not: set levels, add handlers but that one, or log for the daemon, which has lines of its own
under `shmkv.daemon`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

DEBUG, INFO, WARNING = 10, 20, 30
KEY_SHOWN = 16


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
    """A line, formed only if somebody listens; its place in the sources is the caller's."""
    logger = listener(level)
    if logger is not None:
        logger.log(level, text, *values, stacklevel=2)


def key(given: str | bytes) -> str:
    """The beginning of a key, for DEBUG lines."""
    shown = ascii(given[:KEY_SHOWN])
    return shown if len(given) <= KEY_SHOWN else f"{shown}... ({len(given)} long)"
