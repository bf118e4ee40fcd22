"""What the workers do, and what they know at once to be wrong.

A worker writes the keys of its slot, which nobody else writes, so it knows what each must hold: the
state acknowledged last; and after a predecessor's death, or an operation that raised, that one or
the one begun. It reads everybody's keys, which must hold a state between the one acknowledged
before and the one begun afterwards. Everybody counts the counters; their sums are judged in the
end. What is wrong is noted as an event and the worker goes on: the key is then unsure and nobody
judges it until its owner has written it anew.

Promises: no exception of a store ends a worker; each is counted and told through the pipe. Each
operation is timed. Does not: retry an operation.
"""

import contextlib
import os
import random
import time
from collections.abc import Callable
from typing import Any

from tests.bench.survival.peer import Ops
from tests.bench.survival.values import (
    ASKED,
    ATTACH,
    CLEARED,
    COUNTERS,
    CYCLE,
    DELETE,
    DONE,
    FAILED,
    FLYING,
    GET,
    INCR,
    LIFE,
    LOST,
    OWN,
    SET,
    SLOTS,
    STALE,
    TOOK,
    TORN,
    UNREAD,
    WHAT,
    WORST,
    Event,
    Table,
    Torn,
    counter_name,
    key_name,
    make,
    parse,
    present,
)

AGAIN_S = 0.05  # between attempts to open a store that refuses


def quiet() -> None:
    """What libraries print is not ours."""
    null = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        os.dup2(null, output)


class Worker:
    """One life in one slot."""

    def __init__(self, attach: Callable[[], Ops], table: Table, slot: int, pipe: int) -> None:
        self.table, self.slot, self.desk, self._pipe = table, slot, table.desks[slot], pipe
        self.ops: Ops | None = None
        self._attach = attach

    def open(self) -> bool:
        """Open the store: one attempt."""
        ok, ops = self._do(ATTACH, self._attach)
        if ok:
            self.ops = ops
            self.desk.misc[CLEARED] += ops.cleared
        return ok

    def live(self, seed: int) -> None:
        """Until it is told to stop, or killed."""
        while not self.open():
            time.sleep(AGAIN_S)  # the next attempt is counted, too
            if self.table.stop[0]:
                return
        assert self.ops is not None
        rng = random.Random(seed)
        moves = [self.advance] * 40 + [self.read_own] * 15 + [self.read_any] * 30
        if self.ops.incr is not None:
            moves += [self.incr] * 15
        while not self.table.stop[0]:
            rng.choice(moves)(rng)

    def _do(self, what: int, call: Callable[..., Any], *words: Any) -> tuple[bool, Any]:
        """(True, answer), or (False, what it raised)."""
        misc, ok = self.desk.misc, True
        misc[WHAT] = what
        misc[FLYING] = start = time.monotonic_ns()
        try:
            answer = call(*words)
        except Exception as error:  # noqa: BLE001 - whatever a store raises is counted
            ok, answer = False, error
        end = time.monotonic_ns()
        misc[FLYING] = 0
        misc[TOOK] = end - start
        if ok and what != ATTACH:
            misc[LIFE] += 1
            misc[DONE] += 1
        elif not ok:
            self._tell(what, answer)
        if end - start > misc[WORST]:
            misc[WORST] = end - start
        return ok, answer

    def _tell(self, what: int, error: Exception) -> None:
        unread = what == GET and self.ops is not None and isinstance(error, self.ops.unreadable)
        self.desk.misc[UNREAD if unread else FAILED] += 1
        line = " ".join(f"{ASKED[what]}: {type(error).__name__}: {error}".split())[:200]
        with contextlib.suppress(BlockingIOError):  # it is counted, if not told
            os.write(self._pipe, f"{line}\n".encode(errors="replace"))

    def _event(self, kind: int, key: int, seq: int) -> None:
        self.desk.note(Event(kind, key, seq))

    def _get(self, key: int) -> tuple[bool, int | None]:
        """(is there an answer, its state); what is torn is noted and is no answer."""
        assert self.ops is not None
        slot, i = divmod(key, OWN)
        ok, value = self._do(GET, self.ops.get, key_name(key))
        begun = self.table.desks[slot].begun[i]
        if not ok:
            if isinstance(value, self.ops.unreadable):
                self._event(TORN, key, begun)
            return False, None
        try:
            return True, None if value is None else parse(value, key)
        except Torn:
            self._event(TORN, key, begun)
            if slot == self.slot:
                self.desk.unsure[i] = 1
            return False, None

    # --- keys of one's own -----------------------------------------------------------------

    def _holds(self, i: int, *states: int) -> None:
        """The key must hold one of these, which is then settled; the last is the acknowledged."""
        desk, key = self.desk, self.slot * OWN + i
        ok, seq = self._get(key)
        if desk.unsure[i]:  # judged already: its owner will write over whatever is there
            desk.acked[i] = desk.begun[i]
            return
        if not ok:
            return
        for state in states:
            if seq == (state if present(state) else None):
                desk.acked[i] = state
                desk.begun[i] = state
                return
        desk.unsure[i] = 1
        self._event(LOST, key, states[-1])
        desk.acked[i] = desk.begun[i]

    def settle(self, i: int) -> bool:
        """What a predecessor had begun, or an operation that raised, has happened or has not."""
        desk = self.desk
        if desk.begun[i] != desk.acked[i]:
            self._holds(i, desk.begun[i], desk.acked[i])
        return bool(desk.begun[i] == desk.acked[i])

    def check(self, i: int) -> None:
        """One key, settled or not."""
        desk = self.desk
        if desk.begun[i] != desk.acked[i]:
            self.settle(i)
        elif not desk.unsure[i]:
            self._holds(i, desk.acked[i])

    def read_own(self, rng: random.Random) -> None:
        """Exactly what was acknowledged."""
        self.check(rng.randrange(OWN))

    def advance(self, rng: random.Random) -> None:
        """Bring one's own key to its next state."""
        i = rng.randrange(OWN)
        if self.settle(i):
            self.put(i)

    def put(self, i: int) -> None:
        """The next state of a settled key."""
        assert self.ops is not None
        desk, key = self.desk, self.slot * OWN + i
        seq = desk.begun[i] = desk.acked[i] + 1
        if present(seq):
            ok, _ = self._do(SET, self.ops.put, key_name(key), make(key, seq))
        else:
            ok, was = self._do(DELETE, self.ops.delete, key_name(key))
            if ok and not was and not desk.unsure[i]:
                self._event(LOST, key, seq - 1)
        if ok:
            desk.acked[i] = seq
            desk.unsure[i] = 0

    # --- keys of all -----------------------------------------------------------------------

    def read_any(self, rng: random.Random) -> None:
        """Somebody's key."""
        slot, i = rng.randrange(SLOTS), rng.randrange(OWN)
        desk, key = self.table.desks[slot], slot * OWN + i
        least, unsure = desk.acked[i], desk.unsure[i]
        ok, seq = self._get(key)
        most = desk.begun[i]
        if not ok or unsure or desk.unsure[i]:
            return
        if seq is None:
            right = most // CYCLE * CYCLE >= least  # it was absent at some moment
        else:
            right = least <= seq <= most and present(seq)
        if not right:
            self._event(STALE, key, least)

    def incr(self, rng: random.Random) -> None:
        """Count."""
        assert self.ops is not None
        assert self.ops.incr is not None
        c = rng.randrange(COUNTERS)
        self.desk.started[c] += 1
        ok, _ = self._do(INCR, self.ops.incr, counter_name(c))
        self.desk.counted[c] += ok
