"""Death of somebody who writes to a store with a journal, or leads a round of it.

Owns `JournalPlay`, the run of one death:

  1  segment and files are put back; a survivor attaches, who may lead rounds
  2  a child takes the steps of the play one by one and is killed at fault point n; how many of them
     had returned is known
  3  "always": the files as they lie there hold every step that had returned; the one in between
     may be old or new
  4  the survivor responds, looks at all items, and syncs: then the files, replayed into an empty
     store, hold exactly what the live one holds
  5  the survivor works on; the memory is accounted for; step 4 again

A journal that is broken, or was, is mended by a save, as a daemon would: what comes back is that
and the journals from its generation on. Does not: choose the points (explore.py).
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import shmkv
from tests import journal_files
from tests.crash.children import Child, Hang
from tests.crash.journal_stage import JournalStage
from tests.crash.judge import ABSENT, Expectation, Item, Judge, everything, read, same
from tests.crash.scene import Verdict, patient
from tests.crash.stage import Action, counts


class Step(NamedTuple):
    """One call, and what keys may become by it, the last being what they are when it returned."""

    act: Action
    after: dict[bytes, list[Item]]
    clears: bool = False


@dataclass
class JournalPlay:
    """What is done where. `settled`: nothing is dirty, and somebody has just looked."""

    stage: JournalStage
    name: str
    steps: list[Step]
    near: tuple[bytes, ...]
    repeatable: bool = True
    settled: bool = True
    early: bool = False  # the child has its row before `spoil`
    warm: bool = True  # ... before it acts
    leads: bool = True  # the child; else it has a handle that does not know the directory
    timeout: float = 5.0  # the child's, if it does not lead
    saved: bool = False  # what comes back is a save and the journals after it
    begun: bool = True  # the journal has its first file already
    lost: dict[bytes, Item] = field(default_factory=dict)  # on disk only, until a clear returns
    spoil: Callable[[JournalPlay, Any], None] = lambda play, survivor: None
    beside: Callable[[Any, Child], None] = lambda survivor, child: None
    deaths: int = 1
    image: bytes = b""
    before: dict[bytes, Item] = field(default_factory=dict)

    def prepare(self) -> JournalPlay:
        """Keep the bytes and what they hold."""
        self.image = self.stage.save()
        with self.stage.open() as store:
            self.before = everything(store)
        self.stage.restore(self.image)
        return self

    def responses(self) -> list[str]:
        """What the survivor may do first."""
        return [name for name in RESPONSES if self.repeatable or name != "again"]

    def child(self, survivor: Any, progress: mmap.mmap) -> Child:
        """Takes the steps; counts those that have returned."""
        own: list[Any] = [survivor]

        def warm() -> None:
            if not self.leads:
                own[0] = self.stage.open(leads=False, lock_timeout=self.timeout)
            own[0].get(b"a key that is never there")

        def act() -> None:
            for i, step in enumerate(self.steps, 1):
                step.act(own[0])
                progress[0] = i

        return Child(act, warm if self.warm else None)

    def expect(self, done: int) -> Expectation:
        """What there may be when so many steps have returned."""
        before = dict(self.before)
        for step in self.steps[:done]:
            before |= {key: items[-1] for key, items in step.after.items()}
        return Expectation(before, dict(self.steps[done].after) if done < len(self.steps) else {})

    def may_return(self, done: int) -> dict[bytes, Item]:
        """What memory does not have, and the disk may, when so many steps have returned."""
        return {} if any(step.clears for step in self.steps[:done]) else self.lost

    def run(self, point: int, response: str) -> Verdict:
        """One death; when only the time was exceeded, more than one."""
        return patient(lambda: _once(self, point, response))


# --- responses ------------------------------------------------------------------------------------

Response = Callable[[JournalPlay, Judge, int], object]


def _again(play: JournalPlay, judge: Judge, done: int) -> None:
    """What the dead was doing."""
    for step in play.steps[done:]:
        judge.timed("the same again", lambda step=step: step.act(judge.store))
        for key, items in step.after.items():
            judge.wrote(key, items[-1])


def _write(play: JournalPlay, judge: Judge, done: int) -> None:
    judge.timed("set near", lambda: judge.store.set(play.near[0], b"n" * 40))
    judge.wrote(play.near[0], Item(b"n" * 40))


def _attach(play: JournalPlay, judge: Judge, done: int) -> None:
    judge.timed("attach", lambda: play.stage.open().close())


def _check(play: JournalPlay, judge: Judge, done: int) -> None:
    judge.check("as first")


def _round(play: JournalPlay, judge: Judge, done: int) -> None:
    """The next leader comes: the lock, marks in flight, a torn tail."""
    judge.timed("a round", judge.store._journal_round)


def _next(play: JournalPlay, judge: Judge, done: int) -> None:
    """The next generation is begun."""
    judge.timed("the next generation", judge.store._journal_next)


RESPONSES: dict[str, Response] = {
    "again": _again,
    "write": _write,
    "round": _round,
    "next": _next,
    "attach": _attach,
    "check": _check,
}


# --- one death ------------------------------------------------------------------------------------


def _leave_out(may_return: dict[bytes, Item], again: Any) -> None:
    """Of what came back, what may."""
    for key, item in may_return.items():
        if same(read(again, key), item):
            again.delete(key)


def _on_disk(play: JournalPlay, judge: Judge, done: int) -> None:
    """The files hold what had returned, without anybody's help."""
    with play.stage.again() as store:
        journal_files.replay(play.stage.folder, store)
        _leave_out(play.may_return(done), store)
        wanted, found = play.expect(done), everything(store)
        for key in wanted.before.keys() | wanted.after.keys() | found.keys():
            item = found.get(key, ABSENT)
            if not any(same(item, one) for one in wanted.allowed(key, False)):
                judge.say(f"on disk at the death, {done} steps done: {key!r} = {str(item)[:80]}")


