"""One stop: a process stands at a fault point, alive, and holds what it holds there.

  1  the store is as the scene prepared it; a survivor and a reader who may not write are attached;
     a child acts and is stopped by SIGSTOP at visit n
  2  reads     by both, of the key in question, of its neighbours, of others: undelayed, old or new
     writes    of a stripe whose lock word names the child: `Busy` with its pid
     others    every other write, and a new attachment: done (a write that must make room may need
               what the child cleans, or its appender: then `Busy` may name the child)
               every write ends within lock_timeout and LIMIT_MS
  3  with a rival: the survivor changes the key in question, too, where it is not locked
  4  SIGCONT: the child ends its operation without an error; its write is there, or the rival's that
     came after it; every other item is what it was or was written to; the store is whole

Scenes are those of the crash matrix (tests/crash); so is the judge of items and memory. A stop at
which something only took too long is repeated, as there: the best of TRIES counts.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import shmkv
from shmkv import _core
from tests.crash.children import KILL, STOP, Child, Hang
from tests.crash.deaths import SEED, staged
from tests.crash.explore import Explorer, Probe
from tests.crash.judge import ABSENT, Expectation, Item, Judge, read, same
from tests.crash.scene import OFFSET_MS, PAUSE_S, Scene
from tests.crash.stage import ROW_BYTES, counts
from tests.stress.holder_crowd import CROWDS, Verdict, crowd
from tests.stress.storm_weather import Delay
from tests.stress.support import report

FULL = os.environ.get("SHMKV_TORTURE") == "1"
QUICK_SCENES = (
    "set-new", "set-larger", "delete", "incr", "touch-in-place", "touch-rewrite", "evict",
    "split-first",
)  # fmt: skip
MORE_SCENES = (
    "add-new", "replace", "cas", "pop", "append", "rename", "incr-new", "set-many", "extent-set",
    "extent-overwrite", "page-full", "clean-garbage", "clean-kept", "evict-overwrite",
    "split-deeper", "index-page-cleaned", "window-evicting", "compact-mixed",
)  # fmt: skip
# The key in question is set, counted, removed or touched without a condition: with a rival.
RIVALS = {
    "set-new", "set-larger", "delete", "incr", "touch-in-place", "touch-rewrite", "evict",
    "split-first", "add-new", "replace", "pop", "incr-new", "extent-set", "extent-overwrite",
    "page-full", "clean-garbage", "clean-kept", "evict-overwrite", "split-deeper",
}  # fmt: skip
SHOWN = 40
TRIES = 10
LIMIT_MS = 150.0  # a writer may look at every page before it finds one that it can clean
DELAY = Delay()
LOCK_TIMEOUT_S = 0.01
RIVAL = b"rival" * 30
OTHERS = 3  # stripes beside that of the key in question

_OFF_CLEANERS, _OFF_APPENDERS, _LINE = 512, 1024, 64
_NUMBER = 0x7FFF_FFFF


class Held(NamedTuple):
    """Whose lock words name the stopped process."""

    stripes: frozenset[int]
    cleaners: int
    appenders: int

    @classmethod
    def by(cls, pid: int, store: Any) -> Held:
        """Look at the words themselves."""
        raw, g = store._raw(), store._geometry()
        try:
            words = raw.cast("I")

            def at(offset: int) -> int:
                return int(words[offset // 4])

            rows = [g["off_rows"] + row * ROW_BYTES for row in range(g["rows"])]
            numbers = {at(row) for row in rows if at(row) and at(row + 4) == pid}

            def named(first: int, count: int) -> list[int]:
                lines = [at(first + i * _LINE) & _NUMBER for i in range(count)]
                return [i for i, number in enumerate(lines) if number in numbers]

            return cls(
                frozenset(named(g["off_stripes"], g["stripes"])),
                len(named(_OFF_CLEANERS, g["cleaners"])),
                len(named(_OFF_APPENDERS, g["appenders"])),
            )
        finally:
            words.release()
            raw.release()


class Stop:
    """One stopped child and those around it."""

    def __init__(self, scene: Scene, judge: Judge, reader: Any, child: Child) -> None:
        self.scene = scene
        self.judge = judge
        self.reader = reader
        self.child = child
        self.target = next(iter(scene.after), scene.target)
        stripe = scene.stage.stripe(self.target)
        near = [key for key in scene.near if scene.stage.stripe(key) == stripe]
        self.near = [*near, *itertools.islice(scene.stage.keys("by", stripe), 2)]
        self.held = Held.by(child.pid, judge.store)
        self.busy = 0

    def _write(self, what: str, key: bytes, call: Callable[[], object], item: Item | None) -> bool:
        """A write beside the stopped process, after which the key holds `item`; was it done?"""
        judge, before, start = self.judge, DELAY.read(), time.monotonic_ns()
        locked = self.scene.stage.stripe(key) in self.held.stripes
        done = True
        try:
            call()
        except shmkv.Busy as busy:
            done = False
            self.busy += 1
            if f"process {self.child.pid} " not in f"{busy} ":
                judge.say(f"{what} {key!r}: not the stopped {self.child.pid} is named: {busy}")
            if not (locked or self.held.cleaners or self.held.appenders):
                judge.say(f"{what} {key!r}: Busy, and no lock stands against it: {busy}")
        wall = time.monotonic_ns() - start
        own = DELAY.between(before, DELAY.read())  # no processor was to be had
        took = (wall - own) / 1e6 - LOCK_TIMEOUT_S * 1000
        judge.worst_ms = max(judge.worst_ms, took)
        if done and locked:
            judge.say(f"{what} {key!r}: done, though its stripe is locked by the stopped process")
        if done and item is not None:
            judge.wrote(key, item)
        return done

    def _set(self, key: bytes) -> None:
        value = b"beside" * 9
        self._write("set", key, lambda: self.judge.store.set(key, value), Item(value))

    def look(self) -> None:
        """Reads, by who may write and who may not."""
        keys = [self.target, *self.near, *self.judge.wanted.before]
        for key in dict.fromkeys(keys[:12]):
            self.judge.look(key, self.reader, False, "the reader")
            self.judge.look(key, self.judge.store, False, "the survivor")

    def beside(self) -> None:
        """Writes in the stripe of the key in question."""
        store, near = self.judge.store, self.near
        self._set(near[0])
        self._write("delete", near[1], lambda: store.delete(near[1]), ABSENT)

    def elsewhere(self) -> None:
        """Writes in other stripes, counters in other stripes, and a process that comes."""
        stage, store = self.scene.stage, self.judge.store
        home = stage.stripe(self.target)
        others = [s for s in range(stage.geometry["stripes"]) if s != home][:OTHERS]
        for stripe in others:
            first, second = itertools.islice(stage.keys("far", stripe), 2)
            self._set(first)
            self._write("incr", second, partial(store.incr, second, 3), Item(3))
        self.judge.timed("attach", lambda: stage.open().close())

    def rival(self) -> bool:
        """The survivor changes the key in question, too, if it is not locked; did it?"""
        store, key, wanted = self.judge.store, self.target, self.judge.wanted
        counts_up = self.scene.name.startswith("incr")
        call = partial(store.incr, key, 10) if counts_up else partial(store.set, key, RIVAL)
        did = self._write("rival", key, call, None)
        if did:
            old = wanted.before.get(key, ABSENT)
            counted = 0 if old == ABSENT else old.value
            meanwhile = [Item(counted + 10, old.until)] if counts_up else []
            wanted.after[key] = meanwhile + self.outcomes()
        return did

    def outcomes(self) -> list[Item]:
        """What the key in question may hold after a rival and the stopped process have changed it:
        what the later one wrote; it is not asked who was later. An increment is never lost."""
        after = self.scene.after.get(self.target, [])[-1:]
        if self.scene.name.startswith("incr"):
            return [Item(item.value + 10, item.until) for item in after]
        touched = [Item(RIVAL, item.until) for item in after if item.until is not None]
        return [Item(RIVAL), *touched, *after]


def _resumed(stop: Stop, rivalled: bool) -> None:
    """The stopped process goes on; then everything is judged."""
    judge, scene, child = stop.judge, stop.scene, stop.child
    child.resume()
    ended = child.wait()
    if ended.killed or ended.error:
        judge.say(f"the stopped process failed: {ended.error}")
    if rivalled:
        found = read(judge.store, stop.target)
        if not any(same(found, item) for item in stop.outcomes()):
            judge.say(f"after both changed it: {found}, wanted one of {stop.outcomes()}")
        judge.wrote(stop.target, found)
    judge.look_at_all(True)
    judge.check("after the stop")
    judge.work((*stop.near, stop.target))
    judge.memory()
    left = scene.stage.rows_left(judge.store._number())
    if left:
        judge.say(f"rows {left} still hold something")


@contextlib.contextmanager
def _prepared(scene: Scene) -> Iterator[tuple[Judge, Any, Child]]:
    """The store as it was, a survivor's judge, a reader, a child that is ready."""
    scene.stage.restore(scene.image)
    _core.set_clock_offset(OFFSET_MS)
    with contextlib.ExitStack() as stack:
        stack.callback(_core.set_clock_offset, 0)
        survivor = stack.enter_context(scene.stage.open(lock_timeout=LOCK_TIMEOUT_S))
        reader = stack.enter_context(scene.stage.open(readonly=True))
        w = scene.wanted
        wanted = Expectation(dict(w.before), dict(scene.after), scene.loses, scene.unsure)
        child = scene.child(survivor)
        stack.callback(child.end)
        yield Judge(survivor, wanted, 0), reader, child


