"""Everything that runs, spread over processes: the tasks that were asked for and their futures.

A worker ends when whoever started it has ended, however that happened. What is submitted is plain
data and functions of modules: workers are started afresh and share nothing.
"""

import argparse
import multiprocessing
import os
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor

from tests.bench.hitratio import memory, ratios, rivals
from tests.bench.hitratio.corpus import MADE, available
from tests.bench.hitratio.memory import Used
from tests.bench.hitratio.ratios import Row
from tests.bench.hitratio.rivals import Beside


def workers(count: int) -> ProcessPoolExecutor:
    """So many processes."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max(1, count), context, end_with_parent)


def end_with_parent() -> None:
    """A worker does not outlive who started it, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class Pending:
    """What runs in other processes, in the order in which it is printed."""

    def __init__(self, pool: Executor, asked: argparse.Namespace) -> None:
        self.pool = pool
        self.asked = asked
        self.rows: list[Future[Row]] = []
        self.mixes: list[Future[Used]] = []
        self.phases: Future[list[Used]] | None = None
        self.rivals: list[Future[list[Beside]]] = []

    def start_memory(self) -> None:
        """The longest first."""
        quick = self.asked.quick
        if "phases" in self.asked.parts:
            self.phases = self.pool.submit(memory.run_phases, quick)
        if "mixes" in self.asked.parts:
            self.mixes = [self.pool.submit(memory.run_mix, mix, quick) for mix in memory.MIXES]

    def start_ratios(self) -> list[str]:
        """What of the recorded traces is not there."""
        asked = self.asked
        if "ratios" not in asked.parts:
            return []
        works, lacking = available(asked.traces)
        if asked.made or not works:
            works += MADE
        works = [w for w in works if not asked.only or w.name in asked.only]
        percents = (0, asked.overwrites) if asked.overwrites else (0,)
        if asked.rivals:
            self.rivals = [
                self.pool.submit(rivals.beside, w, asked.traces, asked.quick) for w in works
            ]
        looks = [(w, self.pool.submit(ratios.look, w, asked.traces, asked.quick)) for w in works]
        for work, seen in looks:
            for task in ratios.tasks(
                work, seen.result(), percents=percents, quick=asked.quick, small=asked.small
            ):
                self.rows.append(self.pool.submit(ratios.run, task, asked.traces))
        return lacking
