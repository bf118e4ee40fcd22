"""Runs inside uWSGI (`--pyrun uwsgi_host.py --pyargv work.json`): fills its cache, takes one turn.

The workers are forked from here and run the loops of `work.py` over `uwsgi.cache_*`, in the Python
that uWSGI has. The answer goes to the file that the work names.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.bench.keys import make_keys as make_long_keys
from tests.bench.peers.team import Failed, take_turn
from tests.bench.peers.work import (
    COUNTER,
    Access,
    Plan,
    make_draws,
    make_pairs,
    written_value,
)

uwsgi: Any = importlib.import_module("uwsgi")  # there inside uWSGI only


def fill(work: dict[str, Any]) -> int:
    """Store every pair; returns how many were taken."""
    keys, size = work["keys"], work["value_bytes"]
    if work["mixes"] is None:  # the memory measurement has longer keys
        value = written_value(size)
        return sum(bool(uwsgi.cache_update(key, value)) for key in make_long_keys(keys))
    return sum(bool(uwsgi.cache_update(key, value)) for key, value in make_pairs(keys, size))


def attach() -> Access:
    """The cache's functions; its counters are read as numbers."""
    return Access(
        uwsgi.cache_get,
        uwsgi.cache_update,
        lambda pairs: None,
        uwsgi.cache_inc,
        lambda: int(uwsgi.cache_num(COUNTER)),
    )


def turn(work: dict[str, Any]) -> dict[str, Any]:
    """Figures, or why there are none."""
    plan = Plan(tuple(work["mixes"]), work["seconds"], work["latency_seconds"])
    draws, value = make_draws(work["workers"], work["keys"]), written_value(work["value_bytes"])
    try:
        return {"figures": take_turn(attach, plan, draws, value)}
    except Failed as failed:
        return {"failed": str(failed)}


def main(spec: str) -> None:
    """Do the work and leave: uWSGI itself has nothing to serve."""
    work = json.loads(Path(spec).read_text())
    answer: dict[str, Any] = {"filled": fill(work)}
    if answer["filled"] != work["keys"]:
        answer["failed"] = f"the cache took {answer['filled']} of {work['keys']}"
    elif work["mixes"] is not None:
        answer.update(turn(work))
    Path(work["out"]).write_text(json.dumps(answer))
    os._exit(0)


main(sys.argv[1])
