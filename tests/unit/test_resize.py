"""Raising the size of a store in use: what it gives, to whom, what is refused, and reopening.

Promises tested: all processes have the new size at once and store more, with nothing leaving until
that is full; no memory is taken before it is needed; a size never falls and never passes
`max_size`; whoever still asks for the size of creation attaches.

Does not: kill (`crash/`), race in threads, or fill a file system (`c/test_resize.c`).
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pytest

import shmkv
from shmkv.inspect import decode, problems
from tests.conftest import MIB, segment_path
from tests.stress.support import until

Opener = Callable[..., shmkv.Store]
Order = tuple[str, int, int]

LIMIT_S = 60.0
WORKERS = 3
VALUE = 2000
SIZE_AT = 64  # the present size in the header

# Other tests have left threads; the workers use no locks but the store's.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def body(number: int) -> bytes:
    return (b"%d." % number * VALUE)[:VALUE]


def put(store: shmkv.Store, first: int, count: int) -> None:
    for number in range(first, first + count):
        store.set(f"k{number}", body(number))


def held(store: shmkv.Store, first: int, count: int) -> int:
    """How many of these are there, and what they should be?"""
    found = store.get_many([f"k{number}" for number in range(first, first + count)])
    assert all(value == body(int(key[1:])) for key, value in found.items())
    return len(found)


def fill(store: shmkv.Store, first: int = 0) -> int:
    """Set k<first> and on until something leaves; the number after the last."""
    before = store.stats().evictions
    number = first
    while store.stats().evictions == before:
        put(store, number, 20)
        number += 20
        assert number - first < 2 * store.max_size // VALUE
    return number


# --- in one process ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8 * MIB, "8MiB", "8 m", 8 * MIB - 4095])
def test_sizes_are_those_of_open(open_store: Opener, size: int | str) -> None:
    store = open_store(size=2 * MIB)
    assert store.resize(size) is None  # type: ignore[func-returns-value]
    assert store.size == store.stats().size == 8 * MIB
    assert store.max_size == 8 * MIB
    assert "8 MiB" in repr(store)
    store.resize(size)
    assert store.size == 8 * MIB
    store.close()
    assert store.size == 8 * MIB


def test_nothing_is_taken_before_it_is_needed(open_store: Opener) -> None:
    store = open_store(size=2 * MIB)
    before = store.stats().bytes_backed
    store.resize(8 * MIB)
    assert store.stats().bytes_backed == before
    fill(store)
    assert before + 4 * MIB < store.stats().bytes_backed <= 8 * MIB


def test_a_full_store_holds_as_much_more(open_store: Opener) -> None:
    store = open_store(size=4 * MIB)
    number = fill(store)
    assert store.stats().bytes_backed <= 4 * MIB
    small = len(store)
    for size in (8 * MIB, 16 * MIB):
        store.resize(size)
        first, items = number, len(store)
        number = fill(store, first)
        assert number - first > 0.8 * (size // 2) / (VALUE + 64)
        assert len(store) >= items + 0.8 * (number - first)
        assert store.stats().bytes_backed <= size
    assert len(store) > 3 * small
    assert store.check().ok


def test_another_reader_of_the_bytes_agrees(open_store: Opener) -> None:
    store = open_store(size=2 * MIB)
    number = fill(store)
    store.resize(6 * MIB)
    fill(store, number)
    pages = store.check().pages
    store.close()
    seen = decode(segment_path(store.name).read_bytes())
    assert seen.header.size == 6 * MIB
    assert sum(page.run for page in seen.pages) == pages
    assert problems(seen) == []


def test_full_is_full_no_more(open_store: Opener) -> None:
    store = open_store(size=2 * MIB, evict=False)
    with pytest.raises(shmkv.Full, match="resize"):
        put(store, 0, 2 * MIB // VALUE)
    number = len(store)
    store.resize(4 * MIB)
    put(store, number, 700)
    assert held(store, 0, number + 700) == number + 700


def test_what_was_too_large_fits(open_store: Opener) -> None:
    store = open_store(size=2 * MIB)
    number = fill(store)
    value = b"v" * MIB
    with pytest.raises(shmkv.TooLarge, match="resize"):
        store.set("large", value)
    store.resize("8MiB")
    with pytest.raises(shmkv.TooLarge):
        store.set("large", value)  # an eighth of the memory that is left for items
    store.set("large", value[: MIB * 9 // 10])
    assert store["large"] == value[: MIB * 9 // 10]
    assert held(store, number - 20, 20) == 20
    assert store.check().ok


@pytest.mark.parametrize("size", [2 * MIB, "3MiB", 4 * MIB - 4096])
def test_it_never_shrinks(open_store: Opener, size: int | str) -> None:
    store = open_store(size=2 * MIB)
    store.resize("4MiB")
    with pytest.raises(ValueError, match="4 MiB and never shrinks") as caught:
        store.resize(size)
    assert store.name in str(caught.value)
    assert store.size == 4 * MIB


def test_it_ends_at_the_largest_size_of_creation(open_store: Opener) -> None:
    store = open_store(size=2 * MIB, max_size=3 * MIB)
    with pytest.raises(ValueError, match="max_size=3 MiB") as caught:
        store.resize(3 * MIB + 1)
    assert "max_size=..." in str(caught.value)
    assert store.size == 2 * MIB
    store.resize(3 * MIB)
    fill(store)
    assert store.check().ok


@pytest.mark.parametrize("size", [0, -1, MIB, 65 << 30, "", "much", "8MiB "])
def test_nonsense(open_store: Opener, size: Any) -> None:
    store = open_store(size=2 * MIB)
    with pytest.raises(ValueError, match="size="):
        store.resize(size)
    assert store.size == 2 * MIB


@pytest.mark.parametrize("size", [None, True, 8.0 * MIB, b"8MiB"])
def test_wrong_types(open_store: Opener, size: Any) -> None:
    store = open_store(size=2 * MIB)
    with pytest.raises(TypeError, match="size"):
        store.resize(size)


def test_who_may_not(open_store: Opener) -> None:
    store = open_store(size=2 * MIB)
    reader = open_store(readonly=True)
    with pytest.raises(shmkv.ReadOnly):
        reader.resize(4 * MIB)
    assert store.size == 2 * MIB
    store.resize(4 * MIB)
    assert reader.size == 4 * MIB
    store.close()
    with pytest.raises(shmkv.Closed):
        store.resize(8 * MIB)


def test_the_core_judges_for_itself(open_store: Opener, store_name: str) -> None:
    store = open_store(size=2 * MIB)
    assert not store._resize(2 * MIB + 1)
    assert not store._resize(MIB)
    assert not store._resize((1 << 64) - 1)
    for size, error in (("4MiB", TypeError), (-1, OverflowError), (1 << 64, OverflowError)):
        with pytest.raises(error):
            store._resize(size)  # type: ignore[arg-type]
    with segment_path(store_name).open("r+b") as file:
        file.seek(SIZE_AT)
        file.write(bytes(8))
    with pytest.raises(shmkv.Corrupt):
        store.resize(4 * MIB)
    assert store.size == 0


# --- opening it afterwards -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [2 * MIB, 3 * MIB, "4MiB", None])
@pytest.mark.parametrize("mismatch", ["fail", "recreate", "attach"])
def test_sizes_it_has_had_attach(open_store: Opener, size: Any, mismatch: str) -> None:
    store = open_store(size=2 * MIB)
    store.set("k", 1)
    store.resize(4 * MIB)
    other = open_store(size=size, on_mismatch=mismatch)
    assert other.size == 4 * MIB
    assert other["k"] == 1


@pytest.mark.parametrize("options", [{"size": 5 * MIB}, {"size": 2 * MIB, "max_size": 4 * MIB}])
def test_other_sizes_do_not(open_store: Opener, options: dict[str, Any]) -> None:
    store = open_store(size=2 * MIB)
    store.resize(4 * MIB)
    with pytest.raises(shmkv.Mismatch, match=r"size is 4 MiB|size=4 MiB"):
        open_store(**options)


def test_a_mismatch_tells_of_resize_where_it_helps(open_store: Opener) -> None:
    open_store(size=2 * MIB)
    with pytest.raises(shmkv.Mismatch, match="resize"):
        open_store(size=8 * MIB)
    for size in (MIB * 9, 4 << 30):
        with pytest.raises(shmkv.Mismatch) as caught:
            open_store(size=size)
        assert "resize" not in str(caught.value)


def test_less_than_at_creation_does_not_attach(open_store: Opener) -> None:
    store = open_store(size=4 * MIB)
    store.resize(8 * MIB)
    with pytest.raises(shmkv.Mismatch, match="8 MiB"):
        open_store(size=3 * MIB)


def test_a_pickled_store_attaches_before_and_after(open_store: Opener) -> None:
    store = open_store(size=2 * MIB)
    early = pickle.dumps(store)
    store.resize(4 * MIB)
    for data in (early, pickle.dumps(store)):
        with pickle.loads(data) as other:
            assert other.size == 4 * MIB
            assert other.max_size == 8 * MIB


def test_it_ends_with_the_store(open_store: Opener) -> None:
    store = open_store(size=2 * MIB)
    store.resize(4 * MIB)
    shmkv.unlink(store.name)
    assert open_store(size=2 * MIB).size == 2 * MIB
    assert store.size == 4 * MIB  # who has the old one open goes on with it


# --- between processes ---------------------------------------------------------------------------


def work(name: str, pipe: Connection) -> None:
    """Do as told until there is nobody to tell: put or churn items, then say what is seen."""
    with shmkv.open(name, size=2 * MIB) as store:
        order: Order | None = pipe.recv()
        while order is not None:
            what, first, count = order
            put(store, first, count)
            while what == "churn" and not pipe.poll():
                put(store, first, count)
            pipe.send((store.size, held(store, first, count), store.stats().size))
            order = pipe.recv()


@contextmanager
def workers(name: str) -> Iterator[list[Connection]]:
    """Processes with the store open; gone at the end."""
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(WORKERS)]
    made = [context.Process(target=work, args=(name, theirs)) for _, theirs in pairs]
    try:
        for one in made:
            one.start()
        yield [ours for ours, _ in pairs]
        for ours, _ in pairs:
            ours.send(None)
        for one in made:
            one.join(LIMIT_S)
            assert one.exitcode == 0
    finally:
        for one in made:
            if one.is_alive():
                one.kill()
            one.join(LIMIT_S)


def answer(pipe: Connection) -> tuple[int, int, int]:
    assert pipe.poll(LIMIT_S), "a worker does not answer"
    told: tuple[int, int, int] = pipe.recv()
    return told


def test_all_processes_have_it_at_once(open_store: Opener) -> None:
    """Raised while they write and evict; then they store more, and nothing leaves for that."""
    store = open_store(size=2 * MIB)
    with workers(store.name) as pipes:
        for i, pipe in enumerate(pipes):
            pipe.send(("churn", 10_000 * i, 500))  # three times what fits
        until(lambda: store.stats().evictions > 500, "items leave")
        sets = store.stats().sets
        store.resize(8 * MIB)
        until(lambda: store.stats().sets > sets + 3000, "the workers go on")
        for i, pipe in enumerate(pipes):
            pipe.send(("put", 10_000 * i, 500))  # ends the churn, then is done
        for pipe in pipes:
            assert answer(pipe)[::2] == (8 * MIB, 8 * MIB)  # of the churn
            assert answer(pipe) == (8 * MIB, 500, 8 * MIB)  # all of them fit now
        assert store.check().ok
        evictions = store.stats().evictions
        for i, pipe in enumerate(pipes):
            pipe.send(("put", 10_000 * i + 500, 500))
        for pipe in pipes:
            assert answer(pipe) == (8 * MIB, 500, 8 * MIB)
        assert store.stats().evictions == evictions
        assert sum(held(store, 10_000 * i, 1000) for i in range(WORKERS)) == 1000 * WORKERS
        for i, pipe in enumerate(pipes):
            pipe.send(("put", 100_000 + 10_000 * i, 2000))  # more than fits, also now
        for pipe in pipes:
            answer(pipe)
        assert store.stats().evictions > evictions
        assert store.stats().bytes_backed <= 8 * MIB
        assert store.check().ok
