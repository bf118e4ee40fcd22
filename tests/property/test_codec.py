"""Values of any shape come back, and what the codec makes is always what the scan accepts.

Owns a strategy for every type of the safe codec, mixed and nested at will. Values go through a
store, not through the codec alone. `SHMKV_HYPOTHESIS=full` in the environment draws more of them.
"""

from __future__ import annotations

import datetime as dt
import os
import string
import uuid
from collections.abc import Iterator
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import shmkv
from tests.conftest import unique_name
from tests.unit.codec_values import WRAPS, same

RUNS = 1500 if os.environ.get("SHMKV_HYPOTHESIS") == "full" else 100
QUICK = settings(
    max_examples=RUNS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def shared() -> Iterator[shmkv.Store]:
    """One store for all examples; they write one key."""
    name = unique_name()
    try:
        with shmkv.open(name, size="32MiB") as store:
            yield store
    finally:
        shmkv.unlink(name, missing_ok=True)


# ---- strategies ---------------------------------------------------------------------------------

texts = st.text(max_size=40)
ints = st.integers() | st.integers(-(1 << 70), 1 << 70) | st.integers(0, 255)
offsets = st.timedeltas(dt.timedelta(hours=-23, minutes=-59), dt.timedelta(hours=23, minutes=59))
zones = st.one_of(
    st.none(),
    st.timezones(),
    st.builds(dt.timezone, offsets),
    st.builds(dt.timezone, offsets, texts),
)
folds = st.integers(0, 1)
datetimes = st.builds(lambda m, z, f: m.replace(tzinfo=z, fold=f), st.datetimes(), zones, folds)
times = st.builds(lambda m, z, f: m.replace(tzinfo=z, fold=f), st.times(), zones, folds)
# Two NaNs are neither equal nor the same: as elements they are the unit tests' affair.
hashable_scalars = st.one_of(
    st.none(),
    st.booleans(),
    ints,
    st.floats(allow_nan=False),
    texts,
    st.binary(max_size=40),
    st.dates(),
    datetimes,
    times,
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.builds(lambda n: uuid.UUID(int=n), st.integers(0, (1 << 128) - 1)),
)
keys = st.recursive(
    hashable_scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
plain_dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(endianness="?"),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.byte_string_dtypes(min_len=1),
    hnp.unicode_string_dtypes(min_len=1, endianness="?"),
)
arrays = hnp.arrays(plain_dtypes, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
values = st.recursive(
    hashable_scalars | st.floats() | st.decimals() | arrays,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(texts, inner, max_size=5),
        st.dictionaries(keys, inner, max_size=5),
        st.sets(keys, max_size=5),
        st.frozensets(keys, max_size=5),
    ),
    max_leaves=30,
)


# ---- properties ---------------------------------------------------------------------------------


@QUICK
@given(values)
def test_any_value_comes_back(shared: shmkv.Store, value: Any) -> None:
    shared.set("k", value)
    assert same(shared["k"], value)
    shared.set("k", [value])
    assert same(shared.pop("k"), [value])


@QUICK
@given(arrays, st.data())
def test_any_array_of_any_layout_comes_back(
    shared: shmkv.Store, array: np.ndarray[Any, Any], data: st.DataObject
) -> None:
    if array.ndim and data.draw(st.booleans()):
        array = array.transpose(data.draw(st.permutations(range(array.ndim))))
    if array.ndim and data.draw(st.booleans()):
        array = array[data.draw(hnp.basic_indices(array.shape, allow_ellipsis=False))]
    value = np.asarray(array)
    shared.set("k", value)
    assert same(shared["k"], value)
    with shared.view("k") as viewed:
        assert same(viewed.copy(), value)


@QUICK
@given(st.lists(st.sampled_from(sorted(WRAPS)), min_size=50, max_size=70), keys)
def test_any_mixture_of_containers_is_as_deep_as_it_is(
    shared: shmkv.Store, wraps: list[str], inmost: Any
) -> None:
    value, depth, hashable = inmost, 0, True
    for wrap in wraps:
        if hashable or wrap in {"list", "tuple", "dict", "dict of int"}:
            value = WRAPS[wrap](value)
            depth += 1 + (wrap == "key")
            hashable &= wrap in {"tuple", "frozenset"}
    depth += depth_of(inmost)
    shared.set("k", b"old")
    if depth <= 64:
        shared.set("k", value)
        assert same(shared["k"], value)
    else:
        with pytest.raises(shmkv.CodecError, match="deep"):
            shared.set("k", value)
        assert shared["k"] == b"old"


def depth_of(value: Any) -> int:
    """Containers within containers of a key."""
    if not isinstance(value, (tuple, frozenset)):
        return 0
    return 1 + max(map(depth_of, value), default=0)


class Own:
    """Of no type that is stored."""


@QUICK
@given(values, st.sampled_from(sorted(set(WRAPS) - {"set"})), st.integers(0, 20))
def test_one_wrong_value_among_right_ones_is_found(
    shared: shmkv.Store, value: Any, wrap: str, times_: int
) -> None:
    wrong: Any = Own()
    for _ in range(times_):
        wrong = (wrong,)
    shared.set("k", b"old")
    for whole in (
        [value, WRAPS[wrap](wrong)],
        [WRAPS[wrap](wrong), value],
        {1: [value, {2: wrong}]},
    ):
        with pytest.raises(shmkv.CodecError, match="Own"):
            shared.set("k", whole)
    assert shared["k"] == b"old"


@QUICK
@given(st.text(st.characters(categories=["Cs"]), min_size=1), texts, st.integers(0, 20))
def test_text_without_utf8_is_found(shared: shmkv.Store, half: str, around: str, at: int) -> None:
    text = around[:at] + half + around[at:]
    shared.set("k", b"old")
    for whole in ([text], {text: 1}, {1: text}, {(text,)}, [{"a": (1, {2: [text]})}]):
        with pytest.raises(shmkv.CodecError, match="surrogates"):
            shared.set("k", whole)
    assert shared["k"] == b"old"


@QUICK
@given(
    st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=32), st.binary()
)
def test_any_value_of_any_other_codec_is_kept(shared: shmkv.Store, name: str, data: bytes) -> None:
    if name[0] in "._-":
        with pytest.raises(shmkv.CodecError, match="name"):
            shared.set("k", shmkv.Encoded(name, data))
        return
    shared.set("k", shmkv.Encoded(name, data))
    assert shared._get_encoded("k") == (name, data)