def _comes_back(
    play: JournalPlay, judge: Judge, snapshot: Any, may_return: dict[bytes, Item], when: str
) -> None:
    """What a sync has written is what there is."""
    store = judge.store
    judge.timed("sync", store._journal_sync)
    state = store._journal_state()
    if state["broken"] or state["dirty"] > play.deaths or state["started"] != state["done"]:
        judge.say(f"{when}, after a sync: {state}")
    with play.stage.again() as again:
        try:
            journal_files.replay(play.stage.folder, again, snapshot)
        except (journal_files.Broken, ValueError) as error:
            judge.say(f"{when}: {error}")
            return
        _leave_out(may_return, again)
        for text in journal_files.differences(store, again):
            judge.say(f"{when}: {text}")


def _judge(play: JournalPlay, judge: Judge, done: int, response: str) -> None:
    store, stage = judge.store, play.stage
    if not play.begun and store._journal_state()["generation"] == 0:
        judge.timed("begin", lambda: store._journal_begin(journal_files.FIRST, journal_files.NONE))
    if not play.saved or response != "round":  # a broken journal refuses rounds
        RESPONSES[response](play, judge, done)
    judge.look_at_all(False)
    snapshot = journal_files.save(store) if play.saved else None
    may_return = play.may_return(len(play.steps) if response == "again" else done)
    _comes_back(play, judge, snapshot, may_return, "after the death")
    judge.check("after the death")
    judge.work(play.near)
    judge.memory()
    _comes_back(play, judge, snapshot, may_return, "after more work")
    left = stage.rows_left(store._number())
    if left:
        judge.say(f"rows {left} still hold something")


def _once(play: JournalPlay, point: int, response: str) -> Verdict:
    stage = play.stage
    stage.restore(play.image)
    with contextlib.ExitStack() as stack:
        survivor = stack.enter_context(stage.open())
        progress = stack.enter_context(contextlib.closing(mmap.mmap(-1, 4096)))
        try:
            if play.early:
                child = play.child(survivor, progress)
                stack.callback(child.end)
            play.spoil(play, survivor)
            if play.settled:
                survivor._journal_sync()
            if not play.early:
                child = play.child(survivor, progress)
                stack.callback(child.end)
            before = counts()
            child.go(point)
            play.beside(survivor, child)
            ended = child.wait()
        except Hang as hang:
            return Verdict(True, {}, [str(hang)], 0.0)
        visits = {name: n - before[name] for name, n in counts().items() if n > before[name]}
        done = len(play.steps) if not ended.killed else progress[0]
        judge = Judge(survivor, play.expect(done), play.deaths)
        if ended.error:
            judge.say(f"the child failed: {ended.error}")
            return Verdict(ended.killed, visits, judge.problems, judge.worst_ms)
        try:
            if stage.mode == "always" and play.begun:
                _on_disk(play, judge, done)
            _judge(play, judge, done, response)
        except (shmkv.Error, journal_files.Broken) as error:
            judge.say(f"the survivor: {type(error).__name__}: {error}")
        return Verdict(ended.killed, visits, judge.problems, judge.worst_ms)
