"""What is done while a call fails: every way to enter a store, use it, grow it, and leave it.

Owns: `SCENES`. A scene is prepared without failures, acts (there the failure strikes), and is asked
to act again without. `Stage` holds the store, a witness with a handle of its own, and the bytes to
go back to, so that each case begins in the same state.

Does not: arrange failures, or judge outcomes.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import shmkv
from shmkv.inspect.layout import STRIPE
from tests.conftest import MIB, segment_path, unique_name

TIMEOUT = 0.02
Act = Callable[["Stage"], object]
SCENES: dict[str, tuple[Act | None, Act]] = {}
GROWING = ("fill", "set_extent", "set_large")  # these also on a store that takes memory as it goes


def scene(prepare: Act | None = None) -> Callable[[Act], Act]:
    """Enter a function as a scene, with what goes before it."""

    def enter(act: Act) -> Act:
        SCENES[act.__name__.strip("_")] = (prepare, act)
        return act

    return enter


class Stage:
    """A store with a past, its witness, and the way back."""

    def __init__(self, grows: bool) -> None:
        self.name = unique_name()
        self.other = unique_name()
        size = 16 * MIB if grows else 2 * MIB
        self.store = shmkv.open(self.name, size=size, max_size=size, lock_timeout=TIMEOUT)
        self.witness = shmkv.open(self.name, create=False, lock_timeout=TIMEOUT)
        self.kept: list[Any] = []
        self.calm: Callable[[], None] = lambda: None  # ends the failures, in a fork child
        self._past(grows)
        self.store.set("key", b"old")
        with segment_path(self.name).open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        self.backed = self.store._geometry()["watermark"]
        self.image = self.memory[: self.backed]

    def _past(self, grows: bool) -> None:
        store = self.store
        for i in range(300):
            store.set(f"k{i}", b"v" * (i * 7 % 400))
        store.set("text", "é" * 400)
        store.set("large", b"L" * 50_000)
        store.set("big", 1 << 300)
        if not grows:  # full: whoever needs memory must clean, an extent needs a window
            for i in range(30_000):
                store.set(f"f{i % 9000}", b"x" * (i * 13 % 300))
            store.set("text", "é" * 400)
            store.set("large", b"L" * 50_000)

    def restore(self) -> None:
        """As it was. What the store was given meanwhile it keeps: the watermark stays."""
        now = self.memory[72:80]
        self.memory[: self.backed] = self.image
        self.memory[72:80] = now

    def write(self, at: int, number: int) -> None:
        """A 32-bit word of the segment."""
        self.memory[at : at + 4] = struct.pack("<I", number)

    @property
    def stripe_locks(self) -> list[int]:
        """Where the lock words of all stripes lie."""
        g = self.store._geometry()
        return [g["off_stripes"] + i * STRIPE.size for i in range(g["stripes"])]

    def drop(self) -> None:
        """Let go of what an act has opened."""
        while self.kept:
            self.kept.pop().close()
        shmkv.unlink(self.other, missing_ok=True)

    def end(self) -> None:
        """Close and remove everything."""
        self.drop()
        self.store.close()
        self.witness.close()
        self.memory.close()
        shmkv.unlink(self.name, missing_ok=True)


@contextlib.contextmanager
def stage(grows: bool) -> Iterator[Stage]:
    """A stage that is gone afterwards."""
    made = Stage(grows)
    try:
        yield made
    finally:
        made.end()


# ---- entering and leaving -----------------------------------------------------------------------


@scene()
def create(s: Stage) -> None:
    s.kept.append(shmkv.open(s.other, size=2 * MIB, lock_timeout=TIMEOUT))
    s.kept[-1].set("k", 1)


@scene()
def create_new(s: Stage) -> None:
    s.kept.append(shmkv.open(s.other, size=2 * MIB, create="new", lock_timeout=TIMEOUT))


@scene()
def attach(s: Stage) -> None:
    s.kept.append(shmkv.open(s.name, lock_timeout=TIMEOUT))
    assert s.kept[-1]["key"] == b"old"


@scene()
def attach_only(s: Stage) -> None:
    s.kept.append(shmkv.open(s.name, create=False, lock_timeout=TIMEOUT))
    assert s.kept[-1]["key"] == b"old"


@scene()
def attach_readonly(s: Stage) -> None:
    s.kept.append(shmkv.open(s.name, readonly=True, lock_timeout=TIMEOUT))
    assert s.kept[-1]["large"] == b"L" * 50_000


def a_dead_row(s: Stage) -> None:
    """An attachment that ended without a word, and left a lock."""
    dead = shmkv.open(s.name, create=False, lock_timeout=TIMEOUT)
    for at in s.stripe_locks[:2]:
        s.write(at, dead._number())
    dead._abandon()


@scene(a_dead_row)
def attach_after_a_death(s: Stage) -> None:
    s.kept.append(shmkv.open(s.name, create=False, lock_timeout=TIMEOUT))
    s.kept[-1].set("key", b"new")


@scene()
def recreate(s: Stage) -> None:
    shmkv.open(s.other, size=2 * MIB).close()
    with segment_path(s.other).open("r+b") as file:
        file.write(b"x" * 64)
    s.kept.append(shmkv.open(s.other, size=2 * MIB, on_corrupt="recreate"))
    s.kept[-1].set("k", 1)


@scene()
def close(s: Stage) -> None:
    shmkv.open(s.name, create=False).close()


def in_a_child(body: Callable[[], object]) -> None:
    """Raise here what it raises there: memory, system or busy; anything else ends badly."""
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            try:
                body()
                code = 0
            except MemoryError:
                code = 1
            except shmkv.Busy:
                code = 3
            except OSError:
                code = 2
            except BaseException:  # noqa: BLE001 - told by the code
                code = 4
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise {1: MemoryError, 2: OSError, 3: shmkv.Busy}.get(code, AssertionError)(code)


@scene()
def fork(s: Stage) -> None:
    """A child uses its parent's store. It fails, tries again, and then it must work."""

    def body() -> None:
        try:
            s.store.set("key", b"new")
        except (MemoryError, OSError, shmkv.Busy):
            s.calm()
            try:
                s.store.set("key", b"new")
            except Exception as error:
                raise AssertionError("the child's next attempt") from error

    in_a_child(body)


