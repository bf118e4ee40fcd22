"""A finding of the doctor: one thing that was looked at, how bad it is, and what to type.

Owns: `Finding`. Does not: look at anything (`doctor`, `disk`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["ok", "note", "warning", "problem"]


class Finding(NamedTuple):
    """One thing that was looked at."""

    severity: Severity
    topic: str
    """machine, shm, memory, limits, systemd, disk, or store NAME."""
    text: str
    fix: str | None = None
    """A command to type."""
