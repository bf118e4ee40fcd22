"""The interpreter's n-th allocation fails inside a call of the store, n = 1, 2, 3 …

Owns: the same question as failing.py, asked of the glue between Python and the core: every object
it makes may be refused. Uses `_testcapi.set_nomemory`, which fails allocations of the interpreter
only; the core's own are failing.py's matter.

Promises: a call ends with its result or MemoryError, the process lives, the store is sound, and the
next call works. Does not: fail allocations outside the calls listed here.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import shmkv
from shmkv import _core
from tests.conftest import segment_path
from tests.stress.failing_scenes import Stage

MOST = 300


def attach(path: str, *, readonly: bool) -> None:
    """The core's part of it: posix_ipc 1.3 itself does not survive a refused allocation."""
    fd = os.open(path, os.O_RDONLY if readonly else os.O_RDWR)
    made = _core.attach(shmkv.Store, "attached", fd, "/unused", None, readonly, 1.0, False)
    assert isinstance(made, shmkv.Store)
    made.close()


def calls(store: shmkv.Store) -> dict[str, Callable[[], object]]:
    """One line each: what may be called."""
    keys, path = ["key", "text", "large"], str(segment_path(store.name))
    return {
        "get": lambda: store.get("key"),
        "get str": lambda: store.get("text"),
        "get large": lambda: store.get("large"),
        "get big int": lambda: store.get("big"),
        "get missing": lambda: store.get("nothing"),
        "gets": lambda: store.gets("key"),
        "get_many": lambda: store.get_many(keys),
        "set": lambda: store.set("key", b"new"),
        "set str": lambda: store.set("text", "é" * 400),
        "set big int": lambda: store.set("big", 1 << 300),
        "set from memory": lambda: store.set("key", memoryview(b"abcdef")[::2]),
        "set ttl": lambda: store.set("key", 1, ttl=5),
        "set_many": lambda: store.set_many({"a": 1, "b": 1.5}),
        "delete_many": lambda: store.delete_many(["a", "b"]),
        "incr": lambda: store.incr("counter"),
        "append": lambda: store.append("tail", b"x"),
        "pop": lambda: store.pop("a", None),
        "view": lambda: store.view("large").__enter__().release(),
        "scan": lambda: list(store._scan(None)),
        "ttl": lambda: store.ttl("key"),
        "info": lambda: store._info("key"),
        "stats": store._stats,
        "check": store._check,
        "geometry": store._geometry,
        "attach": lambda: attach(path, readonly=False),
        "readonly": lambda: attach(path, readonly=True),
    }


def _one(testcapi: Any, call: Callable[[], object], nth: int) -> BaseException | None:
    """Run it with the nth allocation failing; what it raised."""
    raised: BaseException | None = None
    testcapi.set_nomemory(nth, nth + 1)
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - looked at when memory is back
        raised = error
    finally:
        testcapi.remove_mem_hooks()
    return raised


def python_memory(s: Stage, full: bool) -> tuple[list[str], int]:
    """Findings and number of cases."""
    try:
        testcapi: Any = importlib.import_module("_testcapi")
    except ImportError:
        print("NOT RUN: this Python has no _testcapi to fail its allocations", flush=True)
        return [], 0
    found, cases = [], 0
    for name, call in calls(s.store).items():
        call()
        quiet = 0
        for nth in range(MOST * (10 if full else 1)):
            print(f"@ python:{name} allocation {nth}", flush=True)
            raised = _one(testcapi, call, nth)
            cases += 1
            if not isinstance(raised, MemoryError | None):
                found.append(f"python:{name} allocation {nth}: {raised!r}")
            quiet = quiet + 1 if raised is None else 0
            if quiet > 30:  # beyond the call's own allocations
                break
        s.store.set("key", b"old")
        if not s.witness.check().ok:
            found.append(f"python:{name}: the store is not sound")
    return found, cases
