"""The past of a store: what its daemon remembers and everybody may read.

`read(store)` gives it: moments of the past, and a curve of hit ratio over size. The daemon gathers
both and keeps them in the segment, where they outlive it.
"""

from shmkv.history.board import read
from shmkv.history.remembered import NOTHING, Curve, Moment, Point, Remembered

__all__ = ["NOTHING", "Curve", "Moment", "Point", "Remembered", "read"]
