"""numpy arrays: every plain dtype and shape comes back; views lie in the store itself.

Owns what is particular to arrays: memory order, alignment, what a view may and may not do, how long
it lives, and that numpy is imported by nobody who stores no array.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import shmkv
from tests.conftest import MIB
from tests.unit.codec_values import back, same


def _words(text: str) -> list[str]:
    return text.split()


Array = np.ndarray[Any, Any]
NUMBERS = _words("b1 i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8 f16 c8 c16 c32")
TEXTS = _words("S1 S7 S300 U1 U7 U300")
TIMES = [
    f"{kind}8{unit}"
    for kind in "mM"
    for unit in ["", *(f"[{u}]" for u in _words("Y M W D h m s ms us ns ps fs as 25s 7D 999Y"))]
]
DTYPES = [order + kind for kind in NUMBERS + TEXTS + TIMES for order in "<>"]
LARGE = 3 * MIB  # an extent


def filled(dtype: str, shape: tuple[int, ...] = (3, 4)) -> Array:
    """Every element differs, as far as the dtype can tell."""
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    kind = np.dtype(dtype).kind
    return numbers.astype("i8" if kind in "mM" else dtype).astype(dtype)


def address(array: Array) -> int:
    """Where its first element lies."""
    return int(array.__array_interface__["data"][0])


def in_segment(store: shmkv.Store, array: Array) -> bool:
    """Does it lie in this store's shared memory?"""
    whole = np.frombuffer(store._raw(), np.uint8)
    return 0 <= address(array) - address(whole) <= whole.nbytes - array.nbytes


# ---- there and back -----------------------------------------------------------------------------


def test_every_dtype(store: shmkv.Store) -> None:
    for dtype in DTYPES:
        for shape in [(3, 4), (), (0,), (1,), (2, 0, 3), (1,) * 9]:
            value = filled(dtype, shape)
            again = back(store, value)
            assert type(again) is np.ndarray
            assert same(again, value), (dtype, shape)
            assert same(back(store, [value])[0], value), (dtype, shape)


def test_special_numbers(store: shmkv.Store) -> None:
    value = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324])
    assert same(back(store, value), value)
    nat = np.array(["NaT", "2024-02-29"], "M8[D]")
    assert same(back(store, nat), nat)


@pytest.mark.parametrize("dimensions", [0, 1, 2, 5, 32])
def test_every_number_of_dimensions(store: shmkv.Store, dimensions: int) -> None:
    value = filled("<i4", ((2, 3, 1, 2) + (1,) * 28)[:dimensions])
    assert same(back(store, value), value)


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "transposed": lambda a: a.T,
    "strided": lambda a: a[::2, ::3],
    "backwards": lambda a: a[::-1, ::-1],
    "one column": lambda a: a[:, 1],
    "broadcast": lambda a: np.broadcast_to(a, (3, *a.shape)),
    "swapped axes": lambda a: a.reshape(4, 5, -1).swapaxes(0, 2),
    "not aligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(store: shmkv.Store, layout: str) -> None:
    for dtype in ("<f8", ">i2", "U3"):
        value = LAYOUTS[layout](filled(dtype, (20, 30)))
        before = value.copy()
        for again in (back(store, value), back(store, (value,))[0]):
            assert same(again, value)
            fortran = value.flags.f_contiguous and not value.flags.c_contiguous
            assert again.flags.f_contiguous if fortran else again.flags.c_contiguous
            assert again.flags.writeable
            assert again.flags.aligned
        assert same(before, value)


def test_what_is_read_is_private(store: shmkv.Store) -> None:
    for shape in [(5,), (200, 1000), ()]:
        value = filled("<i4", shape)
        store.set("k", value)
        again = store["k"]
        again[...] = -1
        value[...] = -2
        assert not in_segment(store, again)
        assert same(store["k"], filled("<i4", shape))


@pytest.mark.parametrize("key", ["k", "k" * 15, "k" * 16, "k" * 17, "k" * 65_535])
@pytest.mark.parametrize("ttl", [None, 1000])
def test_large_arrays_are_aligned_whatever_the_key(
    store: shmkv.Store, key: str, ttl: float | None
) -> None:
    for dtype in ("<f8", "<c16", "u1", "<f16"):
        value = filled(dtype, (700,))
        store.set(key, value, ttl=ttl)
        with store.view(key) as viewed:
            assert same(viewed, value)
            assert address(viewed) % 16 == 0
    assert store.check().ok


