"""The long reliability harnesses: how they are built, and a command line for them.

    python -m tests.c.torture step --seed 7              the quick form
    python -m tests.c.torture schedule --full            the long form
    python -m tests.c.torture restep --scene incr --at 3 what a violation says to repeat it
    python -m tests.c.torture planted [NAME]             faults put into the core: are they found?

Owns: which sources and flags make each program, and the table of planted faults. Each program ends
with one line of JSON: name, seed, n, violations, worst_ms and more; the options are those of
`torture.h`. `step` and `restep` are compiled like the extension is, so that they run over the same
instructions.

Does not: judge; `test_torture.py` and the programs do.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[1] / "shmkv" / "_csrc"
NOT_RUN = 77  # the exit status of a harness that this machine cannot run
STRICT = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
RELEASE = (
    *shlex.split(sysconfig.get_config_var("CFLAGS") or ""),
    *("-fPIC", "-fvisibility=hidden", "-O2"),
)
FAULT = ("-O2", "-DKV_FAULT=1")


@dataclass(frozen=True)
class Program:
    """One harness."""

    flags: tuple[str, ...]
    sources: tuple[str, ...]  # of this folder, beside kv_test.c and torture.c
    without: tuple[str, ...] = ()  # rooms of the core that it has in its own way


PROGRAMS = {
    "step": Program(RELEASE, ("scenes", "dying", "step")),
    "restep": Program(RELEASE, ("scenes", "dying", "restep")),
    "abandon": Program(FAULT, ("abandon",)),
    "schedule": Program(
        (*FAULT, "-include", str(HERE / "schedule_atomic.h")),
        ("history", "schedule_run", "schedule_scenes", "schedule"),
        ("wait", "fault"),
    ),
}


@dataclass(frozen=True)
class Planted:
    """A fault put into the core: in `file`, the one place `old` becomes `new`."""

    program: str
    options: tuple[str, ...]
    file: str
    old: str
    new: str


_RAISE = "kv_store_rel(&st->ver,\n                 kv_load_rlx(&st->ver) + 1);"
_REMOVE = "kv_store_rel(&slot->bucket->ref[slot->index], 0u)"
_AFTER = "    raise_version(st);\n    arena_dead(h, slot->ref, bytes);\n"
_LOWER = "    path_count(h, s, hash, slot->steps, false);\n"
PLANTED = {
    "version-not-raised": Planted("schedule", (), "table.c", _RAISE, ""),
    "reader-does-not-look-again": Planted(
        "schedule",
        (),
        "store.c",
        "return kv_load_after(&stripe_at(h, s)->ver) == seen;",
        "return seen != 1;",
    ),
    "page-cleaned-under-a-writer": Planted(
        "schedule",
        (),
        "clean.c",
        "if (arena_reserved(h, head, run, &owner))",
        "if (arena_reserved(h, head, run, &owner) && owner == 0)",
    ),
    "words-not-copied-again": Planted(
        "schedule",
        ("--scene", "moving"),
        "clean.c",
        "        copy_words_again(h, place.ref, item, &it);\n",
        "        if (place.ref == 0)\n            copy_words_again(h, place.ref, item, &it);\n",
    ),
    "moved-without-looking": Planted(
        "schedule",
        ("--scene", "moving"),
        "clean.c",
        "bool moved = table_find_ref(h, s, hash, ref, &slot) == KV_OK;",
        "bool moved = table_find_ref(h, s, hash, ref, &slot) == KV_OK || slot.bucket != NULL;",
    ),
    "no-recovery-of-the-directory": Planted(
        "schedule",
        ("--scene", "splitting"),
        "table.c",
        "kv_status r = recover_directory(h, s);",
        "kv_status r = h->g.dir_bits > 99 ? recover_directory(h, s) : KV_OK;",
    ),
    "counts-lowered-first": Planted(
        "schedule",
        ("--scene", "colliding"),
        "table.c",
        f"    {_REMOVE}; /* commit */\n    FAULT(ref_removed);\n{_AFTER}{_LOWER}",
        f"{_LOWER}    {_REMOVE};\n    FAULT(ref_removed);\n{_AFTER}",
    ),
    "living-owner-robbed": Planted(
        "schedule",
        (),
        "lock.c",
        "    if (own_number(h->own, number))\n        return true;\n",
        "    if (own_number(h->own, number))\n        return true;\n    if (number % 2 == 0)\n"
        "        return false;\n",
    ),
    "stripe-not-recounted": Planted(
        "step",
        ("--scene", "set-new"),
        "table.c",
        "    recover_counts(h, s);\n    return KV_OK;",
        "    return KV_OK;",
    ),
    "cleaning-page-not-folded": Planted(
        "step",
        ("--scene", "set-cleaning"),
        "fold.c",
        "else if (kv_page_owner(w) == number && state == KV_CLEANING)",
        "else if (kv_page_owner(w) == number && state == KV_CLEANING && run > 1)",
    ),
    "number-cleared-first": Planted(
        "restep",
        ("--seconds", "60"),
        "fold.c",
        "    if (h->own->rows != 0) /* before the first",
        "    kv_store_rel(&row->number, 0u);\n    if (h->own->rows != 0) /* before the first",
    ),
    "reservation-not-cleared": Planted(
        "abandon",
        (),
        "fold.c",
        "kv_store_rel(&row->reservation[i], 0u);",
        "if (i != 0)\n            kv_store_rel(&row->reservation[i], 0u);",
    ),
}


# ---- building -----------------------------------------------------------------------------------


class CannotBuild(Exception):
    """This machine has no compiler for it."""


def plant(fault: Planted, core: Path) -> None:
    """Change a copy of the core; the place must be there, once."""
    text = (core / fault.file).read_text()
    if text.count(fault.old) != 1:
        raise AssertionError(f"{fault.file} holds {text.count(fault.old)} times: {fault.old}")
    (core / fault.file).write_text(text.replace(fault.old, fault.new))


def build(name: str, folder: Path, core: Path = CORE, warnings: Sequence[str] = STRICT) -> Path:
    """Compile one harness into a folder."""
    program = PROGRAMS[name]
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CannotBuild("no C compiler")
    command = [compiler, *program.flags, "-g1", "-std=c11", "-D_GNU_SOURCE"]
    command += [f"-I{core}", f"-I{HERE}", *warnings]
    glue = {"module.c", *(path.name for path in core.glob("py_*.c"))}
    glue |= {f"{room}.c" for room in program.without}
    sources = [path for path in sorted(core.glob("*.c")) if path.name not in glue]
    sources += [HERE / f"{stem}.c" for stem in ("kv_test", "torture", *program.sources)]
    objects = folder / f"{name}-objects"
    objects.mkdir(parents=True, exist_ok=True)

    def compile_one(source: Path) -> str:
        made = str(objects / f"{source.stem}.o")
        subprocess.run([*command, "-c", str(source), "-o", made], check=True, timeout=240)
        return made

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(compile_one, sources))
    link = [compiler, *made, "-lpthread", "-lrt", "-ldl", "-o", str(folder / name)]
    subprocess.run(link, check=True, timeout=120)
    return folder / name


# ---- running ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How a harness ended."""

    status: int
    said: str  # beside its line of JSON: what went wrong, and how to repeat it
    line: dict[str, Any]  # its line of JSON; empty if there was none


