"""Other users at the same /dev/shm: squatters, friends of a group, and who cuts the file.

What unit/test_store_attach.py holds (links, modes and owners one by one, root's store for its
workers) is not repeated. Children become other users for good; in a /dev/shm of their own where
they need to write there or where its rights are changed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from tests.conftest import MIB, SHM, segment_path
from tests.stress.failing_space import in_own_shm
from tests.stress.strangers_land import NotRun, become, in_child
from tests.stress.support import until

NOBODY = 65_534
ANNA, BERT, CARL, TEAM, ELSEWHERE = 71_001, 71_002, 71_003, 72_000, 72_001
NAME = "users"
SIGBUS, SIGSEGV = 7, 11


def skipped(body: Callable[[], int]) -> int:
    """The child's end; skip with the reason where it may not do what it needs."""
    try:
        return body()
    except NotRun as why:
        pytest.skip(f"NOT RUN: {why}")


def as_user(uid: int, group: int, body: Callable[[], object]) -> None:
    """In one more child, as another user; what it raises is raised here as an AssertionError."""

    def inside() -> None:
        become(uid, group)
        body()

    assert in_child(inside, 30) == 0


def in_shm(body: Callable[[], object]) -> None:
    """In a /dev/shm of its own, as root."""
    assert skipped(lambda: in_own_shm(body, "size=32m")) == 0


# ---- squatters ----------------------------------------------------------------------------------


def _squat(kind: str) -> None:
    signal.alarm(50)  # whoever waits for a squatter waits for ever
    path = SHM / f"shmkv.0.{NAME}"

    def make() -> None:
        if kind == "file":
            path.touch(mode=0o666)
            os.truncate(path, 2 * MIB)
        elif kind == "fifo":
            os.mkfifo(path, 0o666)
        elif kind == "directory":
            path.mkdir(mode=0o777)
        else:
            path.symlink_to(SHM / "elsewhere")

    as_user(NOBODY, NOBODY, make)
    before = path.lstat()
    for way in ({"size": 2 * MIB}, {"create": False}, {"readonly": True}):
        with pytest.raises(shmkv.Denied) as refusal:
            shmkv.open(NAME, **way)
        assert str(path) in str(refusal.value)
        assert kind != "file" or f"user {NOBODY}" in str(refusal.value)
    with pytest.raises(shmkv.Denied):
        shmkv.open(NAME, size=2 * MIB, on_corrupt="recreate", on_mismatch="recreate")
    after = path.lstat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not (SHM / "elsewhere").exists()


@pytest.mark.parametrize("kind", ["file", "fifo", "directory", "symlink"])
def test_a_squatted_name(kind: str) -> None:
    """Nobody takes root's name first, with every right given to root: refused, never followed."""
    in_shm(lambda: _squat(kind))


def _unwritable() -> None:
    SHM.chmod(0o755)

    def there() -> None:
        with pytest.raises(shmkv.Denied):
            shmkv.open(NAME, size=2 * MIB)

    as_user(ANNA, TEAM, there)


def test_a_dev_shm_that_may_not_be_written() -> None:
    in_shm(_unwritable)


# ---- friends ------------------------------------------------------------------------------------


def _anna_makes(mode: int) -> None:
    def make() -> None:
        with shmkv.open(NAME, size=2 * MIB, mode=mode) as store:
            store["n"] = 1

    as_user(ANNA, TEAM, make)


def _friends() -> None:
    _anna_makes(0o660)
    path = SHM / f"shmkv.{ANNA}.{NAME}"
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o660, ANNA, TEAM)

    def bert() -> None:
        with shmkv.open(NAME, owner=ANNA, mode=0o660, create=False) as store:
            assert store.incr("n") == 2
            assert store.check().ok
            os._exit(0)  # and dies attached: somebody else folds it

    def carl() -> None:
        for options in ({"create": False}, {"readonly": True}):
            with pytest.raises(shmkv.Denied, match=f"user {ANNA}"):
                shmkv.open(NAME, owner=ANNA, mode=0o660, **options)  # type: ignore[arg-type]

    def bert_alone() -> None:
        with pytest.raises(shmkv.Denied, match="0o660"):
            shmkv.open(NAME, owner=ANNA, create=False)

    def anna() -> None:
        with shmkv.open(NAME, mode=0o660, create=False) as store:
            until(lambda: store.check().ok and store.stats().attached == 1, "bert is folded", 10)
            assert store["n"] == 2

    as_user(BERT, TEAM, bert)
    as_user(CARL, ELSEWHERE, carl)
    as_user(BERT, TEAM, bert_alone)
    as_user(ANNA, TEAM, anna)


def test_a_group_shares_a_store() -> None:
    """mode=0o660: two users of one group write, a third reads nothing, 0600 stays the rule."""
    in_shm(_friends)


def _not_his_to_remove() -> None:
    _anna_makes(0o660)

    def bert() -> None:
        with pytest.raises(shmkv.Denied):
            shmkv.unlink(NAME, owner=ANNA)
        with pytest.raises(shmkv.Denied):
            shmkv.open(NAME, owner=ANNA, mode=0o660, size=4 * MIB, on_mismatch="recreate")

    as_user(BERT, TEAM, bert)
    assert (SHM / f"shmkv.{ANNA}.{NAME}").exists()


def test_a_friend_may_not_recreate() -> None:
    in_shm(_not_his_to_remove)


# ---- who may write, and who cuts ----------------------------------------------------------------


def _address(name: str) -> tuple[int, str]:
    """Where the segment is mapped, and with which rights."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    found = [line.split() for line in lines if line.endswith(f".{name}")]
    return int(found[0][0].split("-")[0], 16), found[0][1]


def test_a_readonly_store_cannot_be_written_through_its_memory(store_name: str) -> None:
    shmkv.open(store_name, size=2 * MIB).close()
    before = segment_path(store_name).read_bytes()

    def write() -> None:
        with shmkv.open(store_name, readonly=True):
            at, rights = _address(store_name)
            assert rights == "r--s"
            ctypes.memset(at + 4096, 1, 1)

    assert in_child(write) == -SIGSEGV
    assert segment_path(store_name).read_bytes() == before


def test_a_view_cannot_be_written(store_name: str) -> None:
    with shmkv.open(store_name, size=2 * MIB) as store:
        store["k"] = bytes(100_000)
        with store.view("k") as memory:
            assert memory.readonly
            with pytest.raises(TypeError):
                memory[0] = 1


def test_who_may_cut_the_file_can_kill_its_readers(store_name: str) -> None:
    """What is not prevented: the owner truncates a living segment.

    A touch of a page that is gone is SIGBUS, in every process that has the segment mapped. Seals
    would forbid the cut, but a file of /dev/shm cannot be sealed (below): only a memfd can, and
    that has no name. A handle that was opened before and one opened after are told apart: the
    latter is refused.
    """
    with shmkv.open(store_name, size=2 * MIB) as store:
        store["k"] = b"v"

    def read() -> None:
        with shmkv.open(store_name, create=False) as store:
            os.truncate(segment_path(store_name), 0)
            store.get("k")

    assert in_child(read) == -SIGBUS
    os.truncate(segment_path(store_name), MIB)
    with pytest.raises(shmkv.Corrupt, match="cut"):
        shmkv.open(store_name, create=False)


def test_a_segment_cannot_be_sealed(store_name: str) -> None:
    shmkv.open(store_name, size=2 * MIB).close()
    with segment_path(store_name).open("r+b") as file, pytest.raises(PermissionError):
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
