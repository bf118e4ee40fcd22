"""Structured values come back equal and of the same type, wherever they are nested.

Arrays have test_arrays.py, other codecs test_codec_own.py, the nesting limit test_codec_depth.py,
what is refused test_codec_refused.py; chosen and hostile bytes the property and the stress tests.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from tests.unit.codec_values import (
    CONTAINERS,
    HASHABLE,
    HASHING,
    NIGHT,
    PLACES,
    ROME,
    SCALARS,
    back,
    same,
    shown,
)


@pytest.mark.parametrize("place", PLACES)
def test_every_type_at_every_place(store: shmkv.Store, place: str) -> None:
    for value in SCALARS + CONTAINERS:
        whole = PLACES[place](value)
        assert same(back(store, whole), whole), shown(value)


@pytest.mark.parametrize("place", HASHING)
def test_every_type_as_a_key(store: shmkv.Store, place: str) -> None:
    for value in HASHABLE:
        whole = HASHING[place](value)
        assert same(back(store, whole), whole), shown(value)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_likes_within_come_back_as_bytes(
    store: shmkv.Store, kind: Callable[[bytes], Any]
) -> None:
    assert same(back(store, [kind(b"ab"), (kind(b""),)]), [b"ab", (b"",)])
    assert same(back(store, {1: kind(b"ab")}), {1: b"ab"})


def test_views_of_other_shapes_within(store: shmkv.Store) -> None:
    whole = memoryview(bytes(range(24)))
    for view in (
        whole[::2],
        whole[::-1],
        whole.cast("I"),
        whole.cast("I")[::-2],
        whole.cast("B", (4, 6)),
    ):
        assert same(back(store, [view, (view,)]), [view.tobytes(), (view.tobytes(),)])
    assert same(back(store, {whole[::2]: 1}), {bytes(whole[::2]): 1})
    whole.release()
    with pytest.raises(ValueError, match="released"):
        store.set("k", [whole])


def test_the_order_of_a_dict_is_kept(store: shmkv.Store) -> None:
    for keys in (["z", "a", "m"], [3, "1", 2, None, ()]):
        assert list(back(store, dict.fromkeys(keys))) == keys


def test_the_zone_is_the_same_object(store: shmkv.Store) -> None:
    assert back(store, NIGHT.replace(tzinfo=ROME)).tzinfo is ROME
    assert back(store, [NIGHT.replace(tzinfo=dt.UTC)])[0].tzinfo is dt.UTC


def test_the_decimal_context_changes_nothing(store: shmkv.Store) -> None:
    value = decimal.Decimal("1.23456789E+30")
    with decimal.localcontext() as context:
        context.prec, context.capitals, context.Emax = 2, 0, 5
        context.traps[decimal.FloatOperation] = context.traps[decimal.Inexact] = True
        assert same(back(store, [value]), [value])


def test_what_is_read_is_private(store: shmkv.Store) -> None:
    value = [1, {"a": [2]}]
    store.set("k", value)
    value.append(3)
    store["k"][1]["a"].clear()
    assert store["k"] == [1, {"a": [2]}]


@pytest.mark.parametrize("value", [*CONTAINERS[:7], NIGHT, uuid.UUID(int=1)], ids=shown)
def test_every_way_to_read(store: shmkv.Store, value: Any) -> None:
    store.set("k", value)
    token = store.gets("k")[1]
    for read in (
        store.get("k"),
        store["k"],
        store.gets("k")[0],
        store.get_many(["k"])["k"],
        next(iter(store.values())),
        next(iter(store.items()))[1],
        store.setdefault("k", None),
        store._get_encoded("k"),
    ):
        assert same(read, value)
    assert store.cas("k", [value], token)
    assert same(store.pop("k"), [value])
    assert "k" not in store


def test_what_info_calls_them(store: shmkv.Store) -> None:
    for value in [*CONTAINERS[:5], NIGHT, NIGHT.date(), dt.time(), dt.timedelta()]:
        store.set("k", value)
        assert store.info("k").type == type(value).__name__
    for value in (decimal.Decimal(1), uuid.uuid4()):
        store.set("k", value)
        assert store.info("k").type == type(value).__name__


def test_structured_values_are_no_counters_nor_strings(store: shmkv.Store) -> None:
    store.set("k", [1])
    for change in (
        lambda: store.incr("k"),
        lambda: store.append("k", b"x"),
        lambda: store.append("k", "x"),
        lambda: store.view("k").__enter__(),
    ):
        with pytest.raises(TypeError):
            change()
    assert store["k"] == [1]


def test_rename_touch_and_move_keep_them(store: shmkv.Store) -> None:
    value = {"a": (1, {2}), 3: NIGHT}
    store.set("k", value)
    assert store.touch("k", 1000)
    store.rename("k", "another")
    store._compact()
    assert same(store["another"], value)
    assert store.check().ok
