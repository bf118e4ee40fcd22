"""What a peer is to the benchmark, and the servers some of them need.

Owns: the life of a peer (`missing`, `start`, `attach` in each worker, `stop`), the folder in
/dev/shm where its sockets and files stand, processes that are ended by their id, and how memory is
counted. Promises: a `Room` and a `Server` leave nothing behind, whatever happened in between.

Does not import what it measures: each peer imports its library in the worker, so that a library
that crashes takes no more than a worker with it.
"""

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.peers.team import Failed, gather, take_turn
from tests.bench.peers.work import Access, Draws, Pairs, Plan, make_pairs, written_value

SHM = Path("/dev/shm")
MIB = 1 << 20
FILL_SECONDS = 90.0
UP_SECONDS = 10.0
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Room:
    """Where and how large: a folder of the peer's own, the number of keys, the size of values."""

    folder: Path
    keys: int
    value_bytes: int

    @property
    def name(self) -> str:
        """For what is named and not a file; no other run uses it."""
        return self.folder.name

    def bytes_wanted(self, overhead: int) -> int:
        """Every key and value twice, with so many bytes for each beside its value."""
        return 2 * self.keys * (self.value_bytes + overhead)


@contextmanager
def new_room(keys: int, value_bytes: int) -> Iterator[Room]:
    """A room; whatever bears its name in /dev/shm is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="shmkv-peers-", dir=SHM))
    try:
        yield Room(folder, keys, value_bytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for left in SHM.glob(f"*{folder.name}*"):
            left.unlink(missing_ok=True)


def blocks_below(path: Path) -> int:
    """Bytes that files really take: a sparse file counts with what it has."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_blocks * 512 for file in files)


def resident(pid: int) -> int:
    """Bytes of memory a process has."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise Failed(f"the kernel tells no memory of process {pid}")


# ---- servers ------------------------------------------------------------------------------------


def die_with_parent() -> None:
    """In a child: the kernel ends it when its parent ends, however that happens."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def start_program(argv: Sequence[str | Path], **more: Any) -> subprocess.Popen[bytes]:
    """A program in a session of its own: Ctrl-C is for us, and we end it."""
    return subprocess.Popen(
        argv, start_new_session=True, preexec_fn=die_with_parent, close_fds=True, **more
    )


def end_program(program: subprocess.Popen[bytes]) -> None:
    """End it and the children it forked: its session's group is its own."""
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGTERM)
    try:
        program.wait(3)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def run_program(argv: Sequence[str | Path], limit: float, **more: Any) -> str:
    """Run a program to its end; returns what it wrote, and `Failed` says what that was last."""
    with tempfile.TemporaryFile() as said:
        program = start_program(
            argv, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, **more
        )
        try:
            code = program.wait(limit)
        except subprocess.TimeoutExpired:
            raise Failed(f"{argv[0]} did not end within {limit:.0f} s") from None
        finally:
            end_program(program)
        said.seek(0)
        text = said.read().decode(errors="replace")
    if code:
        raise Failed(f"{Path(argv[0]).name} ended with {code}: {text[-200:].strip()}")
    return text


class Server:
    """A program that listens on a unix socket."""

    def __init__(self, argv: Sequence[str | Path], path: Path) -> None:
        null = subprocess.DEVNULL
        self._program = start_program(argv, stdin=null, stdout=null, stderr=null)
        try:
            self._wait_for(path)
            self._base = resident(self._program.pid)
        except BaseException:
            self.stop()
            raise

    def _wait_for(self, path: Path) -> None:
        """Until it accepts a connection."""
        stop = time.monotonic() + UP_SECONDS
        while self._program.poll() is None and time.monotonic() < stop:
            with socket.socket(socket.AF_UNIX) as end, suppress(OSError):
                end.connect(str(path))
                return
            time.sleep(0.01)  # bounded: the condition is the line above
        raise Failed(f"no server came up: exit code {self._program.poll()}")

    def grew(self) -> int:
        """Bytes it has now beyond what it had when it was new."""
        return resident(self._program.pid) - self._base

    def stop(self) -> None:
        """End it, by its process id."""
        end_program(self._program)


# ---- peers --------------------------------------------------------------------------------------


def lacking(*modules: str) -> str | None:
    """Which of these Python modules are not installed, as a sentence."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"no Python module {', '.join(absent)} (make peers installs it)" if absent else None


def versions(*packages: str) -> str:
    """Installed distributions and their versions."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def first_line(*argv: str) -> str:
    """What a program says of its version."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    return (done.stdout or done.stderr).splitlines()[0].strip()


class Alternative:
    """Something people would take: how it is set up, and its life but for what a worker gets."""

    name: str
    options: str  # how it is set up, and who recommends that
    room: Room

    def missing(self) -> str | None:
        """Why it cannot be measured here, or None."""
        return None

    def version(self) -> str:
        """What is measured."""
        raise NotImplementedError

    def start(self, room: Room) -> None:
        """In the parent of the workers: what must be there before the first of them."""
        self.room = room

    def stop(self) -> None:
        """In the parent, when every worker has ended, also after a `start` that failed."""


class Peer(Alternative):
    """One way to keep keys and values; subclasses say how."""

    counted: str | None = None  # how its memory is counted; None: not counted
    reference = False  # every process has its own: nothing is shared
    memory_share = 1.0  # of the entries in the memory measurement; less for a slow peer

    def attach(self) -> Access:
        """In a worker."""
        raise NotImplementedError

    def held(self) -> int:
        """Bytes it takes now, filled; asked in the parent."""
        raise NotImplementedError

    def fill(self, pairs: Pairs, limit: float = FILL_SECONDS) -> int:
        """In a child: store all pairs; returns by how many bytes that child grew."""

        def job() -> int:
            access = self.attach()
            before = resident(os.getpid())
            access.fill(pairs)
            grew = resident(os.getpid()) - before
            access.close()
            return grew

        (grew,) = gather([job], limit)
        assert isinstance(grew, int)
        return grew

    def prepare(self) -> None:
        """After `start`: the keys of the room."""
        self.fill(make_pairs(self.room.keys, self.room.value_bytes))

    def turn(self, plan: Plan, draws: Sequence[Draws]) -> list[dict[str, Any]]:
        """Fresh workers do the plan."""
        return take_turn(self.attach, plan, draws, written_value(self.room.value_bytes))

    def bytes_for(self, pairs: Pairs) -> int:
        """Started and empty: bytes taken by these pairs."""
        self.fill(pairs)
        return self.held()


@contextmanager
def started(peer: Peer, keys: int, value_bytes: int) -> Iterator[Peer]:
    """A peer that is up, and gone afterwards."""
    with new_room(keys, value_bytes) as room:
        try:
            peer.start(room)
            yield peer
        finally:
            peer.stop()


def each(call: Callable[[bytes, bytes], Any]) -> Callable[[Pairs], None]:
    """Fill pair by pair."""

    def fill(pairs: Pairs) -> None:
        for key, value in pairs:
            call(key, value)

    return fill
