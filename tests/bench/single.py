"""One process: the rows of the design's table of speeds that need no neighbour.

Each function makes its stores, races its loops and returns a table. The bars are the design's.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache

import shmkv
from tests.bench.keys import VALUE_BYTES, Zipf, make_keys, make_values, uniform_draws
from tests.bench.report import Figure, Table, at_least, at_most
from tests.bench.rivals import (
    ABSENT,
    MIB,
    fill_lmdb,
    get_loop,
    lmdb_get_loop,
    lmdb_set_loop,
    new_lmdb,
    new_store,
    set_loop,
)
from tests.bench.timing import Cost, Loop, race, slices_of

FEW = 10_000  # keys of the zipf rows
MANY = 1_000_000  # keys of the uniform row
BATCH = 100
SMALL_STORE = 16 * MIB
ITEM_BYTES = 128  # a 16 B key with a 100 B value, in the segment
FRESH = random.Random(3).randbytes(VALUE_BYTES)  # what `set` stores
COUNTER = b"counter"

Row = Callable[[int], Table]  # takes the number of rounds


@cache
def zipf_keys() -> list[bytes]:
    """The common sequence of the zipf rows."""
    keys = make_keys(FEW)
    return [keys[i] for i in Zipf(FEW).draws(200_000, seed=0)]


def pairs(count: int) -> dict[bytes, bytes]:
    """A dict of `count` keys, filled."""
    return dict(zip(make_keys(count), make_values(count), strict=True))


def beside(
    title: str, costs: dict[str, Cost], what: str, dict_most: float, lmdb_least: float
) -> Table:
    """A table of shmkv beside dict and, if it is there, lmdb."""
    table = Table(title, costs)
    ours = costs["shmkv"]
    table.figures.append(
        Figure.of(f"{what}: shmkv / dict", ours.over(costs["dict"]), at_most(dict_most))
    )
    if "lmdb" in costs:
        ratio = costs["lmdb"].over(ours)
        table.figures.append(Figure.of(f"{what}: lmdb / shmkv", ratio, at_least(lmdb_least)))
    else:
        table.notes.append(ABSENT)
    return table


def get_zipf(rounds: int) -> Table:
    """`get` of 100 B, 10 k keys, zipf."""
    plain = pairs(FEW)
    with new_store(64 * MIB) as store, new_lmdb() as env:
        store.set_many(plain)
        loops = {"dict": get_loop(plain.get), "shmkv": get_loop(store.get)}
        if env is not None:
            fill_lmdb(env, plain.items())
            loops["lmdb"] = lmdb_get_loop(env)
        costs = race(loops, slices_of(zipf_keys(), 25_000), rounds=rounds)
    return beside("get, 100 B, 10 k keys, zipf 0.99", costs, "get zipf", 3.5, 6)


def set_zipf(rounds: int) -> Table:
    """`set` over the same keys in a small store, long enough to write it several times over."""
    plain = pairs(FEW)
    with new_store(SMALL_STORE) as store, new_lmdb() as env:
        turn = SMALL_STORE // ITEM_BYTES
        for key in (zipf_keys() * (2 * turn // len(zipf_keys()) + 1))[: 2 * turn]:
            store.set(key, FRESH)  # two turnovers before anything counts
        loops = {"dict": set_loop(plain.__setitem__, FRESH), "shmkv": set_loop(store.set, FRESH)}
        if env is not None:
            fill_lmdb(env, plain.items())
            loops["lmdb"] = lmdb_set_loop(env, FRESH)
        costs = race(loops, slices_of(zipf_keys(), 20_000), rounds=rounds)
    table = beside("set, 100 B, the same keys, store of 16 MiB", costs, "set zipf", 7, 5)
    written = 2 * rounds * 20_000 * ITEM_BYTES / SMALL_STORE
    table.notes.append(f"{written:.1f} turnovers of the store after two for warming up")
    return table


def incr(rounds: int) -> Table:
    """`incr` of one key."""
    plain = {COUNTER: 0}

    def in_dict(keys: Sequence[bytes]) -> None:
        for key in keys:
            plain[key] += 1

    with new_store(SMALL_STORE) as store:
        loops: dict[str, Loop] = {"dict": in_dict, "shmkv": get_loop(store.incr)}
        costs = race(loops, [[COUNTER] * 20_000] * len(loops), rounds=rounds)
        if store.get(COUNTER) != plain[COUNTER]:
            raise RuntimeError(f"incr lost something: {store.get(COUNTER)}, not {plain[COUNTER]}")
    figure = Figure.of("incr", costs["shmkv"], at_most(150), "ns")
    return Table("incr, one key", costs, [figure])


def get_many(rounds: int) -> Table:
    """`get_many` of 100 keys; every loop makes the same dict of the same values."""
    plain = pairs(FEW)
    batches = slices_of(zipf_keys(), BATCH)
    with new_store(64 * MIB) as store, new_lmdb() as env:
        store.set_many(plain)
        get, many = store.get, store.get_many

        def by_get(batches: Sequence[Sequence[bytes]]) -> None:
            for batch in batches:
                _ = {key: get(key) for key in batch}

        def at_once(batches: Sequence[Sequence[bytes]]) -> None:
            for batch in batches:
                many(batch)

        loops: dict[str, Loop] = {"loop of get": by_get, "get_many": at_once}
        if env is not None:
            fill_lmdb(env, plain.items())
            begin = env.begin

            def in_lmdb(batches: Sequence[Sequence[bytes]]) -> None:
                for batch in batches:
                    with begin() as txn:
                        find = txn.get
                        _ = {key: find(key) for key in batch}

            loops["lmdb, one transaction"] = in_lmdb
        costs = race(loops, slices_of(batches, 200), rounds=rounds, per_element=BATCH)
    table = Table("get_many(100), per key", costs)
    ours = costs["get_many"]
    ratio = costs["loop of get"].over(ours)
    table.figures.append(Figure.of("get_many: loop of get / get_many", ratio, at_least(1.3)))
    if "lmdb, one transaction" in costs:
        ratio = costs["lmdb, one transaction"].over(ours)
        table.figures.append(Figure.of("get_many: lmdb / get_many, per key", ratio, at_least(3)))
    else:
        table.notes.append(ABSENT)
    return table


def deadline(rounds: int) -> Table:
    """`get` of items with a deadline against the same items without."""
    plain = pairs(FEW)
    with new_store(64 * MIB) as timeless, new_store(64 * MIB) as timed:
        timeless.set_many(plain)
        timed.set_many(plain, ttl=3600)
        loops = {"without": get_loop(timeless.get), "with a deadline": get_loop(timed.get)}
        costs = race(loops, slices_of(zipf_keys(), 25_000), rounds=rounds)
    more = costs["with a deadline"].minus(costs["without"])
    figure = Figure.of("deadline: ns more per get", more, at_most(10), "ns")
    return Table("get of an item with a deadline", costs, [figure])


def large_get(rounds: int) -> Table:
    """`get` of 1 MB against a copy of private memory."""
    value = random.Random(5).randbytes(1_000_000)
    private = memoryview(bytearray(value))
    key = b"large"
    with new_store(64 * MIB) as store:
        store.set(key, value)
        if store.get(key) != value:
            raise RuntimeError("the large value came back different")
        get, copy = store.get, private.tobytes

        def ours(turns: Sequence[bytes]) -> None:
            for key in turns:
                get(key)

        def theirs(turns: Sequence[bytes]) -> None:
            for _ in turns:
                copy()

        loops: dict[str, Loop] = {"memoryview.tobytes": theirs, "shmkv": ours}
        costs = race(loops, [[key] * 20] * len(loops), rounds=rounds)
    ratio = costs["memoryview.tobytes"].over(costs["shmkv"])
    figure = Figure.of("1 MB get: speed / memoryview.tobytes", ratio, at_least(0.8))
    return Table("get of 1 MB", costs, [figure])


def views(rounds: int) -> Table:
    """`view` of values of very different sizes."""
    sizes = {"view of 8 KB": 8_000, "view of 100 KB": 100_000, "view of 4 MB": 4_000_000}
    rnd = random.Random(6)
    with new_store(64 * MIB) as store:
        keys = {name: name.encode() for name in sizes}
        for name, size in sizes.items():
            store.set(keys[name], rnd.randbytes(size))
        view = store.view

        def loop_of(key: bytes) -> Loop:
            def loop(turns: Sequence[bytes]) -> None:
                for _ in turns:
                    with view(key):
                        pass

            return loop

        loops = {name: loop_of(key) for name, key in keys.items()}
        costs = race(loops, [[b""] * 2_000] * len(loops), rounds=rounds)
    ratio = costs["view of 4 MB"].over(costs["view of 8 KB"])
    figure = Figure.of("view: 4 MB / 8 KB", ratio, at_most(1.25))
    note = "the design says 'independent of size'; the bar leaves room for the clock"
    return Table("view, entered and left", costs, [figure], [note])


def many_keys(rounds: int) -> Table:
    """One million keys: bytes per entry, then `get` uniform over all of them."""
    draws = uniform_draws(MANY, 400_000, seed=0)
    keys, values = make_keys(MANY), make_values(MANY)
    order = list(range(MANY))
    random.Random(1).shuffle(order)
    plain = {keys[i]: values[i] for i in order}
    with ExitStack() as stack:
        store = stack.enter_context(new_store(256 * MIB))
        env = stack.enter_context(new_lmdb())
        for key, value in plain.items():
            store.set(key, value)
        memory = [entry_bytes(store)]
        loops = {"dict": get_loop(plain.get), "shmkv": get_loop(store.get)}
        if env is not None:
            fill_lmdb(env, plain.items())
            pages = env.info()["last_pgno"] + 1
            memory.append(
                Figure("lmdb, random order", pages * env.stat()["psize"] / MANY, unit="B")
            )
            loops["lmdb"] = lmdb_get_loop(env)
        asked = [keys[i] for i in draws]
        costs = race(loops, slices_of(asked, 25_000), rounds=rounds)
    table = beside("1 M keys of 16 B, values of 100 B, uniform", costs, "get uniform", 1.6, 1.4)
    table.figures += memory
    table.notes.append("memory: the whole backed segment (lmdb: pages used) over the entries")
    return table


def entry_bytes(store: shmkv.Store) -> Figure:
    """Backed bytes of the whole segment for each of its entries."""
    if len(store) != MANY:
        raise RuntimeError(f"{len(store)} items are in the store, not {MANY}")
    backed = store.stats().bytes_backed
    return Figure("memory per entry, whole segment", backed / MANY, bar=at_most(165), unit="B")


# name -> (row, rounds in full, rounds when quick)
ROWS: dict[str, tuple[Row, int, int]] = {
    "get": (get_zipf, 80, 20),
    "set": (set_zipf, 40, 10),
    "incr": (incr, 80, 20),
    "many": (get_many, 60, 16),
    "deadline": (deadline, 80, 20),
    "large": (large_get, 80, 16),
    "view": (views, 80, 16),
    "million": (many_keys, 40, 8),
}
