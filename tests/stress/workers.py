"""What the workers of the many-process test do: every operation, at random, all written down.

Owns the kinds of keys and the operations on them:

  v   self-describing values: set, add, replace, cas, delete, pop, get, get_many, set_many, view,
      touch
  t   the same with a short ttl
  c   counters by incr            k   counters by gets and cas
  a   tails by append             x   anchors: set once before, never touched, every scan shows them

Promises: a worker with the same seed asks for the same operations. What comes back is judged at
once if it is judged alone (whole, right key, anchors seen, views steady); what needs the others'
records is judged by verdict.py. Anything unexpected is raised and ends the worker.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import shmkv
from tests.stress import values
from tests.stress.oplog import Kind, OpLog, Status
from tests.stress.values import Stamp

V_KEYS = 900
T_KEYS = 40
C_KEYS = 30
K_KEYS = 10
A_KEYS = 6
X_KEYS = 30
TAILS_MOST = 48 * 1024
# One numbering for all kinds, so that records of different kinds never meet.
T_FIRST, C_FIRST, K_FIRST, A_FIRST, X_FIRST = 1000, 2000, 3000, 4000, 5000


def name(number: int) -> str:
    """The key with this number."""
    return f"{'vtckax'[number // 1000]}{number % 1000:03d}"


def ttl_of(number: int) -> float:
    """Seconds that the key lives after each set; 0 = for ever."""
    return 0.02 * (1 + number % 5) if T_FIRST <= number < C_FIRST else 0.0


class Worker:
    """One worker's hands."""

    def __init__(self, store: shmkv.Store, log: OpLog, seed: int, evict: bool) -> None:
        self.store = store
        self.log = log
        self.rng = random.Random(seed)
        self.evict = evict
        self.seq = 0
        self._moves: list[Callable[[], None]] = []
        weights = (
            (self.get, 30), (self.set, 20), (self.add, 5), (self.replace, 5), (self.cas, 6),
            (self.delete, 4), (self.pop, 4), (self.touch, 3), (self.get_many, 3),
            (self.set_many, 2), (self.view, 3), (self.timed, 6), (self.incr, 8), (self.bump, 3),
            (self.append, 2),
        )  # fmt: skip
        for move, weight in weights:
            self._moves += [move] * weight

    def work(self, end: float) -> None:
        """Until the time is over."""
        turn = 0
        while time.monotonic() < end and not self.log.full:
            self.rng.choice(self._moves)()
            turn += 1
            if turn % 400 == 0:
                self.scan()

    # --- values ----------------------------------------------------------------------------

    def _key(self) -> int:
        """Small numbers more often."""
        return int(V_KEYS * self.rng.random() ** 2)

    def _value(self, key: int) -> tuple[int, bytes]:
        self.seq += 1
        length = values.length_of(self.rng, 0.005)
        return self.seq, values.make(Stamp(key, self.log.writer, self.seq), length)

    def _seen(self, key: int, value: Any) -> tuple[int, int]:
        stamp = values.parse(value)
        if stamp.key != key:
            raise values.Torn(f"{name(key)} holds a value of {name(stamp.key)}: {stamp}")
        return stamp.writer, stamp.seq

    def _read(self, key: int, read: Callable[[], Any], kind: Kind = Kind.GET) -> None:
        number = self.log.begin(kind, key)
        value = read()
        if value is None:
            self.log.done(number, Status.NOTHING)
        else:
            self.log.done(number, Status.DONE, self._seen(key, value))

    def _write(self, kind: Kind, key: int, put: Callable[[str, bytes], object]) -> None:
        seq, value = self._value(key)
        number = self.log.begin(kind, key, seq)
        try:
            did = put(name(key), value)
        except shmkv.Full:
            if self.evict:
                raise
            did = False
        self.log.done(number, Status.NOTHING if did is False else Status.DONE)

    def get(self) -> None:
        key = self._key()
        self._read(key, lambda: self.store.get(name(key)))

    def set(self) -> None:
        self._write(Kind.SET, self._key(), self.store.set)

    def add(self) -> None:
        self._write(Kind.ADD, self._key(), self.store.add)

    def replace(self) -> None:
        self._write(Kind.REPLACE, self._key(), self.store.replace)

    def timed(self) -> None:
        """A key that expires: set or read."""
        key = T_FIRST + self.rng.randrange(T_KEYS)
        if self.rng.random() < 0.3:
            self._write(Kind.SET, key, lambda k, v: self.store.set(k, v, ttl=ttl_of(key)))
        else:
            self._read(key, lambda: self.store.get(name(key)))

    def cas(self) -> None:
        key = self._key()
        number = self.log.begin(Kind.GET, key)
        try:
            value, token = self.store.gets(name(key))
        except KeyError:
            self.log.done(number, Status.NOTHING)
            return
        seen = self._seen(key, value)
        self.log.done(number, Status.DONE, seen)
        seq, new = self._value(key)
        number = self.log.begin(Kind.CAS, key, seq)
        try:
            did = self.store.cas(name(key), new, token)
        except shmkv.Full:
            did = False
        self.log.done(number, Status.DONE if did else Status.NOTHING, seen)

    def _flag(self, kind: Kind, ask: Callable[[str], bool]) -> None:
        key = self._key()
        number = self.log.begin(kind, key)
        self.log.done(number, Status.DONE if ask(name(key)) else Status.NOTHING)

    def delete(self) -> None:
        self._flag(Kind.DELETE, self.store.delete)

    def touch(self) -> None:
        ttl = self.rng.choice((None, 10_000))

        def ask(key: str) -> bool:
            try:
                return self.store.touch(key, ttl)
            except shmkv.Full:  # the item had no room for a deadline and must be written anew
                return True

        self._flag(Kind.TOUCH, ask)

    def pop(self) -> None:
        key = self._key()
        self._read(key, lambda: self.store.pop(name(key), None), Kind.POP)

    def get_many(self) -> None:
        keys = {self._key() for _ in range(8)}
        numbers = {key: self.log.begin(Kind.GET, key) for key in keys}
        found = self.store.get_many([name(key) for key in keys])
        for key, number in numbers.items():
            value = found.get(name(key))
            if value is None:
                self.log.done(number, Status.NOTHING)
            else:
                self.log.done(number, Status.DONE, self._seen(key, value))

    def set_many(self) -> None:
        pairs = {key: self._value(key) for key in {self._key() for _ in range(5)}}
        numbers = [self.log.begin(Kind.SET, key, seq) for key, (seq, _) in pairs.items()]
        status = Status.DONE
        try:
            self.store.set_many({name(key): value for key, (_, value) in pairs.items()})
        except shmkv.Full:
            status = Status.PERHAPS
        for number in numbers:
            self.log.done(number, status)

    def view(self) -> None:
        """Bytes do not change beneath a view, whatever happens meanwhile."""
        key = self._key()
        number = self.log.begin(Kind.GET, key)
        try:
            with self.store.view(name(key)) as view:
                seen = self._seen(key, view)
                self.log.done(number, Status.DONE, seen)
                for _ in range(self.rng.randrange(6)):
                    self.set()
                    self.get()
                if self._seen(key, view) != seen:
                    raise values.Torn(f"the view of {name(key)} changed")
        except KeyError:
            self.log.done(number, Status.NOTHING)

    # --- numbers and tails -----------------------------------------------------------------

    def incr(self) -> None:
        key = C_FIRST + self.rng.randrange(C_KEYS)
        number = self.log.begin(Kind.INCR, key)
        try:
            self.store.incr(name(key))
        except shmkv.Full:
            self.log.done(number, Status.NOTHING)
            return
        self.log.done(number, Status.DONE)

    def bump(self) -> None:
        """An increment by cas: at most one of those who saw a value wins."""
        key = K_FIRST + self.rng.randrange(K_KEYS)
        number = self.log.begin(Kind.BUMP, key)
        try:
            value, token = self.store.gets(name(key))
            did = self.store.cas(name(key), value + 1, token)
        except (KeyError, shmkv.Full):
            did = self.evict and self.store.add(name(key), 1)
        self.log.done(number, Status.DONE if did else Status.NOTHING)

    def append(self) -> None:
        key = A_FIRST + self.rng.randrange(A_KEYS)
        tails = values.parse_tails(self.store.get(name(key), b""))
        if len(tails) * values.TAIL.size > TAILS_MOST:
            return
        self.seq += 1
        number = self.log.begin(Kind.APPEND, key, self.seq)
        try:
            self.store.append(name(key), values.make_tail(self.log.writer, self.seq))
        except shmkv.Full:
            self.log.done(number, Status.NOTHING)
            return
        self.log.done(number, Status.DONE)

    # --- all keys --------------------------------------------------------------------------

    def scan(self) -> None:
        """Every key that is there throughout is seen; no key is made up."""
        seen = set(self.store.scan())
        strange = seen - ALL_NAMES
        if strange:
            raise values.Torn(f"scan shows {sorted(map(repr, strange))[:3]}")
        if not self.evict and ANCHORS - seen:
            raise values.Torn(f"scan misses {sorted(ANCHORS - seen)[:3]}")
        len(self.store)
        self.store.stats()


ANCHORS = frozenset(name(X_FIRST + n) for n in range(X_KEYS))
ALL_NAMES = ANCHORS | {
    name(first + n)
    for first, count in (
        (0, V_KEYS), (T_FIRST, T_KEYS), (C_FIRST, C_KEYS), (K_FIRST, K_KEYS), (A_FIRST, A_KEYS),
    )
    for n in range(count)
}  # fmt: skip


def prepare(store: shmkv.Store) -> None:
    """Anchors, and the counters that cas needs."""
    for n in range(X_KEYS):
        store.set(name(X_FIRST + n), values.make(Stamp(X_FIRST + n, 0, n), 100 * n))
    for n in range(K_KEYS):
        store.set(name(K_FIRST + n), 0)
