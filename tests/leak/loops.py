"""Loops that must leave a process as they found it; run in a fresh interpreter by test_leaks.py.

`python -m tests.leak.loops LOOP STORE` warms up, counts, loops, counts again, and prints one JSON
object {loop, n, rss, fds, shm, maps, objects}: what is more than before, in bytes and pieces. It
judges nothing.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import shmkv
from tests.stress.support import die_with_parent

PAGE = os.sysconf("SC_PAGE_SIZE")
REFUSED = (shmkv.Error, AttributeError, KeyError, TypeError, ValueError, OverflowError)
LARGE = b"v" * 100_000
TURNS = int(os.environ.get("SHMKV_LEAK_TURNS") or 2_000)


def private_bytes() -> int:
    """Resident bytes that are this process's own: the segment's pages do not count."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * PAGE


def count(name: str) -> dict[str, int]:
    """What a process can leak."""
    gc.collect()
    return {
        "rss": private_bytes(),
        "fds": len(os.listdir("/proc/self/fd")),
        "shm": sum(name in entry for entry in os.listdir("/dev/shm")),
        "maps": sum("shmkv" in line for line in open("/proc/self/maps")),
        "objects": len(gc.get_objects()),
    }


Call = Callable[[Any], object]  # of a store, wrongly at times


def _good_calls() -> tuple[Call, ...]:
    return (
        lambda s: s.set("k", b"v" * 100), lambda s: s.set("large", LARGE),
        lambda s: s.set("s", "é"),
        lambda s: s.set("i", 5), lambda s: s.set("b", 1 << 200), lambda s: s.set("f", 1.5),
        lambda s: s.set("t", b"t", ttl=100), lambda s: s.set("v", bytearray(b"x" * 300)),
        lambda s: s.set("v", memoryview(b"x" * 300)[::2]), lambda s: s.get("k"),
        lambda s: s.get("large"), lambda s: s.get("s"), lambda s: s.get("i"), lambda s: s.get("b"),
        lambda s: s.get("f"), lambda s: s.get("missing"), lambda s: s.get("missing", 5),
        lambda s: "k" in s, lambda s: len(s), lambda s: s.add("a", 1), lambda s: s.replace("a", 2),
        lambda s: s.delete("a"), lambda s: s.gets("large"),
        lambda s: s.cas("k", b"w", s.gets("k")[1]),
        lambda s: s.incr("i"), lambda s: s.decr("i", 3), lambda s: s.incr("new", ttl=5),
        lambda s: s.append("t", b"tail") if s.info("t").size < 500 else s.delete("t"),
        lambda s: s.touch("k", 50), lambda s: s.touch("k", None), lambda s: s.ttl("k"),
        lambda s: s.expire_at("k", 4e9), lambda s: s.rename("v", "w"), lambda s: s.pop("w"),
        lambda s: s.pop("w", None), lambda s: s.get_many(["k", "large", "missing"]),
        lambda s: s.set_many({"m": 1, "n": b"n" * 50_000}),
        lambda s: s.delete_many(["m", "n", "o"]),
        lambda s: list(s), lambda s: next(s.scan(prefix="k")), lambda s: list(s.scan(match="k*")),
        lambda s: list(s.items()), lambda s: s.update_with("i", lambda v: v + 1, default=0),
        lambda s: s.setdefault("k", 1), lambda s: s.info("k"), lambda s: s.stats(),
        lambda s: s.name and s.size and repr(s), lambda s: bytes(_view(s, "large")[:10]),
        lambda s: _view(s, "k"), lambda s: iter(s.values()), lambda s: s._raw().release(),
        lambda s: s._rows(), lambda s: s._memory(), lambda s: s._state("k"),
        lambda s: s._state("missing"), lambda s: s._heat(None, 2), lambda s: s._heat(b"k", 9),
        lambda s: s._count(["k", "s", "missing"], 1, 0, 0),
    )  # fmt: skip


def _view(store: shmkv.Store, key: str) -> memoryview:
    with store.view(key) as view:
        return memoryview(bytes(view))


