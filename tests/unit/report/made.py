"""Stores and memories made by hand for reports: what a daemon would have remembered, odd keys.

Promises: no clock is asked; what is made is the same each time.
"""

from __future__ import annotations

import math
import random

import shmkv
from shmkv.history import Curve, Moment, Point, Remembered

NOW = 1_800_000_000.0
MARKUP = "<script>document.title='broken'</script>"
ODD_KEYS: tuple[str | bytes, ...] = (
    MARKUP,
    "<img src=x onerror=alert(1)>:1",
    "W" * 60_000,
    b"\xff\x00\x1b[2Jbinary:" + b"\xfe" * 300,
    "m" * 200 + ":x",
    "{{ 7 * 7 }}:{% raw %}",
    "\u202egnp.exe \u05d0\u05d1",
    "&amp;:\"quoted\" 'twice'",
)


def moments(*, until: float, hours: float = 48.0, low: float = 0.72) -> tuple[Moment, ...]:
    """Days that rise and fall; the newest moments are the shortest, and one is missing."""
    found, at, rnd = [], until - hours * 3600, random.Random(7)
    while at < until - 1:
        left = until - at
        seconds = min(600.0 if left > 86_400 else 120.0 if left > 3600 else 20.0, left)
        wave = math.sin(at / 86_400 * 2 * math.pi)
        reads = int(seconds * (2000 + 1500 * wave))
        hits = int(reads * (low + 0.1 * (1 + math.sin(at / 9000)) + 0.03 * rnd.random()))
        evicted = int(seconds * (30 + 20 * wave))
        found.append(
            Moment(
                at, seconds, hits, reads - hits, reads // 9, 3, evicted, 5, 9_000, 1 << 20, 1 << 21
            )
        )
        at += seconds
    del found[len(found) // 3]
    return tuple(found)


def curve(size: int, *, until: float) -> Curve:
    """Steps of half a doubling, from a quarter of the size to eight times it."""
    points = [Point(int(size * 2 ** (k / 2)), 0.95 - 0.3 * 2 ** (-k / 3.3)) for k in range(-4, 7)]
    return Curve(until - 7200, until, 0.01, 12_345, 1_234_567, size, 0.651, tuple(points))


def remembered(size: int, *, until: float = NOW) -> Remembered:
    """A history and a curve."""
    return Remembered(moments(until=until), curve(size, until=until))


def fill(store: shmkv.Store, count: int) -> None:
    """Users and pages with and without deadlines, some of them read, some deleted."""
    rnd = random.Random(1)
    for i in range(count):
        key = f"user:{i}" if i % 3 else f"page:/{i % 7}/{i}"
        ttl = None if i % 2 else rnd.randrange(60, 10_000)
        store.set(key, b"x" * int(rnd.lognormvariate(5, 1.5)), ttl=ttl)
        if i % 5 == 0:
            store.get(f"user:{rnd.randrange(i + 1)}")
    for i in range(0, count // 4, 3):
        store.delete(f"user:{i + 1}")


def fill_oddly(store: shmkv.Store) -> None:
    """Keys that would break a page that did not escape them, or were not cut."""
    for number, key in enumerate(ODD_KEYS):
        store.set(key, b"y" * (20_000 - number))
    for number in range(50):
        store.set(f"<b>bold</b>&nbsp;:{number}", number)
        store.set(f"{'w' * 39}:{number}", number)
        store.set(b"\xff\x1b\x07-%d" % number, number)
