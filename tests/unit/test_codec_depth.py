"""The nesting limit: what is as deep as it may be works, one more is refused, on a small stack too.

Owns the depth that writers are held to; that readers are is in tests/c/test_packed.c and the stress
test of hostile values.
"""

from __future__ import annotations

import decimal
import sys
import threading
import uuid
from typing import Any

import pytest

import shmkv
from tests.unit.codec_values import DEPTH, NIGHT, ODD, SCALARS, WRAPS, back, nested, same

MIXES = [
    ["list"],
    ["tuple"],
    ["dict"],
    ["dict of int"],
    ["frozenset"],
    ["tuple", "frozenset"],
    ["tuple", "frozenset", "list", "dict", "dict of int"][::-1],
]


def judge_depth(store: shmkv.Store, kinds: list[str]) -> None:
    """The limit is what it is said to be."""
    # Only what can be hashed may lie in a frozenset, so that is innermost.
    inner = [kind for kind in kinds if kind in {"tuple", "frozenset"}] or ["tuple"]
    value: Any = nested(DEPTH // 2, inner)
    outer = [kind for kind in kinds if kind != "frozenset"] if set(kinds) - set(inner) else inner
    for n in range(DEPTH - DEPTH // 2):
        value = WRAPS[outer[n % len(outer)]](value)
    assert same(back(store, value), value)
    for one_more in ([value], (value,), {"k": value}, {1: value}):
        with pytest.raises(shmkv.CodecError, match=f"{DEPTH} deep"):
            store.set("k", one_more)
        assert same(store["k"], value)


@pytest.mark.parametrize("kinds", MIXES, ids="-".join)
def test_depth(store: shmkv.Store, kinds: list[str]) -> None:
    judge_depth(store, kinds)


def test_depth_of_keys(store: shmkv.Store) -> None:
    value = {nested(DEPTH - 1, ["tuple", "frozenset"]): 1}
    assert same(back(store, value), value)
    with pytest.raises(shmkv.CodecError, match="deep"):
        store.set("k", [value])
    with pytest.raises(shmkv.CodecError, match="deep"):
        store.set("k", {nested(DEPTH, ["tuple"]): 1})


def test_what_is_no_container_fits_innermost(store: shmkv.Store) -> None:
    for scalar in (NIGHT.replace(tzinfo=ODD), decimal.Decimal(1), 1 << 80, uuid.uuid4()):
        value: Any = scalar
        for _ in range(DEPTH):
            value = [value]
        assert same(back(store, value), value)


def test_a_small_stack_is_enough(store: shmkv.Store) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            for kinds in MIXES:
                judge_depth(store, kinds)
            for value in SCALARS:
                assert same(back(store, [value]), [value])
        except BaseException as error:  # noqa: BLE001 - of another thread: told by this one
            failed.append(error)

    old = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(old)
    thread.join()
    assert failed == []


def test_what_contains_itself_is_refused(store: shmkv.Store) -> None:
    ring: list[Any] = []
    ring.append(ring)
    circle: dict[Any, Any] = {}
    circle[1] = ([circle],)
    pair: list[Any] = [[], []]
    pair[0].append(pair[1])
    pair[1].append(pair[0])
    store.set("k", b"stays")
    for value in (ring, circle, pair, (ring,), {"k": circle}):
        with pytest.raises(shmkv.CodecError, match="contains itself"):
            store.set("k", value)
    assert store["k"] == b"stays"


@pytest.mark.timeout(20)
def test_the_cost_of_nesting_is_linear(store: shmkv.Store) -> None:
    """What fails at first within each level must not be tried twice as often at the next."""
    for other in ({1: 1}, 1 << 70, memoryview(b"abcd")[::2], NIGHT):
        value: Any = ()
        for _ in range(DEPTH // 2 - 1):
            value = (value, [other])
        store.set("k", value)
        with pytest.raises(shmkv.CodecError):
            store.set("k", [value, object()])


def test_running_out_of_stack_is_not_damage(store: shmkv.Store) -> None:
    value = nested(DEPTH, ["tuple"])
    store.set("k", value)

    def below(frames: int) -> Any:
        return store.get("k") if frames == 0 else below(frames - 1)

    exhausted = 0
    for frames in range(0, sys.getrecursionlimit(), 10):
        try:
            assert same(below(frames), value)
        except RecursionError:
            exhausted += 1
    assert exhausted > 5
    assert same(store["k"], value)