# ---- using --------------------------------------------------------------------------------------


@scene()
def set_(s: Stage) -> None:
    s.store.set("key", b"new")


@scene()
def set_int(s: Stage) -> None:
    s.store.set("key", 1 << 400)


@scene()
def set_large(s: Stage) -> None:
    s.store.set("key", bytes(60_000))


@scene()
def set_extent(s: Stage) -> None:
    for _ in range(3):
        s.store.set("key", bytes(s.store.size // 9))


@scene()
def fill(s: Stage) -> None:
    """Cleans, evicts, splits, makes index pages; grows where there is room."""
    for i in range(2500):
        s.store.set(b"%d fill" % i, b"x" * (i % 900))


@scene()
def delete(s: Stage) -> None:
    s.store.delete("key")
    s.store.pop("text", None)


@scene()
def reads(s: Stage) -> None:
    assert s.store.get("text") == "é" * 400
    assert s.store.get("large") == b"L" * 50_000
    assert s.store.get("key") in (b"old", b"new")
    s.store.get_many(["text", "large", "key"])
    assert "key" in s.store
    s.store.info("key")
    s.store.ttl("key")
    s.store.gets("key")


@scene()
def changes(s: Stage) -> None:
    s.store.incr("counter")
    s.store.append("tail", b"more")
    s.store.touch("key", 50)
    s.store.touch("key", None)
    s.store.rename("key", "key 2")
    s.store.rename("key 2", "key")
    s.store.add("added", "x" * 500)
    s.store.set_many({"a": 1, "b": "two"})


@scene()
def views(s: Stage) -> None:
    """More than the pins of one row: another row is taken."""
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            assert len(stack.enter_context(s.store.view("large"))) == 50_000


@scene()
def walks(s: Stage) -> None:
    assert "key" in set(s.store.scan(prefix="k"))
    assert len(s.store) > 0
    s.store.stats()


@scene()
def check(s: Stage) -> None:
    assert s.store.check().items > 0
    s.store._compact()


@scene()
def clear(s: Stage) -> None:
    s.store.clear()


# ---- waiting ------------------------------------------------------------------------------------


def locks_of_the_dead(s: Stage) -> None:
    """All stripes are locked by one who has ended."""
    dead = shmkv.open(s.name, create=False, lock_timeout=TIMEOUT)
    number = dead._number()
    dead._abandon()
    for at in s.stripe_locks:
        s.write(at, number)


@scene(locks_of_the_dead)
def take_over(s: Stage) -> None:
    s.store.set("key", b"new")


def locks_of_the_living(s: Stage) -> None:
    """All stripes are locked by one who lives and does not move."""
    for at in s.stripe_locks:
        s.write(at, s.witness._number())


@scene(locks_of_the_living)
def wait(s: Stage) -> None:
    """Ends with Busy; then the locks are given."""
    try:
        s.store.set("key", b"new")
    finally:
        for at in s.stripe_locks:
            s.write(at, 0)
