"""A store travels: pickle, fork, spawn, pools. It arrives as another handle of the same store."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import shmkv
from tests.conftest import MIB

TIMEOUT = 60
METHODS = ["fork", "spawn", "forkserver"]


def count(store: shmkv.Store, turns: int) -> int:
    for _ in range(turns):
        store.incr("n")
    return os.getpid()


def count_inherited(turns: int) -> None:
    assert _inherited is not None
    count(_inherited, turns)


_inherited: shmkv.Store | None = None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(store: shmkv.Store, protocol: int) -> None:
    store.set("k", b"v")
    with pickle.loads(pickle.dumps(store, protocol)) as again:
        assert type(again) is shmkv.Store
        assert again is not store
        assert again["k"] == b"v"
        again.set("k", b"w")
        assert store["k"] == b"w"
        assert store.stats().attached == 2
    assert not store.closed


def test_a_pickle_is_name_and_options_not_data(store: shmkv.Store) -> None:
    store.set("k", b"secret" * 10_000)
    dumped = pickle.dumps(store)
    assert len(dumped) < 2000
    assert b"secret" not in dumped


def test_options_travel(open_store: Callable[..., shmkv.Store]) -> None:
    store = open_store(size=3 * MIB, max_size=9 * MIB, evict=False, lock_timeout=1.5)
    with pickle.loads(pickle.dumps(store)) as again:
        assert (again.size, again.max_size, again.evict) == (3 * MIB, 9 * MIB, False)
        assert not again.readonly


def test_a_reader_stays_a_reader(open_store: Callable[..., shmkv.Store]) -> None:
    writer = open_store()
    writer.set("k", 1)
    reader = open_store(readonly=True)
    with pickle.loads(pickle.dumps(reader)) as again:
        assert again.readonly
        assert again["k"] == 1
        with pytest.raises(shmkv.ReadOnly):
            again.set("k", 2)


def test_a_store_opened_as_new_can_be_unpickled(new_name: Callable[[], str]) -> None:
    with shmkv.open(new_name(), size=2 * MIB, create="new") as store:
        store.set("k", 1)
        with pickle.loads(pickle.dumps(store)) as again:
            assert again["k"] == 1


def test_copies_are_handles_of_their_own(store: shmkv.Store) -> None:
    store.set("k", 1)
    for maker in (copy.copy, copy.deepcopy):
        with maker(store) as again:
            assert again is not store
            assert again["k"] == 1
        assert store["k"] == 1


@pytest.mark.parametrize("method", METHODS)
def test_processes_share_the_store(store: shmkv.Store, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    children = [context.Process(target=count, args=(store, 2000)) for _ in range(3)]
    for child in children:
        child.start()
    try:
        count(store, 2000)
        for child in children:
            child.join(TIMEOUT)
        assert [child.exitcode for child in children] == [0, 0, 0]
    finally:
        for child in children:
            child.kill()
            child.join(TIMEOUT)
    assert store["n"] == 8000
    assert store.check().ok
    assert store.stats().attached == 1


@pytest.mark.parametrize("method", METHODS)
def test_pools_can_be_given_the_store(store: shmkv.Store, method: str) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        workers = set(pool.map(count, [store] * 20, [100] * 20, timeout=TIMEOUT))
    assert os.getpid() not in workers
    assert store["n"] == 2000


def test_fork_inherits_the_handle(store: shmkv.Store) -> None:
    global _inherited
    _inherited = store
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=count_inherited, args=(1000,)) for _ in range(4)]
    try:
        for child in children:
            child.start()
        count(store, 1000)
        for child in children:
            child.join(TIMEOUT)
        assert [child.exitcode for child in children] == [0, 0, 0, 0]
    finally:
        _inherited = None
        for child in children:
            if child.pid is not None:
                child.kill()
                child.join(TIMEOUT)
    assert store["n"] == 5000
    assert store.stats().attached == 1
    store.set("k", b"the parent goes on")
    assert store["k"] == b"the parent goes on"


def test_close_in_a_forked_child_leaves_the_parent_alone(store: shmkv.Store) -> None:
    store.set("k", 1)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=store.close)
    child.start()
    child.join(TIMEOUT)
    assert child.exitcode == 0
    assert not store.closed
    assert store.incr("k") == 2


def test_a_view_of_the_parent_survives_a_fork(store: shmkv.Store) -> None:
    value = b"parent" * 20_000
    store.set("k", value)
    context = multiprocessing.get_context("fork")
    with store.view("k") as view:
        child = context.Process(target=count, args=(store, 10))
        child.start()
        child.join(TIMEOUT)
        assert child.exitcode == 0
        for turn in range(300):
            store.set(f"churn{turn}", b"c" * 50_000)
        assert view == value
