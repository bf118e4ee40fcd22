"""Saved and brought back: everything that was in a store is there again, and nothing else."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkv
from shmkv.persist import verify
from shmkv.persist.restore import Brought
from shmkv.persist.save import save
from tests.conftest import Clock
from tests.unit.codec_values import CONTAINERS, SCALARS, same
from tests.unit.persist.conftest import Opener

MIB = 1 << 20


@pytest.fixture(params=["snapshot", "zstd", "everysec", "always"])
def way(request: pytest.FixtureRequest) -> str:
    """How it goes to disk."""
    return str(request.param)


@pytest.fixture
def journeyed(
    way: str, folder: Path, open_store: Opener, reborn: Opener
) -> Callable[..., shmkv.Store]:
    """Fill a store by a function, send it to disk and back."""

    def go(
        fill: Callable[[shmkv.Store], Any],
        size: str = "8MiB",
        reboot: Callable[[], None] = lambda: None,
        **how: Any,
    ) -> shmkv.Store:
        journal = way if way in ("everysec", "always") else None
        store = open_store(size=size, path=folder, journal=journal, **how)
        fill(store)
        if journal == "everysec":
            store._journal_sync()
        elif journal is None:
            store.snapshot(compression="zstd" if way == "zstd" else None)
        verdict = verify(str(folder))
        assert verdict, verdict.problems
        reboot()
        return reborn(store, path=folder)

    return go


def test_every_type(journeyed: Callable[..., shmkv.Store]) -> None:
    values = {f"v{i}": value for i, value in enumerate([*SCALARS, *CONTAINERS])}
    arrays = {
        "a0": np.arange(100_000, dtype="f4").reshape(100, 1000),
        "a1": np.array(3, "i2"),
        "a2": np.zeros((0, 4), "u1"),
    }

    def fill(store: shmkv.Store) -> None:
        store.set_many(values)
        store.set_many(arrays)

    store = journeyed(fill)
    assert set(store) == set(values) | set(arrays)
    for key, value in (values | arrays).items():
        assert same(store[key], value), key
    assert store.check()


def test_keys_as_they_were(journeyed: Callable[..., shmkv.Store]) -> None:
    keys: list[str | bytes] = ["a", b"b", "\u00e9", b"\xff\x00", "k" * 65_535, "s"]

    def fill(store: shmkv.Store) -> None:
        for i, key in enumerate(keys):
            store[key] = i
        store[b"s"] = 5  # the same item, which the bytes name now

    store = journeyed(fill)
    assert {type(key) for key in store if key in ("a", "\u00e9")} == {str}
    assert {key: store[key] for key in keys} == {key: i for i, key in enumerate(keys)}


def test_deadlines_are_of_the_wall_clock(
    journeyed: Callable[..., shmkv.Store], clock: Clock
) -> None:
    def fill(store: shmkv.Store) -> None:
        store.set("short", 1, ttl=60)
        store.set("long", 2, ttl=1000)
        store["never"] = 3

    clock.advance(-100)  # the clock of stores begins anew with the machine
    store = journeyed(fill, reboot=clock.reset)
    assert set(store) == {"short", "long", "never"}
    found = [store.ttl(key) for key in ("short", "long", "never")]
    assert found[2] is None
    assert found[0] is not None
    assert found[1] is not None
    assert 0 < found[0] <= 60
    assert 940 < found[1] <= 1000


def test_what_expired_meanwhile_does_not_come_back(
    way: str, folder: Path, open_store: Opener, reborn: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal: Any = way if way in ("everysec", "always") else None
    store = open_store(path=folder, journal=journal)
    store["here"] = 1
    store.set("gone", 2, ttl=0.05)
    if journal is None:
        store.snapshot()
    else:
        store._journal_sync()
    end = time.monotonic() + 5
    while "gone" in store:
        assert time.monotonic() < end
    assert dict(reborn(store, path=folder)) == {"here": 1}


def test_long_items_in_pieces(journeyed: Callable[..., shmkv.Store]) -> None:
    lengths = [262_000, 262_144, 262_150, MIB - 1, MIB, MIB + 1, 3 * MIB + 17]
    values = {f"k{n}": random.Random(n).randbytes(n) for n in lengths}
    values["zeros"] = bytes(2 * MIB)
    store = journeyed(lambda store: store.set_many(values), size="64MiB")
    assert {key: store[key] for key in store} == values


def test_nothing(journeyed: Callable[..., shmkv.Store]) -> None:
    store = journeyed(lambda store: None)
    assert (len(store), store.size) == (0, 8 * MIB)


def test_many_small_items_in_full_buckets(journeyed: Callable[..., shmkv.Store]) -> None:
    values = {f"key-{i}": i for i in range(20_000)}

    def fill(store: shmkv.Store) -> None:
        store.set_many(values)
        store.delete_many([f"key-{i}" for i in range(0, 20_000, 3)])

    store = journeyed(fill)
    assert dict(store.items()) == {k: v for k, v in values.items() if v % 3}
    assert store.check()


def test_changes_of_every_kind(journeyed: Callable[..., shmkv.Store]) -> None:
    def fill(store: shmkv.Store) -> None:
        store["n"] = 1
        store.incr("n", 41)
        store["text"] = "ab"
        store.append("text", "cd")
        store["old"] = [1]
        store.rename("old", "new")
        store.set("t", 1)
        store.touch("t", 500)
        store["x"] = 1
        del store["x"]
        store.set_many({"x": 2, "y": 3})
        store.delete_many(["x"])
        store["popped"] = 1
        store.pop("popped")
        store.add("added", 1)
        store.replace("added", 2)
        value, token = store.gets("added")
        store.cas("added", value + 1, token)

    store = journeyed(fill)
    wanted = {"n": 42, "text": "abcd", "new": [1], "t": 1, "y": 3, "added": 3}
    assert dict(store.items()) == wanted
    assert 440 < (store.ttl("t") or 0) <= 500


def test_a_cleared_store(journeyed: Callable[..., shmkv.Store]) -> None:
    def fill(store: shmkv.Store) -> None:
        store.set_many({f"k{i}": i for i in range(1000)})
        store.clear()
        store["after"] = 1

    assert dict(journeyed(fill)) == {"after": 1}


def test_options_come_back(journeyed: Callable[..., shmkv.Store], way: str) -> None:
    store = journeyed(lambda store: None, evict=False, max_size="12MiB")
    assert (store.evict, store.size, store.max_size) == (False, 8 * MIB, 12 * MIB)
    state = store._journal_state()
    assert (None if state is None else state["mode"]) == {"everysec": 1, "always": 2}.get(way)


# ---- again and again ----------------------------------------------------------------------------


@pytest.mark.parametrize("journal", ["everysec", "always"])
def test_many_lives(folder: Path, open_store: Opener, reborn: Opener, journal: Any) -> None:
    chance, model = random.Random(5), dict[str, Any]()
    store = open_store(path=folder, journal=journal)
    for life in range(12):
        for _ in range(60):
            key = f"k{chance.randrange(40)}"
            if chance.random() < 0.3:
                store.delete(key)
                model.pop(key, None)
            else:
                model[key] = chance.randbytes(chance.choice([3, 100, 5000]))
                store[key] = model[key]
        if life % 3 == 1:
            store.snapshot(keep=1 + life % 2)
            store["since"] = model["since"] = life
        store._journal_sync()
        assert verify(str(folder))
        store = reborn(store, path=folder)
        assert dict(store.items()) == model, life
    assert len(list(folder.glob("snapshot-*.shmkv"))) <= 2


def test_a_snapshot_store_gets_a_journal(folder: Path, open_store: Opener, reborn: Opener) -> None:
    store = open_store(path=folder)
    store["a"] = 1
    store.snapshot()
    for _ in range(3):
        store = reborn(store, path=folder, journal="always")
        store.incr("a")
    assert reborn(store, path=folder)["a"] == 4
    assert sorted(one.name for one in folder.glob("*-*"))[:2] == [
        "journal-0000000001.shmkv",
        "journal-0000000002.shmkv",
    ]


def test_a_smaller_store_keeps_what_is_read(
    folder: Path, open_store: Opener, reborn: Opener
) -> None:
    store = open_store(size="32MiB", path=folder)
    value = os.urandom(1000)
    for i in range(20_000):
        store[f"k{i:05d}"] = value
    for _ in range(3):
        for i in range(0, 20_000, 40):
            store.get(f"k{i:05d}")
    store.snapshot()
    store = reborn(store, path=folder, size="16MiB")
    assert (store.size, len(store) < 16_000) == (16 * MIB, True)
    kept = sum(f"k{i:05d}" in store for i in range(0, 20_000, 40)) / 500
    others = sum(f"k{i:05d}" in store for i in range(1, 20_000, 40)) / 500
    assert kept > others + 0.1


def test_files_elsewhere(
    tmp_path: Path, open_store: Opener, store_name: str, bring: Callable[..., Brought]
) -> None:
    store = open_store()
    store.set_many({"a": 1, "b": [2]})
    path = store.snapshot(tmp_path / "copy.shmkv")
    assert path == tmp_path / "copy.shmkv"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    store["a"] = 2
    store.snapshot(str(path), compression="zstd")
    store.close()
    shmkv.unlink(store_name)
    assert bring(path).items == 2
    assert dict(open_store(create=False).items()) == {"a": 2, "b": [2]}


def test_saving_from_a_reader_and_telling_how_far(
    tmp_path: Path, open_store: Opener, bring: Callable[..., Brought], store_name: str
) -> None:
    store = open_store(size="64MiB")
    store.set_many({f"k{i}": bytes(20_000) for i in range(500)})
    calls: list[tuple[int, int]] = []
    with open_store(readonly=True) as reader:
        save(reader, str(tmp_path / "s"), progress=lambda *call: calls.append(call))
    assert calls[-1] == (500, 500)
    assert calls == sorted(calls)
    assert len(calls) > 5
    store.close()
    shmkv.unlink(store_name)
    calls.clear()
    found = bring(tmp_path / "s", progress=lambda *call: calls.append(call))
    assert (found.items, len(calls) > 5, calls == sorted(calls)) == (500, True, True)
    assert calls[-1][0] <= calls[-1][1] == (tmp_path / "s").stat().st_size
