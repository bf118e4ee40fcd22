"""`python -m tests.bench`: run the rows, print the tables, write them to a file if asked.

It measures and judges nothing but the bars it prints: a missed bar is no failure of the command.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import rivals, scaling, single, steady
from tests.bench.report import Table, summary, write_json

PROCESSES = "processes"
BUSY = 0.5  # load at the start from which the figures are not to be relied on


def processor() -> str:
    """The name of the CPU, as the kernel tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def about(quick: bool) -> dict[str, Any]:
    """Where and when this ran."""
    version = "absent" if rivals.lmdb is None else rivals.lmdb.__version__
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": f"{os.cpu_count()} x {processor()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "lmdb": version,
        "load": round(os.getloadavg()[0], 2),
        "quick": quick,
    }


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    names = [*single.ROWS, PROCESSES, *steady.PARTS]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(names)}; none: all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here, too")
    args = parser.parse_args(argv)
    unknown = set(args.rows) - set(names)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    args.rows = args.rows or names
    return args


def main(argv: Sequence[str]) -> None:
    """Run what was asked for; each table is printed as soon as it is there."""
    args = parse(argv)
    where, tables, began = about(args.quick), list[Table](), time.monotonic()
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    if rivals.lmdb is None:
        print(rivals.ABSENT)
    if where["load"] > BUSY:
        print("The machine is busy: whoever takes turns on its CPUs empties their caches, which")
        print("moves ratios towards 1, and the figures in ns and in operations/s mean little.")

    def show(table: Table) -> None:
        tables.append(table)
        print(f"\n{table.text()}", flush=True)

    for name, (row, full, quick) in single.ROWS.items():
        if name in args.rows:
            show(row(quick if args.quick else full))
    if PROCESSES in args.rows:
        for table in scaling.run(*((4, 0.08) if args.quick else (10, 0.3))):
            show(table)
    for name, part in steady.PARTS.items():
        if name in args.rows:
            for table in part(args.quick):
                show(table)
    print(f"\n{summary(tables)}\ntook {time.monotonic() - began:.0f} s")
    if args.json is not None:
        write_json(args.json, where, tables)


if __name__ == "__main__":
    main(sys.argv[1:])
