"""`make disk`: snapshots, journal and restart beside Redis, lmdb, pickle and a bare write.

    python -m tests.bench.disk [small large writers journal warm] [--quick] [--json FILE] [--dir D]

Everything of one run stands beside what others did in the same minutes, in turns. It judges nothing
but the bars it prints: a missed bar is no failure of the command.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.__main__ import about
from tests.bench.disk import beside, journals, snapshots
from tests.bench.disk.place import MEMORY, file_system, new_place
from tests.bench.report import summary, write_json

PARTS = {
    "small": snapshots.small,
    "large": snapshots.large,
    "writers": beside.writers,
    "journal": journals.journal,
    "warm": journals.warm,
}
ROUNDS, QUICK = 8, 3


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.disk", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the items, fewer rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here, too")
    parser.add_argument("--dir", type=Path, help="measure below this folder")
    args = parser.parse_args(argv)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    args.parts = args.parts or list(PARTS)
    return args


def main(argv: Sequence[str]) -> None:
    """Run what was asked for; each table is printed as soon as it is there."""
    args, tables, began = parse(argv), [], time.monotonic()
    with new_place(args.dir) as place:
        where = about(args.quick) | {"disk": file_system(place.folder)}
        print(", ".join(f"{key} {value}" for key, value in where.items()))
        if where["disk"] in MEMORY:
            print("This folder is in memory: fsync costs nothing there. Name another with --dir.")
        for name in args.parts:
            for table in PARTS[name](place, QUICK if args.quick else ROUNDS, args.quick):
                tables.append(table)
                print(f"\n{table.text()}", flush=True)
    print(f"\n{summary(tables)}\ntook {time.monotonic() - began:.0f} s")
    if args.json is not None:
        write_json(args.json, where, tables)


if __name__ == "__main__":
    main(sys.argv[1:])