def run(command: Sequence[str | Path], timeout_s: float | None) -> Outcome:
    """Run a harness; whatever segment it leaves is removed by its prefix."""
    prefix = f"x{os.getpid()}"
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, "SHMKV_TEST_PREFIX": prefix},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    finally:
        for left in Path("/dev/shm").glob(f"shmkv.{os.getuid()}.{prefix}-*"):
            left.unlink(missing_ok=True)
    lines = done.stdout.splitlines()
    line: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return Outcome(done.returncode, done.stderr, line)


def run_planted(name: str, folder: Path, seed: int = 1) -> Outcome:
    """Plant one fault into a copy of the core and run the harness that must find it."""
    fault = PLANTED[name]
    core = folder / name / "_csrc"
    shutil.copytree(CORE, core)
    plant(fault, core)
    made = build(fault.program, folder / name, core, ("-w",))
    return run([made, "--seed", str(seed), *fault.options], 300)


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    if not arguments or arguments[0] not in {*PROGRAMS, "planted"}:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as made:
        if arguments[0] != "planted":
            outcome = run([build(arguments[0], Path(made)), *arguments[1:]], None)
            sys.stderr.write(outcome.said)
            print(json.dumps(outcome.line))
            return outcome.status
        missed = 0
        for name in arguments[1:] or PLANTED:
            outcome = run_planted(name, Path(made))
            missed += outcome.status != 1
            print(json.dumps({"planted": name, "found": outcome.status == 1, **outcome.line}))
        return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