# ---- views --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bytes_", [4096, 40_000, 300_000, LARGE])
def test_a_view_is_the_segment_itself(open_store: Callable[..., shmkv.Store], bytes_: int) -> None:
    store = open_store(size=64 * MIB)
    for value in (
        filled("<f8", (bytes_ // 8,)),
        np.asfortranarray(filled("<i4", (bytes_ // 8, 2))),
    ):
        store.set("k", value)
        with store.view("k") as viewed:
            assert type(viewed) is np.ndarray
            assert same(viewed, value)
            assert in_segment(store, viewed)
            assert address(viewed) % 16 == 0
            assert viewed.flags.f_contiguous == value.flags.f_contiguous
        del viewed


def test_a_small_view_is_a_copy(store: shmkv.Store) -> None:
    for shape in [(10,), (), (0,), (2, 0)]:
        store.set("k", filled("<f8", shape))
        with store.view("k") as viewed:
            assert same(viewed, filled("<f8", shape))
            assert not in_segment(store, viewed)
            assert address(viewed) % 8 == 0


@pytest.mark.parametrize("bytes_", [80, 8000, LARGE])
def test_nobody_writes_through_a_view(open_store: Callable[..., shmkv.Store], bytes_: int) -> None:
    store = open_store(size=64 * MIB)
    value = filled("<f8", (bytes_ // 8,))
    store.set("k", value)
    with store.view("k") as viewed:
        assert not viewed.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            viewed[0] = 5
        with pytest.raises(ValueError, match="WRITEABLE"):
            viewed.flags.writeable = True
        part = viewed[3:].view("u1")
        with pytest.raises(ValueError, match="WRITEABLE"):
            part.flags.writeable = True
        with pytest.raises(TypeError):
            memoryview(viewed)[0] = 5
        del part
    assert same(store["k"], value)


CHANGES: dict[str, Callable[[shmkv.Store], Any]] = {
    "overwritten": lambda store: store.set("k", b"x" * 5000),
    "deleted": lambda store: store.delete("k"),
    "cleared": lambda store: store.clear(),
    "renamed": lambda store: store.rename("k", "other"),
    "touched": lambda store: store.touch("k", 1000),
    "popped": lambda store: store.pop("k"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("bytes_", [8000, 300_000])
def test_a_view_outlives_its_item(store: shmkv.Store, change: str, bytes_: int) -> None:
    value = filled("<f8", (bytes_ // 8,))
    store.set("k", value)
    with store.view("k") as viewed:
        CHANGES[change](store)
        for n in range(300):  # several times the store: everything else is reused
            store.set(f"fill{n}", bytes([n % 256]) * 100_000)
        store._compact()
        assert same(viewed, value)
    del viewed
    assert store.check().ok


def test_a_view_outlives_eviction_of_its_item(store: shmkv.Store) -> None:
    value = filled("<f8", (1000,))
    store.set("k", value)
    with store.view("k") as viewed:
        n = 0
        while "k" in store and n < 20_000:
            store.set(f"fill{n}", b"f" * 3000)
            n += 1
        assert same(viewed, value)
    del viewed
    assert store.stats().evictions > 0
    assert store.check().ok


def test_what_is_kept_of_a_view_stays_readable(open_store: Callable[..., shmkv.Store]) -> None:
    store = open_store(lock_timeout=0.2)
    value = filled("<f8", (1000,))
    store.set("k", value)
    with store.view("k") as viewed:
        part = viewed[10:20]
    del viewed
    store.delete("k")
    for n in range(300):
        store.set(f"fill{n}", bytes([n % 256]) * 100_000)
    assert same(part.copy(), value[10:20])
    with pytest.raises(shmkv.Busy):
        store.close()
    assert same(part.copy(), value[10:20])
    del part
    gc.collect()
    store.close()


def test_a_read_only_store(store: shmkv.Store, open_store: Callable[..., shmkv.Store]) -> None:
    reader = open_store(readonly=True)
    for value in (filled("<f8", (1000,)), filled("<i2", ()), filled("U3", (0,))):
        store.set("k", value)
        assert same(reader["k"], value)
        assert reader["k"].flags.writeable
        with reader.view("k") as viewed:
            assert same(viewed, value)
            assert not viewed.flags.writeable
            assert viewed.flags.aligned


def test_every_key_touched_renamed_and_moved_stays_aligned(store: shmkv.Store) -> None:
    value = filled("<c16", (300,))
    for n in range(1, 34):
        store.set("k" * n, value)
        assert store.touch("k" * n, 1000)
        store.rename("k" * n, "r" * (40 - n))
    for n in range(40):
        store.set(f"garbage{n}", b"g" * 20_000)
        store.delete(f"garbage{n}")
    store._compact()
    assert len(store) == 33
    for key in store:
        assert same(store[key], value)
        with store.view(key) as viewed:
            assert in_segment(store, viewed)
            assert address(viewed) % 16 == 0
            assert same(viewed, value)
        del viewed
    assert store.check().ok


def test_a_large_array_is_not_copied_on_its_way_in(store: shmkv.Store) -> None:
    """As much as its bytes would not fit."""
    value = filled("<f8", (900_000 // 8,))
    store.set("k", value)
    assert store.info("k").type == "ndarray"
    assert value.nbytes < store.info("k").size < value.nbytes + 128
    with pytest.raises(shmkv.TooLarge):
        store.set("k", filled("<f8", (2 * MIB // 8,)))
    assert same(store["k"], value)


# ---- refused ------------------------------------------------------------------------------------


class _Sub(np.ndarray):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array(["a", None], object),
        np.zeros(2, "i4,f4"),
        np.zeros(2, [("a", "i4"), ("b", "U3")]),
        np.zeros(2, "V3"),
        np.zeros(2, "S0").astype("S0"),
        np.array(["a"], np.dtypes.StringDType()),
    ],
    ids=lambda a: str(a.dtype),
)
def test_dtypes_that_are_not_plain_are_refused(store: shmkv.Store, value: Array) -> None:
    store.set("k", b"stays")
    for whole in (value, [value], (value,), {1: value}):
        if value.dtype.kind in "SU" and value.dtype.itemsize > 0:
            continue  # numpy made it wider
        with pytest.raises(shmkv.CodecError, match="dtype"):
            store.set("k", whole)
    assert store["k"] == b"stays"


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((1, 2)).view(np.matrix),
        np.ma.array([1, 2], mask=[0, 1]),
        np.rec.array([(1, 2.0)]),
        np.zeros(3).view(_Sub),
        np.zeros(3).view(np.memmap),
        np.bool_(True),
        np.int64(1),
        np.uint8(1),
        np.float64(1),
        np.float32(1),
        np.complex128(1),
        np.str_("a"),
        np.bytes_(b"a"),
        np.datetime64("2024"),
        np.timedelta64(1, "s"),
        np.void(b"ab"),
        np.dtype("i4"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_subclasses_and_scalars_are_refused_by_name(store: shmkv.Store, value: Any) -> None:
    store.set("k", b"stays")
    for whole in (value, [value], (value,), {"k": value}, {1: value}):
        with pytest.raises(shmkv.CodecError, match=type(value).__name__):
            store.set("k", whole)
    assert store["k"] == b"stays"


# ---- imports ------------------------------------------------------------------------------------

READING = """
import sys
import shmkv

store = shmkv.open(sys.argv[1], create=False)
for key in ("plain", "structured"):
    store[key]
    store[key] = store[key]
with store.view("plain"):
    store.info("array")
assert "numpy" not in sys.modules
array = store["array"]
assert type(array) is sys.modules["numpy"].ndarray and array.sum() == 6
"""


def test_numpy_is_imported_for_arrays_only(store: shmkv.Store) -> None:
    store.update(plain=b"b" * 5000, structured=[(1, {2}), {3: 4}], array=filled("<i8", (4,)))
    command = [sys.executable, "-c", READING, store.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_numpy_the_way_out_is_told(
    store: shmkv.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.set("k", filled("<i8", (1000,)))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "numpy", None)
        for read in (lambda: store["k"], lambda: store.view("k").__enter__()):
            with pytest.raises(shmkv.CodecError, match="install numpy") as raised:
                read()
            assert store.name in str(raised.value)
            del raised
    gc.collect()  # a traceback kept the memory of the view
    assert same(store["k"], filled("<i8", (1000,)))
