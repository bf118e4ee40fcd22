"""The sample: which keys are followed, what their requests mean, and the curve that comes of it.

Owns: `Sampler`, which takes the words of a store's sample ring and feeds miniatures of it, and the
rules for the share of keys.

    word   hash (46 bits) | kind (2 bits) | size (16 bits: exponent 5, mantissa 11, in 16 B)

A key is in the sample when the low 32 bits of its hash are below the threshold: the same keys
always, whoever asks, so what is seen of a key is all there is (Waldspurger, Park, Garthwaite,
Ahmad: "Efficient MRC Construction with SHARDS", USENIX FAST 2015). The threshold only falls: when
more than `KEYS` keys are followed, when the ring overruns, when following takes more than `SHARE`
of a processor. What is still below it goes on, with a smaller memory. Where far too few keys are
left the sample begins afresh with a higher one.

A sample may lack the hottest keys, or have too many. That shows: all reads of the store times the
share of keys is how many reads there should be. What is lacking, or too much, would have hit in any
size (the correction "SHARDS-adj" of the paper). And the miniature of the store's own size should
hit as often as the store did: above that size all misses, below it all hits are corrected by what
is left of the difference.

Counts are of two windows, the present one and the last: what is older weighs nothing. Of a store
that was full when the sample began the first window is only there to get warm.

Promises: bounded memory and, however many words come, bounded work: what cannot be afforded is
dropped, and counts as lost.

Does not: know a store, a clock, or a thread: all of it is given.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from shmkv.history.capacity import ghost_items, held_bytes, sizes_around
from shmkv.history.moments import Totals
from shmkv.history.remembered import Curve, Point
from shmkv.history.simulate import DELETE, FILL, READ, STRANGER, WRITE, Miniature, Request
from shmkv.inspect.geometry import Config

KEYS = 8000  # in the largest miniature
FEW = 8  # one part in so many of that are few
SHARE = 0.02  # of a processor
BURST_S = 0.05  # of that, saved up: at most so long the daemon does nothing else
WINDOW_S = 3600.0
WINDOW_READS = 5000
ENOUGH = 1000  # reads for a curve
KEYS_LEAST = 100  # in the miniature of the store's own size, for a curve
LOST_MOST = 0.02  # of the words
FULL = 1 << 32
LEAST = 64  # the lowest threshold
MASK = FULL - 1
BATCH = 512  # words
PENDING_MOST = 4  # times as many keys as are followed
GET_HIT, GET_MISS, SET = 0, 1, 2
WAYS_OUT = tuple(map(Totals._fields.index, ("deletes", "evicted", "expired")))
LARGEST_HELD = 8.0  # times the store's items: what the largest miniature may hold


class _Window(NamedTuple):
    """Where a window begins."""

    since: float
    totals: Totals


def size_of(word: int) -> int:
    """Bytes of the item a word speaks of."""
    return ((word & 0x7FF) << (word >> 11 & 31)) << 4


def was_emptied(before: Totals, after: Totals) -> bool:
    """Is it another store, or did half of the items go without a request for each?"""
    asked = sum(after[i] - before[i] for i in WAYS_OUT)
    return after.hits < before.hits or before.items - after.items > before.items / 2 + asked


def first_threshold(items: int, keys: int = KEYS) -> int:
    """For a store with so many items: about `keys` of a store eight times as large."""
    return max(LEAST, min(FULL - 1, int(FULL * keys / (LARGEST_HELD * max(items, 1)))))


class Sampler:
    """One store's sample. `now` is the wall clock, `worked` the processor time of this thread."""

    def __init__(
        self,
        config: Config,
        size: int,
        totals: Totals,
        *,
        now: float,
        worked: Callable[[], float],
        keys: int = KEYS,
    ) -> None:
        self._config = config
        self._worked = worked
        self._most = keys
        self._credit, self._credited = BURST_S, now
        self._begin(first_threshold(totals.items, keys), size, totals, now)

    def _begin(self, below: int, size: int, totals: Totals, now: float) -> None:
        """Nothing is known."""
        self.below = below
        self.size = size
        self.is_warming = totals.evicted > 0
        """A larger store would still have what left this one earlier, and nobody knows what."""
        self._crowded_at = now
        self._sizes = sizes_around(size)
        self._minis = {f: Miniature(0.0, 0.0, is_larger=f >= 1) for f in self._sizes}
        self._own = self._minis[1.0]
        self._largest = self._minis[max(self._minis)]
        self._pending: dict[int, None] = {}
        self._windows = [_Window(now, totals)]
        self._reviewed = _Window(now, totals)
        self._seen = self._lost = 0
        self._spent = 0.0
        self._expected = [0.0, 0.0]  # reads there should be in the windows: the last, the present
        self._fit(totals)

    @property
    def rate(self) -> float:
        """The share of keys in the sample."""
        return (self.below + 1) / FULL if self.below == FULL - 1 else self.below / FULL

    @property
    def keys(self) -> int:
        """Followed at present."""
        return len(self._largest.items)

    # ---- words ------------------------------------------------------------------------------

    def feed(self, words: bytes, lost: int, *, now: float) -> None:
        """Take words; those for which there is no time any more are lost."""
        earned = max(now - self._credited, 0.0) * SHARE
        self._credit, self._credited = min(BURST_S, self._credit + earned), now
        count = len(words) // 8
        self._lost += lost
        self._seen += count + lost
        if lost > count:
            self._crowd()
        for at in range(0, count, BATCH):
            if self._credit <= 0:
                self._lost += count - at
                self._crowd()
                return
            began = self._worked()
            some = min(BATCH, count - at)
            batch = list(self._requests(struct.unpack_from(f"<{some}Q", words, 8 * at)))
            for mini in self._minis.values():
                mini.run(batch)
            if self.keys > self._most:
                self._lower(0.7)
            took = self._worked() - began
            self._credit -= took
            self._spent += took

    def _requests(self, words: tuple[int, ...]) -> Iterator[Request]:
        """What they mean."""
        below, pending = self.below, self._pending
        known, ghost, new = self._largest.items, self._largest.ghost, set()
        for word in words:
            key, kind = word >> 18, word >> 16 & 3
            if key & MASK >= below:
                continue
            if kind == GET_HIT:
                stranger = key not in known and key not in ghost and key not in new
                new.add(key)
                yield STRANGER if stranger else READ, key, size_of(word)
            elif kind == GET_MISS:
                pending[key] = None
                yield READ, key, 0
            elif kind == SET:
                new.add(key)
                filled = pending.pop(key, 0) is None
                yield FILL if filled else WRITE, key, size_of(word)
            else:
                pending.pop(key, None)
                yield DELETE, key, 0
        while len(pending) > PENDING_MOST * self._most:  # nobody stored what was missing
            del pending[next(iter(pending))]

    def _crowd(self) -> None:
        """There are more words than can be taken: sooner fewer keys than holes in what is known."""
        self._crowded_at = self._credited
        self._lower(0.5)

    def _lower(self, part: float) -> None:
        below = max(LEAST, int(self.below * part))
        part, self.below = below / self.below, below
        if part < 1:
            self._expected = [reads * part for reads in self._expected]
            for mini in self._minis.values():
                mini.restrict(MASK, below, part)

    # ---- now and then -----------------------------------------------------------------------

    def review(self, totals: Totals, size: int, *, now: float) -> None:
        """Look at the store and at what following costs; called every few seconds."""
        seconds = now - self._reviewed.since
        if size != self.size or was_emptied(self._reviewed.totals, totals):
            self._begin(self.below, size, totals, now)
            return
        if seconds <= 0:  # the clock was set back
            self._windows = [w._replace(since=w.since + seconds) for w in self._windows]
            self._reviewed = self._reviewed._replace(since=now)
            return
        last = self._reviewed.totals
        reads = totals.hits + totals.misses - last.hits - last.misses
        heard = 1 - self._lost / self._seen if self._seen else 1.0
        self._expected[1] += reads * heard * self.rate
        busy = self._spent / seconds
        if heard < 1 - LOST_MOST or busy > SHARE:
            self._crowd()
        self._reviewed = _Window(now, totals)
        self._seen = self._lost = 0
        self._spent = 0.0
        self._turn(totals, now)
        self._fit(totals)
        few = self.keys * FEW < self._most and self.below < FULL - 1
        if few and busy < SHARE / 8 and now - self._crowded_at > WINDOW_S:
            self._begin(min(FULL - 1, self.below * 4), self.size, totals, now)

    def _turn(self, totals: Totals, now: float) -> None:
        """A window has passed."""
        if now - self._windows[-1].since < WINDOW_S or self._own.reads < WINDOW_READS:
            return
        self._windows = [self._windows[-1], _Window(now, totals)]
        self._expected = [self._expected[1], 0.0]
        for mini in self._minis.values():
            mini.turn()
        if self.is_warming:
            self.is_warming = False
            self._windows = self._windows[1:]
            self._expected = [0.0, 0.0]
            for mini in self._minis.values():
                mini.turn()

    def _fit(self, totals: Totals) -> None:
        """Capacities follow what the store holds: garbage and odd sizes take their share."""
        item = totals.live_bytes / totals.items if totals.items else 256.0
        own = held_bytes(self._config, self.size, item)
        full = own > 0 and totals.evicted > self._windows[0].totals.evicted
        measured = totals.live_bytes / own if full else 1.0
        for factor, mini in self._minis.items():
            held = held_bytes(self._config, self._sizes[factor], item) * measured
            mini.capacity = held * self.rate
            mini.ghosts = ghost_items(self._sizes[factor], held / item) * self.rate

    # ---- the curve --------------------------------------------------------------------------

    def curve(self, totals: Totals, *, now: float) -> Curve | None:
        """What another size would do; None: too little was seen."""
        since, before = self._windows[0]
        hits, misses = totals.hits - before.hits, totals.misses - before.misses
        reads = self._own.counted()[1]
        if hits + misses <= 0 or reads < ENOUGH or len(self._own.items) < KEYS_LEAST:
            return None
        lacking = sum(self._expected) - reads
        measured = hits / (hits + misses)
        ratios = {factor: completed(mini, lacking) for factor, mini in self._minis.items()}
        points = (
            Point(size, corrected(ratios[factor], ratios[1.0], measured, larger=factor >= 1))
            for factor, size in self._sizes.items()
        )
        return Curve(
            since, now, self.rate, self.keys, round(reads), self.size, measured, tuple(points)
        )


def completed(mini: Miniature, lacking: float) -> float:
    """Its hit ratio, if it had had so many hits more."""
    hits, reads = mini.counted()
    reads += lacking
    return min(max((hits + lacking) / reads, 0.0), 1.0) if reads > 0 else 0.0


def corrected(ratio: float, own: float, measured: float, *, larger: bool) -> float:
    """A miniature's hit ratio, by how far that of the store's own size is off."""
    if larger:
        found = 1 - (1 - ratio) * (1 - measured) / (1 - own) if own < 1 else ratio
    else:
        found = ratio * measured / own if own > 0 else ratio
    return min(max(found, 0.0), 1.0)
