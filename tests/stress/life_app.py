"""The application of the scene `server`: the store is opened and used before the workers exist.

Gunicorn imports this module in its master (--preload): there it attaches, writes, and holds a view.
Every worker is a fork of it and uses the same object. One address: it counts the request, does one
of everything, and answers who it is: {pid, number, master, whole}.

The store's name stands in LIFE_STORE. Does not: open a store in a worker, or close one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import shmkv
from tests.stress import values
from tests.stress.fork_scenes import spin
from tests.stress.values import Stamp

Start = Callable[[str, list[tuple[str, str]]], object]

store = shmkv.open(os.environ["LIFE_STORE"], create=False)
store.set("from the master", values.make(Stamp(1, 2, 3), 100_000))
store.incr("masters")
spin(store, 1, 5)
held = store.view("from the master").__enter__()  # a view is the master's, forks or not
MASTER = store._number()


def app(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
    """WSGI."""
    store.incr("requests")
    spin(store, os.getpid() % 1000, 1)
    whole = values.parse(store["from the master"]) == Stamp(1, 2, 3)
    answer = {"pid": os.getpid(), "number": store._number(), "master": MASTER, "whole": whole}
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
