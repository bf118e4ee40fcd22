"""Nothing grows: memory, descriptors, mappings, /dev/shm, rows and bytes of the segment.

Each loop of loops.py runs in a fresh interpreter, warms up with a tenth of its turns and is then
measured. SHMKV_LEAK_TURNS makes it longer; the allowance of memory does not grow with it, so
that a longer run finds a smaller leak.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import shmkv
from tests.conftest import MIB
from tests.stress.support import run_module, settle

# Fragmentation and caches of the interpreter; 10^5 leaked objects of the smallest size are 5 MB.
ALLOWED_BYTES = 1_500_000
ALLOWED_OBJECTS = 200


@pytest.mark.parametrize("loop", ["good", "bad", "handles", "forks", "views"])
def test_nothing_grows(
    open_store: Callable[..., shmkv.Store], loop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(size=16 * MIB)
    store.set("k", b"v")
    more = run_module("tests.leak.loops", loop, store.name, limit_s=110)
    with capsys.disabled():
        print(f" {more}", end="")
    assert (more["fds"], more["maps"], more["shm"]) == (0, 0, 0), more
    assert more["rss"] < ALLOWED_BYTES, more
    assert more["objects"] < ALLOWED_OBJECTS, more
    assert settle(store) == []
