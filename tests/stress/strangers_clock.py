"""The wall clock jumps by a year, forth and back: deadlines must not move.

Run with the library of failing_shim preloaded; it shifts CLOCK_REALTIME for the core's calls alone,
as setting the system's clock would. Owns the story; prints one line of JSON.

What stands: deadlines count on CLOCK_BOOTTIME, so a jump neither ends nor lengthens a life; a
moment given to expire_at is turned into a distance when it is given, and keeps that distance; age
and ttl do not see the jump. `created` of the statistics is what the wall clock said then.
"""

from __future__ import annotations

import json
import time

import shmkv
from tests.conftest import MIB, unique_name
from tests.stress.failing_shim import Shim

YEAR = 365 * 86_400
TICK = 0.005  # seconds: what a deadline is exact to


def story() -> list[str]:
    """What is wrong."""
    shim, name, wrong = Shim(), unique_name(), []
    try:
        with shmkv.open(name, size=2 * MIB) as store:
            store.set("lives", 1, ttl=100)
            store.set("for ever", 1)
            store.expire_at("for ever", time.time() + 1000)
            for jump in (YEAR, -YEAR, 10 * YEAR, 0, -1):
                shim.wall(jump)
                wrong += _look(store, jump)
            shim.wall(YEAR)
            now = time.time() + YEAR
            store.set("moment", 1)
            if (
                not store.expire_at("moment", now + 50)
                or not 45 < (store.ttl("moment") or 0) <= 50 + TICK
            ):
                wrong.append(f"expire_at in a year: {store.ttl('moment')}")
            store.expire_at("moment", now - 1)
            if "moment" in store:
                wrong.append("a moment that has passed did not remove the key")
            created = store.stats().created
        shim.wall(0)
        if abs(created - time.time()) > 60:
            wrong.append(f"created moved with the clock: {created}")
    finally:
        shim.wall(0)
        shmkv.unlink(name, missing_ok=True)
    return wrong


def _look(store: shmkv.Store, jump: int) -> list[str]:
    wrong = []
    for key, most in (("lives", 100), ("for ever", 1000)):
        left = store.ttl(key) if key in store else None
        if left is None or not most - 30 < left <= most + TICK:
            wrong.append(f"after a jump of {jump} s {key} has {left} of {most} s")
    age = store.info("lives").age
    if not 0 <= age < 30:
        wrong.append(f"after a jump of {jump} s the age is {age}")
    return wrong


if __name__ == "__main__":
    print(json.dumps(story()))
