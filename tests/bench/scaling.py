"""Several processes: operations a second by process count, beside private dicts and lmdb.

Eight workers are forked once; each holds its own dict, its own attachment of one store and its own
environment of one lmdb file, and its own draws. The parent tells the first n of them what to run
and between which two moments of the monotonic clock, so that they run together without a barrier.
Stores take turns within a round. A rate is the operations of all workers over the time from the
first start to the last end; of the rounds the best quartile counts.

Scaling is the rate with n processes over the rate with one. By CPU time it is what n processes
would do on CPUs of their own: operations per CPU second with n, over that with one, times
min(n, CPUs). That leaves out what a neighbour took, and also what was slept away: the wall judges.
"""

import multiprocessing as mp
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from random import Random
from typing import Any

import shmkv
from tests.bench.keys import Zipf, make_keys, make_values
from tests.bench.report import Figure, Table, at_least
from tests.bench.rivals import ABSENT, MIB, fill_lmdb, lmdb, lmdb_folder, open_lmdb, unique_name
from tests.bench.timing import collector_off, orders, own_code

KEYS = 100_000
COUNTS = (1, 2, 4, 8)
DRAWS = 1 << 16
CHUNK = 256  # operations between two looks at the clock
WRITE_SHARE = 0.1
COUNTER = b"counter"
ANSWER_SECONDS = 30.0  # a worker that says nothing for so long is a failure
FORK = mp.get_context("fork")

Part = tuple[list[bytes], list[bool]]  # keys, and which of them are written
Turn = Callable[[Part], None]


@dataclass(frozen=True)
class Case:
    """What is run, on which store, by how many processes."""

    store: str
    mix: str
    processes: int


@dataclass(frozen=True)
class Order:
    """Run this from one moment to another (monotonic clock)."""

    store: str
    mix: str
    start: float
    stop: float


@dataclass(frozen=True)
class Done:
    """What a worker did: operations, when, and its CPU seconds."""

    operations: int
    start: float
    stop: float
    cpu: float


@dataclass(frozen=True)
class Setting:
    """What all workers share, made before they are forked."""

    keys: list[bytes]
    values: list[bytes]
    draws: list[list[int]]  # by worker
    store_name: str
    folder: str | None  # lmdb's


# ---- a worker -----------------------------------------------------------------------------------


def turn_of(get: Any, set_: Any, value: bytes) -> Turn:
    """Reads and writes by two bound methods."""

    def turn(part: Part) -> None:
        for key, write in zip(*part, strict=True):
            if write:
                set_(key, value)
            else:
                get(key)

    return own_code(turn)


def lmdb_turn(env: Any, value: bytes) -> Turn:
    """Reads and writes, a transaction each."""
    begin = env.begin

    def turn(part: Part) -> None:
        for key, write in zip(*part, strict=True):
            if write:
                with begin(write=True) as txn:
                    txn.put(key, value)
            else:
                with begin() as txn:
                    txn.get(key)

    return own_code(turn)


def parts_of(asked: Sequence[bytes], share: float, seed: int) -> list[Part]:
    """The draws in chunks, each key marked for reading or writing."""
    rnd = Random(77 + seed).random
    return [
        (list(asked[i : i + CHUNK]), [rnd() < share for _ in range(CHUNK)])
        for i in range(0, len(asked), CHUNK)
    ]


class Worker:
    """One forked process: opens its stores, then does as it is told until it is told to end."""

    def __init__(self, number: int, setting: Setting, stack: ExitStack) -> None:
        asked = [setting.keys[i] for i in setting.draws[number]]
        self.parts = {
            "get": parts_of(asked, 0.0, number),
            "90/10": parts_of(asked, WRITE_SHARE, number),
            "incr": [([COUNTER] * CHUNK, [False] * CHUNK)],
        }
        value = Random(number).randbytes(len(setting.values[0]))
        plain = dict(zip(setting.keys, setting.values, strict=True))
        store = stack.enter_context(shmkv.open(setting.store_name, create=False))
        self.turns: dict[tuple[str, str], Turn] = {
            ("shmkv", "incr"): turn_of(store.incr, None, b"")
        }
        for mix in ("get", "90/10"):
            self.turns["dict", mix] = turn_of(plain.get, plain.__setitem__, value)
            self.turns["shmkv", mix] = turn_of(store.get, store.set, value)
        if setting.folder is not None:
            env = stack.enter_context(open_lmdb(setting.folder))
            for mix in ("get", "90/10"):
                self.turns["lmdb", mix] = lmdb_turn(env, value)
        self.at = 0

    def run(self, order: Order) -> Done:
        """One measurement."""
        turn, parts = self.turns[order.store, order.mix], self.parts[order.mix]
        time.sleep(max(0.0, order.start - time.monotonic()))
        cpu, start, operations = time.process_time(), time.monotonic(), 0
        now = start
        while now < order.stop:
            turn(parts[self.at % len(parts)])
            self.at += 1
            operations += CHUNK
            now = time.monotonic()
        return Done(operations, start, now, time.process_time() - cpu)


