"""A process is stopped in the middle of an operation, and everybody else goes on.

    python -m tests.stress.holder              quick: at the first visit of each fault point
    SHMKV_TORTURE=1 python -m tests.stress.holder          at every visit, and more operations
    python -m tests.stress.holder SCENE [--point N] [--rival]

Owns the order: the build with fault points first, then everything that imports the package; the
command line; the report. What is done and what must hold stands in holder_play.py. Prints one line
of JSON: {name, seed, n, violations, worst_ms}, n being stops; the seed is that of the keys' hash.
"""

from __future__ import annotations

import sys

from tests.crash import faultbuild


def main() -> int:
    """Load the build, then play."""
    faultbuild.load()
    from tests.stress import holder_play

    return holder_play.main()


if __name__ == "__main__":
    sys.exit(main())
