"""`python -m tests.bench.peers`: measure what is installed, print the tables, write them.

The full form takes about eleven minutes on two CPUs and writes results.md and results.svg beside
this file; `--quick` takes under a minute, `--smoke` under five seconds, and both write only where
they are told to. Peers that are not installed are left out and said; a missed bar or a peer that
fails is no failure of the command. Only `--smoke` is a test: it ends with 1 if a figure is missing.
"""

import argparse
import importlib
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.__main__ import processor
from tests.bench.peers import kv, memory
from tests.bench.peers.bars import BASE_BYTES
from tests.bench.peers.embedded import (
    Diskcache,
    Lmdb,
    PlainDict,
    SharedMemoryDict,
    Shmkv,
    Sqlite,
    Ultra,
)
from tests.bench.peers.foreign import Apcu, Uwsgi
from tests.bench.peers.peer import Peer
from tests.bench.peers.results import document
from tests.bench.peers.served import Managed, Memcached, Redis
from tests.bench.peers.team import obey_signals
from tests.bench.peers.work import KEYS, MIXES, Plan, clock_nanoseconds

HERE = Path(__file__).parent
MEMORY_SHARE = 0.3  # of the time limit
# What each form sets: seconds for all, rounds, throughput, latency, entries of the memory part.
FULL = (690.0, 7, 0.25, 0.15, 1_000_000)
QUICK = (50.0, 3, 0.06, 0.04, 50_000)
SMOKE = (4.0, 1, 0.05, 0.01, 10_000)
SMOKE_PEERS = ("shmkv", "dict", "sqlite")


def all_peers() -> list[Peer]:
    """Everybody, installed or not."""
    embedded = [Shmkv(), PlainDict(), Lmdb(), Sqlite(), Diskcache(), Diskcache(8)]
    return [
        *embedded,
        Managed(),
        Redis(),
        Memcached(),
        Uwsgi(),
        Apcu(),
        Ultra(),
        SharedMemoryDict(),
    ]


def numbers(text: str) -> tuple[int, ...]:
    """1,2,8"""
    found = tuple(int(part) for part in text.split(","))
    if min(found) < 1:
        raise argparse.ArgumentTypeError("positive numbers only")
    return found


