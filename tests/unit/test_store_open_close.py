"""open, close, unlink, names: how stores begin, are found, refused and left.

What the options may be stands in `test_config.py`; whose segments are trusted stands in
`test_store_attach.py`.
"""

from __future__ import annotations

import gc
import os
import stat
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from tests.conftest import MIB, STORE_SIZE, segment_path

Opener = Callable[..., shmkv.Store]


def test_open_creates_and_then_attaches(open_store: Opener) -> None:
    one = open_store()
    one.set("k", b"v")
    two = open_store()
    assert one is not two
    assert two["k"] == b"v"
    two.set("k", b"w")
    assert one["k"] == b"w"


def test_data_outlives_every_handle(store_name: str) -> None:
    for turn in range(10):
        with shmkv.open(store_name, size=2 * MIB) as store:
            assert store.get("k") == (turn or None)
            store.set("k", turn + 1)


def test_attributes(open_store: Opener, store_name: str) -> None:
    store = open_store(size=3 * MIB, max_size=6 * MIB, evict=False)
    assert store.name == store_name
    assert (store.size, store.max_size) == (3 * MIB, 6 * MIB)
    assert (store.evict, store.readonly, store.closed) == (False, False, False)
    for name in ("name", "size", "max_size", "evict", "readonly", "closed"):
        with pytest.raises(AttributeError):
            setattr(store, name, None)


def test_open_without_a_size_takes_what_is_there(open_store: Opener) -> None:
    store = open_store(size=3 * MIB, max_size=4 * MIB)
    with shmkv.open(store.name) as again:
        assert (again.size, again.max_size) == (3 * MIB, 4 * MIB)


def test_create_false(new_name: Callable[[], str]) -> None:
    name = new_name()
    with pytest.raises(shmkv.NotFound, match=name):
        shmkv.open(name, create=False)
    assert not segment_path(name).exists()
    with shmkv.open(name, size=2 * MIB) as store:
        store.set("k", 1)
        with shmkv.open(name, create=False) as again:
            assert again["k"] == 1


def test_create_new(store_name: str) -> None:
    with shmkv.open(store_name, size=2 * MIB, create="new") as store:
        store.set("k", 1)
        with pytest.raises(shmkv.Exists, match=store_name):
            shmkv.open(store_name, size=2 * MIB, create="new")
        assert store["k"] == 1


@pytest.mark.parametrize(
    "other",
    [{"size": 4 * MIB}, {"size": 2 * MIB, "max_size": 3 * MIB}, {"evict": False}],
    ids=repr,
)
def test_other_options_do_not_match(store_name: str, other: dict[str, Any]) -> None:
    with shmkv.open(store_name, size=2 * MIB, max_size=8 * MIB) as store:
        store.set("k", 1)
        with pytest.raises(shmkv.Mismatch, match=store_name):
            shmkv.open(store_name, **other)
        with pytest.raises(shmkv.Mismatch):
            shmkv.open(store_name, on_mismatch="fail", **other)
        assert store["k"] == 1


def test_a_mismatch_names_both_sides(store_name: str) -> None:
    with shmkv.open(store_name, size=2 * MIB), pytest.raises(shmkv.Mismatch) as caught:
        shmkv.open(store_name, size=5 * MIB)
    text = str(caught.value)
    assert any(word in text for word in ("2 MiB", "2MiB", str(2 * MIB)))
    assert any(word in text for word in ("5 MiB", "5MiB", str(5 * MIB)))


def test_evict_true_does_not_match_a_store_that_keeps_all(store_name: str) -> None:
    with shmkv.open(store_name, size=2 * MIB, evict=False):
        with pytest.raises(shmkv.Mismatch, match="evict"):
            shmkv.open(store_name, evict=True)
        with shmkv.open(store_name, evict=True, on_mismatch="attach") as again:
            assert again.evict is False


def test_on_mismatch_attach(store_name: str) -> None:
    with shmkv.open(store_name, size=2 * MIB) as store:
        store.set("k", 1)
        with shmkv.open(store_name, size=4 * MIB, on_mismatch="attach") as again:
            assert again.size == 2 * MIB
            assert again["k"] == 1


def test_on_mismatch_recreate(store_name: str) -> None:
    with shmkv.open(store_name, size=2 * MIB) as store:
        store.set("k", 1)
        with shmkv.open(store_name, size=2 * MIB, on_mismatch="recreate") as same:
            assert same["k"] == 1
        with shmkv.open(store_name, size=4 * MIB, on_mismatch="recreate") as again:
            assert again.size == 4 * MIB
            assert len(again) == 0
            again.set("k", 2)
            assert store["k"] == 1
            with shmkv.open(store_name, create=False) as newest:
                assert newest["k"] == 2


