"""The store as the cache of cachetools' decorators, and of decorators written by hand.

What their users must know, and what is tested here as such: a key is a str or bytes, so a key
function is needed and must tell functions apart that share a store; the decorated function's result
must be a value of the store, and one that is not is not cached without a word (cachetools takes
every ValueError for "too large"); results are copies; `cache_clear` clears the store for everybody;
`lock=` and `condition=` are for threads of one process, the store needs none.

Does not: test cachetools.
"""

from __future__ import annotations

import functools
import multiprocessing
import operator
import threading
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from shmkv.types import MISSING
from tests.conftest import Clock

cachetools = pytest.importorskip("cachetools")

LIMIT_S = 60


class Counted:
    """A slow function: how often it was really asked."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        self.calls: list[tuple[Any, ...]] = []
        functools.update_wrapper(self, fn)

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.calls.append((*args, *named.values()))
        return self._fn(*args, **named)


def area(width: int, height: int = 1) -> int:
    return width * height


def area_key(width: int, height: int = 1) -> str:
    return f"area:{width}:{height}"


@pytest.fixture
def slow() -> Counted:
    return Counted(area)


def test_cached(store: shmkv.Store, slow: Counted) -> None:
    fast = cachetools.cached(cache=store, key=area_key)(slow)
    assert [fast(3, 4), fast(3, 4), fast(3, height=4), fast(3)] == [12, 12, 12, 3]
    assert slow.calls == [(3, 4), (3,)]
    assert dict(store) == {"area:3:4": 12, "area:3:1": 3}
    assert fast.cache is store


def test_a_cached_none_or_falsy_result_is_a_hit(store: shmkv.Store) -> None:
    for value in (None, 0, "", b"", False, 0.0):
        slow = Counted(lambda value=value: value)
        fast = cachetools.cached(cache=store, key=lambda value=value: f"k{value!r}")(slow)
        assert (fast(), fast()) == (value, value)
        assert type(fast()) is type(value)
        assert len(slow.calls) == 1


def test_the_default_key_is_refused_with_a_word(store: shmkv.Store, slow: Counted) -> None:
    fast = cachetools.cached(cache=store)(slow)
    with pytest.raises(TypeError, match="key must be str or bytes, not tuple"):
        fast(3, 4)
    assert slow.calls == []


def test_another_process_has_the_result(store: shmkv.Store, slow: Counted) -> None:
    child = multiprocessing.get_context("spawn").Process(target=compute, args=(store,))
    child.start()
    try:
        child.join(LIMIT_S)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join(LIMIT_S)
    assert cachetools.cached(cache=store, key=area_key)(slow)(3, 4) == 12
    assert slow.calls == []


def compute(store: shmkv.Store) -> None:
    assert cachetools.cached(cache=store, key=area_key)(area)(3, 4) == 12


def test_an_evicted_or_deleted_result_is_computed_again(store: shmkv.Store, slow: Counted) -> None:
    fast = cachetools.cached(cache=store, key=area_key)(slow)
    fast(3, 4)
    del store[fast.cache_key(3, 4)]
    assert fast(3, 4) == 12
    assert len(slow.calls) == 2


def test_errors_are_not_cached(store: shmkv.Store) -> None:
    slow = Counted(operator.truediv)
    fast = cachetools.cached(cache=store, key="{}/{}".format)(slow)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fast(1, 0)
    assert len(slow.calls) == 2
    assert fast(1, 2) == 0.5
    assert dict(store) == {"1/2": 0.5}


@pytest.mark.parametrize("result", [object(), b"v" * (2 << 20)], ids=["no value", "too large"])
def test_what_cannot_be_stored_is_returned_and_not_cached(store: shmkv.Store, result: Any) -> None:
    slow = Counted(lambda: result)
    fast = cachetools.cached(cache=store, key=lambda: "k")(slow)
    assert fast() is result
    assert fast() is result
    assert len(slow.calls) == 2
    assert "k" not in store


def test_a_full_store_is_told(open_store: Callable[..., shmkv.Store]) -> None:
    """With evict=False there is no room some day; a cache should evict, as stores do by default."""
    store = open_store(size="2MiB", evict=False)
    fast = cachetools.cached(cache=store, key=str)(lambda n: bytes(100_000))

    def fill() -> None:
        for n in range(1000):
            fast(n)

    with pytest.raises(shmkv.Full, match=store.name):
        fill()


def test_a_closed_store_is_told(store: shmkv.Store, slow: Counted) -> None:
    fast = cachetools.cached(cache=store, key=area_key)(slow)
    store.close()
    with pytest.raises(shmkv.Closed, match=store.name):
        fast(3, 4)


def test_results_are_copies(store: shmkv.Store) -> None:
    """With a dict as cache, whoever changes the result changes it for all. Not here."""
    fast = cachetools.cached(cache=store, key=lambda: "k")(lambda: [1, 2])
    fast().append(3)
    fast().append(4)
    assert fast() == [1, 2]


def test_info_and_clear(store: shmkv.Store, slow: Counted) -> None:
    fast = cachetools.cached(cache=store, key=area_key, info=True)(slow)
    fast(3, 4)
    fast(3, 4)
    info = fast.cache_info()
    assert (info.hits, info.misses, info.maxsize, info.currsize) == (1, 1, None, 1)
    store["somebody else's"] = 1
    fast.cache_clear()
    assert len(store) == 0


@pytest.mark.parametrize("guard", ["lock", "condition"])
def test_with_threads(store: shmkv.Store, guard: str) -> None:
    guards: dict[str, Any] = {"lock": threading.Lock(), "condition": threading.Condition()}
    slow = Counted(area)
    fast = cachetools.cached(cache=store, key=area_key, **{guard: guards[guard]})(slow)
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.extend(fast(n % 7, 2) for n in range(700)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert not any(thread.is_alive() for thread in threads)
    assert sum(results) == 4 * 100 * sum(n * 2 for n in range(7))
    assert {area_key(n, 2): n * 2 for n in range(7)} == dict(store)
    if guard == "condition":
        assert len(slow.calls) == 7


def test_cachedmethod(store: shmkv.Store) -> None:
    class Shop:
        def __init__(self, name: str, factor: int) -> None:
            self.name, self.factor, self.calls = name, factor, 0
            self.cache = store

        def key(self, item: int) -> str:
            return f"{self.name}:{item}"

        @cachetools.cachedmethod(  # type: ignore[untyped-decorator]
            cache=operator.attrgetter("cache"), key=key
        )
        def price(self, item: int) -> int:
            self.calls += 1
            return item * self.factor

    one, other, same = Shop("one", 2), Shop("other", 3), Shop("one", 2)
    assert [one.price(5), one.price(5), other.price(5), same.price(5)] == [10, 10, 15, 10]
    assert (one.calls, other.calls, same.calls) == (1, 1, 0)
    assert dict(store) == {"one:5": 10, "other:5": 15}


def expiring(
    store: shmkv.Store, key: Callable[..., str], ttl: float
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator as people write it by hand: results with a deadline."""

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def wrapper(*args: Any, **named: Any) -> Any:
            name = key(*args, **named)
            value = store.get(name, MISSING)
            if value is MISSING:
                value = fn(*args, **named)
                store.set(name, value, ttl=ttl)
            return value

        return wrapper

    return decorate


def test_a_decorator_with_deadlines(store: shmkv.Store, slow: Counted, clock: Clock) -> None:
    """cachetools has no deadlines for caches that are not its own; five lines do."""
    fast = expiring(store, area_key, ttl=10)(slow)
    assert fast(3, 4) == fast(3, 4) == 12
    assert fast.__name__ == "area"
    clock.advance(11)
    assert fast(3, 4) == 12
    assert len(slow.calls) == 2


def test_keys_of_many_arguments(store: shmkv.Store, slow: Counted) -> None:
    """`repr` of cachetools' own key tells types and names apart, and is a str."""

    def key(*args: Any, **named: Any) -> str:
        return f"{area.__qualname__}{args!r}{sorted(named.items())!r}"

    fast = cachetools.cached(cache=store, key=key)(slow)
    assert [fast(3, 4), fast(3, height=4), fast(3.0, 4)] == [12, 12, 12.0]
    assert len(slow.calls) == 3


def test_a_key_that_is_too_long_is_told(store: shmkv.Store, slow: Counted) -> None:
    fast = cachetools.cached(cache=store, key=lambda *_: "k" * 65_536)(slow)
    with pytest.raises(ValueError, match=r"65,?535"):
        fast(3, 4)
    assert slow.calls == []
