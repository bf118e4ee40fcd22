"""The first and the last process of a store's life: one fills it, one looks at every key.

Owns: the first value of every key; the last judgement of keys and counters; what the store itself
says in the end. Both are bounded in time, since a store may hang for them as for anybody.
"""

import json
import os

from tests.bench.survival.outcome import LAST, Outcome
from tests.bench.survival.peer import Ops, Store
from tests.bench.survival.values import COUNTERS, OWN, SLOTS, Table, counter_name
from tests.bench.survival.worker import Worker, quiet
from tests.stress.support import Child

LOOK_S = 20.0


def prepare(store: Store, table: Table, pipe: int) -> None:
    """Make the store and give every key its first value."""

    def body() -> None:
        quiet()
        ops = store.attach()
        for slot in range(SLOTS):
            worker = Worker(lambda: ops, table, slot, pipe)
            assert worker.open()
            for i in range(OWN):
                worker.put(i)
                assert table.desks[slot].acked[i] == 1, "the first value was refused"

    child = Child(body)
    try:
        child.good(LOOK_S)
    finally:
        child.end()


def look(store: Store, table: Table, pipe: int, out: Outcome) -> bool:
    """Everybody has ended: look at every key. False if that hangs, too."""
    ear, mouth = os.pipe()
    child = Child(lambda: say_what_is_there(store, table, pipe, mouth))
    os.close(mouth)
    with os.fdopen(ear, "rb") as said:
        try:
            code = child.wait(LOOK_S)
        except AssertionError:
            return False
        finally:
            child.end()
        answer = said.read()
    if code or not answer:
        last = child.text.strip().splitlines()
        out.errors[LAST] += 1
        out.notes = [f"the last look failed: {last[-1] if last else code}"]
        return True
    counts, out.notes = json.loads(answer)
    for c, value in enumerate(counts):
        least = sum(desk.counted[c] for desk in table.desks)
        most = sum(desk.started[c] for desk in table.desks)
        out.increments["lost"] += max(0, least - value)
        out.increments["too many"] += max(0, value - most)
    return True


def say_what_is_there(store: Store, table: Table, pipe: int, mouth: int) -> None:
    """In the last process."""
    quiet()
    ops: Ops = store.attach()
    for slot in range(SLOTS):
        worker = Worker(lambda: ops, table, slot, pipe)
        worker.open()
        for i in range(OWN):
            worker.check(i)
    counts = [] if ops.count is None else [ops.count(counter_name(c)) for c in range(COUNTERS)]
    os.write(mouth, json.dumps([counts, ops.look()]).encode())