def test_the_segment_is_private_whatever_the_umask(new_name: Callable[[], str]) -> None:
    for umask, options, mode in (
        (0o000, {}, 0o600),
        (0o077, {}, 0o600),
        (0o777, {}, 0o600),
        (0o077, {"mode": 0o660}, 0o660),
        (0o022, {"mode": 0o640}, 0o640),
    ):
        name = new_name()
        before = os.umask(umask)
        try:
            shmkv.open(name, size=2 * MIB, **options).close()  # type: ignore[arg-type]
        finally:
            os.umask(before)
        assert stat.S_IMODE(segment_path(name).stat().st_mode) == mode


def test_owner_is_this_user_by_default(store_name: str) -> None:
    with (
        shmkv.open(store_name, size=2 * MIB) as store,
        shmkv.open(store_name, create=False, owner=os.getuid()) as again,
    ):
        store.set("k", 1)
        assert again["k"] == 1
    shmkv.unlink(store_name, owner=os.getuid())
    assert not segment_path(store_name).exists()


# --- unlink and names -----------------------------------------------------------------------


def test_unlink(new_name: Callable[[], str]) -> None:
    name = new_name()
    with pytest.raises(shmkv.NotFound, match=name):
        shmkv.unlink(name)
    shmkv.unlink(name, missing_ok=True)
    shmkv.open(name, size=2 * MIB).close()
    shmkv.unlink(name)
    assert not segment_path(name).exists()
    with pytest.raises(shmkv.NotFound):
        shmkv.open(name, create=False)


def test_unlink_leaves_open_handles_alone(store_name: str) -> None:
    with shmkv.open(store_name, size=2 * MIB) as old:
        old.set("k", b"old")
        shmkv.unlink(store_name)
        old.set("l", b"still works")
        with shmkv.open(store_name, size=2 * MIB) as new:
            assert len(new) == 0
            new.set("k", b"new")
            assert (old["k"], new["k"]) == (b"old", b"new")


def test_names(new_name: Callable[[], str]) -> None:
    mine = [new_name() for _ in range(3)]
    assert not set(mine) & set(shmkv.names())
    for name in mine:
        shmkv.open(name, size=2 * MIB).close()
    found = shmkv.names()
    assert type(found) is list
    assert found == sorted(found)
    assert set(mine) <= set(found)
    shmkv.unlink(mine[0])
    assert set(mine) & set(shmkv.names()) == set(mine[1:])


# --- close ----------------------------------------------------------------------------------

