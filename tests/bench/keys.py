"""What is asked for: keys of 16 B, values of 100 B, draws from a zipf distribution.

Everything is made from fixed seeds: each run and each store sees the same sequence of the same key
objects.
"""

import bisect
import itertools
import random

VALUE_BYTES = 100
ZIPF_EXPONENT = 0.99


def make_keys(count: int) -> list[bytes]:
    """Distinct keys of 16 B."""
    return [b"user:%011d" % i for i in range(count)]


def make_values(count: int) -> list[bytes]:
    """Distinct values: a dict, too, must find each of them in memory of its own."""
    tail = random.Random(VALUE_BYTES).randbytes(VALUE_BYTES - 8)
    return [i.to_bytes(8, "little") + tail for i in range(count)]


class Zipf:
    """Draws of 0..count-1 by zipf(0.99); which numbers are the popular ones is scattered."""

    def __init__(self, count: int) -> None:
        weights = ((rank + 1) ** -ZIPF_EXPONENT for rank in range(count))
        self._sums = list(itertools.accumulate(weights))
        self._number = list(range(count))
        random.Random(12345).shuffle(self._number)

    def draws(self, length: int, seed: int) -> list[int]:
        """`length` draws; equal seeds give equal draws."""
        rnd = random.Random(1000 + seed).random
        sums, number, total, last = self._sums, self._number, self._sums[-1], len(self._sums) - 1
        return [number[min(bisect.bisect(sums, rnd() * total), last)] for _ in range(length)]


def uniform_draws(count: int, length: int, seed: int) -> list[int]:
    """`length` draws of 0..count-1, all equally likely."""
    return random.Random(2000 + seed).choices(range(count), k=length)