def play_once(scene: Scene, point: int, rival: bool) -> Verdict:
    """One stop at one point."""
    try:
        with _prepared(scene) as (judge, reader, child):
            child.go(point, STOP)
            child.stopped()
            stop = Stop(scene, judge, reader, child)
            stop.look()
            stop.beside()
            rivalled = rival and stop.rival()
            stop.elsewhere()
            stop.look()
            _resumed(stop, rivalled)
            return Verdict(judge.problems, judge.worst_ms, stop.busy)
    except Hang as hang:
        return Verdict([str(hang)], 0.0, 0)


def play(scene: Scene, point: int, rival: bool) -> Verdict:
    """One stop; the best of TRIES when only the time was exceeded."""
    verdict = play_once(scene, point, rival)
    for turn in range(1, TRIES):
        if verdict.problems or verdict.worst_ms <= LIMIT_MS:
            return verdict
        time.sleep(turn * PAUSE_S)
        again = play_once(scene, point, rival)
        if again.problems or again.worst_ms < verdict.worst_ms:
            verdict = again
    if verdict.worst_ms > LIMIT_MS:
        verdict.problems.append(f"an operation took {verdict.worst_ms:.1f} ms, {TRIES} times")
    return verdict


def points_of(scene: Scene) -> list[int]:
    """Where to stop: every point, or the first visit of each name. Nothing is judged here."""

    def probe(point: int) -> Probe:
        with _prepared(scene) as (_, _, child):
            before = counts()
            child.go(point, KILL)
            killed = child.wait().killed
            visits = {name: n - before[name] for name, n in counts().items() if n > before[name]}
        return Probe(killed, visits)

    if FULL:
        return list(range(1, sum(probe(0).visits.values()) + 1))
    return sorted(set(Explorer(probe).explore(full=False, spread=1).first.values()))


