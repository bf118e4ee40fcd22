"""The rules of the house, enforced: whoever breaks one reads here which, where, and what to do.

Owns: the direction of imports and includes, lengths, opening essays, who may know Python.h, fault
points, forbidden words, and the examples.

Promises: every source file of the checkout is looked at, also one that is new and not yet added. A
C room or a Python module that the order does not know is a failure, not an exception.

Does not: format or lint; ruff and the compiler do.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import faultbuild

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "shmkv" / "_csrc"
SKIPPED = {"build", "dist", "__pycache__"}  # and whatever starts with a dot or is an egg-info
TEXT = {".py", ".pyi", ".c", ".h", ".md", ".toml", ".txt", ".sh", ""}
LINE = 100
C_FUNCTION, C_FILE = 60, 600
PY_FUNCTION, PY_FILE = 50, 400
EXAMPLE_FILE, EXAMPLE_SECONDS = 80, 60

# What may be imported: only what stands in an earlier line. Siblings do not know each other.
PYTHON_ORDER = [
    {"errors", "types", "log", "thread"},
    {"config"},
    {"_core"},
    {"codec", "forms", "removal"},
    {"filling"},
    {"refusals"},
    {"packed", "segment"},
    {"persist"},
    {"launch"},
    {"store", "aio"},
    {"structures", "recipes", "inspect"},
    {"history"},
    {"daemon", "leftovers", "metrics", "replay", "resp", "top"},
    {"report"},
    {"cli", "contrib", "testing"},
    {"__main__"},
]
# `errors` is the table that `types` may name; nothing else is shared within a line.
PYTHON_SIBLINGS = {("types", "errors")}
C_LEAVES = {"status", "atomic", "clock", "hash", "fault", "packed"}
C_ORDER = ["layout", "wait", "lock", "segment", "ghost", "arena", "table"]
C_ORDER += [
    "image",
    "journal",
    "fold",
    "clean",
    "victim",
    "window",
    "evict",
    "work",
    "store",
    "check",
    "py",
    "module",
]


# ---- files --------------------------------------------------------------------------------------


def walk(folder: Path = ROOT) -> Iterator[Path]:
    """Every file of the checkout that a person wrote."""
    for entry in sorted(folder.iterdir()):
        hidden = entry.name.startswith(".") and entry.name != ".ci"
        if hidden or entry.name in SKIPPED or entry.name.endswith(".egg-info"):
            continue
        if entry.is_dir():
            yield from walk(entry)
        elif entry.suffix in TEXT:
            yield entry


FILES = list(walk())
PYTHON = [file for file in FILES if file.suffix == ".py"]
C = [file for file in FILES if file.suffix in {".c", ".h"}]


def name(file: Path) -> str:
    """As a person would call it."""
    return str(file.relative_to(ROOT))


def lines(file: Path) -> list[str]:
    """A file's lines."""
    return file.read_text().splitlines()


def told(wrong: list[str]) -> str:
    """All of it, one a line."""
    return "\n".join(["", *wrong])


def test_the_checkout_is_seen() -> None:
    assert {"setup.py", "shmkv/store.py", "tests/test_tidy.py"} <= {name(file) for file in PYTHON}
    assert {"shmkv/_csrc/layout.h", "shmkv/_csrc/store.c"} <= {name(file) for file in C}


# ---- direction ----------------------------------------------------------------------------------


def imported_rooms(file: Path) -> set[str]:
    """The modules and rooms of the package that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(file)}:{node.lineno}: a relative import"
            module = node.module or ""
            names = {f"shmkv.{alias.name}" for alias in node.names}
            found |= names if module == "shmkv" else {module}
    return {found_name.split(".")[1] for found_name in found if found_name.startswith("shmkv.")}


def python_rank(room: str) -> int:
    """The line of the order a room stands in."""
    ranks = [i for i, rooms in enumerate(PYTHON_ORDER) if room in rooms]
    assert ranks, f"shmkv/{room}: give it a place in the order of imports"
    return ranks[0]


def test_python_imports_go_one_way() -> None:
    wrong = []
    for file in PYTHON:
        parts = file.relative_to(ROOT).parts
        if parts[0] != "shmkv" or parts == ("shmkv", "__init__.py"):
            continue
        room = parts[1].removesuffix(".py")
        for other in imported_rooms(file) - {room}:
            earlier = python_rank(other) < python_rank(room)
            if not earlier and (room, other) not in PYTHON_SIBLINGS:
                wrong.append(f"{name(file)} imports shmkv.{other}")
    assert not wrong, told(wrong)


def test_the_decoder_shares_no_code_with_the_core() -> None:
    for file in (ROOT / "shmkv" / "inspect").glob("*.py"):
        if file.name in {"layout.py", "geometry.py", "parts.py", "decode.py", "problems.py"}:
            assert imported_rooms(file) <= {"inspect", "errors"}, name(file)


def c_room(stem: str) -> str:
    """The room of a C file: `store_write` belongs to `store`, `py_value` to `py`."""
    first = stem.split("_")[0]
    assert first in C_LEAVES or first in C_ORDER, f"{stem}: give it a place in the order of C rooms"
    return first


def may_include(room: str, other: str) -> bool:
    """Leaves are for all; the rest only looks down."""
    if other in C_LEAVES or room == other:
        return True
    return room not in C_LEAVES and C_ORDER.index(other) < C_ORDER.index(room)


def test_c_includes_go_one_way() -> None:
    wrong = []
    for file in CSRC.iterdir():
        if file.suffix not in {".c", ".h"}:
            continue
        for other in re.findall(r'^#include "(\w+)\.h"', file.read_text(), re.M):
            if not may_include(c_room(file.stem), c_room(other)):
                wrong.append(f"{name(file)} includes {other}.h")
    assert not wrong, told(wrong)


def test_only_the_glue_knows_python() -> None:
    for file in C:
        if "Python.h" in file.read_text() and not re.match(r"(py_\w+|module)\.[ch]$", file.name):
            pytest.fail(f"{name(file)} knows Python.h: Python objects belong to py_*")


# ---- lengths ------------------------------------------------------------------------------------


def test_lines_are_short() -> None:
    wrong = [
        f"{name(file)}:{i}: {len(line)}"
        for file in PYTHON + C
        for i, line in enumerate(lines(file), 1)
        if len(line) > LINE
    ]
    assert not wrong, told(wrong)


@pytest.mark.parametrize(("files", "most"), [(PYTHON, PY_FILE), (C, C_FILE)], ids=["py", "c"])
def test_files_are_short(files: list[Path], most: int) -> None:
    wrong = [f"{name(file)}: {len(lines(file))}" for file in files if len(lines(file)) > most]
    assert not wrong, told(wrong)


def prose(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the docstring: they are for readers, and as many as readers need."""
    if ast.get_docstring(node) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def test_python_functions_are_short() -> None:
    wrong = []
    for file in PYTHON:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1 - prose(node)
                if length > PY_FUNCTION:
                    wrong.append(f"{name(file)}:{node.lineno} {node.name}: {length}")
    assert not wrong, told(wrong)


