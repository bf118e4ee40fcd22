"""The core without Python: compiled with sanitizers and plain, and run.

Owns: the table of builds and of the programs each build runs. Every C source of the core but the
Python glue is compiled once per build into a temporary folder; a program is one `test_*.c` beside
this file with `kv_test.c`. `SHMKV_TEST_SCALE` (a factor, 1 = quick) lengthens the loops,
`SHMKV_TEST_SEED` repeats a run; a failing program prints both. Whatever segment a program leaves
is removed here, by its prefix.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[1] / "shmkv" / "_csrc"
SECONDS = 300 * max(1.0, float(os.environ.get("SHMKV_TEST_SCALE", "1")))
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror"]


@dataclass(frozen=True)
class Build:
    """One way to compile the core."""

    flags: tuple[str, ...]
    environment: dict[str, str]


# The leaks of the fault tests are processes that died: their memory went with them.
BUILDS = {
    "asan": Build(
        ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DKV_FAULT=1"),
        {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
    ),
    # check reads pages that others are reusing, and believes nothing unless the page stood still.
    "tsan": Build(
        ("-O1", "-fsanitize=thread"),
        {"TSAN_OPTIONS": "halt_on_error=1:history_size=4"},
    ),
    "fault": Build(("-O1", "-DKV_FAULT=1"), {}),
    "release": Build(("-O2",), {}),
}
RUNS = [
    ("asan", "test_table", ""),
    ("asan", "test_arena", ""),
    ("asan", "test_locks", ""),
    ("asan", "test_segment", ""),
    ("asan", "test_resize", ""),
    ("asan", "test_look", ""),
    ("asan", "test_watch", ""),
    ("asan", "test_packed", ""),
    ("asan", "test_image", ""),
    ("asan", "test_dump", ""),
    ("asan", "test_fault", "depth_one"),
    ("asan", "test_store", ""),
    ("asan", "test_corrupt", ""),
    ("asan", "test_forbidden", ""),
    ("asan", "test_restless", ""),
    ("asan", "test_threads", ""),
    ("asan", "test_journal", ""),
    ("asan", "test_journal_refused", ""),
    ("asan", "test_wipe", ""),
    ("tsan", "test_locks", ""),
    ("tsan", "test_threads", ""),
    ("tsan", "test_resize", "race"),
    ("fault", "test_fault", "depth_two"),
    ("fault", "test_fork", ""),
    ("fault", "test_corrupt", ""),
    ("fault", "test_refused", ""),
    ("release", "test_journal", ""),
    ("release", "test_wipe", ""),
    ("release", "test_evict", ""),
    ("release", "test_packed", ""),
    ("release", "test_threads", ""),
]


def compiler(flags: tuple[str, ...], folder: Path) -> str:
    """gcc; clang where gcc cannot do it; skips with the reason where neither can."""
    said = "no C compiler"
    program = '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n'
    for name in ("gcc", "clang", "cc"):
        if shutil.which(name) is None:
            continue
        probe = [name, *flags, "-xc", "-", "-o", str(folder / "probe")]
        done = subprocess.run(probe, input=program, capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            ran = subprocess.run([folder / "probe"], capture_output=True, text=True, timeout=60)
            if ran.returncode == 0:
                return name
            done = ran
        said = f"{name}: {done.stderr.strip()[-300:]}"
    pytest.skip(f"NOT RUN: cannot build with {' '.join(flags)}: {said}")


def compile_all(build: Build, folder: Path, core: Path = CORE) -> list[str]:
    """The command that links a program with the core; the core's objects are made on the way."""
    command = [compiler(build.flags, folder), *build.flags, "-g1", "-std=c11", "-D_GNU_SOURCE"]
    command += ["-fno-omit-frame-pointer", f"-I{core}", f"-I{HERE}", *WARNINGS]
    if "-fsanitize=thread" in build.flags:
        command.append("-Wno-tsan" if command[0] != "clang" else "-Wno-unknown-warning-option")
    glue = {"module.c", *(path.name for path in core.glob("py_*.c"))}
    sources = [path for path in sorted(core.glob("*.c")) if path.name not in glue]
    objects = []
    for source in [*sources, HERE / "kv_test.c"]:
        made = folder / f"{source.stem}.o"
        subprocess.run([*command, "-c", str(source), "-o", str(made)], check=True, timeout=120)
        objects.append(str(made))
    return [*command, *objects, "-lpthread", "-lrt"]


@pytest.fixture(scope="session")
def linker(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Build name and program name -> executable."""
    commands: dict[str, tuple[Path, list[str]]] = {}

    def link(build: str, program: str) -> Path:
        if build not in commands:
            folder = tmp_path_factory.mktemp(f"c-{build}")
            commands[build] = (folder, compile_all(BUILDS[build], folder))
        folder, command = commands[build]
        made = folder / program
        if not made.exists():
            line = [*command, str(HERE / f"{program}.c"), "-o", str(made)]
            subprocess.run(line, check=True, timeout=120)
        return made

    return link


@pytest.fixture
def prefix() -> Iterator[str]:
    """What the segments of one program are called; those left behind are removed."""
    mine = f"c{os.getpid()}"
    yield mine
    for left in Path("/dev/shm").glob(f"shmkv.{os.getuid()}.{mine}-*"):
        left.unlink(missing_ok=True)


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder that no disk slows down, gone with all that a program leaves there."""
    with tempfile.TemporaryDirectory(prefix="shmkv-c-", dir="/dev/shm") as folder:
        yield folder


@pytest.mark.timeout(SECONDS + 300)  # the first of a build compiles the core
@pytest.mark.parametrize(("build", "program", "part"), RUNS)
def test_core(
    linker: Callable[[str, str], Path],
    prefix: str,
    memory: str,
    build: str,
    program: str,
    part: str,
) -> None:
    """The program ends well; what it says is shown when it does not."""
    environment = {**os.environ, **BUILDS[build].environment, "SHMKV_TEST_PREFIX": prefix}
    environment["TMPDIR"] = memory
    command = [str(linker(build, program)), *([part] if part else [])]
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]


def test_every_program_runs() -> None:
    """No test_*.c stands here that nobody runs."""
    assert {path.stem for path in HERE.glob("test_*.c")} == {program for _, program, _ in RUNS}
