"""The command `shmkv`: its entry point, which imports the rest only when it is called.

Owns: what holds before and after everything else: an interrupt ends with 130 and without a
traceback. The verbs and their errors are in `app.py`; README.md is the map of this room.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process and exit."""
    try:
        from shmkv.cli.app import cli

        cli.main(prog_name="shmkv")
    except KeyboardInterrupt:
        sys.exit(130)
