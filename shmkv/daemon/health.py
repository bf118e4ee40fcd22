"""What a daemon says about its store: lines of log when something changes, and a sum now and then.

Owns: `Health`, which looks at the store's totals and tells what rose since it last said so.

Promises: a thing that goes on is said once a minute, with how much of it came since; nothing is
said of a store where nothing happens but the sum. Looking changes nothing.

Does not: mend anything, or choose where lines go.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from shmkv.config import show_size
from shmkv.store import Store

AGAIN_S = 60.0  # before the same thing is said again
ROWS_TIGHT = 0.9

log = logging.getLogger("shmkv.daemon")


class Sign(NamedTuple):
    """A total that should not rise, and what to say when it does."""

    total: str
    level: int
    text: str


SIGNS = (
    Sign("damage", logging.ERROR, "damaged bytes were met and cut out {more} times: shmkv check"),
    Sign(
        "nospace",
        logging.WARNING,
        "the system refused memory {more} times, the store works with less than its size:"
        " shmkv doctor",
    ),
    Sign("refused_full", logging.WARNING, "{more} writes were refused: the store is full"),
    Sign("evictions_index", logging.WARNING, "{more} items left because the index is full"),
    Sign("lock_recoveries", logging.INFO, "{more} locks were taken over from dead processes"),
)


class Health:
    """What happens to one store. `now` is a monotonic clock, everywhere."""

    def __init__(self, store: Store, now: float, *, summary_s: float) -> None:
        self._store = store
        self._summary_s = summary_s
        self._totals = store._stats()
        self._said = {sign.total: (self._totals[sign.total], -AGAIN_S) for sign in SIGNS}
        self._sum = (now, self._totals, 0)
        self._tight = False
        self.freed = 0
        """Pages freed so far."""

    def worked(self, folded: int, freed: int) -> None:
        """What one step did."""
        self.freed += freed
        if folded:
            log.info("gave back what %d dead attachment%s held", folded, "s" * (folded != 1))
        if freed:
            log.debug("freed %d pages", freed)

    def look(self, now: float) -> None:
        """Look at the totals; say what is new."""
        self._totals = self._store._stats()
        for sign in SIGNS:
            before, at = self._said[sign.total]
            more = self._totals[sign.total] - before
            if more > 0 and now >= at + AGAIN_S:
                self._said[sign.total] = self._totals[sign.total], now
                log.log(sign.level, sign.text.format(more=more))
        self._look_at_rows()
        if self._summary_s and now >= self._sum[0] + self._summary_s:
            log.info("%s; %s", self.line(), self._since(now))
            self._sum = (now, self._totals, self.freed)

    def _look_at_rows(self) -> None:
        attached, rows = self._totals["attached"], self._totals["rows"]
        tight = attached >= ROWS_TIGHT * rows
        if tight and not self._tight:
            log.warning("%d of %d rows are attached: soon no process can open it", attached, rows)
        elif self._tight and not tight:
            log.info("%d of %d rows are attached: there is room again", attached, rows)
        self._tight = tight

    def _since(self, now: float) -> str:
        at, before, freed = self._sum
        rose = {name: self._totals[name] - before[name] for name in ("expired", "evictions")}
        return (
            f"in {now - at:.0f} s {self.freed - freed} pages freed, {rose['expired']} items"
            f" expired, {rose['evictions']} evicted"
        )

    def line(self) -> str:
        """The store in a line, as last looked at."""
        totals = self._totals
        return (
            f"{totals['items']} items in {show_size(totals['size'])},"
            f" {totals['bytes_free'] / totals['size']:.1%} free, {totals['attached']} attached"
        )
