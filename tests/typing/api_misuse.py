"""What a strict type checker must refuse: each line carries the error it has to raise.

Read by the type checker with unused ignores as errors, never run. A line whose mistake is no
longer found fails the test.
"""

from __future__ import annotations

import shmkv


def opening() -> None:
    shmkv.open(5)  # type: ignore[arg-type]
    shmkv.open("web", "256MiB")  # type: ignore[call-arg]
    shmkv.open("web", size=1.5)  # type: ignore[arg-type]
    shmkv.open("web", sise=5)  # type: ignore[call-arg]
    shmkv.open("web", create="maybe")  # type: ignore[arg-type]
    shmkv.open("web", on_mismatch="ignore")  # type: ignore[arg-type]
    shmkv.unlink(b"web")  # type: ignore[arg-type]


def keys(store: shmkv.Store) -> None:
    store.set(5, b"v")  # type: ignore[arg-type]
    store.get(None)  # type: ignore[arg-type]
    store[5]  # type: ignore[index]
    store.incr(1)  # type: ignore[arg-type]
    store.set_many({5: 1})  # type: ignore[type-var]
    store.delete_many([5])  # type: ignore[list-item]


def options(store: shmkv.Store) -> None:
    store.set("k", b"v", 5)  # type: ignore[call-arg]
    store.set("k", b"v", ttl="5")  # type: ignore[arg-type]
    store.touch("k")  # type: ignore[call-arg]
    store.incr("k", 1.5)  # type: ignore[arg-type]
    store.incr("k", 1, 5)  # type: ignore[call-arg]
    store.append("k", 5)  # type: ignore[call-overload]
    store.cas("k", b"v")  # type: ignore[call-arg]
    store.scan("prefix")  # type: ignore[call-arg]
    store.update_with("k", 5)  # type: ignore[arg-type]


def results(store: shmkv.Store) -> None:
    store.closed = True  # type: ignore[misc]
    store.stats().hits = 5  # type: ignore[misc]
    store.info("k").size = 5  # type: ignore[misc]
    wrong: str = store.incr("n")  # type: ignore[assignment]
    print(wrong)
