"""Peers whose memory belongs to a host program: uWSGI's cache and PHP's APCu.

Their shared memory is inherited by forking, so every turn starts the host anew; it fills itself,
forks the workers and runs the same draws in the same way. uWSGI runs the loops of `work.py` in the
Python inside it; `apcu.php` says them again in PHP, whose loop costs less or more than Python's:
these two show what a shared-memory cache reaches, and are no way for a Python program to get there.
"""

import json
import re
import shutil
import subprocess
import sys
from array import array
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.peers.peer import FILL_SECONDS, MIB, Peer, first_line, run_program
from tests.bench.peers.team import Failed, combine
from tests.bench.peers.work import WARM_SECONDS, Answer, Draws, Pairs, Plan

HERE = Path(__file__).parent
DEBIAN_PLUGINS = Path("/usr/lib/uwsgi/plugins")


class Hosted(Peer):
    """A peer that is measured by a program of its own."""

    def prepare(self) -> None:
        """Every turn fills its own."""

    def ask(self, work: dict[str, Any], limit: float) -> Any:
        """Let the host do it; returns what it wrote to `work["out"]`."""
        raise NotImplementedError

    def answer(self, work: dict[str, Any], limit: float) -> Any:
        """The same, with a place for the answer."""
        out = self.room.folder / "out.json"
        out.unlink(missing_ok=True)
        said = self.ask({**work, "out": str(out)}, limit)
        try:
            return json.loads(out.read_text())
        except (OSError, ValueError):
            raise Failed(f"no answer: {said[-200:].strip()}") from None


class Uwsgi(Hosted):
    """uWSGI's caching framework, from Python inside uWSGI."""

    name = "uWSGI cache"
    counted = "its preallocated size, by its log; 5 % more items than entries"

    @property
    def options(self) -> str:  # type: ignore[override]
        """Set up as its documents on caching advise: sized by items, blocks and keys."""
        return (
            "cache2: items and hashsize 1.5 x the keys, blocksize that of the values, keysize 16 "
            f"(its documents on caching); in uWSGI's own Python: {self._host()[1]}"
        )

    @staticmethod
    def _host() -> tuple[list[str], str]:
        """The command, and which Python it has: the one of this program if that is possible."""
        mine = Path(sys.executable).parent / "uwsgi"
        if mine.exists():
            return [str(mine), "-H", sys.prefix], "the one of this run"
        debian = shutil.which("uwsgi-core") or shutil.which("uwsgi")
        if debian and any(DEBIAN_PLUGINS.glob("python3*_plugin.so")):
            return [debian, "--plugins", "python3"], "Debian's"
        return [], ""

    def missing(self) -> str | None:
        if self._host()[0]:
            return None
        return "no uwsgi in the virtual environment, nor Debian's uwsgi-core and -plugin-python3"

    def version(self) -> str:
        return first_line(self._host()[0][0], "--version")

    def ask(self, work: dict[str, Any], limit: float) -> Any:
        keys, size = work["keys"], work["value_bytes"]
        items = keys + keys // 20 if work["mixes"] is None else keys + keys // 2
        cache = f"name=bench,items={items},blocksize={size},hashsize={items},keysize=16"
        spec = self.room.folder / "work.json"
        spec.write_text(json.dumps(work))
        script = ["--cache2", cache, "--pyrun", str(HERE / "uwsgi_host.py"), "--pyargv", str(spec)]
        return run_program([*self._host()[0], *script], limit)

    def turn(self, plan: Plan, draws: Sequence[Draws]) -> list[dict[str, Any]]:
        room = {"keys": self.room.keys, "value_bytes": self.room.value_bytes}
        limit = plan.limit() + FILL_SECONDS
        found = self.answer({**room, **asdict(plan), "workers": len(draws)}, limit)
        if "failed" in found:
            raise Failed(found["failed"])
        assert isinstance(found["figures"], list)
        return found["figures"]

    def bytes_for(self, pairs: Pairs) -> int:
        count = self.room.keys
        work = {"keys": count, "value_bytes": self.room.value_bytes, "mixes": None}
        out = self.room.folder / "out.json"
        said = self.ask({**work, "out": str(out)}, FILL_SECONDS)
        if json.loads(out.read_text())["filled"] != count:
            raise Failed("not every entry was stored")
        sizes = re.search(r"key: \d+ bytes, keys: (\d+) .*data: (\d+) .*bitmap: (\d+) ", said)
        if sizes is None:
            raise Failed("its log tells no sizes")
        return sum(int(size) for size in sizes.groups())


class Apcu(Hosted):
    """APCu, from PHP."""

    name = "APCu"
    options = (
        "php -d apc.enable_cli=1, shm_size twice the data, entries_hint 1.5 x the keys (its INI "
        "documents), opcache with JIT; its own loops, processes by pcntl_fork"
    )
    counted = "what apcu_sma_info says is taken"

    def missing(self) -> str | None:
        if shutil.which("php") is None:
            return "no php (Debian: php-cli, php-apcu)"
        done = subprocess.run(
            ["php", "-m"], capture_output=True, text=True, timeout=10, check=False
        )
        absent = {"apcu", "pcntl", "json"} - set(done.stdout.split())
        return f"php has no {', '.join(sorted(absent))}" if absent else None

    def version(self) -> str:
        code = 'echo "PHP ", PHP_VERSION, ", APCu ", phpversion("apcu");'
        return first_line("php", "-r", code)

    def ask(self, work: dict[str, Any], limit: float) -> Any:
        spec = self.room.folder / "work.json"
        spec.write_text(json.dumps(work))
        megabytes = max(256, self.room.bytes_wanted(300) // MIB)
        settings = [f"apc.shm_size={megabytes}M", f"apc.entries_hint={self.room.keys * 3 // 2}"]
        settings += ["apc.enable_cli=1", "memory_limit=-1", "opcache.enable_cli=1"]
        settings += ["opcache.jit=tracing", "opcache.jit_buffer_size=64M"]
        options = [part for setting in settings for part in ("-d", setting)]
        return run_program(["php", *options, HERE / "apcu.php", spec], limit)

    def turn(self, plan: Plan, draws: Sequence[Draws]) -> list[dict[str, Any]]:
        work = {
            "keys": self.room.keys,
            "value_bytes": self.room.value_bytes,
            "draws": [str(self._draws_file(number, each)) for number, each in enumerate(draws)],
            "warm_seconds": WARM_SECONDS,
            **asdict(plan),
        }
        found = self.answer(work, plan.limit())
        return combine([[answer_of(each) for each in worker] for worker in found])

    def _draws_file(self, number: int, draws: Draws) -> Path:
        """The numbers of the keys, then a byte for each that says whether it is written."""
        path = self.room.folder / f"draws-{number}"
        if not path.exists():
            numbers = array("I", [int(key.split(b":")[1]) for key in draws.keys])
            path.write_bytes(numbers.tobytes() + bytes(draws.writes))
        return path

    def bytes_for(self, pairs: Pairs) -> int:
        work = {"keys": self.room.keys, "value_bytes": self.room.value_bytes, "mixes": None}
        return int(self.answer(work, FILL_SECONDS))


def answer_of(told: dict[str, Any]) -> Answer:
    """JSON has no integers as keys."""
    return Answer(**{**told, "ticks": {int(t): times for t, times in told["ticks"].items()}})
