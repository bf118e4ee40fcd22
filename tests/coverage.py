"""Branch coverage of the C sources, by all tests that can show it.

    python -m tests.coverage                     everything (some minutes), then the table
    python -m tests.coverage --parts c,unit      some parts only
    python -m tests.coverage --missing           also each line with a branch never taken
    python -m tests.coverage --keep DIR          leave copy, objects and counters there; again with
                                                 the same DIR adds to them

Works on a copy of the checkout in a temporary folder: there the extension is built with SHMKV_BUILD
=cov (-O0, fault points alive) and the C tests with the same flags, so nothing of the checkout's own
builds is touched. Counters survive the ends that tests cause: processes killed by a fault point and
forks that leave by _exit write them first (tests/c/coverage_end.c, tests/coverage_site.py). Tests
that kill from outside add little and are not run.

Ends with 1 when a part fails, when the core is below `GOAL`, or when a branch that is not taken has
no row in tests/c/COVERAGE.md. Says which counters were lost. Does not: measure Python code.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests import coverage_report as report
from tests.c import test_c

ROOT = Path(__file__).resolve().parents[1]
REASONS = ROOT / "tests" / "c" / "COVERAGE.md"
GOAL = 90.0
FLAGS = ("-O0", "--coverage", "-fprofile-update=atomic", "-DKV_FAULT=1", "-DNDEBUG")
WRAPS = "-Wl,--wrap=kill,--wrap=_exit"
COPIED = ("shmkv", "tests", "examples", "setup.py", "pyproject.toml", "README.md", "LICENSE")
LIMIT_S = 1800
WORDS = {"test_fault": ["depth_one"], "failing_damage": ["3000"]}
SLOW_FACTOR = {"test_evict": "0.3", "test_store": "0.5", "test_fault": "0.5"}


class Place(NamedTuple):
    """Where a run works."""

    root: Path  # the copy of the checkout
    c: Path  # objects and programs of the C tests
    site: Path  # what interpreters load at their start

    def environment(self, **more: str) -> dict[str, str]:
        """Of every process of the run."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHMKV_")}
        path = f"{self.site}{os.pathsep}{self.root}"
        kept |= {"PYTHONPATH": path, "GCOV_ERROR_FILE": str(self.said)}
        return {**kept, "SHMKV_SEED": "1", "SHMKV_TEST_SEED": "1", **more}

    @property
    def said(self) -> Path:
        """What the profiler has to say, which tests would take for words of the program."""
        return self.site / "said.txt"

    def lost(self) -> list[str]:
        """Counters that could not be added: of who was killed in the middle of writing before."""
        return sorted(set(self.said.read_text().splitlines()))


# ---- building -----------------------------------------------------------------------------------


def prepare(folder: Path) -> Place:
    """Copy the checkout and build the extension there; what is there already stays."""
    place = Place(folder / "copy", folder / "c", folder / "site")
    for made in place:
        made.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # tests become other users
    place.said.touch()
    place.said.chmod(0o666)
    shutil.copy(ROOT / "tests" / "coverage_site.py", place.site / "sitecustomize.py")
    built = bool(list((place.root / "shmkv").glob("_core*.so")))
    kept = ("_csrc",) if built else ()  # the counters are of those sources
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.gc??", ".hypothesis", *kept)
    for name in COPIED:
        source, target = ROOT / name, place.root / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy(source, target)
    if not built:
        build_extension(place)
    return place


def build_extension(place: Place) -> None:
    """In place in the copy; the crash tests' build with fault points is the same file."""
    shutil.copy(ROOT / "tests" / "c" / "coverage_end.c", place.root / "shmkv" / "_csrc")
    flags = {"SHMKV_BUILD": "cov", "CFLAGS": "-fprofile-update=atomic", "LDFLAGS": WRAPS}
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    environment = {**place.environment(), **flags}
    subprocess.run(command, cwd=place.root, env=environment, check=True, timeout=LIMIT_S)
    (place.root / "shmkv" / "_csrc" / "coverage_end.c").unlink()
    fault = place.root / "build" / "fault" / "shmkv"
    fault.mkdir(parents=True, exist_ok=True)
    for made in (place.root / "shmkv").glob("_core*.so"):
        (fault / made.name).symlink_to(made)


# ---- the parts ----------------------------------------------------------------------------------


