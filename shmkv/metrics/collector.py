"""Stores as a collector of prometheus_client, and the text of a scrape.

Owns: `StoreCollector`, which reads the totals of stores whenever it is asked, and `text`.

Promises: it only reads: a store is opened read-only for each scrape, which takes no row and no lock
and waits for nobody, and is let go at once, so that a store made anew is followed. Counters never
fall while a store lives, whoever comes, goes or is killed: a total is the sum over rows that are
never cleared. A store that cannot be read is `shmkv_up` 0 and keeps nobody from reading the others.
Several threads may collect at once.

Does not: make formats (prometheus_client does), or listen (`endpoint`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import exposition
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics_text
from prometheus_client.registry import Collector

from shmkv import config, segment, store
from shmkv.errors import Error, NotFound
from shmkv.metrics.table import FAMILIES, Family

ANY_MODE = 0o777  # totals are only read: a store is shown whomever its file lets in

Made = CounterMetricFamily | GaugeMetricFamily
OnError = Callable[[str, Exception], None]


class StoreCollector(Collector):
    """The metrics of the stores named; without a name, of all there are when it is asked.

    owner: the user id they belong to, this user by default.
    on_error: is called with the name of a store that could not be read, and why.
    """

    def __init__(
        self, *names: str, owner: int | None = None, on_error: OnError | None = None
    ) -> None:
        self._names = tuple(dict.fromkeys(config.check_name(name) for name in names))
        self._owner = config.check_owner(owner)
        self._on_error = on_error

    def describe(self) -> Iterator[Made]:
        """The metrics without samples: what a registry asks, to register it."""
        return map(_made, FAMILIES)

    def collect(self) -> Iterator[Made]:
        """The metrics; one that has no sample is left out."""
        uid = os.geteuid() if self._owner is None else self._owner
        read = {name: self._totals(name, uid) for name in self._names or segment.names(owner=uid)}
        for family in FAMILIES:
            made = _made(family)
            for name, totals in read.items():
                for value, number in family.samples(totals):
                    made.add_metric([name, value] if family.label else [name], number)
            if made.samples:
                yield made

    def _totals(self, name: str, uid: int) -> dict[str, Any]:
        """What a store has counted, and that it is up, or is not."""
        try:
            # With the owner named, nobody is warned of namesakes each time.
            with store.open(
                name, owner=uid, mode=ANY_MODE, readonly=True, lock_timeout=0
            ) as opened:
                return opened.stats().as_dict() | {"up": 1}
        except (Error, OSError, ValueError) as error:
            there = os.path.lexists(segment.file_path(name, uid))
            if isinstance(error, NotFound) and not self._names and not there:
                return {}  # it was removed after it had been listed
            if self._on_error is not None:
                self._on_error(name, error)
            return {"up": 0}


def _made(family: Family) -> Made:
    labels = ["store", family.label] if family.label else ["store"]
    if family.kind == "counter":
        return CounterMetricFamily(family.name, family.help, labels=labels)
    return GaugeMetricFamily(family.name, family.help, labels=labels)


def text(collector: Collector, *, openmetrics: bool = False) -> bytes:
    """A scrape: the text format of Prometheus, or OpenMetrics."""
    make: Callable[[Collector], bytes] = exposition.generate_latest
    if openmetrics:
        make = openmetrics_text.generate_latest
    return make(collector)
