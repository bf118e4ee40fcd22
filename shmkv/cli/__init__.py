"""The command `shmkv`: its entry point, which imports the rest only when it is called.

Owns: what holds before and after everything else: an interrupt ends with 130 and without a
traceback; what Python cannot read of the program itself is one line and 3; and the short way.
Scripts call `shmkv get NAME KEY` in loops, and half of its time would go into importing click: a
`get` of which no argument begins with a dash needs nothing that click knows, and `getting` answers
it. All other lines are click's (`app.py`). The verb that works hard steps aside first. README.md is
the map.
"""

from __future__ import annotations

import contextlib
import os
import sys


def main() -> None:
    """Run the command line of this process and exit."""
    try:
        if _plain_get(sys.argv[1:]):
            from shmkv.cli import getting

            getting.quick(sys.argv[2:])
        if sys.argv[1:2] == ["report"]:
            from shmkv.cli import aside

            aside.step_aside()
        from shmkv.cli import ends
        from shmkv.cli.app import cli

        with ends.settled():  # help, too, may find standard output full
            cli.main(prog_name="shmkv")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # all else ends by `ends`: this befell the way to it
        if os.environ.get("SHMKV_DEBUG") == "1":
            raise
        words = " ".join(str(error).split()) or type(error).__name__
        _tell(f"shmkv: this program could not be loaded: {words}")
        sys.exit(3)


def _plain_get(args: list[str]) -> bool:
    """Is it `get` without options, and no shell that asks for completions?"""
    dashed = any(arg.startswith("-") for arg in args)
    return args[:1] == ["get"] and not dashed and "_SHMKV_COMPLETE" not in os.environ


def _tell(line: str) -> None:
    """Write a line as `output.tell` does, which may be what could not be loaded."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)
