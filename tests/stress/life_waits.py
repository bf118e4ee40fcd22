"""The scene `waits` of life.py: a handler that returns does not disturb the wait it interrupts.

`python -m tests.stress.life_waits waits STORE N SEED` runs on the build with fault points (`make
build`). A process is stopped while it holds a stripe; an operation waits for it; a timer's handler
is called in the middle of the wait, uses the store, and returns; at its third call it lets the
holder go on. The operation must do then what it was asked to, as if nothing had happened.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.crash import faultbuild

if __name__ == "__main__":
    faultbuild.load()

import shmkv
from tests.stress.life import Outcome, play
from tests.stress.life_scenes import WAIT_S
from tests.stress.signal_scenes import _holding
from tests.stress.support import brood, until

KEY = "held"
CALLS = 3
Wait = Callable[[shmkv.Store], object]


def _swap(store: shmkv.Store) -> object:
    return store.cas(KEY, 5, token=store.gets(KEY)[1])


# What is asked, what it answers, and what the key holds then; the holder adds 1 to 100 meanwhile.
WAITS: tuple[tuple[Wait, object, object], ...] = (
    (lambda s: s.set(KEY, 5), None, 5),
    (lambda s: s.__setitem__(KEY, 5), None, 5),
    (lambda s: s.__delitem__(KEY), None, None),
    (lambda s: s.incr(KEY, 5), 106, 106),
    (lambda s: s.delete(KEY), True, None),
    (lambda s: s.pop(KEY), 101, None),
    (lambda s: s.replace(KEY, 5), True, 5),
    (lambda s: s.touch(KEY, 1000), True, 101),
    (lambda s: s.expire_at(KEY, time.time() + 1000), True, 101),
    (lambda s: s.rename(KEY, "elsewhere"), None, None),
    (lambda s: s.set_many({KEY: 5}), None, 5),
    (lambda s: s.delete_many([KEY]), 1, None),
    (lambda s: s.clear(), None, None),
    (lambda s: s.check().problems, (), 101),
    (lambda s: s.update_with(KEY, lambda v: v + 1), 102, 102),
)


def _one(store: shmkv.Store, wait: Wait, answer: object, left: object) -> list[str]:
    """One operation; its handler is called `CALLS` times in the middle."""
    store.clear()
    store.set(KEY, 99)  # `_holding` adds 1 before its child does
    wrong: list[str] = []
    with brood() as make:
        holder = _holding(store, make, KEY)
        before: Any = store.get(KEY)
        calls = 0

        def called(number: int, frame: object) -> None:
            nonlocal calls
            calls += 1
            store.get(KEY)
            if calls == CALLS:
                signal.setitimer(signal.ITIMER_REAL, 0)
                holder.send(signal.SIGCONT)

        old = signal.signal(signal.SIGALRM, called)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        try:
            found = wait(store)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        holder.good(WAIT_S)
        if calls < CALLS:  # one more may have been on its way when the timer was stopped
            wrong.append(f"{calls} calls")
    moved = before - 100  # the holder may have been stopped before or after its one store
    for seen, wanted, what in ((found, answer, "answers"), (store.get(KEY), left, "leaves")):
        may = {wanted, wanted + moved} if type(wanted) is int else {wanted}
        if seen not in may:
            wrong.append(f"{what} {seen!r}, not {wanted!r}; the holder saw {before}")
    return wrong


def waits(store: shmkv.Store, n: int, start_seed: int) -> Outcome:
    """Every operation that waits, again and again."""
    wrong: list[str] = []
    worst = 0.0
    for turn in range(n):
        wait, answer, left = WAITS[turn % len(WAITS)]
        started = time.monotonic()
        wrong += [f"wait {turn % len(WAITS)}: {text}" for text in _one(store, wait, answer, left)]
        worst = max(worst, time.monotonic() - started)
    until(lambda: store.stats().attached == 1, "all have left", WAIT_S)
    return Outcome(n, wrong, worst * 1000)


def main() -> None:
    """Run the scene."""
    sys.setswitchinterval(1e-4)
    play("waits", waits)


if __name__ == "__main__":
    main()
