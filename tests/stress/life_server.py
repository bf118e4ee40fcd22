"""The scene `server` of life.py: gunicorn --preload, forks after use, HUP, workers killed.

`python -m tests.stress.life_server server STORE N SEED`: a real gunicorn whose master opened and
used the store (life_app) under requests of three threads; n times workers are replaced gracefully
by HUP, killed by SIGKILL one by one, or all at once; then it is ended.

What must hold: every answer is right; a worker is an attachment of its own, the master keeps its
number; all answered requests were counted, and no more than were asked; after each event as many
are attached as there are processes; only a killed worker's requests may fail; at the end nobody is
attached. Loopback only; every process is ended by its id.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import shmkv
from tests.stress.life import Outcome, play
from tests.stress.support import ROOT, until

WORKERS = 3
THREADS = 3
WAIT_S = 30.0
CONFIG = """
workers = 3
preload_app = True
graceful_timeout = 10
timeout = 30
control_socket_disable = True
"""


class Server:
    """One gunicorn, ended whatever happens."""

    def __init__(self, store_name: str, folder: Path) -> None:
        config = folder / "gunicorn.conf.py"
        config.write_text(CONFIG)
        self.log: IO[bytes] = (folder / "log").open("w+b")
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            self.port: int = listener.getsockname()[1]
            words = ["--config", str(config), "--bind", f"fd://{listener.fileno()}"]
            self.master = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *words, "tests.stress.life_app:app"],
                cwd=ROOT,
                env={**os.environ, "LIFE_STORE": store_name},
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
            )

    def workers(self) -> set[int]:
        """Process ids of the workers that live."""
        pid = self.master.pid
        with contextlib.suppress(OSError):
            return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        return set()

    def said(self) -> str:
        """The end of its log."""
        return Path(self.log.name).read_text(errors="replace")[-2000:]

    def end(self) -> int:
        """Ask it to end, make it end."""
        crew = self.workers()
        if self.master.poll() is None:
            self.master.send_signal(signal.SIGTERM)
        try:
            return self.master.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.master.kill()
            for worker in crew:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            return self.master.wait(WAIT_S)
        finally:
            self.log.close()


class Load:
    """Threads that ask until they are told to stop, each request by a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: list[dict[str, Any]] = []
        self.failed: list[str] = []
        self.worst = 0.0
        self._stop = threading.Event()
        self._crew = [threading.Thread(target=self._ask_on) for _ in range(THREADS)]
        for thread in self._crew:
            thread.start()

    def _ask_on(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                answer = self.ask()
                self.answers.append(answer)  # a list's append is one step for threads
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failed.append(repr(error))
            self.worst = max(self.worst, time.monotonic() - started)

    def ask(self) -> dict[str, Any]:
        """One request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, f"{response.status}: {body[:200]!r}"
            answer: dict[str, Any] = json.loads(body)
            return answer
        finally:
            connection.close()

    def end(self) -> None:
        """All threads have ended afterwards."""
        self._stop.set()
        for thread in self._crew:
            thread.join(WAIT_S * 2)
            assert not thread.is_alive(), "a request hangs"


class Game:
    """Events, and what must hold after each."""

    def __init__(self, store: shmkv.Store, server: Server, load: Load) -> None:
        self.store, self.server, self.load = store, server, load
        self.killed = 0
        self.seen: set[int] = set()

    def steady(self, gone: set[int]) -> None:
        """All workers are new or were not meant, and each of them has answered."""
        begin = len(self.load.answers)

        def new() -> bool:
            crew = self.server.workers()
            answered = {answer["pid"] for answer in self.load.answers[begin:]}
            return len(crew) == WORKERS and not crew & gone and crew <= answered

        until(new, f"workers replace {sorted(gone)}: {self.server.said()}", WAIT_S)
        self.seen |= self.server.workers()
        attached = WORKERS + 2  # the master, and the keeper of the scene
        until(lambda: self.store.stats().attached == attached, f"{attached} attached", WAIT_S)

    def hup(self) -> None:
        """Graceful: the workers finish what they have."""
        old = self.server.workers()
        self.server.master.send_signal(signal.SIGHUP)
        self.steady(old)

    def kill_one(self) -> None:
        """One of them, wherever it is."""
        self._kill({min(self.server.workers())})

    def kill_all(self) -> None:
        """All of them at once."""
        self._kill(self.server.workers())

    def _kill(self, victims: set[int]) -> None:
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        self.killed += len(victims)
        self.steady(victims)


def judge(game: Game) -> list[str]:
    """When the load has ended."""
    load, store, wrong = game.load, game.store, []
    masters = {answer["master"] for answer in load.answers}
    numbers = {answer["pid"]: answer["number"] for answer in load.answers}
    if len(masters) != 1 or masters & set(numbers.values()):
        wrong.append(f"numbers {numbers}, masters {masters}")
    if len(set(numbers.values())) != len(numbers):
        wrong.append(f"two workers share a number: {numbers}")
    if not all(answer["whole"] for answer in load.answers):
        wrong.append("an answer was built of a torn value")
    if len(load.failed) > game.killed * THREADS:
        wrong.append(f"{len(load.failed)} failed, {game.killed} killed: {load.failed[:3]}")
    asked, counted = len(load.answers) + len(load.failed), store["requests"]
    if not len(load.answers) <= counted <= asked:
        wrong.append(f"{counted} counted, {len(load.answers)} answered of {asked}")
    if store["masters"] != 1:
        wrong.append(f"the application was loaded {store['masters']} times")
    return wrong


def server(store: shmkv.Store, n: int, start_seed: int) -> Outcome:
    """Events in turn, then at random."""
    rng, wrong = random.Random(start_seed), []
    with tempfile.TemporaryDirectory() as folder:
        running = Server(store.name, Path(folder))
        load: Load | None = None
        try:
            until(lambda: len(running.workers()) == WORKERS, running.said(), WAIT_S)
            load = Load(running.port)
            game = Game(store, running, load)
            game.steady(set())
            events: list[Callable[[], None]] = [game.hup, game.kill_one, game.kill_all]
            for turn in range(n):
                (events[turn] if turn < 3 else rng.choice(events))()
            load.end()
            wrong += judge(game)
        except AssertionError as late:
            wrong.append(f"{late}: {running.said()}")
        finally:
            if load is not None:
                load.end()
            code = running.end()
        if code != 0:
            wrong.append(f"gunicorn ended with {code}")
        return Outcome(len(load.answers) if load else 0, wrong, load.worst * 1000 if load else 0.0)


def main() -> None:
    """Run the scene."""
    play("server", server)


if __name__ == "__main__":
    main()
