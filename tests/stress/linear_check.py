"""Is there an order in which one key's operations could have happened at once, one by one?

Owns the model of a key and the search. A history is linearizable if every operation can be given
one moment between its start and its end so that all answers are right (Herlihy, Wing 1990). Keys
are independent, so each is judged alone (Horn, Kroening 2015, "Faster linearizability checking via
P-compositionality"). The search walks forward in time over all that may be the case (Wing, Gong
1993, "Testing and verifying concurrent objects") and places a change only when some end asks for it
(Lowe 2017, "Testing for linearizability": just-in-time linearization). What may be the case is a
set of (state, pending operations that have been placed); the same one is never followed twice.

The state of a key is an int: 0 = absent, else the number of the value. No two writes write the same
value, so almost every answer leaves one possibility. Five forms are all that the store's operations
amount to:

  IS a         the state is a                    get, gets, a miss, delete -> False …
  NOT a        the state is not a                add -> False, cas -> False, touch -> True …
  FROM a, b    it is a and becomes b             add, cas, pop, incr
  LEAVE a, b   it is not a and becomes b         delete, replace; set (a = NOBODY)
  COUNT 0, b   it becomes one more, b if absent  incr of which no answer is known

An operation whose process was killed may have happened until the death was seen, or not: its end
asks for nothing. Promises: exact, no verdict is a guess; a search that grows beyond LIMIT raises.
Where the intervals of operations do not overlap, each is judged by a comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

IS, NOT, FROM, LEAVE, COUNT = range(5)
NOBODY = -1  # no state has this number
LIMIT = 200_000  # possibilities at one moment


# One operation on one key: start, end, form, a, b, sure: it returned; else its process was killed.
Step = tuple[int, int, int, int, int, bool]


class Broken(Exception):
    """There is no such order; `index` is the operation that cannot be placed."""

    def __init__(self, index: int, states: Iterable[int], pending: Iterable[int]) -> None:
        super().__init__(index)
        self.index, self.states, self.pending = index, sorted(states), sorted(pending)


class TooMany(Exception):
    """More possibilities than LIMIT: no verdict."""


def apply(form: int, a: int, b: int, state: int) -> int | None:
    """The state afterwards; None: the answer would have been another."""
    if form == IS:
        return state if state == a else None
    if form == NOT:
        return state if state != a else None
    if form == FROM:
        return b if state == a else None
    if form == LEAVE:
        return b if state != a else None
    return b if state == a else state + 1


def judge(steps: Sequence[Step], states: set[int]) -> set[int]:
    """The states there may be after `steps`, which are in the order of their starts; `Broken`."""
    total, i = len(steps), 0
    while i < total:
        end, after = steps[i][1], i + 1
        while after < total and steps[after][0] <= end:
            end = max(end, steps[after][1])
            after += 1
        states = _alone(steps, i, states) if after == i + 1 else _crowd(steps, i, after, states)
        i = after
    return states


def _alone(steps: Sequence[Step], i: int, states: set[int]) -> set[int]:
    """An operation that no other overlaps."""
    _, _, form, a, b, sure = steps[i]
    now = {new for state in states if (new := apply(form, a, b, state)) is not None}
    if not sure:
        now |= states
    if not now:
        raise Broken(i, states, ())
    return now


def _crowd(steps: Sequence[Step], begin: int, after: int, states: set[int]) -> set[int]:
    """Operations begin ... after - 1, whose intervals hang together."""
    # At the same moment starts come before ends: nothing is taken for an order that is none.
    events = [(steps[i][0], 0, i) for i in range(begin, after)]
    events += [(steps[i][1], 1, i) for i in range(begin, after)]
    search = _Search(steps, states)
    for _, ends, i in sorted(events):
        if ends:
            search.end(i)
        else:
            search.start(i)
    return search.states()


Case = tuple[int, int]  # state, mask of the pending operations that are placed
Pending = tuple[int, int, int, int]  # bit in the mask, form, a, b


class _Search:
    """What may be the case while time goes on."""

    def __init__(self, steps: Sequence[Step], states: set[int]) -> None:
        self._steps = steps
        self._cases: set[Case] = {(state, 0) for state in states}
        self._changes: dict[int, Pending] = {}
        self._looks: dict[int, Pending] = {}
        self._free: list[int] = []
        self._bits = 0

    def states(self) -> set[int]:
        """The states there may be."""
        return {state for state, _ in self._cases}

    def _bit(self) -> int:
        if self._free:
            return self._free.pop()
        self._bits += 1
        return 1 << self._bits

    def start(self, i: int) -> None:
        """From now on it may be placed. A look that is right is placed at once."""
        bit, (form, a, b) = self._bit(), self._steps[i][2:5]
        if form > NOT:
            self._changes[i] = (bit, form, a, b)
            return
        self._looks[i] = (bit, form, a, b)
        wanted = form == IS
        self._cases = {(s, m | bit if (s == a) == wanted else m) for s, m in self._cases}

    def end(self, i: int) -> None:
        """Until now it had to be placed."""
        pending = self._looks if i in self._looks else self._changes
        bit = pending[i][0]
        done = {case for case in self._cases if case[1] & bit}
        if len(done) < len(self._cases):
            rest = self._cases - done
            self._place(rest, bit, done)
            if not self._steps[i][5]:
                done |= rest
        if not done:
            raise Broken(i, self.states(), (*self._looks, *self._changes))
        self._cases = {(s, m & ~bit) for s, m in done}
        del pending[i]
        self._free.append(bit)

    def _place(self, cases: set[Case], bit: int, done: set[Case]) -> None:
        """From each case place pending changes until the operation with `bit` is placed."""
        changes, looks = list(self._changes.values()), list(self._looks.values())
        seen, todo = set(cases), list(cases)
        while todo:
            state, mask = todo.pop()
            for placed, form, a, b in changes:
                if mask & placed:
                    continue
                new = apply(form, a, b, state)
                if new is None:
                    continue
                now = mask | placed
                for looked, kind, wanted, _ in looks:
                    if (new == wanted) == (kind == IS):
                        now |= looked
                case = (new, now)
                if now & bit:
                    done.add(case)
                elif case not in seen:
                    seen.add(case)
                    todo.append(case)
            if len(seen) + len(done) > LIMIT:
                raise TooMany(f"{len(seen) + len(done)} possibilities")
