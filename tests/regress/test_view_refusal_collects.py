"""A finalizer closed the store while `view` was refusing a value: the pin was dropped through a
handle that was gone, which ended the process.

Raising an exception while another is handled allocates, so the collector may run there, and with it
any finalizer. Runs in an interpreter of its own because the failure is a crash.
"""

from __future__ import annotations

import subprocess
import sys

import shmkv

SCRIPT = """
import gc, sys, shmkv
store = shmkv.open(sys.argv[1], create=False)
store.set("n", 5)

class Closer:
    def __init__(self):
        self.me = self
    def __del__(self):
        store.close()

gc.set_threshold(1)
try:
    raise LookupError
except LookupError:
    gc.disable()
    Closer()
    gc.enable()
    try:
        store.view("n").__enter__()
    except TypeError:
        pass
assert store.closed
"""


def test_a_finalizer_closes_while_a_view_is_refused(store: shmkv.Store) -> None:
    command = [sys.executable, "-c", SCRIPT, store.name]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert store.stats().attached == 1
    assert store.check().ok