C_DEFINITION = re.compile(r"^[A-Za-z_][^;{}=#]*?\b(\w+)\([^;{}]*\)\s*\{\n.*?^\}", re.M | re.S)


def c_functions(text: str) -> Iterator[tuple[str, int, int]]:
    """Name, first line and length of each function; it begins and ends in the first column."""
    for found in C_DEFINITION.finditer(text):
        if not re.match(r"(?:struct|enum|union|typedef) \w* ?\{", found[0]):
            yield found[1], text.count("\n", 0, found.start()) + 1, found[0].count("\n") + 1


def test_c_functions_are_measured() -> None:
    body = "    step();\n" * 70
    text = f"int x;\n\nstatic int long_one(int a,\n  int b) {{\n{body}}}\nvoid f(void) {{\n}}\n"
    assert list(c_functions(text)) == [("long_one", 3, 73), ("f", 76, 2)]


def test_c_functions_are_short() -> None:
    wrong, seen = [], 0
    for file in C:
        for function, line, length in c_functions(file.read_text()):
            seen += 1
            if length > C_FUNCTION:
                wrong.append(f"{name(file)}:{line} {function}: {length}")
    assert seen > 200
    assert not wrong, told(wrong)


# ---- words --------------------------------------------------------------------------------------


def is_essay(text: str) -> bool:
    """At least a sentence."""
    return len(text.split()) >= 6 and bool(re.search(r"[.:?)](?:\s|$)", text))


def test_python_files_open_with_an_essay() -> None:
    wrong = [
        name(file)
        for file in PYTHON
        if not is_essay(ast.get_docstring(ast.parse(file.read_text())) or "")
    ]
    assert not wrong, told(wrong)


def test_c_files_open_with_an_essay() -> None:
    wrong = []
    for file in C:
        essay, end, _ = file.read_text().partition("*/")
        named = f"/* {file.name}: " if file.parent == CSRC else "/*"
        if not (end and essay.startswith(named) and is_essay(essay)):
            wrong.append(name(file))
    assert not wrong, told(wrong)


FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.])/(?:wo" + r"rk|home/\w+|root|tmp/\w+/venv)/",
    "work left undone": r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_forbidden_is_said(what: str) -> None:
    wrong = [
        f"{name(file)}:{i}: {line.strip()}"
        for file in FILES
        for i, line in enumerate(lines(file), 1)
        if re.search(FORBIDDEN[what], line)
    ]
    assert not wrong, told(wrong)


# ---- fault points -------------------------------------------------------------------------------


def fault_points() -> dict[str, set[str]]:
    """The name of each FAULT(name) and the files it stands in."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in CSRC.iterdir():
        if file.suffix in {".c", ".h"} and file.stem != "fault":
            code = re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.S)
            for point in re.findall(r"\bFAULT\(\s*(\w+)\s*\)", code):
                found[point].add(file.name)
    return dict(found)


def test_fault_points_have_names_of_their_own() -> None:
    """A name may stand twice in one file, for the same step on two ways; never in two files."""
    points = fault_points()
    assert len(points) > 50
    assert {point: files for point, files in points.items() if len(files) > 1} == {}


def test_the_crash_matrix_asks_for_every_fault_point() -> None:
    assert faultbuild.names_in_sources() == set(fault_points())


# ---- examples -----------------------------------------------------------------------------------

EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
APPLICATIONS = sorted(entry for entry in (ROOT / "examples").iterdir() if entry.is_dir())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.name)
def test_examples_are_short_and_run(example: Path) -> None:
    assert len(lines(example)) < EXAMPLE_FILE
    done = subprocess.run(
        [sys.executable, str(example)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=EXAMPLE_SECONDS,
    )
    assert done.returncode == 0, done.stdout


def test_applications_are_tested() -> None:
    """A folder of examples is an application: some test imports it."""
    tests = [file.read_text() for file in PYTHON if file.name.startswith("test_")]
    for folder in APPLICATIONS:
        if any(folder.glob("*.py")):
            dotted = f"examples.{folder.name}"
            assert any(re.search(rf"^\s*(?:from|import) {dotted}\b", t, re.M) for t in tests), (
                dotted
            )


def test_examples_are_numbered_or_applications() -> None:
    others = [
        entry.name
        for entry in (ROOT / "examples").iterdir()
        if entry.suffix == ".py" and entry not in EXAMPLES
    ]
    assert not others, others
