"""From diskcache to shmkv: the same calls side by side, run and compared.

`Cache(directory)` is `open(name, size=...)`, `expire=` is `ttl=`, keys are str or bytes, and values
keep their types without pickle. What differs in kind: diskcache keeps its data on disk over
restarts and pays for files and transactions; a store is memory, shared while the machine runs. If
diskcache is not installed, the right-hand side is shown alone.
"""

import functools
import os
import tempfile
from collections.abc import Callable
from typing import Any

import shmkv

try:
    from diskcache import Cache  # type: ignore
except ImportError:
    print("diskcache is not installed: this shows the shmkv half.")
    Cache = None

NAME = f"from-diskcache-{os.getpid()}"

CALLS = [  # diskcache, shmkv, what both give; `set` of shmkv gives nothing: it stores or raises
    ('cache.set("k", [1, "two"])', 'store.set("k", [1, "two"])', True),
    ('cache["k"]', 'store["k"]', [1, "two"]),
    ('cache.get("none", 5)', 'store.get("none", 5)', 5),
    ('cache.set("e", 1, expire=60)', 'store.set("e", 1, ttl=60)', True),
    ('cache.touch("e", expire=90)', 'store.touch("e", 90)', True),
    ('cache.add("k", 2, expire=60)', 'store.add("k", 2, ttl=60)', False),
    ('cache.incr("n", 2)', 'store.incr("n", 2)', 2),
    ('cache.decr("n")', 'store.decr("n")', 1),
    ('cache.pop("n")', 'store.pop("n")', 1),
    ('cache.delete("e")', 'store.delete("e")', True),
    ('"e" in cache', '"e" in store', False),
    ("len(cache)", "len(store)", 1),
    ("cache.memoize(expire=60)(slow)(6)", "memoize(store, ttl=60)(slow)(6)", 42),
    ("cache.clear()", "store.clear()", 2),
]


def slow(number: int) -> int:
    """Something worth keeping."""
    return number * 7


def memoize(store: shmkv.Store, ttl: float) -> Callable[..., Callable[..., Any]]:
    """diskcache's decorator: results are kept under the function's name and its arguments."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            key = f"{function.__module__}.{function.__qualname__}{args!r}"
            value = store.get(key, shmkv.MISSING)  # None may be a result
            if value is shmkv.MISSING:
                value = function(*args)
                store.set(key, value, ttl=ttl)
            return value

        return wrapper

    return decorate


with tempfile.TemporaryDirectory() as folder, shmkv.open(NAME, size="4MiB") as store:
    shmkv.unlink(NAME)  # nobody else is to open it by name; it goes with the last handle
    cache = None if Cache is None else Cache(folder)
    for left, right, expected in CALLS:
        print(f"{left if cache is not None else '':36} {right:34} {expected}")
        results = [eval(right), expected if cache is None else eval(left)]
        assert results in ([expected, expected], [None, expected])
    if cache is not None:
        cache.close()
