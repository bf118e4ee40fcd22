"""The storm finds what is wrong: planted mistakes, a store that breaks, a semaphore that hangs.

Owns: the smoke form of the benchmark as a test, and the proof that its judgement can fail. Does
not: judge any alternative; what they do stands in results.md.
"""

import json
import mmap
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.survival import values
from tests.bench.survival.outcome import BROKEN, STORM, Outcome
from tests.bench.survival.peer import Ops
from tests.bench.survival.report import document, plain
from tests.bench.survival.stores import Semaphore, all_stores
from tests.bench.survival.storm import run
from tests.bench.survival.worker import Worker

ROOT = Path(__file__).parents[3]
SHM = Path("/dev/shm")
LIMIT_S = 200  # of the smoke form; on an idle machine it needs 10


def tables() -> set[str]:
    """What a semaphore table leaves if it is not removed."""
    return {entry.name for entry in SHM.glob("*-table")}


@pytest.mark.timeout(LIMIT_S + 40)
def test_smoke() -> None:
    """shmkv survives everything, the semaphore table does not survive its first holder."""
    before = tables()
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.survival", "--smoke"],
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "**Nothing went wrong** with shmkv:" in done.stdout
    assert "**semaphore table** stood still" in done.stdout
    assert tables() <= before


class Breaking(Semaphore):
    """A store that raises whatever it is asked, once every key has its first value."""

    name = "breaking"

    def __init__(self) -> None:
        self._left = memoryview(mmap.mmap(-1, 8)).cast("q")  # seen by all; only who fills writes
        self._left[0] = values.SLOTS * values.OWN

    def attach(self) -> Ops:
        ops, left = super().attach(), self._left

        def asked(more: int) -> None:
            if not left[0]:
                raise RuntimeError("broken")
            left[0] -= more

        def put(key: str, value: bytes) -> None:
            asked(1)
            ops.put(key, value)

        def get(key: str) -> object:
            asked(0)
            return ops.get(key)

        def delete(key: str) -> bool:
            asked(0)
            return ops.delete(key)

        return replace(ops, put=put, get=get, delete=delete, incr=None)


def test_a_broken_store_is_found() -> None:
    before = tables()
    out = run(Breaking(), 20, 1.0, 1.0, 1)
    assert out.stops, out
    assert out.stops[0][0] == BROKEN
    assert out.errors.total() > 0
    assert not out.sound
    assert tables() <= before


# ---- planted mistakes ---------------------------------------------------------------------------


