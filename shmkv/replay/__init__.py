"""Replaying cache traces against a real store: what `shmkv replay` and `make hitratio` run.

Public names of the room only; README.md is its map. Needs numpy (`pip install 'shmkv[replay]'`).
"""

from shmkv.replay.reference import Count, Lru, cost
from shmkv.replay.requests import (
    Chunk,
    Fixed,
    Lognormal,
    MadeTrace,
    Sizing,
    Survey,
    Trace,
    cut,
    numbered,
    overwriting,
    survey,
)
from shmkv.replay.run import Result, own_store, payload, replay
from shmkv.replay.sweep import sizes, sweep
from shmkv.replay.traces import FORMATS, FileTrace, Format, NoSizes, TraceError

__all__ = [
    "FORMATS",
    "Chunk",
    "Count",
    "FileTrace",
    "Fixed",
    "Format",
    "Lognormal",
    "Lru",
    "MadeTrace",
    "NoSizes",
    "Result",
    "Sizing",
    "Survey",
    "Trace",
    "TraceError",
    "cost",
    "cut",
    "numbered",
    "overwriting",
    "own_store",
    "payload",
    "replay",
    "sizes",
    "survey",
    "sweep",
]
