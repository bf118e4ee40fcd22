"""What a process was doing when it was killed is told, wherever it was killed.

    python -m tests.stress.autopsy

Owns the order: the build with fault points first, then everything that imports the package. What is
done and what must be told stands in autopsy_play.py. Prints one line of JSON: {name, seed, n,
violations, worst_ms}, n being deaths.
"""

from __future__ import annotations

import sys

from tests.crash import faultbuild


def main() -> int:
    """Load the build, then play."""
    faultbuild.load()
    from tests.stress import autopsy_play

    return autopsy_play.main()


if __name__ == "__main__":
    sys.exit(main())
