"""`python -m tests.bench.hitratio`: replay, print tables and bars, exit with 1 if one is missed.

Rows are independent of each other and run in as many processes as there are processors; ratios,
utilisation and copies do not depend on speed. A quick run looks at the beginnings of the traces in
small stores: its figures are printed, and judged by nobody.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.hitratio import bars, rivals
from tests.bench.hitratio.bars import Judged
from tests.bench.hitratio.corpus import MADE, MIB, RECORDED, WHERE
from tests.bench.hitratio.memory import Used
from tests.bench.hitratio.pending import Pending, workers
from tests.bench.hitratio.ratios import Row

PARTS = ("ratios", "mixes", "phases")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hitratio", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all")
    parser.add_argument("--traces", type=Path, help="folder of recorded traces; or SHMKV_TRACES")
    parser.add_argument("--only", action="append", metavar="TRACE", help="this trace; repeatable")
    parser.add_argument("--made", action="store_true", help="made traces beside recorded ones")
    parser.add_argument("--small", action="store_true", help="1 %% rows too, by expanded traces")
    parser.add_argument("--overwrites", type=int, default=20, metavar="PERCENT")
    parser.add_argument("--quick", action="store_true", help="beginnings only, not judged")
    parser.add_argument("--rivals", action="store_true", help="Redis and memcached, if installed")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args(argv)
    for part in asked.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}: {', '.join(PARTS)}")
    known = {work.name for work in (*RECORDED, *MADE)}
    for name in asked.only or ():
        if name not in known:
            parser.error(f"there is no trace {name!r}: {', '.join(sorted(known))}")
    if asked.traces is None and os.environ.get("SHMKV_TRACES"):
        asked.traces = Path(os.environ["SHMKV_TRACES"])
    if asked.traces is not None and not asked.traces.is_dir():
        parser.error(f"{asked.traces} is no folder of traces")
    asked.parts = asked.parts or list(PARTS)
    return asked


# ---- printing -----------------------------------------------------------------------------------


def print_row(row: Row) -> None:
    """A line of the first table."""
    result = row.result
    name = row.trace + (f" x{row.expand}" if row.expand > 1 else "")
    ours, lru = result["store_hit_ratio"], result["lru_hit_ratio"]
    print(
        f"  {name:<14}{row.share:>5.0%}{result['size'] / MIB:>8.1f}{row.overwrites:>6}"
        f"{1 - lru:>10.4f}{1 - ours:>10.4f}{row.misses:>8.3f}{row.byte_misses:>8.3f}"
        f"{result['utilisation']:>7.3f}{result['copied']:>8.2f}{result['ns_per_operation']:>8.0f}",
        flush=True,
    )


def print_used(used: Used) -> None:
    """A line of the second table."""
    print(
        f"  {used.name:<40}{used.size / MIB:>7.0f}{used.utilisation:>8.3f}{used.lowest:>8.3f}"
        f"{used.copied:>8.2f}{used.failed:>8}{used.ns_per_operation:>10.0f}",
        flush=True,
    )


def print_ratios(pending: Pending) -> list[Row]:
    """The first table, each line as soon as it is known."""
    if not pending.rows:
        return []
    print("misses: of the reads, cold ones included; LRU has the same memory, a perfect allocator")
    print(
        f"  {'trace':<14}{'store':>5}{'MiB':>8}{'ovw %':>6}{'LRU':>10}{'shmkv':>10}"
        f"{'/ LRU':>8}{'bytes':>8}{'util':>7}{'copied':>8}{'ns/op':>8}"
    )
    rows = []
    for future in pending.rows:
        rows.append(future.result())
        print_row(rows[-1])
    for share in sorted({row.share for row in rows}, reverse=True):
        for percent in sorted({row.overwrites for row in rows}):
            some = [r for r in rows if r.share == share and r.overwrites == percent]
            if len(some) > 1:
                mean = bars.geometric(r.misses for r in some)
                bytes_mean = bars.geometric(r.byte_misses for r in some)
                name = f"geometric mean, {share:.0%}, {percent} % overwrites"
                print(f"  {name:<53}{mean:>8.3f}{bytes_mean:>8.3f}")
    return rows


def print_memory(pending: Pending) -> tuple[list[Used], list[Used]]:
    """The second table."""
    mixes = [future.result() for future in pending.mixes]
    phases = pending.phases.result() if pending.phases is not None else []
    if mixes or phases:
        print("\nmemory: keys and values of the whole segment, 20 % overwrites")
        print(
            f"  {'values':<40}{'MiB':>7}{'util':>8}{'lowest':>8}{'copied':>8}{'failed':>8}"
            f"{'ns/op':>10}"
        )
    for used in mixes:
        print_used(used)
    if phases:
        print("  one store, seven phases after each other")
    for used in phases:
        print_used(used)
    return mixes, phases


def about(asked: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Where, when and how this ran."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": f"{os.cpu_count()} processors, Linux {platform.release()}",
        "python": platform.python_version(),
        "quick": asked.quick,
        "seconds": round(seconds, 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    asked = arguments(argv)
    began = time.monotonic()
    with workers(asked.jobs) as pool:
        pending = Pending(pool, asked)
        pending.start_memory()
        lacking = pending.start_ratios()
        if lacking:
            print(f"not there: {', '.join(lacking)}\n{WHERE}\n")
        rows = print_ratios(pending)
        mixes, phases = print_memory(pending)
        others = [row for future in pending.rivals for row in future.result()]
    if others:
        print(rivals.table(others))
    if asked.rivals and rivals.lacking():
        print(f"not installed: {', '.join(rivals.lacking())}")
    judged: list[Judged] = bars.of_ratios(rows) if rows else []
    if mixes or phases:
        judged += bars.of_memory(mixes, phases)
    judged += bars.of_copies(rows, mixes, phases)
    if others:
        judged += bars.of_rivals(others)
    print("\nbars" + (" (a quick run: not judged)" if asked.quick else ""))
    print("\n".join(one.line() for one in judged))
    missed = [one for one in judged if one.missed]
    seconds = time.monotonic() - began
    print(f"reached {len(judged) - len(missed)} of {len(judged)}; {seconds:.0f} s")
    if asked.json is not None:
        data = {
            "about": about(asked, seconds),
            "rows": [asdict(row) for row in rows],
            "mixes": [used.as_dict() for used in mixes],
            "phases": [used.as_dict() for used in phases],
            "beside": [asdict(row) for row in others],
            "bars": [one.as_dict() for one in judged],
        }
        asked.json.write_text(json.dumps(data, indent=2) + "\n")
    return 1 if missed and not asked.quick else 0


if __name__ == "__main__":
    sys.exit(main())
