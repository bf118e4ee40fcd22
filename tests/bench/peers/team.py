"""Forked workers that meet before every loop, and whose death or silence is an answer, too.

Owns: children (forked, one pipe each), the meeting place, the time limit. Promises: whatever a
child does (answers, raises, dies, hangs), `gather` returns or raises `Failed` within its limit, and
no child is left; a meeting ends for all when one does not come.

Knows the standard library and `work`: one peer runs this file inside a host of its own.
"""

import multiprocessing as mp
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

from tests.bench.peers.work import (
    Access,
    Answer,
    Draws,
    Plan,
    figures_of,
    latencies,
    run_of,
    throughput,
    warm_up,
)
from tests.bench.timing import collector_off

FORK = mp.get_context("fork")
LEAD_SECONDS = 0.003  # from the last one's coming to the common start


class Failed(Exception):
    """A peer did not do what it was asked for; the message says what it did instead."""


# ---- being told to end --------------------------------------------------------------------------

_stopping = False


def stop(number: int, frame: Any) -> NoReturn:
    """The handler of SIGINT and SIGTERM. What it raises is lost in a hook that runs at fork, so it
    leaves a word, too."""
    global _stopping
    _stopping = True
    raise KeyboardInterrupt


def obey_signals() -> None:
    """From now on both signals end everything in good order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def heed_signals() -> None:
    """Raise again what was lost."""
    if _stopping:
        raise KeyboardInterrupt


# ---- children -----------------------------------------------------------------------------------


def be_child(job: Callable[[], Any], answer: Connection) -> NoReturn:
    """The life of a child. It leaves by `_exit`: what a library does at exit is not ours."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        answer.send((True, job()))
    except BaseException as error:  # noqa: BLE001 (told to the parent, whatever it is)
        with suppress(OSError):
            answer.send((False, f"{type(error).__name__}: {error}"[:300]))
    finally:
        os._exit(0)


def gather(jobs: Sequence[Callable[[], Any]], limit: float) -> list[Any]:
    """Run each job in a child of its own; what they return, in order."""
    children, ends, done = list[Any](), list[Connection](), False
    try:
        for job in jobs:
            mine, theirs = FORK.Pipe(duplex=False)
            ends.append(mine)
            child = FORK.Process(target=be_child, args=(job, theirs), daemon=True)
            child.start()
            children.append(child)
            theirs.close()
        heed_signals()
        answers = receive(ends, time.monotonic() + limit)
        done = True
        return answers
    finally:
        for child in children:  # after a failure the others wait for nobody
            child.join(1 if done else 0)
            if child.exitcode is None:
                child.kill()
                child.join()
        for end in ends:
            end.close()


def receive(ends: Sequence[Connection], stop: float) -> list[Any]:
    """One answer from each child; the first bad one ends it all."""
    answers: dict[Connection, Any] = {}
    while len(answers) < len(ends):
        left = stop - time.monotonic()
        ready = wait([end for end in ends if end not in answers], max(0, left))
        if not ready:
            raise Failed(f"{len(ends) - len(answers)} of {len(ends)} gave no answer in time")
        for end in ready:
            assert isinstance(end, Connection)
            try:
                good, answers[end] = end.recv()
            except EOFError:
                heed_signals()
                raise Failed("a process died") from None
            if not good:
                raise Failed(str(answers[end]))
    return [answers[end] for end in ends]


# ---- one turn -----------------------------------------------------------------------------------


class Meeting:
    """Where all workers wait for each other, and the moment from which they run together."""

    def __init__(self, count: int, limit: float) -> None:
        self._start = FORK.Value("d", 0.0, lock=False)
        self._barrier = FORK.Barrier(count, action=self._set_start, timeout=limit)

    def _set_start(self) -> None:
        self._start.value = time.monotonic() + LEAD_SECONDS

    def all_come(self) -> None:
        """Return when everybody is here, to everybody at the same moment."""
        self._barrier.wait()
        time.sleep(max(0.0, self._start.value - time.monotonic()))


def work_through(
    number: int, access: Access, plan: Plan, draws: Draws, value: bytes, meeting: Meeting
) -> list[Answer]:
    """All mixes of one worker."""
    found = access.get(draws.keys[0])
    if found is None or bytes(found)[8:] != value[8:]:
        raise ValueError(f"get({draws.keys[0]!r}) returned {found!r:.60}")
    del found
    answers, access_count = [], access.count if number == 0 else None
    with collector_off():
        for mix in plan.mixes:
            if mix == "incr" and access.incr is None:
                continue
            count = access_count if mix == "incr" else None
            run = run_of(mix, access, draws, value)
            before = count() if count else 0
            meeting.all_come()
            warm, chunk = warm_up(run)
            meeting.all_come()
            done, start, stop, cpu = throughput(run, chunk, plan.seconds)
            meeting.all_come()
            ticks = latencies(mix, access, draws, value, plan.latency_seconds)
            meeting.all_come()
            moved = count() - before if count else None
            calls = warm + done + ticks.total() if mix == "incr" else 0
            answers.append(Answer(mix, done, start, stop, cpu, dict(ticks), calls, moved))
    return answers


def take_turn(
    attach: Callable[[], Access], plan: Plan, draws: Sequence[Draws], value: bytes
) -> list[dict[str, Any]]:
    """Fresh workers, one for each of `draws`, do the plan; figures for each mix."""
    meeting = Meeting(len(draws), plan.limit())

    def job_of(number: int) -> Callable[[], list[Answer]]:
        def job() -> list[Answer]:
            access = attach()
            answers = work_through(number, access, plan, draws[number], value, meeting)
            access.close()
            return answers

        return job

    return combine(gather([job_of(number) for number in range(len(draws))], plan.limit()))


def combine(by_worker: Sequence[Sequence[Answer]]) -> list[dict[str, Any]]:
    """The answers of all workers, mix by mix."""
    try:
        return [figures_of(of_mix) for of_mix in zip(*by_worker, strict=True)]
    except ValueError as error:
        raise Failed(str(error)) from None
