"""Random bits turn in a living segment while processes use it: nobody may die, hang or swell.

Two ways. `alone`: one process, damage first, then operations; a (seed, round) repeats exactly.
`together`: four processes work (one of them read-only) while bits turn under them; the seed repeats
the bits, not the timing. The sound bytes are put back before every round; the processes stay.

Owns: the hand that turns bits, watches, and puts back; what a violation is: a process ended by a
signal, an operation that lasts longer than `HANG_S`, an outcome that tests.stress.damage_work does
not allow, `MEMORY` more than there was. A round lasts until `WORTH` operations were done in it,
however few processors there are. Run it by hand:

    python -m tests.stress.damage --mode together --n 100000 --seed 1
    python -m tests.stress.damage --mode alone --seed 1 --round 4711     # one round again

Does not: decide which places are worth damaging (damage_plan) or what is done to the store
(damage_work).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import shmkv
from tests.conftest import MIB, unique_name
from tests.stress.damage_board import STOP, Board, Ground, Post
from tests.stress.damage_plan import Flip, Plan, flip
from tests.stress.damage_work import NAMES, WEIGHTS, attempt
from tests.stress.support import Child, brood

WORKERS = 4
HANG_S = 30.0  # longer than a machine may pause
END_S = 30.0  # for a worker that was told to leave
MEMORY = 3 << 30  # more of address space: a length that is believed must not be allocated
LOCK_TIMEOUT = 0.03
SIZES = (2 * MIB, 4 * MIB, 16 * MIB)
ROUNDS_A_STORE = 400
MOST_FOUND = 25
OPERATIONS_ALONE = 40
WORTH = 20  # operations of all workers in a round together


@dataclass
class Result:
    """What a run came to."""

    name: str
    seed: int
    flips: int = 0
    rounds: int = 0
    operations: int = 0
    violations: list[str] = field(default_factory=list)
    worst_ms: float = 0.0

    def line(self) -> str:
        """The one line of JSON."""
        numbers = {"name": self.name, "seed": self.seed, "n": self.flips}
        more = {"violations": len(self.violations), "worst_ms": round(self.worst_ms, 1)}
        return json.dumps({**numbers, **more, "operations": self.operations})


def perform(store: shmkv.Store, post: Post, rng: random.Random) -> None:
    """One operation, told to the board before and after."""
    name = rng.choices(NAMES, WEIGHTS)[0]
    post["operation"] = NAMES.index(name)
    begin = time.monotonic_ns()
    post["since"] = begin
    wrong = attempt(store, name, rng)
    post["worst"] = max(post["worst"], time.monotonic_ns() - begin)
    post["done"] += 1
    if wrong is not None:
        post.find(wrong)


def ended(child: Child) -> int | None:
    """Its exit code if it has ended; minus the signal."""
    try:
        state = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # waited for already
        return child.wait()
    return None if state is None else child.wait()


def limit_memory() -> None:
    """Let this process grow by so much only; what it has depends on the number of processors."""
    with open("/proc/self/statm") as file:
        most = int(file.read().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# ---- together -----------------------------------------------------------------------------------


def work(board: Board, which: int, store: shmkv.Store, seed: int) -> None:
    """A worker's life: it follows the board."""
    limit_memory()
    post, rng = board.posts[which], random.Random(seed)
    if which == WORKERS - 1:
        store = shmkv.open(store.name, readonly=True, lock_timeout=LOCK_TIMEOUT)
    else:
        store._number()  # attached, before the bytes are remembered
    while True:
        turn = board.turn
        if turn == STOP:
            return
        if turn % 2:
            perform(store, post, rng)
        else:
            post["acknowledged"] = turn
            time.sleep(0.0002)  # a look now and then; whoever hangs is ended from outside


class Together:
    """One store, its workers, and the hand."""

    def __init__(self, result: Result, seed: int, size: int) -> None:
        self.result = result
        self.rng = random.Random(seed)
        self.ground = Ground(unique_name(), seed, size, LOCK_TIMEOUT)
        self.board = Board(WORKERS)
        self.crew: list[Child] = []
        self.flips: list[Flip] = []

    def run(self, flips: int, make: Callable[[Callable[[], object]], Child]) -> None:
        """Until so many bits have turned, or the store is old."""
        self.make = make
        self.board.turn = 2
        for which in range(WORKERS):
            self._employ(which)
        self._settled()
        plan = Plan(self.ground.image)
        for _ in range(ROUNDS_A_STORE):
            if self.result.flips >= flips or len(self.result.violations) >= MOST_FOUND:
                break
            self._round(plan)
        self.board.turn = STOP
        for which, child in enumerate(self.crew):
            child.good(END_S)
            post = self.board.posts[which]
            self.result.operations += post["done"]
            self.result.worst_ms = max(self.result.worst_ms, post["worst"] / 1e6)

    def _employ(self, which: int) -> None:
        seed, store = self.rng.getrandbits(32), self.ground.store
        child = self.make(lambda: work(self.board, which, store, seed))
        if which < len(self.crew):
            self.crew[which] = child
        else:
            self.crew.append(child)

    def _done(self) -> int:
        return sum(post["done"] for post in self.board.posts)

    def _round(self, plan: Plan) -> None:
        before, self.flips = self._done(), []
        self.board.turn += 1
        for _ in range(self.rng.choice([1, 2, 4, 8, 16, 32, 64])):
            self.flips.append(plan.pick(self.rng))
            flip(self.ground.words, self.flips[-1])
            end = time.monotonic() + self.rng.random() * 0.0003
            while time.monotonic() < end:
                pass
        time.sleep(0.002)  # bounded by HANG_S
        while self._done() - before < WORTH and not any(map(self._lost, range(WORKERS))):
            time.sleep(0.0002)  # until they worked; who hangs is lost after HANG_S
        self.board.turn += 1
        self.result.flips += len(self.flips)
        self.result.rounds += 1
        self._settled()
        for post in self.board.posts:
            if post["found"]:
                self._found(post.text)
                post["found"] = 0
        self.ground.restore()

    def _found(self, text: str) -> None:
        classes = sorted({one.what for one in self.flips})
        self.result.violations.append(f"{text}; after {len(self.flips)} flips in {classes}")

    def _lost(self, which: int) -> bool:
        """Has it ended, or hangs it?"""
        since = self.board.posts[which]["since"]
        late = since and time.monotonic_ns() - since > HANG_S * 1e9
        return bool(late) or ended(self.crew[which]) is not None

    def _settled(self) -> None:
        """Wait until all pause; bury and replace who died."""
        lost = False
        for which, post in enumerate(self.board.posts):
            while post["acknowledged"] != self.board.turn:
                if not self._lost(which):
                    time.sleep(0.0002)  # bounded by HANG_S
                    continue
                code = ended(self.crew[which])
                what = f"signal {-code}" if code else f"hangs (process {self.crew[which].pid})"
                self._found(f"{NAMES[post['operation']]}: {what} {self.crew[which].text[-300:]}")
                post["since"] = 0
                self.crew[which].end()
                self.ground.restore()
                self._employ(which)
                lost = True
        if lost:
            self._settled()
            self.ground.take()


