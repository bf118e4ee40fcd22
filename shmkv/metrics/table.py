"""Every metric of a store: its name, its kind, its words, and the total of `Stats` it shows.

Owns: `FAMILIES`, the one table that the exposition and its tests are made from. `up` is no field of
`Stats`: the collector adds it, and it is all there is of a store that cannot be read.

Promises: a metric has the label `store` and at most one more, whose values stand here: never a key,
nor anything else that users of a store choose. A total that `Stats` does not have gives no sample.

Does not: know prometheus_client (`collector`), or open stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

Kind = Literal["counter", "gauge"]


class Family(NamedTuple):
    """A metric, and where its samples come from."""

    name: str
    kind: Kind
    help: str
    totals: Mapping[str, str]
    """The field of `Stats` for each value of `label`; without a label, for the empty one."""
    label: str | None = None

    def samples(self, totals: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
        """Values of the label and numbers, of the totals there are."""
        for value, field in self.totals.items():
            number = totals.get(field)
            if number is not None:
                yield value, number


def _one(name: str, kind: Kind, field: str, help: str) -> Family:
    return Family(name, kind, help, {"": field})


FAMILIES = (
    _one("shmkv_up", "gauge", "up", "1: the store could be read; 0: it could not: shmkv doctor."),
    _one("shmkv_hits_total", "counter", "hits", "Reads that found a value."),
    _one("shmkv_misses_total", "counter", "misses", "Reads that found none."),
    _one("shmkv_sets_total", "counter", "sets", "Values and counts written."),
    _one("shmkv_deletes_total", "counter", "deletes", "Items removed by users."),
    _one("shmkv_expired_total", "counter", "expired", "Items freed, their deadline having passed."),
    Family(
        "shmkv_evictions_total",
        "counter",
        "Items that left to make room: from the small queue (small), where nobody had read them,"
        " from a main queue (main), or because their part of the index was full (index).",
        {"small": "evictions_small", "main": "evictions_main", "index": "evictions_index"},
        "reason",
    ),
    Family(
        "shmkv_sets_refused_total",
        "counter",
        "Writes refused: the store was full and may not evict (full), or the item was larger than"
        " an eighth of it (large).",
        {"full": "refused_full", "large": "refused_large"},
        "reason",
    ),
    _one("shmkv_items", "gauge", "items", "Items indexed, expired ones included until freed."),
    Family(
        "shmkv_bytes",
        "gauge",
        "Shared memory: items (live), dead and expired items as far as known (garbage), free pages"
        " (free), index pages (index); taken from the system (backed); what the store may use"
        " (size), and may be raised to (max). Kinds overlap: do not sum them.",
        {
            "live": "bytes_live",
            "garbage": "bytes_garbage",
            "free": "bytes_free",
            "index": "bytes_index",
            "backed": "bytes_backed",
            "size": "size",
            "max": "max_size",
        },
        "kind",
    ),
    _one(
        "shmkv_lock_recoveries_total",
        "counter",
        "lock_recoveries",
        "Locks taken over from dead processes.",
    ),
    _one(
        "shmkv_nospace_total",
        "counter",
        "nospace",
        "How often the system refused memory below the size of the store.",
    ),
    _one(
        "shmkv_damage_total",
        "counter",
        "damage",
        "How often damaged bytes were met and cut out.",
    ),
    _one(
        "shmkv_journal_broken",
        "gauge",
        "journal_broken",
        "1: changes went unlogged, until the next snapshot; 0: not so, or there is no journal.",
    ),
    _one(
        "shmkv_journal_pending_keys",
        "gauge",
        "journal_pending",
        "Keys changed and not yet in the journal's file; 0 without a journal.",
    ),
    _one(
        "shmkv_snapshot_last_success_timestamp_seconds",
        "gauge",
        "snapshot_time",
        "Unix time of the last snapshot that succeeded; no sample before the first.",
    ),
    _one(
        "shmkv_attached_processes",
        "gauge",
        "attached",
        "Attachments with a row whose process lives; those that only read are not counted.",
    ),
)
