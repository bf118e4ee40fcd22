"""Two writers while a third process saves, over and over: what they lose, and whom they wait for.

A window with saves and one without follow each other; the ratio is of the writers' rates. The saver
takes processor time like anybody: on two processors its share is in what the writers lose. A
writer waits for the saver only where the saver holds a stripe's lock: the saver counts how often it
took one, and measures the longest. What the writers felt stands beside it: the longest 16 calls in
which they slept at all, with saves and without. Memory is what of the saver's own grew (anonymous
pages, peak), not the file's pages in the cache.
"""

from __future__ import annotations

import ctypes
import random
import resource
import statistics
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import shmkv
from shmkv import config, persist, segment
from shmkv._core import Dump
from tests.bench.disk.place import Place, Shape
from tests.bench.peers.team import FORK
from tests.bench.report import Figure, Table, at_least, at_most

SHAPE = Shape(1_000_000, 100)
BLOCK = 16  # calls between looks at the clock
WINDOW_S = 1.0
WRITERS = 2
LOOK_S = 0.002
UP_S = 60.0


class Watched(shmkv.Store):
    """A store that remembers what its saves had locked."""

    locks, longest = 0, 0
    _last: Dump | None = None

    def _dump(self) -> Dump:
        self._last = super()._dump()
        return self._last

    def count(self) -> None:
        """Add what the last save did."""
        if self._last is not None:
            times, longest = self._last.locks()
            self.locks, self.longest = self.locks + times, max(self.longest, longest)


def private_bytes() -> int:
    """Anonymous memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel tells no anonymous memory")


def write(name: str, keys: int, shared: Any, slot: int) -> None:
    """Overwrite random keys until told to end."""
    draw, value = random.Random(slot), bytes(SHAPE.value)
    asked = [SHAPE.key(draw.randrange(keys)) for _ in range(100_000)]
    clock, usage, me = time.perf_counter, resource.getrusage, resource.RUSAGE_THREAD
    with shmkv.open(name, create=False) as store:
        set_ = store.set
        while not shared.end:
            for at in range(0, len(asked), BLOCK):
                slept, began = usage(me).ru_nvcsw, clock()
                for key in asked[at : at + BLOCK]:
                    set_(key, value)
                took = clock() - began
                shared.done[slot] += BLOCK
                if usage(me).ru_nvcsw != slept and took > shared.felt[slot]:
                    shared.felt[slot] = took
                if shared.end:
                    break


def save(name: str, path: str, shared: Any) -> None:
    """Save while told to; say how often, what was locked, and how much memory it took."""
    store = segment.attach(Watched, config.judge(name, create=False))
    ctypes.CDLL(None).malloc_trim(0)  # what the parent had freed would be used again, unseen
    base = private_bytes()
    shared.grew = 0
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(LOOK_S):
            shared.grew = max(shared.grew, private_bytes() - base)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        while not shared.end:
            if not shared.save:
                time.sleep(LOOK_S)  # bounded: the condition is the line above
                continue
            Path(path).unlink(missing_ok=True)
            persist.save(store, path)
            store.count()
            shared.saves += 1
            shared.locks, shared.longest = store.locks, store.longest
    finally:
        watching.set()
        thread.join()
        store.close()


def _window(shared: Any, saving: bool) -> tuple[float, float]:
    """Operations a second, and the longest block in which a writer slept."""
    shared.save = saving
    for slot in range(WRITERS):
        shared.felt[slot] = 0.0
    before, began, saves = sum(shared.done), time.perf_counter(), shared.saves
    # Until a whole number of saves has passed, or as long.
    while time.perf_counter() < began + WINDOW_S or (saving and shared.saves < saves + 2):
        if time.perf_counter() > began + UP_S:
            raise RuntimeError("the saver does not save")
        time.sleep(LOOK_S)  # the window is time that passes; bounded by the line above
    rate = (sum(shared.done) - before) / (time.perf_counter() - began)
    shared.save = False
    return rate, max(shared.felt)


def writers(place: Place, count: int, quick: bool) -> list[Table]:
    """What two writers lose."""
    shape = Shape(SHAPE.keys // 10, SHAPE.value) if quick else SHAPE
    store = place.store("writers", shape, size=2 * shape.room, evict=True)
    shared = _Shared()
    jobs = [
        FORK.Process(target=write, args=(store.name, shape.keys, shared, slot), daemon=True)
        for slot in range(WRITERS)
    ]
    jobs.append(FORK.Process(target=save, args=(store.name, place.path("w"), shared), daemon=True))
    ratios, felt = [], {True: 0.0, False: 0.0}
    try:
        for job in jobs:
            job.start()
        _window(shared, False)  # everybody is up and warm
        for number in range(count):
            rates = {}
            for saving in (True, False) if number % 2 else (False, True):
                rates[saving], longest = _window(shared, saving)
                felt[saving] = max(felt[saving], longest)
            ratios.append(rates[True] / rates[False])
    finally:
        shared.end = True
        for job in jobs:
            with suppress(ValueError, AssertionError):
                job.join(30)
                job.kill()
        size = store.stats().size
        store.close()
        shmkv.unlink(store.name)
    return [_table(shape, ratios, felt, shared, size)]


class _Shared:
    """What all processes see."""

    def __init__(self) -> None:
        self.done = FORK.RawArray("Q", WRITERS)
        self.felt = FORK.RawArray("d", WRITERS)
        self._word = {
            name: FORK.RawValue("Q", 0)
            for name in ("end", "save", "saves", "locks", "longest", "grew")
        }

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["_word"][name].value

    def __setattr__(self, name: str, value: Any) -> None:
        if "_word" in self.__dict__ and name in self._word:
            self._word[name].value = value
        else:
            self.__dict__[name] = value


def _table(
    shape: Shape, ratios: list[float], felt: dict[bool, float], shared: Any, size: int
) -> Table:
    table = Table(
        f"two writers of {shape.value} B beside a process that saves, {shared.saves} saves"
    )
    table.figures = [
        Figure("rate with saves / without, median", statistics.median(ratios), bar=at_least(0.7)),
        Figure("stripes locked by a save, on average", shared.locks / shared.saves, unit="times"),
        Figure("longest hold of such a lock", shared.longest / 1e6, bar=at_most(1), unit="ms"),
        Figure("longest 16 calls with a sleep, saving", felt[True] * 1e3, unit="ms"),
        Figure("longest 16 calls with a sleep, not saving", felt[False] * 1e3, unit="ms"),
        Figure("the saver's own memory, of the segment", shared.grew / size, bar=at_most(0.05)),
        Figure("the saver's own memory", shared.grew / 1e6, unit="MB"),
    ]
    table.notes.append("the saver's processor time counts: three processes share the processors")
    return table
