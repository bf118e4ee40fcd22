"""Two things at once: one fills buffers, threads beside it take them on and give them back.

Owns: `Belt`, a few buffers that go round between who fills them and the threads that empty them.

Promises: no more memory than its buffers. What a thread raises is raised to who fills, at the next
`take` or at the end; buffers that were filled in between are left alone. When the `with` block ends
no thread is at work any more, whatever happened. With one thread what was put first is done first.
Where no thread can be started (the interpreter is ending, a limit) the work is done at `put`.

Does not: pay where the steps hold the GIL; reading, writing, summing and the core's work do not.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from shmkv.thread import Thread

T = TypeVar("T")
BUFFERS = 4  # that go round, however many threads


class Belt(Generic[T]):
    """Buffers on their way to `step(buffer, thing)`, which `threads` threads call."""

    def __init__(self, step: Callable[[bytearray, T], None], size: int, threads: int = 1) -> None:
        self._step = step
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[bytearray, T] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._threads: list[Thread] = []
        for _ in range(BUFFERS):
            self._free.put(bytearray(size))
        for _ in range(threads):
            thread = Thread(self._run)
            if not thread.start():
                break
            self._threads.append(thread)

    def take(self) -> bytearray:
        """A buffer to fill. Raises what a step has raised."""
        buffer = self._free.get()
        if self._error is not None:
            self._free.put(buffer)
            raise self._error
        return buffer

    def put(self, buffer: bytearray, thing: T) -> None:
        """It is full: the next step is about it."""
        if self._threads:
            self._full.put((buffer, thing))
        else:
            self._do(buffer, thing)

    def give(self, buffer: bytearray) -> None:
        """It was not wanted after all."""
        self._free.put(buffer)

    def rest(self) -> None:
        """Wait until every step is done. Raises what a step has raised."""
        held = [self._free.get() for _ in range(BUFFERS)]
        for buffer in held:
            self._free.put(buffer)
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Belt[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._error is None:
            self._error = error  # what is on its way is left alone
        for _ in self._threads:
            self._full.put(None)
        while not all(thread.ended.is_set() for thread in self._threads):
            try:
                for thread in self._threads:
                    thread.ended.wait()
            except BaseException as impatient:  # noqa: BLE001 - a signal; first they must be gone
                self._error = self._error or impatient
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._full.get()) is not None:
            self._do(*item)

    def _do(self, buffer: bytearray, thing: T) -> None:
        try:
            if self._error is None:
                self._step(buffer, thing)
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was given
            self._error = self._error or error
        finally:
            self._free.put(buffer)
