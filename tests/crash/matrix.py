"""SIGKILL at every fault point of every operation in every state that matters.

    python -m tests.crash.matrix                  quick: every name's first and last visit, and more
    SHMKV_CRASH=full python -m tests.crash.matrix every visit, every response
    python -m tests.crash.matrix SCENE [--point N] [--response R]

Owns the order: the build with fault points first, then everything that imports the package.
"""

import sys

from tests.crash import faultbuild


def main() -> int:
    """Load the build, then play."""
    faultbuild.load()
    from tests.crash import deaths

    return deaths.main()


if __name__ == "__main__":
    sys.exit(main())
