"""What happens while a value is on its way: signals, other threads, the garbage collector.

Owns also what is left behind afterwards: nothing in memory, and no module that was not needed.
"""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
from functools import partial
from typing import Any

import pytest

import shmkv
from shmkv import forms
from tests.unit.codec_values import NIGHT


@pytest.mark.parametrize("part", ["lower", "raise_"])
def test_what_a_signal_raises_comes_through(
    store: shmkv.Store, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Also when it comes while the library calls back."""
    value = [(1, NIGHT), {2: 3}]
    store.set("k", value)
    inner = getattr(forms, part)

    def interrupted(*args: Any) -> Any:
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        return inner(*args)

    monkeypatch.setattr(forms, part, interrupted)
    use = partial(store.set, "k", [value]) if part == "lower" else partial(store.get, "k")
    with pytest.raises(KeyboardInterrupt):
        use()
    assert store["k"] == value


CHANGING = """
import sys, threading, time
import shmkv

sys.setswitchinterval(1e-6)
store = shmkv.open(sys.argv[1], create=False)
shared, table, end = [], {}, time.monotonic() + 2

def change():
    while time.monotonic() < end:
        shared.clear()
        table.clear()
        for n in range(300):
            shared.append((n, [n]))
            table[n] = (n, {n})

thread = threading.Thread(target=change)
thread.start()
stored = 0
while time.monotonic() < end:
    store.set("k", [shared, table])
    stored += len(store["k"]) == 2
thread.join()
assert stored > 10
"""


def test_another_thread_may_change_what_is_stored(store: shmkv.Store) -> None:
    """It is some mixture then; the process lives."""
    command = [sys.executable, "-X", "faulthandler", "-c", CHANGING, store.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


COLLECTING = """
import gc, sys
import shmkv

store = shmkv.open(sys.argv[1], create=False)
table, row, removed = {}, [], 0

class Remover:
    def __del__(self):
        global removed
        removed += 1
        table.clear()
        row.clear()

gc.disable()
for turn in range(400):
    row[:] = [{(n, 1)} for n in range(20)]
    table.update({n: {(n, k) for k in range(3)} for n in range(20)}, row=row)
    ring = Remover()
    ring.ring = ring
    del ring
    young = [[] for _ in range(1000)]  # so that the next allocation collects
    gc.set_threshold(1, 1000, 1000)
    gc.enable()
    try:
        store.set("k", row if turn % 2 else table)
    except RuntimeError:
        pass  # changed while it was walked
    gc.disable()
assert removed == 400, removed
"""


def test_the_garbage_collector_may_change_what_is_stored(store: shmkv.Store) -> None:
    command = [sys.executable, "-X", "faulthandler", "-c", COLLECTING, store.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_kept_of_what_was_read(store: shmkv.Store) -> None:
    store.set("k", [(1, {2: (3,)}), NIGHT])
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(100):
            store.get("k")
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()


LAZY = """
import sys
import shmkv

store = shmkv.open(sys.argv[1], create=False)
store.set("plain", {"a": [1, 2.5, None, "s", b"b"]})
assert store["plain"] == {"a": [1, 2.5, None, "s", b"b"]}
assert "shmkv.forms" not in sys.modules
store.set("k", [(1,), {2}, {3: 4}, 1 << 80])
assert store["k"] == [(1,), {2}, {3: 4}, 1 << 80]
try:
    store.set("k", [object()])
except shmkv.CodecError:
    pass
assert not {"numpy", "pickle", "zoneinfo"} & set(sys.modules), sys.modules.keys()
"""


def test_nothing_is_imported_that_is_not_needed(store: shmkv.Store) -> None:
    command = [sys.executable, "-c", LAZY, store.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
