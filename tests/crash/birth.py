"""Death while a segment comes into being.

Owns the scenes where nobody can have been attached before: creation, creation of what a dead
creator left, and a new store under a name that was just removed. The survivor comes afterwards,
asks first without `create` (it gets a working store, or hears that there is none), then with it,
and then has to have a store that works in every respect; who was attached to a removed store goes
on in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import shmkv
from tests.crash.children import Child, Hang
from tests.crash.judge import Expectation, Judge
from tests.crash.scene import Verdict
from tests.crash.stage import Stage, counts

VALUE = b"first" * 30


class Birth:
    """Creation under a name of its own; `first` is the point at which an earlier creator died."""

    def __init__(self, stage: Stage, name: str, *, first: int = 0, removing: bool = False) -> None:
        self.stage = stage
        self.name = name
        self._first = first
        self._removing = removing

    def _create(self) -> None:
        if self._removing:
            shmkv.unlink(self.stage.name)
        with self.stage.open() as store:
            store.set("first", VALUE)

    @contextlib.contextmanager
    def _before(self) -> Iterator[Any]:
        """The name is free, or belongs to a store that somebody uses."""
        self.stage.close()
        if not self._removing:
            yield None
            return
        with self.stage.open(create="new") as old:
            old.set("old", VALUE)
            yield old

    def _one(self, point: int) -> tuple[Child, dict[str, int]]:
        child = Child(self._create, None)
        before = counts()
        child.go(point)
        return child, before

    def run(self, point: int, response: str) -> Verdict:
        """One death; the responses of other scenes mean nothing here."""
        with self._before() as old, contextlib.ExitStack() as stack:
            if self._first:
                earlier, _ = self._one(self._first)
                stack.callback(earlier.end)
                earlier.wait()
            child, before = self._one(point)
            stack.callback(child.end)
            try:
                ended = child.wait()
            except Hang as hang:
                return Verdict(True, {}, [str(hang)], 0.0)
            visits = {name: n - before[name] for name, n in counts().items() if n > before[name]}
            problems, worst = self._survive(old, not ended.killed)
            if ended.error:
                problems.insert(0, f"the child failed: {ended.error}")
        return Verdict(ended.killed, visits, problems, worst)

    def _survive(self, old: Any, finished: bool) -> tuple[list[str], float]:
        with contextlib.suppress(shmkv.NotFound), self.stage.open(create=False):
            pass
        with self.stage.open() as store:
            judge = Judge(store, Expectation({}), 1)
            found = store.get("first")
            if found != VALUE and (finished or found is not None):
                judge.say(f"the first item is {found!r}")
            judge.check("of the new store")
            judge.work([b"first", b"second"])
            judge.memory()
            if old is not None and old.get("old") not in (VALUE, b"s" * 64):
                judge.say("who was attached to the removed store has lost it")
            if old is not None:
                judge.timed("set in the old store", lambda: old.set("old", VALUE))
            return judge.problems, judge.worst_ms
