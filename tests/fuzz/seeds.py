"""Inputs for fuzz_loading.c, made of the corpus: `python -m tests.fuzz.seeds FOLDER`.

An input is one byte, 0 for items and 1 for entries, and a payload.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.persist import corpus


def main() -> None:
    """Write them."""
    folder = Path(sys.argv[1])
    for first, kind in enumerate(("items", "entries")):
        for name, payload in corpus.read(kind).items():
            (folder / name).write_bytes(bytes([first]) + payload)


if __name__ == "__main__":
    main()
