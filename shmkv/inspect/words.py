"""Sizes, ages and the disk of a store in the words that all eyes use.

Owns: `about`, `ago`, and what is said of a store's journal and of its last snapshot.

Promises: no clock is asked: the present is a parameter.

Does not: read stores: it is given `Stats.as_dict()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OLD_SNAPSHOT_S = 2 * 3600.0  # twice the longest of the usual rules for saving


def about(number: int, *, up: bool = False) -> str:
    """A size to two or three figures: 1.5 GiB; with `up` the next whole one."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= factor:
            if up:
                return f"{-(-number // factor)} {unit}"
            text = f"{number / factor:.1f}" if number < 100 * factor else f"{number // factor}"
            return f"{text.removesuffix('.0')} {unit}"
    return f"{number} bytes"


def ago(seconds: float) -> str:
    """How long ago, to its largest unit: 5 min ago."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def journal(totals: Mapping[str, Any]) -> tuple[str, bool] | None:
    """What is said of a journal, and whether it is bad; None: there is none."""
    if totals["journal"] is None:
        return None
    if totals["journal_broken"]:
        return f"{totals['journal']}, broken until the next snapshot", True
    pending = totals["journal_pending"]
    waits = "1 key waits" if pending == 1 else f"{pending or 'no'} keys wait"
    return f"{totals['journal']}, {waits}", False


def snapshot(totals: Mapping[str, Any], now: float) -> str | None:
    """What is said of the last snapshot; None: there was none, and none is needed."""
    if totals["snapshot_time"] is not None:
        return f"saved {ago(now - totals['snapshot_time'])}"
    return None if totals["journal"] is None else "never saved"