class Scene:
    """Workers of every slot over a plain dict."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.table = values.Table()
        self.ear, self.mouth = os.pipe2(os.O_NONBLOCK)
        self.ops = Ops(self.data.get, self.data.__setitem__, self._delete)
        self.workers = [
            Worker(lambda: self.ops, self.table, slot, self.mouth) for slot in range(values.SLOTS)
        ]
        for worker in self.workers:
            assert worker.open()
            for _ in range(3):
                for i in range(values.OWN):
                    worker.put(i)

    def _delete(self, key: str) -> bool:
        return self.data.pop(key, None) is not None

    def kinds(self) -> list[int]:
        """What was noted since the last time."""
        return [event.kind for event in self.table.fresh()]

    def owner(self) -> list[int]:
        """What the owner of key 0 finds."""
        self.workers[0].check(0)
        return self.kinds()

    def others(self) -> list[int]:
        """What another finds who reads for a while."""
        rng = random.Random(1)
        for _ in range(20 * values.SLOTS * values.OWN):
            self.workers[1].read_any(rng)
        return sorted(set(self.kinds()))


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    os.close(made.ear)
    os.close(made.mouth)


NAME = values.key_name(0)


def older(scene: Scene) -> None:
    scene.data[NAME] = values.make(0, 2)


def newer(scene: Scene) -> None:
    scene.data[NAME] = values.make(0, 4)


def removed(scene: Scene) -> None:
    del scene.data[NAME]


def foreign(scene: Scene) -> None:
    scene.data[NAME] = values.make(1, 3)


def cut(scene: Scene) -> None:
    scene.data[NAME] = scene.data[NAME][:-1]


@pytest.mark.parametrize(
    ("plant", "owners", "others"),
    [
        (older, values.LOST, values.STALE),
        (newer, values.LOST, values.STALE),
        (removed, values.LOST, values.STALE),
        (foreign, values.TORN, values.TORN),
        (cut, values.TORN, values.TORN),
    ],
)
def test_what_is_planted_is_found_once(
    scene: Scene, plant: Callable[[Scene], None], owners: int, others: int
) -> None:
    assert scene.owner() == []
    assert scene.others() == []
    plant(scene)
    assert scene.others() == [others]
    assert scene.owner() == [owners]
    assert scene.owner() == []  # it is unsure now, and nobody's fault any more
    scene.workers[0].put(0)
    assert scene.owner() == []
    assert scene.others() == []


def test_every_mixture_is_torn() -> None:
    old, new = values.make(5, 1), values.make(5, 2)
    for at in range(1, max(len(old), len(new))):
        mixed = new[:at] + old[at:]
        if mixed not in (old, new):
            with pytest.raises(values.Torn):
                values.parse(mixed, 5)
    for seq in (1, 2, 3):
        assert values.parse(values.make(5, seq), 5) == seq


@pytest.mark.parametrize("landed", [False, True])
def test_what_was_begun_may_be_there_or_not(scene: Scene, landed: bool) -> None:
    worker, desk = scene.workers[0], scene.table.desks[0]
    for _ in range(2 * values.CYCLE):
        seq = desk.begun[0] = desk.acked[0] + 1
        if landed and values.present(seq):
            scene.data[NAME] = values.make(0, seq)
        elif landed:
            del scene.data[NAME]
        assert worker.settle(0)
        assert desk.acked[0] == desk.begun[0] == (seq if landed else seq - 1)
        worker.put(0)
    assert scene.kinds() == []


def test_what_raises_is_counted_and_leaves_the_key_open(scene: Scene) -> None:
    worker, desk = scene.workers[0], scene.table.desks[0]

    def refuse(key: str, value: bytes) -> None:
        scene.data[key] = value
        raise OSError("after it was done")

    worker.ops = replace(scene.ops, put=refuse)
    worker.put(0)
    assert desk.misc[values.FAILED] == 1
    assert os.read(scene.ear, 1000) == b"set: OSError: after it was done\n"
    assert desk.begun[0] == desk.acked[0] + 1 == 4
    worker.ops = scene.ops
    assert worker.settle(0)
    assert desk.acked[0] == 4
    assert scene.kinds() == []


# ---- words --------------------------------------------------------------------------------------


def test_the_page_tells_what_was_counted() -> None:
    good = Outcome("good", "as it is", "1", 10, kills=30, inside=10)
    bad = Outcome("bad", "as it is", "1", 10, kills=12, inside=8, stops=[("hang", 7, "6 in set")])
    bad.wrong[STORM, values.TORN] = 3
    bad.increments["lost"] = 2
    assert good.sound
    assert not bad.sound
    where = json.loads(
        '{"date": "d", "machine": "m", "memory": "g", "python": "p", "command": "c", "seconds": 1,'
        ' "load_before": 0, "load_after": 0, "kills": 10, "limit": 1, "hang": 5}'
    )
    page = document(where, [good, bad], {"other": "not installed"})
    assert "| good | 30 (10) | none in 30 kills | 0 | 0 | 0 | 0 | 0 | 0 ms (0 ms) |" in page
    assert "| bad | 12 (8) | at kill 7 | 1 | 0 | 0 | 3 | 2 increments; all out of reach" in page
    assert "**Nothing went wrong** with good:" in page
    assert "7 (6 in set)" in page
    assert "other: not installed" in page


def test_messages_are_told_apart_by_what_they_say() -> None:
    assert plain("get: E: at 0x7f12 of 17 in b'\\x00|'") == "get: E: at N of N in …"


def test_every_store_has_a_name_of_its_own() -> None:
    names = [store.name for store in all_stores()]
    assert len(set(names)) == len(names) == 11
    assert not [name for name in names if "," in name]  # --peers takes them with commas