def names(text: str) -> tuple[str, ...]:
    """read,90/10"""
    return tuple(part.strip() for part in text.split(","))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; what is not given is as the form says."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    add = parser.add_argument
    add("--list", action="store_true", help="say which peers are there, and why others are not")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--quick", action="store_true", help="under a minute, rough figures")
    form.add_argument("--smoke", action="store_true", help="under 5 s, exit code 1 if one is lost")
    add("--peers", type=names, help="by name, with commas; otherwise all that are installed")
    add("--mixes", type=names, help=f"of {','.join(MIXES)}")
    add("--sizes", type=numbers, default=(BASE_BYTES,), help="of values, in bytes: 100,1024,10240")
    add("--processes", type=numbers, help="1,2,8")
    add("--rounds", type=int)
    add("--dur", type=float, help="seconds of each throughput loop")
    add("--lat", type=float, help="seconds of each latency loop")
    add("--limit", type=float, help="seconds after which no further round begins")
    add("--entries", type=int, help="of the memory part; 0: no memory part")
    add("--out", type=Path, metavar="FOLDER", help="write results.md and results.svg there")
    add("--json", type=Path, metavar="FILE", help="write every raw figure there")
    args = parser.parse_args(argv)
    whole = not (args.quick or args.smoke or args.peers or args.mixes or args.processes)
    args.out = args.out or (HERE if whole and not args.list else None)
    values = SMOKE if args.smoke else QUICK if args.quick else FULL
    for name, value in zip(("limit", "rounds", "dur", "lat", "entries"), values, strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.peers = args.peers or (SMOKE_PEERS if args.smoke else None)
    args.processes = args.processes or ((1, 2) if args.smoke else (1, 2, 8))
    args.mixes = args.mixes or tuple(MIXES)
    if set(args.mixes) - set(MIXES):
        parser.error(f"mixes are {', '.join(MIXES)}")
    if min(args.sizes) < 16:
        parser.error("values have at least 16 B")
    if args.peers and set(args.peers) - {peer.name for peer in all_peers()}:
        parser.error(f"peers are {', '.join(peer.name for peer in all_peers())}")
    return args


def chosen(args: argparse.Namespace) -> tuple[list[Peer], dict[str, str]]:
    """The peers that take part, and why others do not."""
    wanted = [peer for peer in all_peers() if not args.peers or peer.name in args.peers]
    absent = {peer.name: why for peer in wanted if (why := peer.missing()) is not None}
    return [peer for peer in wanted if peer.name not in absent], absent


def about(
    args: argparse.Namespace, peers: Sequence[Peer], absent: dict[str, str]
) -> dict[str, Any]:
    """Where, when and how this runs."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} x {processor()}, Linux {platform.release()}",
        "memory": f"{memory_bytes / (1 << 30):.0f} GiB",
        "python": platform.python_version(),
        "command": shlex.join(["python", "-m", "tests.bench.peers", *sys.argv[1:]]),
        "load_before": round(os.getloadavg()[0], 2),
        "clock_ns": clock_nanoseconds(),
        "keys": KEYS,
        "turn_seconds": args.dur,
        "latency_seconds": args.lat,
        "versions": {peer.name: peer.version() for peer in peers},
        "absent": absent,
    }


def lost(args: argparse.Namespace, record: kv.Record, rows: Sequence[memory.Bytes]) -> list[str]:
    """Which figures of the smoke form are missing."""
    have = {(m.peer, m.figures["mix"], m.processes) for m in record.measured}
    wanted = {(p, m, n) for p in args.peers for m in args.mixes for n in args.processes}
    missing = [f"no figure: {', '.join(map(str, place))}" for place in sorted(wanted - have)]
    missing += [
        f"no memory figure: {name}" for name in args.peers if name not in {r.peer for r in rows}
    ]
    return [*record.failures, *missing]


def say(text: str) -> None:
    """Progress, beside the results."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def write(
    args: argparse.Namespace,
    where: dict[str, Any],
    record: kv.Record,
    rows: Sequence[memory.Bytes],
    page: str,
) -> None:
    """The files that were asked for."""
    if args.json is not None:
        turns = [each.as_dict() for each in record.measured]
        data = {"about": where, "turns": turns, "memory": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps({**data, "failures": record.failures}, indent=1) + "\n")
    if args.out is None:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.md").write_text(page)
    try:
        chart = importlib.import_module("tests.bench.peers.chart")
    except ImportError as error:
        say(f"no chart: {error} (pip install -e '.[peers]' brings it)")
        return
    chart.draw(record.measured, where, args.out / "results.svg")


def main(argv: Sequence[str]) -> int:
    """Run what was asked for."""
    args = parse(argv)
    peers, absent = chosen(args)
    if args.list:
        for peer in all_peers():
            why = peer.missing()
            print(f"{peer.name:20} {peer.version() if why is None else f'-- {why}'}")
        return 0
    obey_signals()
    where, began = about(args, peers, absent), time.monotonic()
    plan = Plan(args.mixes, args.dur, args.lat)
    deadline = began + args.limit
    scope = kv.Scope(KEYS, args.sizes, args.processes, args.rounds, plan, deadline)
    before, rows = kv.Record(), list[memory.Bytes]()
    if args.entries:
        until = began + MEMORY_SHARE * args.limit
        rows = memory.measure(peers, args.entries, before, until, say)
    record = kv.measure(peers, scope, say)
    record.failures[:0] = before.failures
    where["rounds"] = record.rounds
    where["load_after"], where["seconds"] = round(os.getloadavg()[0], 2), time.monotonic() - began
    page = document(where, peers, record.measured, rows, record.failures)
    print(page)
    write(args, where, record, rows, page)
    missing = lost(args, record, rows) if args.smoke else []
    print(*missing, sep="\n", file=sys.stderr, end="\n" if missing else "")
    return 1 if missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
