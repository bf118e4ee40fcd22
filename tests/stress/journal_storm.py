"""SIGKILL storm over a store with a journal: what comes back from its files is what there was.

    python -m tests.stress.journal_storm --kills 300 [--seed S] [--mode everysec|always]

Six processes: one that only leads rounds, three writers that may lead, two that may not. One is
killed every few milliseconds and replaced at once; now and then the next generation begins. From
time to time a save is made in the midst of it, and older journals go. After each act all are killed
at once, and judged is, in this order:

  always    the files as they lie there, without any later round: each own key is in a state from
            the last one that had returned to the last one that was begun, counters in between too
  both      memory: what had returned, or what was in flight
  both      after one sync by the survivor: save and journals, replayed into an empty store, hold
            exactly what the live one holds, and nothing is wrong with either store

Prints a line of JSON for each mode: {name, seed, n, violations, worst_ms}, n being kills, worst_ms
the slowest operation of a worker without what processor and disk delayed (storm_weather.py), at
least 500. The seed repeats victims, pauses and operations, not the
interleaving. Owns: who lives and dies; the judgement. Does not: know states (journal_work.py).
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import shmkv
from tests import journal_files
from tests.stress import journal_work as work
from tests.stress.storm_weather import watched
from tests.stress.support import GENEROUS_MS, Child, report, seed

MIB = 1 << 20
SIZE, AGAIN_SIZE = 16 * MIB, 32 * MIB
QUICK, FULL = 240, 100_000  # kills of each mode
ACT = 80  # kills between two ends of everybody
NEXT_EVERY = 30
LOCK_TIMEOUT_S = 20.0


class Storm:
    """One store, one directory, many lives."""

    def __init__(self, name: str, mode: str, folder: Path, start_seed: int) -> None:
        self.name, self.mode, self.folder = name, mode, folder
        self.rng = random.Random(f"{start_seed}{mode}")
        self.hash_seed = self.rng.getrandbits(64)
        self.desks = [work.Desk() for _ in range(work.SLOTS)]
        self.children: list[Child | None] = [None] * work.SLOTS
        self.violations: list[str] = []
        self.kills = self.replayed = 0
        self.snapshot: journal_files.Snapshot | None = None
        options = journal_files.MODES[mode]
        self.store: Any = journal_files.make_store(
            name, options, size=SIZE, seed=self.hash_seed, timeout=LOCK_TIMEOUT_S
        )
        journal_files.lead(self.store, folder)
        self.store._journal_begin(journal_files.FIRST, journal_files.NONE)

    def close(self) -> None:
        """Nobody lives, nothing is left."""
        for child in self.children:
            if child is not None:
                child.end()
        self.store.close()
        for name in (self.name, f"{self.name}-again"):
            shmkv.unlink(name, missing_ok=True)

    # --- life and death --------------------------------------------------------------------

    def _spawn(self, slot: int) -> None:
        life = self.rng.getrandbits(32)
        desk, folder = self.desks[slot], self.folder
        self.children[slot] = Child(
            lambda: work.run_worker(self.name, desk, slot, life, folder, LOCK_TIMEOUT_S)
        )

    def _kill(self, slot: int) -> None:
        child = self.children[slot]
        assert child is not None
        child.send(signal.SIGKILL)
        code = child.wait()
        self.kills += 1
        if code != -signal.SIGKILL:  # it had ended by itself, of what it found
            self.violations.append(f"slot {slot}: {child.text or code}")
        child.end()
        self.children[slot] = None

    def act(self, kills: int) -> None:
        """Until so many were killed, then everybody."""
        for slot in range(work.SLOTS):
            self._spawn(slot)
        save_at = self.rng.randrange(kills)
        for n in range(kills):
            time.sleep(self.rng.uniform(0, 0.02))  # the moment of death is the test
            slot = self.rng.randrange(work.SLOTS)
            self._kill(slot)
            if self.violations:
                return
            self._spawn(slot)
            if n % NEXT_EVERY == NEXT_EVERY - 1:
                self.store._journal_next()
            if n == save_at:
                self._save()
        for slot in self.rng.sample(range(work.SLOTS), work.SLOTS):
            self._kill(slot)

    def _save(self) -> None:
        """While all go on; it counts when a round that began after it is on disk."""
        snapshot = journal_files.save(self.store)
        self.store._journal_sync()
        self.snapshot = snapshot
        for path in self.folder.glob("journal-*.shmkv"):
            if int(path.stem.rpartition("-")[2]) < snapshot.generation:
                path.unlink()

    # --- judgement -------------------------------------------------------------------------

    def _returned(self) -> Any:
        """An empty store, filled from the files."""
        name = f"{self.name}-again"
        store = journal_files.make_store(name, 0, size=AGAIN_SIZE, seed=self.hash_seed)
        try:
            self.replayed += journal_files.replay(self.folder, store, self.snapshot)
        except BaseException:
            store.close()
            raise
        finally:
            shmkv.unlink(name)
        return store

    def _states(self, store: Any, what: str, oldest: str) -> list[str]:
        """Own keys and counters are between what `oldest` says and what was begun."""
        wrong = []
        for slot in range(1, work.SLOTS):
            desk = self.desks[slot]
            for i in range(work.OWN):
                low, high = getattr(desk, oldest)[i], desk.begun[i]
                states = (work.state(slot, i, seq) for seq in range(low, high + 1))
                if not any(work.holds(store, work.key_of(slot, i), one) for one in states):
                    wrong.append(f"{what}: {work.key_of(slot, i)} is in no state {low} to {high}")
        for c in range(work.COUNTERS):
            low = sum(desk.added[c] for desk in self.desks)
            high = sum(desk.adding[c] for desk in self.desks)
            if not low <= store.get(f"count{c}", 0) <= high:
                found = store.get(f"count{c}", 0)
                wrong.append(f"{what}: counter {c} is {found}, not {low} to {high}")
        return wrong

    def judge(self) -> list[str]:
        """Everybody is dead."""
        wrong = []
        if self.mode == "always":
            with self._returned() as again:
                wrong += self._states(again, "on disk at the death", "durable")
        wrong += [f"check: {text}" for text in self.store.check().problems]
        wrong += self._states(self.store, "in memory", "acked")
        self.store._journal_sync()
        at = self.store._journal_state()
        if at["broken"] or at["started"] != at["done"]:
            wrong.append(f"after a sync: {at}")
        with self._returned() as again:
            wrong += journal_files.differences(self.store, again)
            wrong += [f"check of what came back: {text}" for text in again.check().problems]
        return wrong

    def play(self, kills: int) -> None:
        """Acts and judgements."""
        while self.kills < kills and not self.violations:
            self.act(min(ACT, kills - self.kills))
            self.violations = self.violations or self.judge()


def storm(name: str, mode: str, kills: int, start_seed: int, where: str | None) -> None:
    """One mode, judged and reported; the files lie in a folder of its own there."""
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="shmkv-journal-storm-", dir=where))
    try:
        game = Storm(name, mode, folder, start_seed)
        try:
            with watched(folder.parent) as weather:
                game.play(kills)
            ops = sum(desk.ops[0] for desk in game.desks)
            print(
                f"journal_storm[{mode}]: {time.monotonic() - begun:.1f} s, {game.kills} kills, "
                f"{ops} operations, {game.store._journal_state()}, {game.replayed} payloads came "
                f"back, {len(game.store)} items",
                flush=True,
            )
        finally:
            game.close()
    finally:
        shutil.rmtree(folder)
    slow = [one for desk in game.desks for one in desk.slow()]
    worst = max((weather.store_ms(one) for one in slow), default=work.NOTED_NS / 1e6)
    if worst > GENEROUS_MS:
        text = f"an operation took {worst:.0f} ms that the machine does not explain"
        game.violations.append(text)
    report(f"journal_storm[{mode}]", start_seed, game.kills, game.violations, worst)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.journal_storm")
    parser.add_argument("--kills", type=int, default=QUICK, help="of each mode")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--mode", choices=list(journal_files.MODES), help="only this one")
    parser.add_argument("--name", default=f"t{os.getpid()}-journal-storm", help="of the store")
    parser.add_argument("--folder", help="where the files lie; the system's for temporary ones")
    chosen = parser.parse_args()
    start_seed = seed() if chosen.seed is None else chosen.seed
    gc.freeze()
    for mode in [chosen.mode] if chosen.mode else list(journal_files.MODES):
        storm(chosen.name, mode, chosen.kills, start_seed, chosen.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