CALLS: dict[str, Callable[[shmkv.Store], Any]] = {
    "set": lambda s: s.set("k", 1),
    "get": lambda s: s.get("k"),
    "setitem": lambda s: s.__setitem__("k", 1),
    "getitem": lambda s: s["k"],
    "delitem": lambda s: s.__delitem__("k"),
    "contains": lambda s: "k" in s,
    "len": len,
    "iter": lambda s: list(s),
    "keys": lambda s: list(s.keys()),
    "items": lambda s: list(s.items()),
    "values": lambda s: list(s.values()),
    "add": lambda s: s.add("k", 1),
    "replace": lambda s: s.replace("k", 1),
    "delete": lambda s: s.delete("k"),
    "incr": lambda s: s.incr("k"),
    "decr": lambda s: s.decr("k"),
    "touch": lambda s: s.touch("k", 5),
    "ttl": lambda s: s.ttl("k"),
    "expire_at": lambda s: s.expire_at("k", 4e9),
    "gets": lambda s: s.gets("k"),
    "cas": lambda s: s.cas("k", 1, 5),
    "update_with": lambda s: s.update_with("k", lambda v: v, default=1),
    "get_many": lambda s: s.get_many(["k"]),
    "set_many": lambda s: s.set_many({"k": 1}),
    "delete_many": lambda s: s.delete_many(["k"]),
    "pop": lambda s: s.pop("k", None),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault("k", 1),
    "update": lambda s: s.update({"k": 1}),
    "append": lambda s: s.append("k", b"t"),
    "rename": lambda s: s.rename("k", "l"),
    "clear": lambda s: s.clear(),
    "scan": lambda s: list(s.scan()),
    "view": lambda s: s.view("k").__enter__(),
    "info": lambda s: s.info("k"),
    "stats": lambda s: s.stats(),
    "check": lambda s: s.check(),
    "resize": lambda s: s.resize(s.max_size),
    "enter": lambda s: s.__enter__(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_store_says_so(open_store: Opener, call: str) -> None:
    keeper, store = open_store(), open_store()
    keeper.set("k", 5)
    store.close()
    with pytest.raises(shmkv.Closed, match=store.name):
        CALLS[call](store)
    assert dict(keeper.items()) == {"k": 5}


def test_close_is_idempotent(store: shmkv.Store) -> None:
    assert store.closed is False
    for _ in range(3):
        store.close()
        assert store.closed is True
    assert store.name
    assert store.name in repr(store)


def test_the_block_closes(open_store: Opener) -> None:
    with open_store() as store:
        assert isinstance(store, shmkv.Store)
        store.set("k", 1)
    assert store.closed
    with pytest.raises(LookupError), open_store() as store:
        raise LookupError
    assert store.closed


def test_iterators_of_a_closed_store(open_store: Opener) -> None:
    store = open_store()
    store.set_many({f"k{n}": n for n in range(100)})
    running, waiting = iter(store), store.scan(prefix="k")
    next(running)
    store.close()
    for keys in (running, waiting):
        with pytest.raises(shmkv.Closed):
            list(keys)


def test_update_with_on_a_store_closed_by_its_function(open_store: Opener) -> None:
    keeper, store = open_store(), open_store()
    keeper.set("k", 1)

    def closes(value: int) -> int:
        store.close()
        return value + 1

    with pytest.raises(shmkv.Closed):
        store.update_with("k", closes)
    assert keeper["k"] == 1


def test_forgotten_handles_leave_no_row(store: shmkv.Store) -> None:
    for turn in range(300):
        handle = shmkv.open(store.name, create=False)
        handle.set("k", turn)
        del handle
    gc.collect()
    assert store.stats().attached == 1
    assert store["k"] == 299


def test_many_handles_at_once(open_store: Opener) -> None:
    first = open_store()
    handles = [open_store() for _ in range(40)]
    for handle in handles:
        handle.incr("n")
    assert first["n"] == 40
    assert first.stats().attached == 41
    for handle in handles:
        handle.close()
    assert first.stats().attached == 1


def test_handles_leave_no_descriptors_and_no_maps(store: shmkv.Store) -> None:
    def taken() -> tuple[int, int]:
        with open("/proc/self/maps") as maps:
            mapped = sum(f".{store.name}" in line for line in maps)
        return len(os.listdir("/proc/self/fd")), mapped

    before = taken()
    for _ in range(100):
        with shmkv.open(store.name, create=False) as handle:
            handle.set("k", b"v" * 100_000)
    assert taken() == before


def test_close_with_an_open_view_is_busy(open_store: Opener) -> None:
    store = open_store(lock_timeout=0.05)
    store.set("k", b"v" * 100_000)
    with store.view("k") as view:
        start = time.monotonic()
        with pytest.raises(shmkv.Busy, match="view"):
            store.close()
        assert time.monotonic() - start < 4
        assert not store.closed
        assert view == b"v" * 100_000
        assert store.get("k") == b"v" * 100_000
        store.set("l", 1)
    store.close()
    assert store.closed


def test_close_waits_for_the_view_of_another_thread(open_store: Opener) -> None:
    store = open_store(lock_timeout=30)
    store.set("k", b"v" * 100_000)
    viewing, leave = threading.Event(), threading.Event()
    seen: list[bool] = []

    def reader() -> None:
        with store.view("k") as view:
            viewing.set()
            seen.append(leave.wait(30))
            seen.append(view == b"v" * 100_000)

    def closer() -> None:
        store.close()
        seen.append(store.closed)

    threads = [threading.Thread(target=target, daemon=True) for target in (reader, closer)]
    threads[0].start()
    assert viewing.wait(30)
    threads[1].start()
    threads[1].join(0.05)
    assert threads[1].is_alive()
    assert not store.closed
    leave.set()
    for thread in threads:
        thread.join(30)
    assert seen == [True, True, True]


def test_a_failed_open_leaves_no_handle(store: shmkv.Store) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with pytest.raises(shmkv.Mismatch):
            shmkv.open(store.name, size=2 * STORE_SIZE)
        with pytest.raises(shmkv.Exists):
            shmkv.open(store.name, create="new")
    assert len(os.listdir("/proc/self/fd")) == before
    assert store.stats().attached == 1


def test_a_store_needs_a_name() -> None:
    maker: Any = shmkv.Store
    with pytest.raises(TypeError):
        maker()
