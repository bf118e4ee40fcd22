"""What a store tells about the whole of itself: `Stats` and `Report`.

Owns: their fields and what these mean. They are frozen dataclasses, and making those is slow:
nothing imports this file but what makes one, or names one while it runs (`shmkv.Stats`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

_JOURNALS = (None, "everysec", "always")


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """Totals of a store since it was created, of all processes together.

    Bytes are bytes of shared memory. Counts are exact; the gauges are read one after the other
    while others work.
    """

    items: int
    """Items indexed, expired ones included until somebody frees them."""
    size: int
    """Bytes the store may use."""
    max_size: int
    """Bytes that `size` may be raised to."""
    bytes_live: int
    """Bytes of the items indexed."""
    bytes_free: int
    """Bytes of free pages."""
    bytes_garbage: int
    """Bytes of dead and expired items, as far as known."""
    bytes_index: int
    """Bytes of index pages."""
    bytes_backed: int
    """Bytes taken from the system so far."""
    hits: int
    """Reads that found a value."""
    misses: int
    """Reads that found none."""
    sets: int
    """Values and counts written."""
    deletes: int
    """Items removed by users."""
    expired: int
    """Items freed because their deadline had passed."""
    evictions: int
    """Items that left to make room."""
    evictions_small: int
    """Of these: from the small queue, nobody having read them."""
    evictions_main: int
    """Of these: from a main queue."""
    evictions_index: int
    """Of these: because their part of the index was full."""
    promoted: int
    """Items that were read in the small queue and went on to a main one."""
    returned: int
    """Items stored again soon after they had left unread: they went to a main queue at once."""
    refused_full: int
    """Writes refused with `Full`."""
    refused_large: int
    """Writes refused with `TooLarge`."""
    lock_recoveries: int
    """Locks taken over from dead processes."""
    folds: int
    """Dead processes whose belongings were given back."""
    bytes_written: int
    """Bytes of items written for users."""
    bytes_copied: int
    """Bytes of items moved by cleaning."""
    pages_cleaned: int
    """Pages cleaned."""
    splits: int
    """Index segments split."""
    retries: int
    """Reads repeated because a writer came between."""
    attached: int
    """Attachments with a row: read-only ones are not counted."""
    rows: int
    """Attachments there is room for."""
    nospace: int
    """How often the system refused memory below `size`."""
    damage: int
    """How often damaged bytes were met and cut out."""
    journal: str | None
    """"everysec", "always", or None: the store has none."""
    journal_broken: bool
    """Changes went unlogged: what is on disk is exact again after the next snapshot."""
    journal_pending: int
    """Keys changed and not yet in the journal's file."""
    snapshot_time: float | None
    """Unix time of the last snapshot that is whole, seconds; None: there was none."""
    created: float
    """Unix time of creation, seconds."""
    ages: tuple[float | None, ...]
    """Seconds since the oldest page of each queue was opened: the small queue, then the main ones
    from small items to large; None where a queue has no page."""

    @classmethod
    def of(cls, numbers: dict[str, Any]) -> Stats:
        """From what the core counts."""
        fields = dict(numbers)
        fields["created"] = fields.pop("created_ms") / 1000
        fields["snapshot_time"] = fields.pop("saved_ms") / 1000 or None
        fields["journal"] = _JOURNALS[fields.pop("journal_mode")]
        fields["journal_broken"] = bool(fields["journal_broken"])
        return cls(**fields)

    @property
    def copied_per_byte(self) -> float:
        """Bytes moved by cleaning for each byte written."""
        return self.bytes_copied / self.bytes_written if self.bytes_written else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """The result of a check of every invariant. It is true when no problem was found."""

    ok: bool
    """No problem was found."""
    problems: tuple[str, ...]
    """What was found, in words; long lists are cut, `problem_count` is not."""
    problem_count: int = 0
    items: int = 0
    """Items indexed."""
    bytes_live: int = 0
    """Their bytes."""
    pages: int = 0
    """Base pages in all; the following say what they are."""
    pages_free: int = 0
    pages_index: int = 0
    pages_log: int = 0
    pages_extent: int = 0
    pages_held: int = 0
    """Being taken, cleaned, or waiting for views."""
    items_parsed: int = 0
    """Items found in pages, living or not."""
    items_garbage: int = 0
    """Of these: not indexed."""
    dead_rows: int = 0
    """Dead attachments found, and folded unless the store is read-only."""

    def __bool__(self) -> bool:
        return self.ok

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, ready for JSON."""
        return {**dataclasses.asdict(self), "problems": list(self.problems)}
