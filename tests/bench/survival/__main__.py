"""`python -m tests.bench.survival`: kill workers of shmkv and its alternatives: results.md.

The full form takes at most five minutes on two processors and writes results.md beside this file;
with `--peers` it writes only where `--out` says. `--smoke` takes under ten seconds, kills workers
of shmkv and of the semaphore table and ends with 1 if anything went wrong with shmkv, or if the
storm could not bring the semaphore to a standstill: then it would prove nothing.
"""

import argparse
import os
import platform
import random
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.__main__ import processor
from tests.bench.peers.team import obey_signals
from tests.bench.survival.outcome import Outcome
from tests.bench.survival.peer import Store
from tests.bench.survival.report import document
from tests.bench.survival.stores import all_stores
from tests.bench.survival.storm import run

HERE = Path(__file__).parent
# What each form sets: kills inside an operation, seconds for each store, seconds of a standstill.
FULL = (250, 20.0, 5.0)
SMOKE = (25, 2.5, 2.0)
SMOKE_STORES = ("shmkv", "semaphore table")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; what is not given is as the form says."""
    known = [store.name for store in all_stores()]
    parser = argparse.ArgumentParser(prog="python -m tests.bench.survival", description=__doc__)
    add = parser.add_argument
    add("--smoke", action="store_true", help="under 10 s; exit code 1 if it is not as it must be")
    add("--kills", type=int, help="inside an operation, of each store")
    add("--seconds", type=float, help="for each store, at most")
    add("--peers", type=lambda text: text.split(","), help=f"of {','.join(known)}")
    add("--seed", type=int, help="of victims, moments and operations")
    add("--out", type=Path, metavar="FOLDER", help="write results.md there")
    add("--list", action="store_true", help="say which are there, and why any is not")
    args = parser.parse_args(argv)
    kills, seconds, args.hang = SMOKE if args.smoke else FULL
    args.kills, args.seconds = args.kills or kills, args.seconds or seconds
    if args.out is None and not (args.smoke or args.peers):
        args.out = HERE
    args.peers = args.peers or (list(SMOKE_STORES) if args.smoke else known)
    if unknown := set(args.peers) - set(known):
        parser.error(f"no such store: {', '.join(sorted(unknown))}")
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(1 << 32)
    return args


def about(args: argparse.Namespace) -> dict[str, Any]:
    """Where, when and how this runs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} x {processor()}, Linux {platform.release()}",
        "memory": f"{memory / (1 << 30):.0f} GiB",
        "python": platform.python_version(),
        "command": shlex.join(["python", "-m", "tests.bench.survival", *sys.argv[1:]]),
        "load_before": round(os.getloadavg()[0], 1),
        "kills": args.kills,
        "limit": args.seconds,
        "hang": args.hang,
    }


def say(text: str) -> None:
    """Progress, beside the results."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def measured(stores: Sequence[Store], args: argparse.Namespace) -> list[Outcome]:
    """One after the other, for each has the machine to itself."""
    outs = []
    for store in stores:
        kills, seconds = args.kills, args.seconds
        if args.smoke and store.name == SMOKE_STORES[1]:  # it ends with the first standstill
            kills, seconds = 10 * kills, 40 * seconds
        out = run(store, kills, seconds, args.hang, args.seed, once=args.smoke)
        say(f"{out.name}: {out.kills} kills, {out.inside} inside, {len(out.stops)} stops")
        outs.append(out)
    return outs


def judged(outs: Sequence[Outcome]) -> list[str]:
    """What is not as the smoke form must find it."""
    by_name = {out.name: out for out in outs}
    ours, theirs = (by_name[name] for name in SMOKE_STORES)
    wrong = [] if ours.sound else [f"shmkv: {ours}"]
    return wrong if theirs.stops else [*wrong, f"no standstill of the semaphore table: {theirs}"]


def main(argv: Sequence[str]) -> int:
    """Run what was asked for."""
    args = parse(argv)
    wanted = [store for store in all_stores() if store.name in args.peers]
    absent = {store.name: why for store in wanted if (why := store.missing()) is not None}
    if args.list:
        for store in wanted:
            print(f"{store.name:28} {absent.get(store.name) or store.version()}")
        return 0
    obey_signals()
    where, began = about(args), time.monotonic()
    say(f"seed {args.seed}")
    outs = measured([store for store in wanted if store.name not in absent], args)
    where["command"] += "" if "--seed" in where["command"] else f" --seed {args.seed}"
    where["load_after"], where["seconds"] = round(os.getloadavg()[0], 1), time.monotonic() - began
    page = document(where, outs, absent)
    print(page)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.md").write_text(page)
    wrong = judged(outs) if args.smoke and set(args.peers) == set(SMOKE_STORES) else []
    print(*wrong, sep="\n", file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
