"""Benchmark of the two kinds of stripe lock, and the facts about the proof of life they rest on.

`python tests/bench/locks.py` compiles locks.c and ofd.c with the C compiler (`CC`, else `cc`) into
a temporary folder, runs them, prints tables and, as the last line, everything as one JSON object.
locks.c says what is measured and how; here stand the cases, their interleaving and the tables.

All cases of a table are run in turn, round by round, in changing order, so that a disturbance hits
each of them alike. Of a free lock the best quartile is shown; of load the median of the quiet
rounds, those whose run without a lock had nearly all CPUs (a disturbed round flatters a hot lock:
one CPU alone does not contend), else of all rounds, and a line says so; of kills the median, p99
and maximum of all. It measures; it judges nothing, except that a failed check of the C programs
ends it with status 1.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FLAGS = "-std=c11 -O2 -Wall -Wextra -Wshadow -Wconversion -pthread"
RUN_LIMIT = 60.0  # seconds of one run of a C program; a hang is a failure

NO_LOCK = "no lock"
KINDS: dict[str, str] = {
    "word": "kind=word spin=0",
    "word, spin 50": "kind=word spin=50",
    "word, spin 200": "kind=word spin=200",
    "word, spin 50, ask": "kind=word spin=50 ask=1",
    "robust": "kind=robust spin=0",
    "robust, spin 50": "kind=robust spin=50",
}
LOADS: dict[str, str] = {
    "2 p, 90/10": "procs=2 writes=10",
    "8 p, 90/10": "procs=8 writes=10",
    "2 p, writes": "procs=2 writes=100",
    "8 p, writes": "procs=8 writes=100",
    "2 p, hot": "procs=2 writes=100 stripes=1",
    "8 p, hot": "procs=8 writes=100 stripes=1",
}
# Waits of the word: first time limit, then doubling up to the cap.
WAITS: dict[str, str] = {
    "word 1-10 ms": "kind=word spin=50",
    "word 1-10 ms, ask": "kind=word spin=50 ask=1",
    "word 250 us-10 ms": "kind=word spin=50 first_us=250",
    "word 250 us-2 ms": "kind=word spin=50 first_us=250 cap_us=2000",
    "robust": "kind=robust spin=50",
}
PHASES: dict[str, str] = {
    "after": "phase=after",
    "fresh": "phase=fresh",
    "aged": "phase=aged",
    "fresh, child closed": "child=closed",
    "fresh, child kept": "child=kept",
    "fresh, 256 MiB": "ballast_mib=256",
}
FEW = {"fresh, child closed": 30, "fresh, child kept": 30, "fresh, 256 MiB": 9}  # kills of these


class Failed(Exception):
    """A C program could not be built, failed one of its checks, or hung."""


@dataclass(frozen=True)
class Case:
    """One cell of a table: where it stands, and the words of its call."""

    row: str
    column: str
    words: str


def command_run(command: Sequence[str | Path]) -> str:
    """Run a program; its output, or Failed with what it said."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=RUN_LIMIT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{command[0]} hung: no end within {RUN_LIMIT:.0f} s") from error
    if done.returncode != 0:
        words = " ".join(map(str, command))
        raise Failed(f"{words}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def program_build(name: str, folder: Path) -> Path:
    """Compile one C file of this folder into `folder`."""
    program = folder / name
    compiler = shlex.split(os.environ.get("CC", "cc"))
    source = HERE / f"{name}.c"
    command_run([*compiler, *FLAGS.split(), source, "-o", program, "-lm"])
    return program


def cases_run(program: Path, cases: Sequence[Case], rounds: int) -> dict[Case, list[Any]]:
    """Every case once a round, the order turned by one each round."""
    results: dict[Case, list[Any]] = {case: [] for case in cases}
    for number in range(rounds):
        turn = number % len(cases)
        for case in [*cases[turn:], *cases[:turn]]:
            output = command_run([program, *case.words.split()])
            results[case].append(json.loads(output))
    return results


def best_quartile(values: Iterable[float], *, low: bool) -> float:
    """Median of the best quarter (at least one) of the values."""
    ordered = sorted(values, reverse=not low)
    return statistics.median(ordered[: max(1, len(ordered) // 4)])


def table_print(title: str, cells: dict[tuple[str, str], str]) -> None:
    """Print cells by row and column, in the order in which they came."""
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    first = max(map(len, rows))
    widths = [
        max(len(column), *(len(cells.get((row, column), "")) for row in rows)) for column in columns
    ]
    print(f"\n{title}")
    pairs = list(zip(columns, widths, strict=True))
    print(" " * first, *(column.rjust(width) for column, width in pairs), sep="  ")
    for row in rows:
        values = (cells.get((row, column), "").rjust(width) for column, width in pairs)
        print(row.ljust(first), *values, sep="  ")


def single_measure(program: Path, rounds: int) -> dict[str, Any]:
    """Uncontended take + give, ns."""
    cases = [
        Case(kind, "ns", f"single {words}") for kind, words in KINDS.items() if "," not in kind
    ]
    results = cases_run(program, cases, rounds)
    figures = {
        case.row: round(best_quartile((run["ns"] for run in runs), low=True), 1)
        for case, runs in results.items()
    }
    cells = {(kind, "ns"): f"{ns:.1f}" for kind, ns in figures.items()}
    table_print("take + give of a free lock, one process (best quartile)", cells)
    return figures


def rounds_quiet(results: dict[Case, list[Any]]) -> dict[str, list[int]]:
    """Per column the rounds in which the run without a lock had the CPUs it can use."""
    quiet: dict[str, list[int]] = {}
    for case, runs in results.items():
        if case.row == NO_LOCK:
            procs = int(dict(word.split("=") for word in case.words.split()[1:])["procs"])
            wanted = 0.9 * min(procs, os.cpu_count() or 1)
            quiet[case.column] = [i for i, run in enumerate(runs) if run["cpus"] >= wanted]
    return quiet


def load_measure(program: Path, rounds: int, ms: int) -> dict[str, Any]:
    """Operations per second and sleeps under load."""
    kinds = {NO_LOCK: "kind=none", **KINDS}
    steps = json.loads(command_run([program, "calibrate"]))["steps"]
    cases = [
        Case(kind, load, f"load ms={ms} steps={steps} {words} {more}")
        for load, more in LOADS.items()
        for kind, words in kinds.items()
    ]
    results = cases_run(program, cases, rounds)
    quiet = rounds_quiet(results)
    figures: dict[str, Any] = {
        "steps": steps,
        "quiet_rounds": {k: len(v) for k, v in quiet.items()},
    }
    cells: dict[str, dict[tuple[str, str], str]] = {"ops_per_s": {}, "sleeps_per_kop": {}}
    for case, runs in results.items():
        chosen = [runs[i] for i in quiet[case.column]] or runs
        cell = {key: statistics.median(run[key] for run in chosen) for key in runs[0]}
        figures.setdefault(case.row, {})[case.column] = cell
        cells["ops_per_s"][case.row, case.column] = f"{cell['ops_per_s'] / 1e6:.2f}"
        cells["sleeps_per_kop"][case.row, case.column] = f"{cell['sleeps_per_kop']:.2f}"
    table_print("M operations/s, section 100 ns (median of quiet rounds)", cells["ops_per_s"])
    for load, numbers in quiet.items():
        if not numbers:
            print(
                f"{load}: NO quiet round of {rounds}: others used the CPUs, contention is unknown"
            )
    title = (
        "sleeps per 1,000 operations (robust: calls that may sleep, each perhaps more than once)"
    )
    table_print(title, cells["sleeps_per_kop"])
    return figures


def kill_cases(kills: int, rounds: int) -> list[Case]:
    """The cells of the table of kills; `ask` only where it can matter."""
    cases = []
    for phase, more in PHASES.items():
        total = FEW.get(phase, kills)
        for wait, words in WAITS.items():
            if phase in FEW and wait not in ("word 1-10 ms", "robust"):
                continue
            if phase == "aged" and "ask" in wait:
                continue
            each = -(-total // rounds)
            cases.append(Case(wait, phase, f"kill kills={each} {words} {more}"))
    return cases


def kill_measure(program: Path, kills: int, rounds: int) -> dict[str, Any]:
    """Time from the death of the holder to the waiter's having the lock."""
    figures: dict[str, Any] = {}
    cells: dict[tuple[str, str], str] = {}
    for case, runs in cases_run(program, kill_cases(kills, rounds), rounds).items():
        took = sorted(us for run in runs for us in run["took_us"])
        busy = sum(run["busy"] for run in runs)
        p50, p99, most = took[len(took) // 2], took[len(took) * 99 // 100], took[-1]
        figures.setdefault(case.row, {})[case.column] = {
            "kills": len(took),
            "busy": busy,
            "p50_us": p50,
            "p99_us": p99,
            "max_us": most,
        }
        text = f"{p50 / 1e3:.3f} / {p99 / 1e3:.2f} / {most / 1e3:.2f}"
        cells[case.column, case.row] = text + (f", busy {busy}/{len(took)}" if busy else "")
    title = "ms from SIGKILL of the holder (after: from the waiter's start) to having the lock"
    table_print(f"{title}: p50 / p99 / max", cells)
    return figures


def stopped_measure(program: Path) -> dict[str, Any]:
    """What a waiter burns while the holder is stopped."""
    cases = [Case(wait, "ms", f"stopped {words}") for wait, words in WAITS.items()]
    results = cases_run(program, cases, 1)
    figures = {case.row: runs[0]["cpu_ms_per_s"] for case, runs in results.items()}
    cells = {(wait, "ms/s"): f"{ms:.2f}" for wait, ms in figures.items()}
    table_print("CPU time of one waiter per second of waiting for a stopped holder", cells)
    return figures


def facts_ask(program: Path) -> list[dict[str, Any]]:
    """The facts of ofd.c, one line each."""
    facts: list[dict[str, Any]] = [json.loads(line) for line in command_run([program]).splitlines()]
    print("\nlocks of open file descriptions as proof of life")
    for fact in facts:
        print("  " + fact["fact"] + (f": {fact['figure']}" if fact["figure"] else ""))
    return facts


def everything_run(*, rounds: int, ms: int, kills: int) -> dict[str, Any]:
    """Build and run all; the tables go to standard output."""
    with tempfile.TemporaryDirectory(prefix="shmkv-bench-") as name:
        folder = Path(name)
        locks, ofd = program_build("locks", folder), program_build("ofd", folder)
        return {
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}",
            "rounds": rounds,
            "single_ns": single_measure(locks, rounds),
            "load": load_measure(locks, rounds, ms),
            "kill": kill_measure(locks, kills, rounds=3),
            "stopped_cpu_ms_per_s": stopped_measure(locks),
            "facts": facts_ask(ofd),
        }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="of uncontended and load runs")
    parser.add_argument("--ms", type=int, default=40, help="length of one load run")
    parser.add_argument("--kills", type=int, default=300, help="of each cell (fewer where slow)")
    options = parser.parse_args()
    try:
        figures = everything_run(rounds=options.rounds, ms=options.ms, kills=options.kills)
    except Failed as error:
        print(f"locks.py: {error}", file=sys.stderr)
        return 1
    print()
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
