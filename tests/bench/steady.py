"""What eviction costs who writes: `python -m tests.bench.steady [--quick] [part ...]`.

Owns two parts and the command line of all four. `turnover`: `set` of new keys where each of them
makes an older item leave, beside the same calls where there is room. `keep`: a live set of half
the store, a tenth of it overwritten all the time; nothing may be lost. Promises that what is
measured is the steady state: the stores were written twice over before anything counts, and their
counters are asked afterwards whether items left (or did not) as the part assumes. Alone it exits
with 1 when a bar is missed; as a part of `python -m tests.bench` a missed bar is no failure.

Does not measure the latency of single calls (`pauses.py`) nor another process (`neighbour.py`).

The store with room has the same size and the same past as the one that evicts: written over twice,
so that its pages are backed and touched and its index has grown, then emptied and compacted. It is
emptied again, outside of what is timed, before it is six tenths full. So both walk through the same
amount of memory, and the one difference is that in one of them nobody has to leave.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

import shmkv
from tests.bench import neighbour, pauses
from tests.bench.fresh import FRESH, ITEM_BYTES, Fresh, item_bytes, turned_over
from tests.bench.keys import make_keys
from tests.bench.report import Figure, Table, at_most, summary, write_json
from tests.bench.rivals import MIB, new_store
from tests.bench.timing import Loop, race

SIZES = {16 * MIB: 10_000, 64 * MIB: 20_000}  # store -> sets in a slice
OPEN_ITEMS = 16 * 65_536 // ITEM_BYTES  # that the open pages of all appenders hold at most
ROOM = 0.6  # of its size, what is written to the store with room before it is emptied
KEEP_SIZE = 64 * MIB
LIVE = KEEP_SIZE // 2  # bytes of items, headers and keys included
PAIRS = 200_000  # overwrites in one pass over the hot keys
MIXED_BYTES = (50, 20_000)  # values, evenly by the logarithm

Part = Callable[[bool], Iterable[Table]]  # takes whether to be quick
Pair = tuple[bytes, bytes]


# ---- turnover -----------------------------------------------------------------------------------


def evicting_loop(store: shmkv.Store, batches: Iterator[list[bytes]]) -> Loop:
    """Sets the next batch of new keys, whatever slice it is given."""
    set_ = store.set

    def loop(_: Sequence[bytes]) -> None:
        for key in next(batches):
            set_(key, FRESH)

    return loop


def roomy_loop(store: shmkv.Store, batches: Iterator[list[bytes]], turns: int) -> Loop:
    """The same; the store is emptied in every so many turns, in the slice that does not count.

    `race` calls a loop twice in a turn, and the first call is not timed.
    """
    set_ = store.set
    calls = 0

    def loop(_: Sequence[bytes]) -> None:
        nonlocal calls
        if calls % (2 * turns) == 0:
            emptied(store)
        calls += 1
        for key in next(batches):
            set_(key, FRESH)

    return loop


def emptied(store: shmkv.Store) -> None:
    """No item, and all pages free but those of the index."""
    store.clear()
    store._compact()
    stats = store.stats()
    if stats.bytes_free + stats.bytes_index < 0.9 * store.size:
        raise RuntimeError(f"clear and compaction left {stats.bytes_free} of {store.size} free")


def raced(size: int, slice_: int, rounds: int) -> Table:
    """One size: the store that evicts beside the one with room."""
    fresh = Fresh()
    keys = [fresh.batch(slice_) for _ in range(2 * rounds)]
    turns = int(ROOM * size / ITEM_BYTES / (2 * slice_))
    with new_store(size) as full, new_store(size) as roomy:
        for store in (full, roomy):
            turned_over(store, fresh)
        emptied(roomy)
        before = {"evicts": full.stats(), "has room": roomy.stats()}
        half = cycle(keys[rounds:] + keys[:rounds])  # no loop finds keys warmed by the other
        loops = {
            "has room": roomy_loop(roomy, cycle(keys), turns),
            "evicts": evicting_loop(full, half),
        }
        costs = race(loops, [[b""] * slice_], rounds=rounds)
        left = full.stats().evictions - before["evicts"].evictions
        kept = roomy.stats().evictions - before["has room"].evictions
    sets = 2 * rounds * slice_
    if left < sets - OPEN_ITEMS or kept:
        raise RuntimeError(f"of {sets} sets {left} evicted, and {kept} where there was room")
    ratio = costs["evicts"].over(costs["has room"])
    name = f"set, new keys, {size // MIB} MiB: evicts / has room"
    table = Table(f"set of new keys, 100 B, store of {size // MIB} MiB", costs)
    table.figures.append(Figure.of(name, ratio, at_most(2)))
    table.notes.append(f"{sets * ITEM_BYTES / size:.1f} turnovers after two that do not count")
    return table


def turnover(quick: bool) -> Iterator[Table]:
    """`set` in the steady state, for both sizes."""
    for size, slice_ in SIZES.items():
        yield raced(size, slice_, 10 if quick else 40)


# ---- keep ---------------------------------------------------------------------------------------


def even_values(rnd: random.Random) -> list[bytes]:
    """Values of 100 B."""
    return [rnd.randbytes(100) for _ in range(1000)]


def mixed_values(rnd: random.Random) -> list[bytes]:
    """Values of very different sizes, the logarithm evenly spread."""
    low, high = MIXED_BYTES
    return [rnd.randbytes(round(low * (high / low) ** (i / 999))) for i in range(1000)]


def live_set(values: Sequence[bytes]) -> dict[bytes, bytes]:
    """As many keys as make half the store, the values drawn evenly."""
    rnd = random.Random(11)
    mean = sum(item_bytes(16, len(value)) for value in values) / len(values)
    return {key: rnd.choice(values) for key in make_keys(int(LIVE / mean))}


def kept(name: str, values: Sequence[bytes], overwrites: int) -> list[Figure]:
    """Keys lost, items evicted; a value that is not the last one set is lost, too."""
    rnd = random.Random(12)
    expected = live_set(values)
    keys = list(expected)
    hot = rnd.sample(keys, len(keys) // 10)
    pairs: list[Pair] = [(rnd.choice(hot), rnd.choice(values)) for _ in range(PAIRS)]
    with new_store(KEEP_SIZE) as store:
        for key, value in expected.items():
            store.set(key, value)
        set_, began = store.set, time.process_time()
        for _ in range(overwrites // PAIRS):
            for key, value in pairs:
                set_(key, value)
        spent = time.process_time() - began
        expected.update(pairs)  # every pass ends alike
        lost = sum(store.get(key) != value for key, value in expected.items())
        stats = store.stats()
    done = overwrites // PAIRS * PAIRS
    return [
        Figure(f"{name}: keys lost of {len(keys):,}", lost, bar=at_most(0), unit="keys"),
        Figure(f"{name}: items evicted", stats.evictions, bar=at_most(0), unit="items"),
        Figure(f"{name}: bytes moved for each written", stats.copied_per_byte, unit="B"),
        Figure(f"{name}: CPU of an overwrite", spent / done * 1e9, unit="ns"),
    ]


def keep(quick: bool) -> list[Table]:
    """Nothing that fits may leave while garbage can."""
    overwrites = 1_000_000 if quick else 10_000_000
    title = f"live set of half of 64 MiB, {overwrites:,} overwrites of a tenth of its keys"
    table = Table(title)
    for name, make in (("100 B", even_values), ("50 B - 20 KB", mixed_values)):
        table.figures += kept(name, make(random.Random(10)), overwrites)
    return [table]


# ---- the command --------------------------------------------------------------------------------

PARTS: dict[str, Part] = {
    "turnover": turnover,
    "pauses": pauses.pauses,
    "neighbour": neighbour.neighbour,
    "keep": keep,
}


def main(argv: Sequence[str]) -> int:
    """Run the parts asked for; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.steady")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here, too")
    args = parser.parse_args(argv)
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    tables, began = list[Table](), time.monotonic()
    for name, part in PARTS.items():
        if not args.parts or name in args.parts:
            for table in part(args.quick):
                tables.append(table)
                print(f"{table.text()}\n", flush=True)
    print(f"{summary(tables)}\ntook {time.monotonic() - began:.0f} s")
    if args.json is not None:
        write_json(args.json, {"quick": args.quick}, tables)
    judged = [figure for table in tables for figure in table.figures if figure.bar is not None]
    return int(any(f.bar is not None and not f.bar.reached(f.value) for f in judged))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
