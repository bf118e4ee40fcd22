"""The state machine: every operation on a store, beside the same operation on the model.

Owns: `StoreMachine`, a Hypothesis state machine with two writing handles and one read-only handle
of the same store, all in this process, and `tests.model.Model` as the oracle. Each step does one
operation on one handle and compares result or exception; after each step all keys, values and
deadlines must agree, and `check()` must find nothing.

Promises: time moves only by the clock of the tests. Deadlines are kept 50 s away from every
moment the machine can reach, so the real time that a step takes never decides. A run depends on
what is drawn alone, not on the random seed of the store.

Does not: overfill the store, kill, fork or use threads.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import shmkv
from tests.conftest import MIB, Clock, unique_name
from tests.model import INT64_MAX, INT64_MIN, MISSING, Model, raw
from tests.property.strategies import (
    STEP,
    counters,
    deltas,
    handles,
    keys,
    made,
    readers,
    same,
    starts,
    texts,
    ttls,
    values,
)

SIZE = 16 * MIB
VIEWS = 3  # as many views are open at once at most


class Token(NamedTuple):
    """A token that `gets` gave, and the state of the item at that moment."""

    name: bytes
    token: int
    generation: int
    edits: int
    value: Any


class StoreMachine(RuleBasedStateMachine):
    """One store, three handles, one model."""

    steps = 0  # over all runs; the test below looks at it

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.clock = Clock()
        self.name = unique_name()
        self.open: dict[str, shmkv.Store] = {}
        self.tokens: list[Token] = []
        self.views: list[tuple[contextlib.ExitStack, memoryview, bytes]] = []

    @initialize(evict=st.booleans())
    def create(self, evict: bool) -> None:
        """A fresh store, with or without eviction: there is always room."""
        self.evict = evict
        self.open["one"] = shmkv.open(self.name, size=SIZE, evict=evict, create="new")
        self.open["two"] = shmkv.open(self.name, evict=evict)
        self.open["reader"] = shmkv.open(self.name, evict=evict, readonly=True)

    def teardown(self) -> None:
        """Close and remove whatever a run leaves, also a failed one."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.clock.reset)
            stack.callback(shmkv.unlink, self.name, missing_ok=True)
            for handle in self.open.values():
                stack.callback(handle.close)
            for block, _, _ in self.views:
                stack.callback(block.close)

    def both(self, handle: str, method: str, *args: Any, **options: Any) -> None:
        """Do it to the model and to the store; results and exceptions must be the same."""
        args = tuple(made(arg) for arg in args)
        options = {name: made(value) for name, value in options.items() if value is not MISSING}
        expected, error = _outcome(getattr(self.model, method), *args, **options)
        actual, raised = _outcome(getattr(self.open[handle], method), *args, **options)
        assert type(raised) is type(error), f"{method}: {raised!r:.200}, not {error!r:.200}"
        assert same(actual, expected), f"{method}: {actual!r:.200}, not {expected!r:.200}"

    def prepare(self, key: Any, start: Any) -> None:
        """Give an item the value and deadline it needs for the step to be of interest."""
        if start is not None:
            self.both("one", "set", key, start[0], ttl=start[1])

    # --- writing ----------------------------------------------------------------------------

    @rule(handle=handles, key=keys, value=values, ttl=ttls)
    def set(self, handle: str, key: Any, value: Any, ttl: float | None) -> None:
        self.both(handle, "set", key, value, ttl=ttl)

    @rule(
        handle=handles,
        method=st.sampled_from(["add", "replace"]),
        key=keys,
        value=values,
        ttl=ttls,
    )
    def add_or_replace(
        self, handle: str, method: str, key: Any, value: Any, ttl: float | None
    ) -> None:
        self.both(handle, method, key, value, ttl=ttl)

    @rule(handle=handles, method=st.sampled_from(["delete", "__delitem__"]), key=keys)
    def delete(self, handle: str, method: str, key: Any) -> None:
        self.both(handle, method, key)

    @rule(handle=handles, key=keys, default=st.sampled_from([MISSING, None, b"d"]))
    def pop(self, handle: str, key: Any, default: Any) -> None:
        self.both(handle, "pop", key, *([] if default is MISSING else [default]))

    @rule(handle=handles, key=keys, default=values)
    def setdefault(self, handle: str, key: Any, default: Any) -> None:
        self.both(handle, "setdefault", key, default)

    @rule(handle=handles, key=keys, tail=texts, start=starts(texts))
    def append(self, handle: str, key: Any, tail: Any, start: Any) -> None:
        self.prepare(key, start)
        value = self.model.get(key)
        if not isinstance(value, (str, bytes)) or len(raw(value)) < MIB:
            self.both(handle, "append", key, tail)

    @rule(handle=handles, old=keys, new=keys, start=starts(values))
    def rename(self, handle: str, old: Any, new: Any, start: Any) -> None:
        self.prepare(old, start)
        self.both(handle, "rename", old, new)

    @rule(
        handle=handles,
        method=st.sampled_from(["incr", "decr"]),
        key=keys,
        delta=deltas,
        default=st.sampled_from([None, 0, 0, 7, INT64_MAX]),
        ttl=ttls,
        start=starts(counters),
    )
    def count(
        self, handle: str, method: str, key: Any, delta: int, default: Any, ttl: Any, start: Any
    ) -> None:
        self.prepare(key, start)
        if method == "decr" and delta == INT64_MIN:
            delta += 1  # the contract leaves open whether the smallest delta is taken
        self.both(handle, method, key, delta, default=default, ttl=ttl)

    @rule(handle=handles, key=keys, value=values, default=st.just(MISSING) | values, ttl=ttls)
    def update_with(
        self, handle: str, key: Any, value: Any, default: Any, ttl: float | None
    ) -> None:
        self.both(handle, "update_with", key, lambda _: made(value), default=default, ttl=ttl)

    @rule(handle=handles, mapping=st.dictionaries(keys, values, max_size=6), ttl=ttls)
    def set_many(self, handle: str, mapping: dict[Any, Any], ttl: float | None) -> None:
        self.both(handle, "set_many", mapping, ttl=ttl)

    @rule(handle=handles, many=st.lists(keys, max_size=6))
    def delete_many(self, handle: str, many: list[Any]) -> None:
        self.both(handle, "delete_many", many)

    @rule(handle=handles, sure=st.integers(0, 4))
    def clear(self, handle: str, sure: int) -> None:
        if sure == 0:
            self.both(handle, "clear")

    @rule(handle=handles, sure=st.integers(0, 4))
    def popitems(self, handle: str, sure: int) -> None:
        """All of them: which comes first depends on the seed of the store, a run must not."""
        while sure == 0 and self.model.items:
            key, value = self.open[handle].popitem()
            assert type(key) in self.model.items[raw(key)].spellings
            assert same(value, self.model.pop(key))
        if not self.model.items:
            assert isinstance(_outcome(self.open[handle].popitem)[1], KeyError)

    # --- time -------------------------------------------------------------------------------

    @rule(steps=st.integers(1, 3))
    def advance(self, steps: int) -> None:
        self.clock.advance(steps * STEP)
        self.model.advance(steps * STEP)

    @rule(handle=handles, key=keys, ttl=ttls, start=starts(values))
    def touch(self, handle: str, key: Any, ttl: float | None, start: Any) -> None:
        self.prepare(key, start)
        self.both(handle, "touch", key, ttl)

    @rule(handle=handles, key=keys, seconds=st.sampled_from([-1e6, 0.5 * STEP, 2.5 * STEP]))
    def expire_at(self, handle: str, key: Any, seconds: float) -> None:
        found = self.model.touch(key, seconds)
        self.model.advance(0)
        assert self.open[handle].expire_at(key, time.time() + seconds) is found

    @rule(handle=readers, key=keys)
    def ttl(self, handle: str, key: Any) -> None:
        expected, error = _outcome(self.model.ttl, key)
        actual, raised = _outcome(self.open[handle].ttl, key)
        assert type(raised) is type(error)
        assert type(actual) is type(expected)
        if expected is not None:
            assert expected - 0.5 * STEP < actual <= expected + 0.005

    # --- reading ----------------------------------------------------------------------------

    @rule(handle=readers, method=st.sampled_from(["get", "__getitem__", "__contains__"]), key=keys)
    def read(self, handle: str, method: str, key: Any) -> None:
        self.both(handle, method, key)

    @rule(handle=readers, many=st.lists(keys, max_size=9))
    def get_many(self, handle: str, many: list[Any]) -> None:
        self.both(handle, "get_many", many)

    @rule(
        handle=readers,
        prefix=st.sampled_from([None, "", "b", b"caf\xc3", "k" * 69, b"\xff", "z"]),
        match=st.sampled_from([None, "*", "?", "[ab]*", "*\u00e9", "K*"]),
    )
    def scan(self, handle: str, prefix: Any, match: Any) -> None:
        found = list(self.open[handle].scan(prefix=prefix, match=match))
        assert sorted(map(raw, found)) == sorted(self.model.scan(prefix=prefix, match=match))
        for key in found:
            assert type(key) in self.model.items[raw(key)].spellings

    @rule(handle=readers, key=keys)
    def info(self, handle: str, key: Any) -> None:
        item = self.model.items.get(raw(key))
        info, error = _outcome(self.open[handle].info, key)
        assert (item is None) == isinstance(error, KeyError)
        if item is not None:
            assert (info.ttl is None) == (item.deadline_ms is None)
            if isinstance(item.value, (str, bytes)):
                assert (info.type, info.size) == (type(item.value).__name__, len(raw(item.value)))

    # --- tokens -----------------------------------------------------------------------------

    @rule(handle=readers, key=keys)
    def gets(self, handle: str, key: Any) -> None:
        item = self.model.items.get(raw(key))
        result, error = _outcome(self.open[handle].gets, key)
        assert (item is None) == isinstance(error, KeyError)
        if item is None:
            return
        value, token = result
        assert same(value, item.value)
        for known in self.tokens:
            if known.name == raw(key) and known.generation != item.generation:
                assert known.token != token, "a token was used again"
        self.tokens.append(Token(raw(key), token, item.generation, item.edits, item.value))

    @precondition(lambda self: self.tokens)
    @rule(handle=handles, data=st.data(), value=values, ttl=ttls)
    def cas(self, handle: str, data: Any, value: Any, ttl: float | None) -> None:
        self.try_token(handle, data.draw(st.sampled_from(self.tokens[-10:])), value, ttl)

    @rule(
        key=keys,
        change=st.sampled_from(["nothing", "set", "incr", "touch", "append", "delete", "rename"]),
        value=values,
        ttl=ttls,
        start=st.tuples(counters | values, ttls),
    )
    def race(self, key: Any, change: str, value: Any, ttl: float | None, start: Any) -> None:
        """One handle reads, the other changes the item, the first comes with its token."""
        self.prepare(key, start)
        self.gets("one", key)
        if change == "set":
            self.both("two", "set", key, value, ttl=ttl)
        elif change == "incr":
            self.both("two", "incr", key, 1)
        elif change == "touch":
            self.both("two", "touch", key, ttl)
        elif change == "append":
            self.both("two", "append", key, "tail" if type(self.model[key]) is str else b"tail")
        elif change == "delete":
            self.both("two", "delete", key)
            self.both("two", "add", key, value)
        elif change == "rename":
            self.both("two", "rename", key, "elsewhere")
            self.both("two", "rename", "elsewhere", key)
        self.gets("two", key)
        self.try_token("one", self.tokens[-2], value, ttl)

    def try_token(self, handle: str, known: Token, value: Any, ttl: float | None) -> None:
        """A `cas` must fail with an old token, and must not fail with a good one."""
        item = self.model.items.get(known.name)
        done = self.open[handle].cas(known.name, made(value), known.token, ttl=ttl)
        if item is None or item.generation != known.generation or not same(item.value, known.value):
            assert done is False, "an old token was accepted"
        elif item.edits == known.edits:
            assert done is True, "a good token was refused"
        if done:
            self.model.set(known.name, made(value), ttl=ttl)

    # --- views and handles ------------------------------------------------------------------

    @precondition(lambda self: len(self.views) < VIEWS)
    @rule(handle=readers, key=keys)
    def open_view(self, handle: str, key: Any) -> None:
        value = self.model.get(key, MISSING)
        block = contextlib.ExitStack()
        view, error = _outcome(block.enter_context, self.open[handle].view(key))
        if value is MISSING:
            assert isinstance(error, KeyError)
        elif not isinstance(value, (str, bytes)):
            assert isinstance(error, TypeError)
        else:
            assert error is None
            self.views.append((block, view, raw(value)))

    @precondition(lambda self: self.views)
    @rule(data=st.data())
    def close_view(self, data: Any) -> None:
        block, view, content = self.views.pop(data.draw(st.integers(0, len(self.views) - 1)))
        assert view == content, "the bytes of a view changed"
        block.close()

    @precondition(lambda self: not self.views)
    @rule(handle=readers)
    def reopen(self, handle: str) -> None:
        self.open[handle].close()
        self.open[handle] = shmkv.open(
            self.name, create=False, evict=self.evict, readonly=handle == "reader"
        )

    @precondition(lambda self: not self.views)
    @rule(data=st.booleans())
    def close_all(self, data: bool) -> None:
        """The segment stays when nobody is attached."""
        for handle in self.open.values():
            handle.close()
        for name in self.open:
            self.open[name] = shmkv.open(
                self.name, create=False, evict=self.evict, readonly=name == "reader"
            )

    # --- what always holds ------------------------------------------------------------------

    @invariant()
    def agrees(self) -> None:
        StoreMachine.steps += 1
        for handle in self.open.values():
            assert len(handle) in self.model.len_range()
            assert {raw(key) for key in handle} == self.model.items.keys()

    @invariant()
    def holds_the_values(self) -> None:
        """Seen through the read-only handle, so that looking leaves no trace."""
        for key, item in self.model.items.items():
            assert same(self.open["reader"][key], item.value), f"{key!r:.50} has another value"
            self.ttl("reader", key)

    @invariant()
    def is_sound(self) -> None:
        for handle in list(self.open.values())[::2]:
            report = handle.check()
            assert report.ok, report.problems

    @invariant()
    def evicts_nothing(self) -> None:
        if self.open:
            assert self.open["one"].stats().evictions == 0


def _outcome(call: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, Exception | None]:
    """What a call returned, or what it raised of the errors a model may raise."""
    try:
        return call(*args, **options), None
    except (KeyError, TypeError, OverflowError) as error:
        return None, error
