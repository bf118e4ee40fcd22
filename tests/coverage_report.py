"""Branch coverage out of gcov's numbers: merged over builds, shown by file, judged by reasons.

Owns: reading `gcov --json-format` for every .gcno of some folders; merging a source line's branches
over all objects and builds that contain it; the table `COVERAGE.md`, which gives a reason for each
line that has a branch no test takes.

Counted is what gcc 12 calls a branch at -O0: each outcome of each condition, `&&`, `||`, `?:` and
switch label apart. Left out: lines with `assert(`, for they are no behaviour; nothing else. C knows
no branches for exceptions. Counts are sums over builds and processes, and only "never" or "taken"
is used of them.

Does not: build or run anything but gcov.
"""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

GLUE = re.compile(r"(?:py_\w+|module)\.[ch]$")
ASSERT = re.compile(r"\bassert\(")
ROW = re.compile(r"^\| `?([\w*]+\.[ch*])`? \| `(.+?)` \| (.+?) \|$", re.M)


@dataclass
class Source:
    """One source file: per line, how often each of its branches was taken."""

    branches: dict[int, list[int]] = field(default_factory=dict)
    runs: dict[int, int] = field(default_factory=dict)

    def add(self, line: int, runs: int, taken: list[int]) -> None:
        """Numbers of one object; an object may know fewer branches of a line than another."""
        self.runs[line] = self.runs.get(line, 0) + runs
        old = self.branches.get(line, [])
        width = max(len(old), len(taken))
        pad = [*old, *[0] * (width - len(old))], [*taken, *[0] * (width - len(taken))]
        self.branches[line] = [a + b for a, b in zip(*pad, strict=True)]


class Missing(NamedTuple):
    """A line with branches that were never taken; `+` and `-` say which."""

    file: str
    line: int
    marks: str
    code: str


class Reason(NamedTuple):
    """A row of COVERAGE.md; `file` may be a pattern, `code` is a part of a line."""

    file: str
    code: str
    why: str


class Table(NamedTuple):
    """Branches of a file, or of many."""

    lines: int
    lines_run: int
    branches: int
    taken: int

    @property
    def percent(self) -> float:
        """Of the branches."""
        return 100.0 * self.taken / self.branches if self.branches else 100.0


def read(folders: Iterable[Path], sources: str) -> dict[str, Source]:
    """By file name: all sources in a folder of this name that any object there counts."""
    found: dict[str, Source] = defaultdict(Source)
    for folder in folders:
        for notes in sorted(folder.rglob("*.gcno")):
            for one in _gcov(notes):
                path = Path(one["file"])
                if path.parent.name == sources:
                    for line in one["lines"]:
                        taken = [branch["count"] for branch in line["branches"]]
                        found[path.name].add(line["line_number"], line["count"], taken)
    return dict(found)


def _gcov(notes: Path) -> Iterator[dict[str, Any]]:
    command = ["gcov", "--branch-probabilities", "--json-format", "--stdout"]
    command += ["--object-directory", str(notes.parent), str(notes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    for text in done.stdout.splitlines():
        yield from json.loads(text)["files"]


class Coverage:
    """What was taken, and the sources to show it with."""

    def __init__(self, found: dict[str, Source], folder: Path) -> None:
        self.folder = folder
        self._found = {name: one for name, one in found.items() if (folder / name).exists()}
        self._text = {name: (folder / name).read_text().splitlines() for name in self._found}

    def code(self, file: str, line: int) -> str:
        """A source line without its indent."""
        return self._text[file][line - 1].strip()

    def files(self, glue: bool) -> list[str]:
        """Of the glue, or of the core."""
        return sorted(name for name in self._found if bool(GLUE.match(name)) == glue)

    def _counted(self, file: str) -> Iterator[tuple[int, list[int]]]:
        for line, taken in sorted(self._found[file].branches.items()):
            if not ASSERT.search(self.code(file, line)):
                yield line, taken

    def table(self, *files: str) -> Table:
        """Sums over files."""
        runs = [n for file in files for n in self._found[file].runs.values()]
        taken = [n for file in files for _, counts in self._counted(file) for n in counts]
        return Table(len(runs), sum(n > 0 for n in runs), len(taken), sum(n > 0 for n in taken))

    def missing(self, *files: str) -> list[Missing]:
        """Lines with a branch that was never taken."""
        return [
            Missing(file, line, "".join("-+"[n > 0] for n in counts), self.code(file, line))
            for file in files
            for line, counts in self._counted(file)
            if 0 in counts
        ]


def reasons(text: str) -> list[Reason]:
    """The rows `| file | code | reason |` of COVERAGE.md; `\\|` in code stands for a bar."""
    return [Reason(file, code.replace("\\|", "|"), why) for file, code, why in ROW.findall(text)]


def _speaks_of(reason: Reason, gap: Missing) -> bool:
    return fnmatch.fnmatchcase(gap.file, reason.file) and reason.code in gap.code


def unexplained(missing: list[Missing], given: list[Reason]) -> list[Missing]:
    """Those whose line no row of their file contains."""
    return [gap for gap in missing if not any(_speaks_of(reason, gap) for reason in given)]


def unused(missing: list[Missing], given: list[Reason]) -> list[Reason]:
    """Rows that no missing branch needs: tests have reached it."""
    return [reason for reason in given if not any(_speaks_of(reason, gap) for gap in missing)]


def outdated(given: list[Reason], folder: Path) -> list[Reason]:
    """Rows whose code stands nowhere in their files."""
    return [r for r in given if not any(r.code in f.read_text() for f in folder.glob(r.file))]


def show(coverage: Coverage, glue: bool) -> Iterator[str]:
    """The table, line by line."""
    files = coverage.files(glue)
    for file in files:
        one = coverage.table(file)
        if one.branches:
            yield _line(file, one)
    yield _line("glue" if glue else "core", coverage.table(*files))


def _line(name: str, t: Table) -> str:
    part = f"{t.lines_run:5}/{t.lines:<5}lines  {t.taken:5}/{t.branches:<5}branches"
    return f"{name:16}{part} {t.percent:6.1f} %"
