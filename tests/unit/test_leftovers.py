"""What goes and what stays: segments that nobody can use, idle ones, and those that somebody has.

Everything happens in real shared memory, for the kernel's leases and times are what is relied on;
each call is limited to the names of the test. Time is moved by the files' times.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv import removal
from shmkv.inspect.survey import survey
from shmkv.leftovers import Done, Outcome, collect
from tests.conftest import MIB, SHM, segment_path

DAY = 86_400.0
ME = os.getuid()
Sized = {"size": 2 * MIB, "max_size": 2 * MIB}
as_root = pytest.mark.skipif(ME != 0, reason="needs the right to give files away")


def gc(name: str, *, remove: bool = True, **how: Any) -> Outcome:
    """What becomes of the segment of this name."""
    (one,) = collect(names=frozenset({name}), remove=remove, **how)
    return one


@pytest.fixture
def path(store_name: str) -> Path:
    """Of a sound store that nobody has open."""
    with shmkv.open(store_name, **Sized) as store:
        store["k"] = "v"
    return segment_path(store_name)


@pytest.fixture
def just_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has run for years."""
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: 1e9)


def age(path: Path, days: float) -> None:
    """As if it had not been used for so long."""
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def patch(path: Path, at: int, code: str, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<" + code, value))


@contextmanager
def process(body: Callable[[], Any]) -> Iterator[int]:
    """A fork child that has done `body`, keeps what it returned, and is killed at the end."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kept = body()
            os.write(write, b"x")
            signal.pause()
            del kept
        finally:
            os._exit(1)
    try:
        os.close(write)
        assert os.read(read, 1) == b"x"
        yield child
    finally:
        os.close(read)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# ---- what nobody can use ------------------------------------------------------------------------

USELESS = [
    pytest.param(0, "Q", 0, "half made", id="no magic"),
    pytest.param(0, "Q", 7, "damaged", id="another magic"),
    pytest.param(8, "I", 99, "other version", id="version"),
    pytest.param(12, "I", 99, "other machine", id="fingerprint"),
    pytest.param(72, "Q", 1 << 60, "damaged", id="watermark"),
]


@pytest.mark.parametrize(("at", "code", "value", "state"), USELESS)
def test_what_nobody_can_use_goes(path: Path, at: int, code: str, value: int, state: str) -> None:
    name = path.name.split(".", 2)[2]
    patch(path, at, code, value)
    dry = gc(name, remove=False)
    assert (dry.done, dry.why[: len(state)], path.exists()) == (Done.WOULD, state, True)
    with process(lambda: mmap.mmap(os.open(path, os.O_RDONLY), 4096, prot=mmap.PROT_READ)):
        kept = gc(name)
        assert (kept.done, path.exists()) == (Done.KEPT, True)
        assert "has it open" in kept.why
    assert gc(name)[1:] == (Done.REMOVED, dry.why)
    assert not path.exists()


def test_an_empty_file_goes_but_not_under_its_creator(store_name: str) -> None:
    path = segment_path(store_name)
    with process(lambda: os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)):
        assert gc(store_name).done is Done.KEPT
    assert gc(store_name).done is Done.REMOVED
    assert collect(names=frozenset({store_name})) == []


def test_what_is_sound_stays(store_name: str, path: Path) -> None:
    age(path, 1000)
    kept = gc(store_name)
    assert kept.done is Done.KEPT
    assert "data stays" in kept.why
    assert shmkv.open(store_name, create=False)["k"] == "v"


# ---- idle ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("just_started")
def test_the_idle_go(store_name: str, path: Path) -> None:
    age(path, 6.9)
    assert gc(store_name, idle_s=7 * DAY).why == "used 7 d ago"
    age(path, 7.1)
    assert gc(store_name, idle_s=7 * DAY, remove=False).done is Done.WOULD
    assert gc(store_name, idle_s=7 * DAY).done is Done.REMOVED
    assert not path.exists()


@pytest.mark.usefixtures("just_started")
@pytest.mark.parametrize("readonly", [False, True])
def test_none_goes_that_a_process_has_open(store_name: str, path: Path, readonly: bool) -> None:
    with shmkv.open(store_name, readonly=readonly):
        age(path, 1000)
        assert gc(store_name, idle_s=0).done is Done.KEPT
    with process(lambda: shmkv.open(store_name, readonly=readonly)):
        age(path, 1000)
        assert gc(store_name, idle_s=0).done is Done.KEPT
    assert path.exists()


@pytest.mark.usefixtures("just_started")
def test_closing_is_use(store_name: str, path: Path) -> None:
    for readonly in (False, True):
        store = shmkv.open(store_name, readonly=readonly)
        age(path, 30)
        store.get("k")
        store.close()
        assert gc(store_name, idle_s=DAY).why == "used 0 s ago"


@pytest.mark.usefixtures("just_started")
def test_to_look_is_no_use(store_name: str, path: Path) -> None:
    from click.testing import CliRunner

    from shmkv.cli.app import cli

    age(path, 30)
    before = path.stat()
    result = CliRunner().invoke(cli, ["ls"])
    assert f"{store_name} " in result.stdout
    assert "every invariant holds" in CliRunner().invoke(cli, ["doctor", store_name]).stdout
    assert gc(store_name, idle_s=31 * DAY).done is Done.KEPT
    after = path.stat()
    assert (after.st_atime_ns, after.st_mtime_ns) == (before.st_atime_ns, before.st_mtime_ns)


@pytest.mark.usefixtures("just_started")
def test_the_time_of_the_killed_begins_when_they_are_found(store_name: str, path: Path) -> None:
    with process(lambda: shmkv.open(store_name)):
        pass
    age(path, 30)
    dry = gc(store_name, idle_s=DAY, remove=False)
    assert "1 of its processes were killed" in dry.why
    (seen,) = survey(SHM, name=store_name)
    assert (seen.dead, seen.used) == (1, pytest.approx(time.time() - 30 * DAY, abs=60))
    assert gc(store_name, idle_s=DAY) == dry
    (seen,) = survey(SHM, name=store_name)
    assert (seen.dead, seen.used) == (0, pytest.approx(time.time(), abs=60))
    age(path, 30)
    assert gc(store_name, idle_s=DAY).done is Done.REMOVED


def test_no_store_is_older_than_the_machine_runs(store_name: str, path: Path) -> None:
    age(path, 20_000)  # a clock that began in 1970
    assert gc(store_name, idle_s=15_000 * DAY).done is Done.KEPT


# ---- others -------------------------------------------------------------------------------------


@as_root
def test_what_belongs_to_others_stays(new_name: Callable[[], str], path: Path) -> None:
    name = path.name.split(".", 2)[2]
    patch(path, 0, "Q", 7)
    os.chown(path, 65_534, -1)
    assert "of user 65534" in gc(name).why
    other = path.with_name(f"shmkv.65534.{new_name()}")
    path.rename(other)
    try:
        assert "of user 65534" in gc(other.name.split(".", 2)[2]).why
        assert other.exists()
    finally:
        other.unlink()


def test_links_stay(store_name: str, path: Path, new_name: Callable[[], str]) -> None:
    patch(path, 0, "Q", 7)
    second = segment_path(new_name())
    second.symlink_to(path)
    assert gc(second.name.split(".", 2)[2]).done is Done.KEPT
    second.unlink()
    os.link(path, second)
    assert gc(store_name).done is Done.KEPT
    assert path.exists()


def test_without_leases_nothing_goes(
    store_name: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.fcntl

    def without(fd: int, command: int, *rest: Any) -> Any:
        if command == fcntl.F_SETLEASE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, command, *rest)

    patch(path, 0, "Q", 7)
    monkeypatch.setattr(removal.fcntl, "fcntl", without)
    one = gc(store_name)
    assert (one.done, path.exists()) == (Done.FAILED, True)
    assert "cannot be known" in one.why


# ---- at the same time ---------------------------------------------------------------------------


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_who_comes_while_it_is_held_finds_it_or_makes_another(store_name: str, path: Path) -> None:
    got: list[Any] = []

    def come() -> None:
        with shmkv.open(store_name, lock_timeout=20, **Sized) as store:
            got.append(store.get("k"))

    for removed in (False, True):
        comer = threading.Thread(target=come)
        with removal.Alone(str(path)) as alone:
            if removed:
                alone.remove()
            comer.start()
            if not removed:
                until(lambda: fcntl.fcntl(alone.fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK)
                with pytest.raises(removal.InUse):
                    alone.remove()
                assert got == []
            else:
                comer.join(20)
        comer.join(20)
    assert got == ["v", None]


def test_unlink_waits_for_who_is_alone(store_name: str, path: Path) -> None:
    with removal.Alone(str(path)) as alone:
        other = threading.Thread(target=shmkv.unlink, args=(store_name,))
        other.start()
        until(lambda: fcntl.fcntl(alone.fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK)
        assert path.exists()
    other.join(20)
    assert not path.exists()


def test_nobody_attaches_to_what_a_stopped_one_may_remove(store_name: str, path: Path) -> None:
    with process(lambda: removal.Alone(str(path))) as child:
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(shmkv.Busy, match="stopped"):
            shmkv.open(store_name, lock_timeout=0.05)
        shmkv.unlink(store_name)  # said by a person: it does not wait for ever
    assert not path.exists()


def test_bytes_are_locked_for_when_the_lease_is_ended(store_name: str, path: Path) -> None:
    with process(lambda: _without_lease(removal.Alone(str(path)))), pytest.raises(shmkv.Busy):
        shmkv.open(store_name, lock_timeout=0.05)
    assert shmkv.open(store_name)["k"] == "v"


def _without_lease(alone: removal.Alone) -> removal.Alone:
    fcntl.fcntl(alone.fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return alone


@pytest.mark.parametrize("step", ["fstat", "stat", "unlink"])
def test_a_kill_leaves_it_there_or_gone(store_name: str, path: Path, step: str) -> None:
    patch(path, 0, "Q", 7)
    child = os.fork()
    if child == 0:
        real = getattr(os, step)

        def die(*args: Any, **how: Any) -> None:
            if step == "unlink":
                real(*args, **how)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(os, step, die)
        try:
            gc(store_name)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert path.exists() == (step != "unlink")
    with shmkv.open(store_name, on_corrupt="recreate", **Sized) as store:
        assert len(store) == 0


@pytest.mark.usefixtures("just_started")
def test_a_store_in_use_never_loses_its_name(store_name: str) -> None:
    """Collected as fast as it goes while another opens, uses and closes."""
    child = os.fork()
    if child == 0:
        try:
            while True:
                collect(names=frozenset({store_name}), idle_s=0, remove=True)
        finally:
            os._exit(1)
    made = 0
    try:
        for i in range(400):
            with shmkv.open(store_name, lock_timeout=20, **Sized) as store:
                made += store.add("first", 1)
                store["round"] = i
                with shmkv.open(store_name, readonly=True) as other:
                    assert other["round"] == i  # the name means the store that is open
            if i % 8 == 0:
                until(lambda: not segment_path(store_name).exists())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert made >= 50