def run(place: Place, command: list[str], **more: str) -> bool:
    """One command of the run; what it says is shown when it fails."""
    done = subprocess.run(
        command,
        cwd=place.root,
        env=place.environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
    )
    if done.returncode != 0:
        print(done.stdout[-3000:], file=sys.stderr)
    return done.returncode == 0


def c_tests(place: Place) -> bool:
    """Every tests/c/test_*.c, with the core compiled for it."""
    link = test_c.compile_all(test_c.Build(FLAGS, {}), place.c, place.root / "shmkv" / "_csrc")
    end = str(test_c.HERE / "coverage_end.c")
    good = True
    for source in [*sorted(test_c.HERE.glob("test_*.c")), test_c.HERE / "failing_damage.c"]:
        program = str(place.c / source.stem)
        command = [*link, str(source), end, WRAPS, "-o", program]
        subprocess.run(command, check=True, timeout=120, cwd=place.c)
        prefix = f"v{os.getpid()}"
        scale = SLOW_FACTOR.get(source.stem, "1")
        words = WORDS.get(source.stem, [])
        good &= run(place, [program, *words], SHMKV_TEST_PREFIX=prefix, SHMKV_TEST_SCALE=scale)
        for left in Path("/dev/shm").glob(f"shmkv.{os.getuid()}.{prefix}-*"):
            left.unlink(missing_ok=True)
    return good


def pytest(*words: str) -> Callable[[Place], bool]:
    """A part that is a run of pytest in the copy."""

    def part(place: Place) -> bool:
        command = [sys.executable, "-m", "pytest", "-q", "-o", "timeout=600"]
        return run(place, [*command, *words])

    return part


def harness(module: str, *words: str) -> Callable[[Place], bool]:
    """A part that is a harness with a test, and limits of time, of its own: it only has to run."""

    def part(place: Place) -> bool:
        run(place, [sys.executable, "-m", module, *words])
        return True

    return part


PARTS: dict[str, Callable[[Place], bool]] = {
    "c": c_tests,
    "unit": pytest("tests/unit", "--ignore=tests/unit/test_demo.py", "--ignore=tests/unit/cli"),
    "layout": pytest("tests/layout", "tests/regress"),
    "property": pytest("tests/property"),
    "stress": pytest("tests/stress/test_fork.py", "tests/stress/test_signals.py",
                     "tests/stress/test_threads.py"),
    "failing": harness("tests.stress.failing"),
    "damage": harness("tests.stress.damage", "--mode", "alone", "--n", "4000", "--seed", "1"),
    "life": harness("tests.stress.life"),
    "crash": harness("tests.crash.matrix"),
}  # fmt: skip


# ---- the command --------------------------------------------------------------------------------


def judge(place: Place, missing: bool) -> bool:
    """Print the tables; is everything as it should be?"""
    folders = [place.c, place.root / "build"]
    coverage = report.Coverage(report.read(folders, "_csrc"), place.root / "shmkv" / "_csrc")
    given = report.reasons(REASONS.read_text()) if REASONS.exists() else []
    for glue in (False, True):
        print(*report.show(coverage, glue), sep="\n", end="\n\n")
    gaps = coverage.missing(*coverage.files(False), *coverage.files(True))
    bare = report.unexplained(gaps, given)
    for gap in gaps if missing else bare:
        mark = "  " if gap not in bare else "! "
        print(f"{mark}{gap.file}:{gap.line}: {gap.marks} {gap.code}")
    for row in report.unused(gaps, given) if missing else ():
        print(f"no longer needed: {row.file}: {row.code}")
    core = coverage.table(*coverage.files(False))
    print(
        json.dumps({
            "name": "coverage", "seed": 1, "n": core.branches, "violations": len(bare),
            "worst_ms": 0, "core": round(core.percent, 1),
            "glue": round(coverage.table(*coverage.files(True)).percent, 1),
        })
    )  # fmt: skip
    return not bare and core.percent >= GOAL


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.coverage")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of the default")
    parser.add_argument("--missing", action="store_true", help="all branches that are not taken")
    parser.add_argument("--keep", type=Path, help="a folder to work in and to leave as it is")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shmkv-coverage-") as made:
        place = prepare(chosen.keep.absolute() if chosen.keep else Path(made))
        failed = [name for name in chosen.parts.split(",") if name and not PARTS[name](place)]
        good = judge(place, chosen.missing)
        lost = place.lost()
    for line in lost:
        print(f"counters are lost: {line}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 0 if good and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