def _bad_calls() -> tuple[Call, ...]:
    surrogate = "\ud800"
    return (
        lambda s: s["missing"], lambda s: s.pop("missing"), lambda s: s.gets("missing"),
        lambda s: s.ttl("missing"), lambda s: s.info("missing"), lambda s: s.rename("missing", "x"),
        lambda s: s.view("missing").__enter__(), lambda s: s.view("i").__enter__(),
        lambda s: s.incr("missing", default=None), lambda s: s.incr("k"),
        lambda s: s.incr("i", 1.5),
        lambda s: s.incr("i", 1 << 70), lambda s: s.incr("i", (1 << 63) - 1), lambda s: s.incr("b"),
        lambda s: s.append("k", "text"), lambda s: s.append("i", b"x"), lambda s: s.append("k", 5),
        lambda s: s.set("k", object()), lambda s: s.set("k", [1]), lambda s: s.set(5, 1),
        lambda s: s.set("", 1), lambda s: s.set("x" * 70_000, 1), lambda s: s.set(surrogate, 1),
        lambda s: s.set("k", surrogate), lambda s: s.set("k", 1, ttl=-1), lambda s: s.set("k"),
        lambda s: s.set("k", 1, ttl="x"), lambda s: s.set("k", 1, nonsense=1),
        lambda s: s.set("k", bytes(4 << 20)), lambda s: s.touch("k", float("nan")),
        lambda s: s.expire_at("k", "x"), lambda s: s.cas("k", 1, "token"),
        lambda s: s.cas("k", 1, 1 << 200), lambda s: s.cas("k", object(), 1),
        lambda s: s.get_many(5), lambda s: s.get_many(["k", "large", 5]), lambda s: s.set_many(5),
        lambda s: s.set_many({"k": 1, "l": object()}), lambda s: s.delete_many(["k", 5]),
        lambda s: s.scan(prefix=5), lambda s: s.scan(match=5), lambda s: s.get(),
        lambda s: s.get("k", 1, 2),
        lambda s: s.update_with("k", lambda v: 1 / 0), lambda s: s.update_with("missing", len),
        lambda s: shmkv.open(s.name, create="new"), lambda s: shmkv.open(s.name, size=3 << 20),
        lambda s: shmkv.open("no/name"), lambda s: shmkv.open(f"{s.name}-none", create=False),
        lambda s: _closed(s.name).get("k"), lambda s: type(s)(),
        lambda s: s._state(5), lambda s: s._heat("k", 0), lambda s: s._heat(5, 1),
        lambda s: s._count(["k", 5], 1, 0, 0), lambda s: s._count(("k",), 1, 0, 0),
        lambda s: _closed(s.name)._rows(), lambda s: _closed(s.name)._heat(None, 1),
    )  # fmt: skip


def _closed(name: str) -> shmkv.Store:
    store = shmkv.open(name, create=False)
    store.close()
    return store


def _repeat(calls: tuple[Call, ...], store: shmkv.Store, turns: int) -> int:
    for _ in range(turns):
        for call in calls:
            with suppress(*REFUSED, ZeroDivisionError):
                call(store)
    return turns * len(calls)


def good(name: str, turns: int) -> int:
    """Every operation, as it succeeds."""
    with shmkv.open(name, create=False) as store:
        return _repeat(_good_calls(), store, turns)


def bad(name: str, turns: int) -> int:
    """Every way to be refused."""
    with shmkv.open(name, create=False) as store:
        store.set_many({"k": b"v", "large": LARGE, "i": 5, "b": 1 << 200})
        return _repeat(_bad_calls(), store, turns)


def handles(name: str, turns: int) -> int:
    """Open and close; drop without closing; create and unlink."""
    for turn in range(turns):
        store = shmkv.open(name, create=False, readonly=turn % 5 == 0)
        store.get("k")
        if turn % 3:
            store.close()
        del store
        if turn % 4 == 0:
            shmkv.open(f"{name}-{turn}", size=2 << 20).close()
            shmkv.unlink(f"{name}-{turn}")
    return turns


def forks(name: str, turns: int) -> int:
    """The parent of many children: those that leave, and those that are killed."""
    number = max(1, turns * 3 // 20)
    with shmkv.open(name, create=False) as store:
        for turn in range(number):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    die_with_parent()
                    store.set("large", LARGE)
                    store.get("large")
                    if turn % 3 == 0:
                        store.view("large").__enter__()
                    if turn % 3 == 1:
                        store.close()
                    code = 0
                finally:
                    os._exit(code)
            store.incr("i")
            assert os.waitpid(pid, 0)[1] == 0
    return number


def views(name: str, turns: int) -> int:
    """Many views at once, of values that are replaced meanwhile; more than the pins of one row."""
    with shmkv.open(name, create=False) as store:
        for _ in range(max(1, turns // 20)):
            store.set("large", LARGE)
            held = [store.view("large").__enter__() for _ in range(70)]
            store.set("large", LARGE)
            for view in held:
                view.release()
        assert store.stats().attached <= 5
    return turns


LOOPS = {loop.__name__: loop for loop in (good, bad, handles, forks, views)}


def main() -> None:
    """Warm up with a tenth, then measure."""
    loop, name = LOOPS[sys.argv[1]], sys.argv[2]
    loop(name, max(20, TURNS // 10))
    before, started = count(name), time.monotonic()
    n = loop(name, TURNS)
    after = count(name)
    more: dict[str, Any] = {what: after[what] - before[what] for what in after}
    print(json.dumps({"loop": sys.argv[1], "n": n, **more, "s": time.monotonic() - started}))


if __name__ == "__main__":
    main()