# ---- alone --------------------------------------------------------------------------------------


def one_round(ground: Ground, plan: Plan, post: Post, seed: int, number: int) -> None:
    """Sound bytes, some turned bits, some operations, the last of them a check."""
    ground.restore()
    rng = random.Random(seed * 1_000_003 + number)
    flips = [plan.pick(rng) for _ in range(rng.choice([1, 1, 2, 4, 8, 16, 32]))]
    post["round"] = number
    for one in flips:
        flip(ground.words, one)
    for _ in range(OPERATIONS_ALONE):
        perform(ground.store, post, rng)
    for name in ("compact", "check", "scan"):
        wrong = attempt(ground.store, name, rng)
        if wrong is not None:
            post.find(wrong)
    post["spare"] += len(flips)
    if post["found"]:
        raise AssertionError(f"{post.text}; after {flips}")


def alone(result: Result, seed: int, size: int, rounds: range) -> None:
    """Each round in a child that goes on until something is found."""
    board = Board(1)
    post, at = board.posts[0], rounds.start
    ground = Ground(unique_name(), seed, size, LOCK_TIMEOUT)
    try:
        plan = Plan(ground.image)
        with brood() as make:
            while at in rounds and len(result.violations) < MOST_FOUND:
                post["round"], post["found"], post["since"] = at, 0, 0
                rest = range(at, rounds.stop)
                child = make(partial(_rounds, ground, plan, post, seed, rest))
                wrong = _watch(child, post)
                if wrong is not None:
                    where = f"--mode alone --seed {seed} --size {size} --round {post['round']}"
                    result.violations.append(f"{NAMES[post['operation']]}: {wrong}; {where}")
                at = rounds.stop if wrong is None else post["round"] + 1
    finally:
        ground.store._abandon()
        ground.end()
    result.flips += post["spare"]
    result.rounds += len(rounds)
    result.operations += post["done"]
    result.worst_ms = max(result.worst_ms, post["worst"] / 1e6)


def _rounds(ground: Ground, plan: Plan, post: Post, seed: int, rounds: range) -> None:
    limit_memory()
    ground.restore()
    ground.store._number()
    ground.take()
    for number in rounds:
        one_round(ground, plan, post, seed, number)


def _watch(child: Child, post: Post) -> str | None:
    """Until it ends: None if it ended well."""
    while (code := ended(child)) is None:
        if post["since"] and time.monotonic_ns() - post["since"] > HANG_S * 1e9:
            child.end()
            return "hangs"
        time.sleep(0.002)  # bounded by HANG_S
    if code == 0:
        return None
    return f"signal {-code}" if code < 0 else child.text.splitlines()[-1]


# ---- runs ---------------------------------------------------------------------------------------


def run_together(seed: int, flips: int) -> Result:
    """Stores of every size in turn, until so many bits have turned."""
    result = Result("damage[together]", seed)
    rng = random.Random(seed)
    while result.flips < flips and len(result.violations) < MOST_FOUND:
        scene = Together(result, rng.getrandbits(32), SIZES[rng.randrange(len(SIZES))])
        try:
            with brood() as make:
                scene.run(flips, make)
        finally:
            scene.ground.store._abandon()
            scene.ground.end()
    return result


def run_alone(seed: int, flips: int) -> Result:
    """About so many flips: 9 a round, `ROUNDS_A_STORE` rounds a store."""
    result = Result("damage[alone]", seed)
    rng = random.Random(seed)
    while result.flips < flips and len(result.violations) < MOST_FOUND:
        most = min(ROUNDS_A_STORE, (flips - result.flips) // 9 + 1)
        alone(result, rng.getrandbits(32), SIZES[rng.randrange(len(SIZES))], range(most))
    return result


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=("alone", "together"), default="together")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--n", type=int, default=20_000, help="bits to turn")
    parser.add_argument("--size", type=int, default=SIZES[0], help="with --round")
    parser.add_argument("--round", type=int, default=None, help="only this one, alone")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    if given.round is not None:
        result = Result("damage[round]", seed)
        alone(result, seed, given.size, range(given.round, given.round + 1))
    else:
        result = (run_alone if given.mode == "alone" else run_together)(seed, given.n)
    for text in result.violations:
        print(text)
    print(result.line(), flush=True)
    return 1 if result.violations else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONFAULTHANDLER", "")
    raise SystemExit(main())
