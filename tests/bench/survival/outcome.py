"""What a storm over one store brought: counts that add up over several lives of that store.

Owns: `Outcome` and the words for what is wrong. A store lives until it stops for good or the time
is over; then it may be made anew, and its next life is counted on top. Does not: measure.
"""

from collections import Counter
from dataclasses import dataclass, field

from tests.bench.survival.values import LOST, STALE, TORN

# The parts of a life: without kills, under kills, without kills again, judged by one process.
CALM, STORM, AFTER, LAST = "calm", "storm", "after", "last look"
HANG, BROKEN = "hang", "broken"


@dataclass
class Outcome:
    """One row."""

    name: str
    options: str
    version: str
    planned: int  # kills inside an operation
    kills: int = 0
    inside: int = 0  # of these: inside an operation
    operations: int = 0
    stops: list[tuple[str, int, str]] = field(default_factory=list)  # what, after kills, where
    lives: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # by part
    wrong: Counter[tuple[str, int]] = field(default_factory=Counter)  # by part and kind
    increments: Counter[str] = field(default_factory=Counter)  # "lost", "too many"
    told: dict[str, Counter[str]] = field(default_factory=dict)  # messages, by part
    crashes: Counter[str] = field(default_factory=Counter)  # workers that ended by themselves
    cleared: int = 0
    worst_ms: float = 0.0  # the longest operation that came back
    control_ms: float = 0.0  # the longest time the machine kept a process from its processors
    notes: list[str] = field(default_factory=list)  # of the last life
    failed: str = ""  # why there is no more

    def count(self, kind: int, *parts: str) -> int:
        """How often something of that kind was found wrong in these parts."""
        return sum(self.wrong[part, kind] for part in parts)

    @property
    def first_stop(self) -> int | None:
        """Kills before the store first stopped for good."""
        return self.stops[0][1] if self.stops else None

    @property
    def calm_wrong(self) -> str:
        """What went wrong before anybody was killed, in words; empty: nothing."""
        words = {TORN: "torn", LOST: "lost", STALE: "stale reads"}
        found = [f"{n} {words[kind]}" for kind in words if (n := self.count(kind, CALM))]
        if self.errors[CALM]:
            found.append(f"errors: {self.errors[CALM]}")
        return ", ".join(found)

    @property
    def sound(self) -> bool:
        """Nothing at all went wrong, and there were kills."""
        wrong = self.stops or self.crashes or +self.errors or +self.wrong or +self.increments
        return not (wrong or self.failed) and self.kills > 0
