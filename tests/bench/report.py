"""What is printed and written: costs, figures, their bars, and whether a bar is reached.

A *figure* is a number with a bar beside it: a ratio, a difference in nanoseconds, or a rate. The
CPU time judges where there is one; the wall clock stands beside it. The bars are those of the
design's table of speeds.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.bench.timing import Cost


@dataclass(frozen=True)
class Bar:
    """A limit: at most, or at least."""

    sense: Literal["<=", ">="]
    limit: float

    def reached(self, value: float) -> bool:
        """Does the value keep the limit?"""
        return value <= self.limit if self.sense == "<=" else value >= self.limit

    def verdict(self, value: float) -> str:
        """`reached`, or by how much of the limit it was missed."""
        if self.reached(value):
            return "reached"
        return f"missed by {abs(value - self.limit) / abs(self.limit):.0%}"


def at_most(limit: float) -> Bar:
    """The bar of a figure that should be small."""
    return Bar("<=", limit)


def at_least(limit: float) -> Bar:
    """The bar of a figure that should be large."""
    return Bar(">=", limit)


@dataclass(frozen=True)
class Figure:
    """A number that means something on any machine, and its bar, if it has one."""

    name: str
    value: float
    wall: float | None = None
    bar: Bar | None = None
    unit: str = "x"

    @classmethod
    def of(cls, name: str, cost: Cost, bar: Bar | None = None, unit: str = "x") -> "Figure":
        """A figure with both clocks."""
        return cls(name, cost.cpu, cost.wall, bar, unit)

    def line(self) -> str:
        """One row of a table."""
        wall = "" if self.wall is None else f"{self.wall:10.2f}"
        bar = "" if self.bar is None else f"{self.bar.sense} {self.bar.limit:g}"
        verdict = "" if self.bar is None else self.bar.verdict(self.value)
        figure = f"  {self.name:<44}{self.value:10.2f}{wall:>10} {self.unit:<8}"
        return f"{figure}{bar:<9}{verdict}".rstrip()


@dataclass
class Table:
    """One section: costs in nanoseconds (or other raw numbers), then figures."""

    title: str
    costs: dict[str, Cost] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The section as it is printed."""
        lines = [self.title]
        if self.costs:
            lines.append(f"  {'ns per operation':<44}{'CPU':>10}{'wall':>10}")
        for name, cost in self.costs.items():
            lines.append(f"  {name:<44}{cost.cpu:10.1f}{cost.wall:10.1f}")
        lines += [figure.line() for figure in self.figures]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The section for a file."""
        figures = []
        for figure in self.figures:
            entry = asdict(figure)
            if figure.bar is not None:
                entry["reached"] = figure.bar.reached(figure.value)
            figures.append(entry)
        costs = {name: asdict(cost) for name, cost in self.costs.items()}
        return {"title": self.title, "costs_ns": costs, "figures": figures, "notes": self.notes}


def summary(tables: Sequence[Table]) -> str:
    """How many bars were reached, and which were not."""
    judged = [f for table in tables for f in table.figures if f.bar is not None]
    missed = [f for f in judged if f.bar is not None and not f.bar.reached(f.value)]
    lines = [f"bars reached: {len(judged) - len(missed)} of {len(judged)}"]
    for figure in missed:
        assert figure.bar is not None
        lines.append(f"  {figure.name}: {figure.bar.verdict(figure.value)}")
    return "\n".join(lines)


def write_json(path: Path, about: dict[str, Any], tables: Sequence[Table]) -> None:
    """Everything that was printed, as one object."""
    data = {"about": about, "tables": [table.as_dict() for table in tables]}
    path.write_text(json.dumps(data, indent=2) + "\n")
