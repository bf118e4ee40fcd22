"""How a verb ends: whatever it raises becomes a line on standard error and an exit code.

Owns: the exit codes of everything but usage: 1 a miss or no, 3 the store or the system refused, 130
interrupted; and 2 for a variable of the environment that is wrong. A reader that goes away
(`shmkv scan web | head`) ends the process by SIGPIPE, quietly, as it does any other tool.

Promises: never a traceback, unless SHMKV_DEBUG=1 asks for the one of an internal error. What was
printed before a failure is written out.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

from shmkv.cli import output
from shmkv.cli.output import Failure, Negative
from shmkv.config import WrongVariable
from shmkv.errors import Error


@contextlib.contextmanager
def settled(*passing: type[Exception]) -> Iterator[None]:
    """Do something as a verb is done; exceptions of the types `passing` come through."""
    try:
        try:
            yield
        finally:
            output.flush()
    except passing:
        raise
    except BrokenPipeError:
        _by_pipe()
    except KeyboardInterrupt:
        sys.exit(130)
    except Negative as negative:
        if sys.stderr is not None and sys.stderr.isatty():
            output.tell(str(negative))
        sys.exit(1)
    except WrongVariable as wrong:
        output.tell(str(wrong))
        raise SystemExit(2) from wrong
    except Exception as error:
        output.tell(_words(error))
        raise SystemExit(3) from error


def _words(error: Exception) -> str:
    if isinstance(error, (Failure, Error)):
        return str(error)
    if isinstance(error, OSError):
        return output.of_system(error)
    if os.environ.get("SHMKV_DEBUG") == "1" and sys.stderr is not None:
        import traceback

        traceback.print_exception(error)
    text = f"internal error: {type(error).__name__}: {error}"
    return f"{text} (SHMKV_DEBUG=1 shows where)"


def _by_pipe() -> NoReturn:
    """Nobody reads any more: end as the signal ends others, which shells show as 141."""
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(128 + signal.SIGPIPE)  # where signals do not end a process: the first of a container