class Play:
    """All stops of one run."""

    def __init__(self) -> None:
        self.stops = self.busy = 0
        self.worst_ms = 0.0
        self.violations: list[str] = []

    def stop(self, scene: Scene, point: int, rival: bool) -> None:
        """One of them."""
        words = f"{scene.name} --point {point}{' --rival' if rival else ''}"
        self.add(words, play(scene, point, rival))

    def add(self, words: str, verdict: Verdict) -> None:
        """Count it, and tell what is wrong."""
        self.stops += 1
        self.busy += verdict.busy
        self.worst_ms = max(self.worst_ms, verdict.worst_ms)
        for problem in verdict.problems:
            self.violations.append(f"{words}: {problem}")
            if len(self.violations) <= SHOWN:
                print(f"VIOLATION {self.violations[-1]}", flush=True)

    def scene(self, name: str) -> None:
        """Every stop of one scene."""
        start, stops, busy = time.monotonic(), self.stops, self.busy
        with staged(name) as scene:
            for point in points_of(scene):
                if name in RIVALS and (FULL or point % 2):
                    self.stop(scene, point, True)
                if name not in RIVALS or FULL or point % 2 == 0:
                    self.stop(scene, point, False)
        self._told(name, start, stops, busy)

    def crowd(self, name: str) -> None:
        """A stop in a full store."""
        start, stops, busy = time.monotonic(), self.stops, self.busy
        self.add(name, crowd(int(name.removeprefix("crowd-"))))
        self._told(name, start, stops, busy)

    def _told(self, name: str, start: float, stops: int, busy: int) -> None:
        took, n = time.monotonic() - start, self.stops - stops
        print(f"{name:20} {n:5} stops, {self.busy - busy:5} times Busy, {took:6.2f} s", flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.holder")
    parser.add_argument("scene", nargs="*", help="only these scenes")
    parser.add_argument("--point", type=int, help="only this point")
    parser.add_argument("--rival", action="store_true", help="with a rival, at this point")
    chosen = parser.parse_args()
    _core.fault_share()
    gc.freeze()
    game = Play()
    everything = [*QUICK_SCENES, *(MORE_SCENES if FULL else ()), *CROWDS[: None if FULL else 1]]
    for name in chosen.scene or everything:
        if name in CROWDS:
            game.crowd(name)
            continue
        if chosen.point is None:
            game.scene(name)
            continue
        with staged(name) as scene:
            game.stop(scene, chosen.point, chosen.rival)
    report("stopped-holder", SEED, game.stops, game.violations, game.worst_ms)
    return 0
