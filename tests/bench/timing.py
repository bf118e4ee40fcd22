"""How time is taken: loops interleaved in rounds, CPU time and wall clock, the best quartile.

Owns the fairness of the comparison inside one process. `race` gives every loop one turn in each
round, in an order that changes from round to round, so that a disturbance hits all of them alike.
A turn is two slices of the common sequence of keys: one that does not count, so that the caches
hold what this loop uses and not what the loop before it used, then one that does. In a round each
loop has other slices, so that none finds the key objects warmed by the one before; over all rounds
each loop has seen every slice equally often. Does not know what the loops do.

A disturbed round is only ever slower, so a cost is the 25th percentile over the rounds. CPU time is
what a ratio is judged by: a neighbour on the machine changes it little. The wall clock stands
beside it, so that time spent asleep cannot hide.
"""

import gc
import statistics
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Loop = Callable[[Sequence[Any]], None]  # does one operation (or batch) per element
AnyLoop = TypeVar("AnyLoop", bound=Callable[..., Any])


@dataclass(frozen=True)
class Cost:
    """Nanoseconds per operation, best quartile, by either clock."""

    cpu: float
    wall: float

    def over(self, other: "Cost") -> "Cost":
        """This cost in multiples of another, clock by clock."""
        return Cost(self.cpu / other.cpu, self.wall / other.wall)

    def minus(self, other: "Cost") -> "Cost":
        """The difference, clock by clock."""
        return Cost(self.cpu - other.cpu, self.wall - other.wall)


def best_quartile(costs: Sequence[float]) -> float:
    """The cost that a quarter of the rounds stayed below."""
    return statistics.quantiles(costs, n=4, method="inclusive")[0] if len(costs) > 1 else costs[0]


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection while the block runs."""
    was_on = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def orders(parent: Connection) -> Iterator[Any]:
    """What the parent sends, until it sends None or is gone."""
    while True:
        try:
            order = parent.recv()
        except EOFError:
            return
        if order is None:
            return
        yield order


def own_code(loop: AnyLoop) -> AnyLoop:
    """The same function with a code object of its own.

    Since 3.11 the interpreter specializes each call in the bytecode for what it calls. Closures
    made by one `def` share that bytecode: the loop over a dict and the loop over a store would
    undo each other's specialization.
    """
    assert isinstance(loop, types.FunctionType)
    copy = types.FunctionType(
        loop.__code__.replace(),
        loop.__globals__,
        loop.__name__,
        loop.__defaults__,
        loop.__closure__,
    )
    return copy  # type: ignore[return-value]


def slices_of(sequence: Sequence[Any], length: int) -> list[Sequence[Any]]:
    """The sequence cut into slices of equal length; a rest is left out."""
    return [sequence[i : i + length] for i in range(0, len(sequence) - length + 1, length)]


def race(
    loops: Mapping[str, Loop],
    slices: Sequence[Sequence[Any]],
    *,
    rounds: int,
    per_element: int = 1,
) -> dict[str, Cost]:
    """Run all loops in turn, round by round; `per_element` operations are done per element."""
    names = list(loops)
    loops = {name: own_code(loops[name]) for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    wall: dict[str, list[float]] = {name: [] for name in names}
    with collector_off():
        for number in range(rounds):
            first = number % len(names)
            for place, name in enumerate(names[first:] + names[:first]):
                at = number + 2 * place
                warm, part = slices[at % len(slices)], slices[(at + 1) % len(slices)]
                done = len(part) * per_element
                loop = loops[name]
                loop(warm)
                cpu_from, wall_from = time.process_time_ns(), time.perf_counter_ns()
                loop(part)
                wall_to, cpu_to = time.perf_counter_ns(), time.process_time_ns()
                cpu[name].append((cpu_to - cpu_from) / done)
                wall[name].append((wall_to - wall_from) / done)
    return {name: Cost(best_quartile(cpu[name]), best_quartile(wall[name])) for name in names}
