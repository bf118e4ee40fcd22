"""The rounds: every peer has its turn in each, every round begins with another peer.

Owns: which turns there are, their order, what becomes of a peer that fails, and the deadline.
Promises: a peer that crashes, hangs or answers wrongly is written down and the others go on; after
two failures it is left out. The first round is always done; another is begun only if it fits
before the deadline.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.bench.peers.peer import Peer, started
from tests.bench.peers.team import Failed
from tests.bench.peers.work import Draws, Plan, make_draws

Say = Callable[[str], None]
PATIENCE = 2  # failures of a peer


@dataclass(frozen=True)
class Scope:
    """What is asked for."""

    keys: int
    sizes: tuple[int, ...]
    processes: tuple[int, ...]
    rounds: int
    plan: Plan
    deadline: float  # monotonic


@dataclass(frozen=True)
class Measured:
    """One mix of one turn."""

    peer: str
    value_bytes: int
    processes: int
    round: int
    figures: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Flat, for a file."""
        flat = asdict(self)
        return {**flat, **flat.pop("figures")}


@dataclass
class Record:
    """Everything that came out: figures, failures, and how many rounds there were."""

    measured: list[Measured] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    rounds: dict[int, int] = field(default_factory=dict)  # value size -> rounds done

    def fail(self, peer: Peer, where: str, error: Exception) -> None:
        """Write down what happened."""
        what = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        self.failures.append(f"{peer.name}, {where}: {what}")


class Rounds:
    """The turns of one value size."""

    def __init__(self, peers: Sequence[Peer], scope: Scope, record: Record, say: Say) -> None:
        self._alive, self._scope, self._record, self._say = list(peers), scope, record, say
        self._failed = Counter[str]()

    def run(self, size: int) -> None:
        """All rounds."""
        draws = make_draws(max(self._scope.processes), self._scope.keys)
        longest, number = 0.0, 0
        with ExitStack() as stack:
            for peer in list(self._alive):
                self._start(stack, peer, size)
            while number < self._scope.rounds and self._alive:
                began = time.monotonic()
                if number and began + longest > self._scope.deadline:
                    self._say(f"{size} B: no time for more than {number} rounds")
                    break
                for peer, processes in self._turns(number):
                    if peer in self._alive:
                        self._turn(peer, size, number, draws[:processes])
                number += 1
                longest = max(longest, time.monotonic() - began)
                self._say(f"{size} B: round {number} took {time.monotonic() - began:.0f} s")
        self._record.rounds[size] = number

    def _start(self, stack: ExitStack, peer: Peer, size: int) -> None:
        """Bring a peer up and fill it; it stays up for all rounds."""
        try:
            with ExitStack() as mine:
                mine.enter_context(started(peer, self._scope.keys, size))
                peer.prepare()
                stack.push(mine.pop_all())
        except Exception as error:  # noqa: BLE001 (whatever a peer does, it is written down)
            self._record.fail(peer, f"{size} B, start", error)
            self._alive.remove(peer)

    def _turns(self, number: int) -> Iterator[tuple[Peer, int]]:
        """Peers in this round's order, for each count of processes."""
        for place, processes in enumerate(self._scope.processes):
            first = (5 * number + 3 * place) % max(1, len(self._alive))
            for peer in self._alive[first:] + self._alive[:first]:
                yield peer, processes

    def _turn(self, peer: Peer, size: int, number: int, draws: Sequence[Draws]) -> None:
        """One peer, one count of processes, all mixes."""
        try:
            found = peer.turn(self._scope.plan, draws)
        except Exception as error:  # noqa: BLE001 (whatever a peer does, it is written down)
            self._record.fail(peer, f"{size} B, {len(draws)} processes, round {number + 1}", error)
            self._say(self._record.failures[-1])
            self._failed[peer.name] += 1
            if self._failed[peer.name] >= PATIENCE:
                with suppress(ValueError):
                    self._alive.remove(peer)
            return
        for figures in found:
            self._record.measured.append(Measured(peer.name, size, len(draws), number, figures))


def measure(peers: Sequence[Peer], scope: Scope, say: Say) -> Record:
    """All value sizes, one after the other."""
    record = Record()
    for size in scope.sizes:
        Rounds(peers, scope, record, say).run(size)
    return record
