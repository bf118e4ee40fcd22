"""Items as lines of JSON, one item a line: the streams behind `shmkv export` and `shmkv import`.

    {"key": "page:/", "value": {"$bytes": "PGh0bWw+"}, "expires": 1795363125.42}

Owns: the line of an item (`Line`, `write`, `read`) and the streams over a store (`dump`, `load`).
Keys are text or `$bytes`, values have the forms of `export.py`, `expires` is Unix seconds and left
out where an item has no deadline. Deadlines are wall-clock time: they pass while a file lies.

Promises: one item at a time is in memory. Whatever a line says too much, too little or wrongly is a
`BadLine` with its number; nothing is skipped unless the caller says so.

Does not: open files, choose stores, or print.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from shmkv.errors import Busy, CodecError, Full, TooLarge
from shmkv.inspect.export import dumps, from_json, loads, to_json
from shmkv.store import Store
from shmkv.types import Key

KEY_MAX = 65_535
TTL_LEAST = 0.001  # seconds: the store's clock counts milliseconds
SAME_DEADLINE = 0.02  # seconds that two looks at one deadline may differ
EXACT_S = 0.005  # between two looks at the wall clock that stand for the moment between them
EXPIRES_MOST = 2.8e11  # the year 10842: the store's clock ends there
LOOKS = 1000

Clock = Callable[[], float]


class Line(NamedTuple):
    """An item on its way."""

    key: Key
    value: Any
    expires: float | None  # Unix seconds; None: never


class BadLine(ValueError):
    """A line that is no item; the message begins with its number."""


@dataclass(slots=True)
class Loaded:
    """What became of the lines."""

    stored: int = 0
    """Items stored."""
    expired: int = 0
    """Items whose deadline had passed."""
    refused: int = 0
    """Items the store refused: too large, full, or of a codec that it does not take."""
    bad: int = 0
    """Lines that are no items."""


def write(line: Line) -> str:
    """A line's text, without the newline. ValueError: its value has no JSON form."""
    form: dict[str, Any] = {"key": to_json(line.key), "value": to_json(line.value)}
    if line.expires is not None:
        form["expires"] = round(line.expires, 3)
    return dumps(form)


def read(text: str | bytes) -> Line:
    """The item of a line. ValueError says what is wrong."""
    form = loads(text)
    if type(form) is not dict:
        raise ValueError("an item must be an object")
    for name in ("key", "value"):
        if name not in form:
            raise ValueError(f"an item lacks {name!r}")
    for name in sorted(form.keys() - {"key", "value", "expires"}):
        raise ValueError(f"an item has an unknown field {name!a:.60}")
    key = from_json(form["key"])
    if type(key) is not str and type(key) is not bytes:
        raise ValueError("a key must be text or $bytes")
    if not 1 <= len(key.encode() if isinstance(key, str) else key) <= KEY_MAX:
        raise ValueError(f"a key must have 1 to {KEY_MAX} bytes")
    return Line(key, from_json(form["value"]), _expires(form))


def _expires(form: Any) -> float | None:
    if "expires" not in form:
        return None
    expires = form["expires"]
    if type(expires) not in (int, float) or not abs(expires) < EXPIRES_MOST:
        raise ValueError("expires must be Unix seconds")
    return float(expires)


def dump(
    store: Store, keys: Iterable[Key] | None = None, *, now: Clock = time.time
) -> Iterator[Line]:
    """The items of the keys, of all by default; what goes meanwhile is left out."""
    for key in store.scan() if keys is None else keys:
        try:
            value, expires = _look(store, key, now)
        except KeyError:
            continue
        yield Line(key, value, expires)


def _look(store: Store, key: Key, now: Clock) -> tuple[Any, float | None]:
    """A value and its own deadline: the deadline is the same before and after the value is read.

    Time that passes between the readings of two clocks would move the deadline: look again then.
    """
    ttl = store.ttl(key)
    for _ in range(LOOKS):
        before, seen = ttl, time.monotonic()
        value = store._get_encoded(key)
        at = now()
        ttl = store.ttl(key)
        late = now() - at
        if before is None or ttl is None:
            if before is ttl:
                return value, None
        elif abs(late) <= EXACT_S and (
            abs(before - ttl) <= time.monotonic() - seen + SAME_DEADLINE
        ):
            return value, at + ttl
    raise Busy(f"store {store.name!r}: the deadline of {key!r:.80} changes faster than it is read")


def load(
    store: Store,
    lines: Iterable[bytes | str],
    counts: Loaded,
    *,
    on_bad: Callable[[BadLine], None] | None = None,
    on_refused: Callable[[int, Key, Exception], None] | None = None,
    now: Clock = time.time,
) -> None:
    """Store the items of the lines; `counts` tells how far it came, also when it raises.

    A bad line raises BadLine, or goes to `on_bad`. A refused item goes to `on_refused`, or the
    refusal is raised. Blank lines count as nothing.
    """
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = read(text)
        except ValueError as error:
            counts.bad += 1
            bad = BadLine(f"line {number}: {error}")
            if on_bad is None:
                raise bad from None
            on_bad(bad)
            continue
        ttl = None if line.expires is None else line.expires - now()
        if ttl is not None and ttl < TTL_LEAST:
            counts.expired += 1
            continue
        try:
            store.set(line.key, line.value, ttl=ttl)
        except (TooLarge, Full, CodecError) as error:
            counts.refused += 1
            if on_refused is None:
                raise
            on_refused(number, line.key, error)
        else:
            counts.stored += 1