def work(number: int, setting: Setting, parent: Connection, others: list[Connection]) -> None:
    """The life of a worker; it ends when the parent says so or is gone."""
    for other in others:  # else this copy would keep an end of theirs open
        other.close()
    with ExitStack() as stack, collector_off():
        worker = Worker(number, setting, stack)
        parent.send(None)
        for order in orders(parent):
            parent.send(worker.run(order))


# ---- the parent ---------------------------------------------------------------------------------


class Team:
    """The workers, seen from the parent."""

    def __init__(self, setting: Setting, count: int) -> None:
        self._ends: list[Connection] = []
        self._processes: list[Any] = []
        try:
            for number in range(count):
                mine, theirs = FORK.Pipe()
                others = [*self._ends, mine]
                process = FORK.Process(
                    target=work, args=(number, setting, theirs, others), daemon=True
                )
                process.start()
                theirs.close()
                self._ends.append(mine)
                self._processes.append(process)
            for end in self._ends:
                self._answer(end)
        except BaseException:
            self.dismiss()
            raise

    def _answer(self, end: Connection) -> Any:
        if not end.poll(ANSWER_SECONDS):
            raise RuntimeError(f"a worker did not answer within {ANSWER_SECONDS:g} s")
        try:
            return end.recv()
        except EOFError:
            raise RuntimeError("a worker died; its message stands above") from None

    def run(self, case: Case, seconds: float) -> list[Done]:
        """Let the first workers run one case together."""
        ends = self._ends[: case.processes]
        start = time.monotonic() + 0.005
        for end in ends:
            end.send(Order(case.store, case.mix, start, start + seconds))
        return [self._answer(end) for end in ends]

    def dismiss(self) -> None:
        """End all workers, those that do not listen too."""
        for end in self._ends:
            with suppress(OSError):  # it may be gone already
                end.send(None)
            end.close()
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()


@contextmanager
def prepared(counts: int) -> Iterator[Setting]:
    """Fill the store and the lmdb file, close both, and say where they are."""
    keys, values, zipf = make_keys(KEYS), make_values(KEYS), Zipf(KEYS)
    pairs = list(zip(keys, values, strict=True))
    name = unique_name()
    with ExitStack() as stack:
        folder = stack.enter_context(lmdb_folder()) if lmdb is not None else None
        if folder is not None:
            with open_lmdb(folder) as env:
                fill_lmdb(env, pairs)
        stack.callback(shmkv.unlink, name, missing_ok=True)
        with shmkv.open(name, size=64 * MIB, create="new") as store:
            store.set_many(dict(pairs))
            store.set(COUNTER, 0)
        draws = [zipf.draws(DRAWS, seed) for seed in range(counts)]
        yield Setting(keys, values, draws, name, folder)


@dataclass(frozen=True)
class Rate:
    """Operations per second: of all by the wall, of one process by its CPU seconds."""

    wall: float
    cpu: float


def rate_of(done: Sequence[Done]) -> Rate:
    """What several workers did together."""
    operations = sum(d.operations for d in done)
    lasted = max(d.stop for d in done) - min(d.start for d in done)
    return Rate(operations / lasted, operations / sum(d.cpu for d in done))


def best(rates: Sequence[Rate]) -> Rate:
    """The best quartile, clock by clock."""
    if len(rates) == 1:
        return rates[0]
    wall, cpu = ([r.wall for r in rates], [r.cpu for r in rates])
    quartile = [statistics.quantiles(xs, n=4, method="inclusive")[2] for xs in (wall, cpu)]
    return Rate(*quartile)


def cases() -> list[Case]:
    """Everything that is run in a round."""
    stores = ["dict", "shmkv"] + (["lmdb"] if lmdb is not None else [])
    mixed = [Case(store, "90/10", n) for n in COUNTS for store in stores]
    reads = [Case(store, "get", n) for n in COUNTS[:2] for store in stores]
    return mixed + reads + [Case("shmkv", "incr", n) for n in COUNTS[:2]]


