"""A sheet of shared memory by which one hand steers the processes of a damage run.

Owns: `Board`: the turn (even: pause, odd: work), and for each worker what it does now, since when,
what it has acknowledged, how often it worked, how long its slowest operation took, and the first
finding. `Ground`: a store of known content whose bytes can be put back in an instant.

Promises: every word has one writer; a worker that dies leaves its last words to be read.

Does not: wait, judge, or start processes.
"""

from __future__ import annotations

import mmap
import random

import posix_ipc  # type: ignore[import-not-found]

import shmkv
from shmkv import _core
from shmkv.segment import object_name
from tests.conftest import segment_path
from tests.stress.damage_work import COUNTERS, KEYS, LARGE, a_value

STOP = (1 << 64) - 1
TEXT = 2048
_FIELDS = ("acknowledged", "operation", "since", "done", "worst", "round", "found", "spare")


class Post:
    """One worker's words."""

    def __init__(self, words: memoryview, text: memoryview) -> None:
        self._words = words
        self._text = text

    def __getitem__(self, name: str) -> int:
        return self._words[_FIELDS.index(name)]

    def __setitem__(self, name: str, value: int) -> None:
        self._words[_FIELDS.index(name)] = value

    @property
    def text(self) -> str:
        """The first finding since it was taken."""
        return bytes(self._text).split(b"\0", 1)[0].decode(errors="replace")

    def find(self, text: str) -> None:
        """Leave a finding, if there is none yet."""
        if not self["found"]:
            data = text.encode(errors="replace")[: len(self._text) - 1]
            self._text[: len(data) + 1] = data + b"\0"
            self["found"] = 1


class Board:
    """The sheet."""

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, 4096 + workers * (64 + TEXT))
        view = memoryview(self._memory)
        words = view[: 4096 + 64 * workers].cast("Q")
        self._turn = words[:1]
        self.posts = []
        for i in range(workers):
            at = 4096 + 64 * workers + TEXT * i
            self.posts.append(Post(words[512 + 8 * i : 520 + 8 * i], view[at : at + TEXT]))

    @property
    def turn(self) -> int:
        """Even: pause; odd: work; STOP."""
        return self._turn[0]

    @turn.setter
    def turn(self, value: int) -> None:
        self._turn[0] = value


class Ground:
    """A store with a past; the bytes of its segment as words, and a copy to go back to."""

    def __init__(self, name: str, seed: int, size: int, lock_timeout: float) -> None:
        self.name = name
        fd = posix_ipc.SharedMemory(object_name(name, _uid()), posix_ipc.O_CREX, mode=0o600).fd
        config = (size, size, random.Random(seed).getrandbits(64), _core.OPT_EVICT)
        made = _core.attach(
            shmkv.Store, name, fd, object_name(name, _uid()), config, False, lock_timeout, False
        )
        assert isinstance(made, shmkv.Store), made
        self.store = made
        self._fill(random.Random(seed))
        with segment_path(name).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.bytes = memoryview(self._map)
        self.words = self.bytes.cast("Q")
        self.image = b""
        self.take()

    def _fill(self, rng: random.Random) -> None:
        """Pages of every state, garbage, splits, and all memory backed: it never changes length."""
        store, g = self.store, self.store._geometry()
        whole = g["off_arena"] + (g["bases"] << g["base_shift"])
        while store._geometry()["watermark"] < whole:
            store.set(b"fill %d" % rng.randrange(200), LARGE[: rng.randrange(len(LARGE))])
        for key in KEYS + COUNTERS:
            store.set(key, 7 if key in COUNTERS else a_value(rng))
        for i in range(3000):
            store.set(b"s%d" % i, i)
        for i in range(3):
            store.set(f"extent {i}", bytes(store.size // 14))
        for key in rng.sample(KEYS, 100):
            store.set(key, a_value(rng), ttl=rng.choice([None, 600]))

    def take(self) -> None:
        """What is there now is what will be put back."""
        self.image = bytes(self.bytes)

    def restore(self) -> None:
        """Put it back. Nobody is at work meanwhile."""
        self.bytes[:] = self.image

    def end(self) -> None:
        """Let go of the memory and remove the name."""
        self.words.release()
        self.bytes.release()
        self._map.close()
        shmkv.unlink(self.name, missing_ok=True)


def _uid() -> int:
    import os

    return os.geteuid()
