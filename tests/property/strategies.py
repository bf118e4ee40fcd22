"""What the state machine draws: keys, values, times; and what counts as the same value.

Sizes lie around the borders of the store: 32 KiB (pins), 64 KiB (pages), 256 KiB (extents). Values
that are large are drawn as `Large`, one line long, and made when they are used.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import hypothesis.strategies as st

from tests.model import INT64_MAX, INT64_MIN

KEYS: list[str | bytes] = [
    "a",
    b"a",
    "b",
    "bc",
    "caf\u00e9",
    "caf\u00e9".encode(),
    b"\xff\x00",
    "k" * 70,
    b"K" * 90,
]
BORDERS = [0, 1, 16, 100, 4096, 32_768, 65_536, 262_144]
STEP = 100  # seconds; ttls lie half a step off, so nothing is ever due at a moment we look

# A few keys get most of the steps, so that things happen to one item one after another.
_DRAWN = KEYS[:3] * 4 + KEYS
keys = st.integers(0, len(_DRAWN) - 1).map(_DRAWN.__getitem__)
handles = st.sampled_from(["one", "two"])
readers = st.sampled_from(["one", "two", "reader"])
ttls = st.sampled_from([None, None, 0.5 * STEP, 1.5 * STEP, 10.5 * STEP])
sizes = st.builds(
    lambda border, off: max(0, border + off), st.sampled_from(BORDERS), st.integers(-20, 20)
)


class Large(NamedTuple):
    """A value that is told in one line: failing runs must stay readable."""

    kind: type
    size: int
    seed: int

    def make(self) -> str | bytes:
        """The value: `size` bytes, or a `str` of as many bytes in UTF-8."""
        if self.kind is bytes:
            return (b"%d/" % self.seed * self.size)[: self.size]
        return "\u00e9" * (self.size // 2) + chr(97 + self.seed % 26) * (self.size % 2)


larges = st.builds(Large, st.sampled_from([bytes, str]), sizes, st.integers(0, 99))
counters = st.integers(-5, 5) | st.integers(INT64_MIN, INT64_MAX)
numbers = counters | st.integers(INT64_MIN - 2, INT64_MAX + 2) | st.integers()
values = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.floats(),
    st.text(max_size=40),
    st.binary(max_size=200),
    larges,
)
texts = st.binary(max_size=9) | st.text(max_size=9) | larges
deltas = st.integers(-3, 3) | st.sampled_from([INT64_MIN, INT64_MAX]) | counters


def starts(fitting: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What an item is before a step: as it happens to be, or a fresh one with a fitting value."""
    return st.none() | st.tuples(fitting, ttls)


def made(value: Any) -> Any:
    """What to hand to the store for what was drawn."""
    if type(value) is Large:
        return value.make()
    if type(value) is dict:
        return {key: made(inner) for key, inner in value.items()}
    return value


def same(left: Any, right: Any) -> bool:
    """Equal and of the same type; a NaN is itself, and zeros have signs."""
    if type(left) is not type(right):
        return False
    if type(left) is float:
        return repr(left) == repr(right)
    if type(left) is dict:
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    return bool(left == right)
