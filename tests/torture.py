"""The long form of the reliability harnesses: `make torture`, or `python -m tests.torture`.

Each harness gets a share of SHMKV_TORTURE_SECONDS (an hour) and runs again and again with another
seed until its share is used up; its lines of JSON {name, seed, n, violations, worst_ms} are added
up and printed, one for each harness. A violation is shown with what the harness said of it, and the
exit code is 1. What the machine forbids is told as NOT RUN.

Owns: which harness, in portions of which size, and which share. Does not: judge.
Promises: a portion that does not end in LIMIT_S is ended, with its children, and is a violation.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 1800.0
SAID = 4000  # characters of what a violation printed


class Harness(NamedTuple):
    """A command that takes --seed, and its share of the time."""

    title: str
    share: int
    command: str
    seeded: bool = True


HARNESSES = (
    Harness("storm, evicting", 8, "tests.stress.storm --policy evict --kills 4000"),
    Harness("storm, keeping all", 8, "tests.stress.storm --policy keep --kills 4000"),
    Harness("journal, everysec", 4, "tests.stress.journal_storm --mode everysec --kills 4000"),
    Harness("journal, always", 4, "tests.stress.journal_storm --mode always --kills 4000"),
    Harness("every instruction", 14, "tests.c.torture step --full --seconds 240"),
    Harness("every instruction of recovery", 8, "tests.c.torture restep --full --seconds 120"),
    Harness("abandoned operations", 6, "tests.c.torture abandon --full --seconds 120"),
    Harness("interleavings", 10, "tests.c.torture schedule --full --seconds 120"),
    Harness("stopped holders", 6, "tests.stress.holder", seeded=False),
    Harness("linearizability", 10, "tests.stress.linear --operations 2000000"),
    Harness("life cycles", 3, "tests.stress.life"),
    Harness("full /dev/shm", 3, "tests.stress.failing_space --n 60"),
    Harness("failing calls", 4, "tests.stress.failing --full"),
    Harness("deaths told", 1, "tests.stress.autopsy", seeded=False),
    Harness("damage, alone", 5, "tests.stress.damage --mode alone --n 40000"),
    Harness("damage, together", 5, "tests.stress.damage --mode together --n 40000"),
    Harness("disk, deaths at every call", 6, "tests.stress.disk_deaths --mode dies --step 7"),
    Harness("disk, failing calls", 6, "tests.stress.disk_deaths --mode fails --step 7"),
    Harness("disk, short writes", 1, "tests.stress.disk_deaths --mode short"),
    Harness("disk, full", 1, "tests.stress.disk_space"),
    Harness("disk, turned bits and cuts", 4, "tests.stress.disk_bits --step 17"),
    Harness("disk, mutants", 6, "tests.stress.disk_mutants --n 1000000"),
    Harness("soak", 6, "tests.stress.soak --seconds 120"),
    Harness("crash matrix", 4, "tests.crash.matrix", seeded=False),
)


class Sum(NamedTuple):
    """What the portions of one harness came to."""

    n: int
    violations: int
    worst_ms: float
    not_run: str = ""


def portion(harness: Harness, seed: int) -> tuple[list[dict[str, Any]], str]:
    """Run it once; its lines of JSON, and what it said if it failed."""
    command = [sys.executable, "-m", *harness.command.split()]
    if harness.seeded:
        command += ["--seed", str(seed)]
    run = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return [], f"{' '.join(command)}: not finished within {LIMIT_S:g} s"
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    good = lines and run.returncode in (0, 77) and not any(x.get("violations") for x in lines)
    return lines, "" if good else f"{' '.join(command)}: exit {run.returncode}\n{said[-SAID:]}"


def work(harness: Harness, seconds: float, seed: int) -> Sum:
    """Portions until the time is used up; at least one."""
    end, total = time.monotonic() + seconds, Sum(0, 0, 0.0)
    while True:
        lines, wrong = portion(harness, seed)
        if wrong:
            print(f"VIOLATION {harness.title}: {wrong}", flush=True)
        for line in lines:
            if "not_run" in line:
                return total._replace(not_run=line["not_run"])
        total = Sum(
            total.n + sum(line["n"] for line in lines),
            total.violations + max(bool(wrong), sum(line["violations"] for line in lines)),
            max([total.worst_ms, *(line["worst_ms"] for line in lines)]),
        )
        seed += 1
        if time.monotonic() > end:
            return total


def main() -> int:
    """Every harness in turn."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    hour = float(os.environ.get("SHMKV_TORTURE_SECONDS") or 3600)
    parser.add_argument("--seconds", type=float, default=hour, help="all together")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_003)
    parser.add_argument("--only", default="", help="harnesses with this in their title")
    given = parser.parse_args()
    chosen = [harness for harness in HARNESSES if given.only in harness.title]
    shares = sum(harness.share for harness in chosen)
    bad = 0
    for harness in chosen:
        begun = time.monotonic()
        found = work(harness, given.seconds * harness.share / shares, given.seed)
        bad += found.violations
        line: dict[str, Any] = {"name": harness.title, "seed": given.seed, "n": found.n}
        line |= {"violations": found.violations, "worst_ms": round(found.worst_ms, 1)}
        line["seconds"] = round(time.monotonic() - begun)
        if found.not_run:
            line["NOT RUN"] = found.not_run
        print(json.dumps(line), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
