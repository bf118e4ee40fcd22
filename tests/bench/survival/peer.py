"""What a store is to the storm: how it is set up, how a worker opens it, what it says afterwards.

Owns: `Ops`, the operations a worker asks for, and `Store`, one alternative. Promises nothing
about what a store does when a worker dies: that is what is measured.

Does not: open anything in the process that forks the workers, except what they must inherit.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.peers.peer import Alternative


def nothing() -> None:
    """What need not be done."""


@dataclass(frozen=True)
class Ops:
    """The operations of one process that has opened the store."""

    get: Callable[[str], object]  # None: there is nothing
    put: Callable[[str, bytes], object]
    delete: Callable[[str], bool]  # was it there?
    incr: Callable[[str], object] | None = None  # None: it has no atomic increment
    count: Callable[[str], int] | None = None
    unreadable: tuple[type[Exception], ...] = ()  # what a get raises that cannot decode a value
    cleared: int = 0  # what the dead had left and this process has cleared away
    look: Callable[[], list[str]] = list  # in the end, by the last process: what stands out


class Store(Alternative):
    """One alternative; subclasses say how."""

    def attach(self) -> Ops:
        """In a worker; the first that is asked makes the store."""
        raise NotImplementedError
