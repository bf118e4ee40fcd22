"""What the files in fixtures hold, and the program that wrote them: python -m tests.disk.content.

Owns: `VALUES`, which never change once a version was written; a new version adds a folder of its
own. Values have every type; one is long enough to lie in pieces (in the packed file only).
"""

from __future__ import annotations

import datetime as dt
import decimal
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np

import shmkv
from shmkv import launch

FIXTURES = Path(__file__).parent / "fixtures"
DEADLINE = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
LONG = bytes(range(256)) * 1200

VALUES: dict[str | bytes, Any] = {
    "bytes": b"\x00\xff",
    "str": "caf\u00e9",
    "int": -(1 << 63),
    "bigint": 1 << 100,
    "float": -0.1,
    "bool": True,
    "none": None,
    "list": [1, [2.5, "x"]],
    "dict": {"a": 1, 2: {"b": None}},
    "tuple": (1, ("a",)),
    "set": {1, 2},
    "frozenset": frozenset({"x"}),
    "datetime": dt.datetime(2024, 2, 29, 12, 30, 15, 123_456),
    "date": dt.date(1843, 10, 1),
    "time": dt.time(23, 59, 59),
    "timedelta": dt.timedelta(days=-1, microseconds=1),
    "decimal": decimal.Decimal("1.10"),
    "uuid": uuid.UUID(int=0x1234),
    "array": np.arange(6, dtype="f4").reshape(2, 3),
    b"\xfe\xff": "a key of bytes",
    "deadline": "until 2100",
}
CHANGES: dict[str, Any] = {"int": 7, "added": [1]}
"""What the directory's journals change, besides removing "none"."""


def fill(store: shmkv.Store) -> None:
    """Store the values."""
    store.set_many({key: value for key, value in VALUES.items() if key != "deadline"})
    store["deadline"] = VALUES["deadline"]
    store.expire_at("deadline", DEADLINE)


def main() -> None:
    """Write the files of the newest version, which must not exist."""
    folder = FIXTURES / f"v{sys.argv[1]}"
    folder.mkdir()
    launch.ensure = lambda *args, **how: None  # nobody works ahead: the files are these only
    with tempfile.TemporaryDirectory() as made:
        shmkv.unlink("fixture", missing_ok=True)
        with shmkv.open("fixture", size="4MiB", path=made, journal="always") as store:
            fill(store)
            store.snapshot(folder / "plain.shmkv")
            store["long"] = LONG
            store.snapshot(folder / "packed.shmkv", compression="zstd")
            del store["long"]
            store.snapshot()
            store["int"] = CHANGES["int"]
            store._journal_next()
            store["added"] = CHANGES["added"]
            del store["none"]
        shmkv.unlink("fixture")
        (folder / "directory").mkdir()
        for file in sorted(Path(made).glob("*-*")):
            if "0000000001" not in file.name:
                (folder / "directory" / file.name).write_bytes(file.read_bytes())
    print(*sorted(folder.rglob("*")), sep="\n")


if __name__ == "__main__":
    main()
