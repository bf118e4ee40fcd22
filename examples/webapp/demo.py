"""`make demo`: the same web application without a cache, with a dict per worker, with shmkv.

Three gunicorns of four workers run one after the other under the same load; in the middle of the
longer two a worker is killed with SIGKILL. What a person wants to see is printed as one table.

Ends with status 1 when a promise is broken in the run with shmkv: the shared counter differs from
the requests answered, a request fails that the killed worker did not take along, a page comes
mixed or cut off, a client gets more than its limit, the store fails `check()`. The store is
unlinked and every process ended in any case, also at Ctrl-C.

Does not judge speed: figures are compared within one run, whatever the machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

import shmkv
from examples.webapp import articles, crawl
from examples.webapp.app import STORE_SIZE
from examples.webapp.load import Tally
from examples.webapp.report import Counters, Run, problems, summary, table
from examples.webapp.server import ROOT, DemoError, Server

LOADS = [("none", 3.0), ("dict", 10.0), ("shmkv", 10.0)]  # what, seconds
LOAD_PROCESSES = 2
CONNECTIONS = 8  # of each
LOAD_GRACE = 30.0  # seconds a load process may take beyond its time
SHM_NEEDED = 56 << 20
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def load_on(port: int, seconds: float) -> Iterator[list[subprocess.Popen[str]]]:
    """The load's processes; whoever still runs at the end is ended."""
    processes = []
    try:
        for number in range(LOAD_PROCESSES):
            command = [sys.executable, "-m", "examples.webapp.load", str(port), str(seconds)]
            command += [str(CONNECTIONS), str(number + 1), *["--greedy"][number:]]
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            processes.append(process)
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def measure(kind: str, seconds: float, name: str, sums: dict[int, int]) -> Run:
    """One server under load; `sums` are the pages' checksums, the same for all servers."""
    killed, moment = 0, 0.0
    load, walk = Tally(sums=sums), Tally(sums=sums)
    with Server(kind, name) as server:
        with load_on(server.port, seconds) as processes:
            if kind != "none":
                time.sleep(seconds / 2)  # the schedule: half of the load before the kill
                killed, moment = server.kill_a_worker()
            for process in processes:
                output, _ = process.communicate(timeout=seconds + LOAD_GRACE)
                if process.returncode:
                    raise DemoError(f"a load process ended with status {process.returncode}")
                load.add(Tally.from_json(output))
        server.wait_for_workers()
        if kind != "none":
            crawl.every_page_on_every_worker(server, walk)
        memory = server.memory()
    return Run(kind, load, walk, memory, killed, moment)


def counters_of(name: str) -> Counters:
    """What the workers left in the store, read after all of them are gone."""
    with shmkv.open(name, create=False) as store:
        report = store.check()
        visits = sum(store.get(f"visits:{n}", 0) for n in range(1, articles.COUNT + 1))
        return Counters(store.get("requests", 0), visits, report.ok, str(report.problems))


def run(name: str) -> int:
    """Measure all, print, judge."""
    free = os.statvfs("/dev/shm")
    if free.f_bavail * free.f_frsize < SHM_NEEDED:
        raise DemoError(
            f"/dev/shm has {free.f_bavail * free.f_frsize >> 20} MiB free and the demo wants"
            f" {SHM_NEEDED >> 20}: give it more (docker run --shm-size=256m)."
        )
    runs, sums = [], dict[int, int]()
    for kind, seconds in LOADS:
        print(f"{kind:>6}: 4 workers, {seconds:.0f} s of load ...", flush=True)
        runs.append(measure(kind, seconds, name, sums))
    counters = counters_of(name)
    print(table(runs, store_size=STORE_SIZE, cpus=os.cpu_count() or 1))
    print(summary(runs[-1], counters))
    found = [p for each in runs for p in problems(each, counters if each is runs[-1] else None)]
    for problem in found:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if found else 0


def _stop(number: int, frame: object) -> NoReturn:
    # Once is enough: what is cleared away now, in bounded time, is not to be interrupted.
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    print("stopped", file=sys.stderr)
    raise SystemExit(128 + number)


def main() -> int:
    """The demo, with everything cleared away behind it."""
    for each in STOP_SIGNALS:
        signal.signal(each, _stop)
    name = f"demo-{os.getpid()}"
    try:
        return run(name)
    except (DemoError, subprocess.TimeoutExpired, shmkv.Error) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        shmkv.unlink(name, missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
