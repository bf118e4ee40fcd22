"""Containers on one /dev/shm: pid namespaces of their own, and pids that come again.

Owns: `Container`, a process in a pid namespace of its own that opens a store and obeys a pipe; and
the two stories. A living owner in another namespace must never be taken for dead, whatever process
has its pid here; a dead one must be found dead, even when its pid lives again.

Promises: every wait is bounded; containers end with their maker. Does not: need the fault build: a
lock is held by planting the number of a living attachment in the lock words.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import time

import shmkv
from shmkv.inspect.layout import STRIPE
from tests.conftest import segment_path
from tests.stress.strangers_land import first_process
from tests.stress.support import PATIENT_S, Child, die_with_parent

BUSY_S = 0.2
_LAST_PID = "/proc/sys/kernel/ns_last_pid"


def hold_all(store: shmkv.Store, number: int) -> None:
    """All stripes are locked by the attachment of this number; 0: by nobody."""
    g = store._geometry()
    with segment_path(store.name).open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        for i in range(g["stripes"]):
            at = g["off_stripes"] + i * STRIPE.size
            memory[at : at + 4] = struct.pack("<I", number)


def attached_child(name: str) -> tuple[int, int, int]:
    """A fork child that opens the store and then sleeps: pid, its own pid, attachment number."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent()
            store = shmkv.open(name, create=False)
            os.write(writer, struct.pack("<II", os.getpid(), store._number()))
            time.sleep(60)  # until it is killed
        finally:
            os._exit(1)
    os.close(writer)
    own, number = struct.unpack("<II", os.read(reader, 8))
    os.close(reader)
    return pid, own, number


def end(pid: int) -> None:
    """Kill a child and wait."""
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def writes(store: shmkv.Store, limit_s: float) -> float:
    """Seconds that a set took; it must succeed within the limit."""
    begin = time.monotonic()
    store.set("key", b"new")
    took = time.monotonic() - begin
    assert took < limit_s, f"{took:.2f} s"
    return took


def refused(store: shmkv.Store) -> None:
    """A set must end with Busy: the owner of the lock lives."""
    try:
        store.set("key", b"new")
    except shmkv.Busy:
        return
    raise AssertionError("a lock was taken from a living owner")


# ---- two containers -----------------------------------------------------------------------------


def two_containers(name: str) -> None:
    """The owner lives in one namespace, a writer in another, with equal pids."""
    ready, go = os.pipe(), os.pipe()

    def owner() -> None:
        assert os.getpid() == 1
        store = shmkv.open(name, create=False)
        hold_all(store, store._number())
        os.write(ready[1], b"1")
        while True:
            signal.pause()  # until killed; what `go` says is for the writer alone

    def writer() -> None:
        assert os.getpid() == 1
        with shmkv.open(name, create=False, lock_timeout=BUSY_S) as store:
            for _ in range(3):
                refused(store)
            assert store.stats().attached >= 2
            os.write(ready[1], b"2")
            assert os.read(go[0], 1) == b"x"
        # Its maker is dead; it is when it had a processor to end on, which is waited for.
        with shmkv.open(name, create=False, lock_timeout=PATIENT_S) as store:
            writes(store, PATIENT_S)
            assert store.check().ok

    first = Child(lambda: first_process(owner, 50))
    assert os.read(ready[0], 1) == b"1"
    second = Child(lambda: first_process(writer, 50))
    try:
        assert os.read(ready[0], 1) == b"2", second.text
        first.end()  # its container's processes die with it
        os.write(go[1], b"x")
        second.good(40)
    finally:
        first.end()
        second.end()


# ---- pids that come again -----------------------------------------------------------------------


def again_with_pid(pid: int) -> int:
    """A child of this very pid, that knows nothing of the store. ns_last_pid must be writable."""
    for _ in range(100):
        with open(_LAST_PID, "w") as file:
            file.write(str(pid - 1))
        child = os.fork()
        if child == 0:
            try:
                die_with_parent()
                time.sleep(60)  # until it is killed
            finally:
                os._exit(0)
        if child == pid:
            return child
        end(child)
    raise AssertionError(f"pid {pid} did not come again")


def pids_come_again(name: str, rounds: int) -> float:
    """An owner dies with all locks held; another process gets its pid; the slowest take-over."""
    worst = 0.0
    with shmkv.open(name, create=False, lock_timeout=BUSY_S) as store:
        for i in range(rounds):
            pid, own, number = attached_child(name)
            assert pid == own, "the namespace is this process's"
            hold_all(store, number)
            if i % 10 == 0:
                refused(store)
            end(pid)
            stranger = again_with_pid(pid)
            try:
                worst = max(worst, writes(store, PATIENT_S))  # a living owner: Busy after BUSY_S
            finally:
                end(stranger)
        assert store.check().ok
    return worst