def measure(rounds: int, seconds: float) -> dict[Case, Rate]:
    """All cases, round by round, forwards and backwards in turn."""
    every, seen, counted = cases(), {case: list[Rate]() for case in cases()}, 0
    with prepared(COUNTS[-1]) as setting:
        team = Team(setting, COUNTS[-1])
        try:
            for case in every:  # not counted: attaching, page tables, specialization
                counted += count_incr(case, team.run(case, 0.02))
            for number in range(rounds):
                for case in every if number % 2 == 0 else every[::-1]:
                    done = team.run(case, seconds)
                    counted += count_incr(case, done)
                    seen[case].append(rate_of(done))
        finally:
            team.dismiss()
        with shmkv.open(setting.store_name, create=False) as store:
            if store.get(COUNTER) != counted:
                raise RuntimeError(f"incr lost something: {store.get(COUNTER)}, not {counted}")
    return {case: best(rates) for case, rates in seen.items()}


def count_incr(case: Case, done: Sequence[Done]) -> int:
    """How far this run moved the counter."""
    return sum(d.operations for d in done) if case.mix == "incr" else 0


# ---- tables -------------------------------------------------------------------------------------


def scaling(rates: dict[Case, Rate], store: str, mix: str, n: int) -> tuple[float, float]:
    """Rate with n processes over the rate with one, by wall and by CPU time."""
    one, many = rates[Case(store, mix, 1)], rates[Case(store, mix, n)]
    return many.wall / one.wall, many.cpu / one.cpu * min(n, os.cpu_count() or 1)


def mixed_table(rates: dict[Case, Rate]) -> Table:
    """90/10: rates by process count, and the scaling of each store."""
    table = Table("90/10, zipf, 100 k keys, several processes")
    stores = [s for s in ("dict", "shmkv", "lmdb") if Case(s, "90/10", 1) in rates]
    head = "".join(f"{n:>9}" for n in COUNTS)
    table.notes.append(f"{'million operations/s, by processes':<38}{head}")
    for name in stores:
        row = "".join(f"{rates[Case(name, '90/10', n)].wall / 1e6:9.2f}" for n in COUNTS)
        table.notes.append(f"{'private dicts' if name == 'dict' else name:<38}{row}")
    for name in stores:
        pairs = [scaling(rates, name, "90/10", n) for n in COUNTS]
        for clock, place in (("wall", 0), ("CPU", 1)):
            row = "".join(f"{pair[place]:9.2f}" for pair in pairs)
            table.notes.append(f"{name + ', times one process (' + clock + ')':<38}{row}")
    ours, theirs = (scaling(rates, s, "90/10", 2) for s in ("shmkv", "dict"))
    figure = Figure(
        "scaling at 2 / that of private dicts (wall)", ours[0] / theirs[0], bar=at_least(0.9)
    )
    table.figures.append(figure)
    table.figures.append(Figure("the same by CPU time", ours[1] / theirs[1]))
    for n in COUNTS:
        add_lmdb(table, rates, "90/10", n, None)
    return table


def add_lmdb(table: Table, rates: dict[Case, Rate], mix: str, n: int, least: float | None) -> None:
    """shmkv's rate in multiples of lmdb's."""
    if lmdb is None:
        if ABSENT not in table.notes:
            table.notes.append(ABSENT)
        return
    ours, theirs = rates[Case("shmkv", mix, n)], rates[Case("lmdb", mix, n)]
    bar = at_least(least) if least is not None else None
    name = f"{mix}, {n} processes: shmkv / lmdb" if n > 1 else f"{mix}, 1 process: shmkv / lmdb"
    table.figures.append(Figure(name, ours.cpu / theirs.cpu, ours.wall / theirs.wall, bar))


def read_table(rates: dict[Case, Rate]) -> Table:
    """Reads alone, 1 and 2 processes."""
    table = Table("get, zipf, 100 k keys, 1 and 2 processes")
    for name in ("dict", "shmkv", "lmdb"):
        if Case(name, "get", 1) in rates:
            row = "".join(f"{rates[Case(name, 'get', n)].wall / 1e6:9.2f}" for n in COUNTS[:2])
            table.notes.append(f"{name + ', million/s':<38}{row}")
    for n in COUNTS[:2]:
        add_lmdb(table, rates, "get", n, 2.2)
    return table


def incr_table(rates: dict[Case, Rate]) -> Table:
    """One counter, 1 and 2 processes; `measure` has checked that nothing was lost."""
    one, two = (rates[Case("shmkv", "incr", n)].wall / 1e6 for n in COUNTS[:2])
    figures = [
        Figure("incr of one key, 1 process", one, unit="M/s"),
        Figure("incr of one key, 2 processes", two, bar=at_least(1.5), unit="M/s"),
    ]
    return Table("incr of one key by several processes, exact", figures=figures)


def run(rounds: int, seconds: float) -> list[Table]:
    """Everything of this file."""
    rates = measure(rounds, seconds)
    return [mixed_table(rates), read_table(rates), incr_table(rates)]
