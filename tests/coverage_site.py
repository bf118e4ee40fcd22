"""What each interpreter of a coverage run does at its start: it becomes `sitecustomize` there.

Owns: one change, `os._exit` first writes the counters of the extension, if that is loaded. Fork
children of tests leave by `os._exit`, which no destructor of the profiler sees.
Does not: help a process that is killed from outside; its counts are lost.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import NoReturn

_leave = os._exit


def _write_and_leave(status: int) -> NoReturn:
    core = sys.modules.get("shmkv._core")
    if core is not None and core.__file__:
        ctypes.CDLL(core.__file__).shmkv_coverage_dump()
    _leave(status)


os._exit = _write_and_leave
