"""Lines of items: what a line is, and the streams out of a store and into one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from shmkv.inspect import lines
from shmkv.inspect.lines import BadLine, Line, Loaded
from tests.conftest import Clock

NOW = 1_800_000_000.0


def written(store: shmkv.Store) -> list[str]:
    return [lines.write(line) for line in lines.dump(store, now=lambda: NOW)]


def test_a_line_is_as_documented() -> None:
    text = lines.write(Line("page:/", b"<html>", 1795363125.4204))
    assert json.loads(text) == {
        "key": "page:/",
        "value": {"$bytes": "PGh0bWw+"},
        "expires": 1795363125.42,
    }
    assert lines.read(text) == Line("page:/", b"<html>", 1795363125.42)
    assert lines.read(lines.write(Line(b"\xff", None, None))) == Line(b"\xff", None, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "must be an object"),
        ("{}", "lacks 'key'"),
        ('{"key":"a"}', "lacks 'value'"),
        ('{"key":"a","value":1,"ttl":5}', "unknown field 'ttl'"),
        ('{"key":5,"value":1}', "key must be text"),
        ('{"key":"","value":1}', "1 to 65535"),
        ('{"key":"' + "x" * 65_536 + '","value":1}', "1 to 65535"),
        ('{"key":"a","value":1,"expires":null}', "Unix seconds"),
        ('{"key":"a","value":1,"expires":true}', "Unix seconds"),
        ('{"key":"a","value":1,"expires":1e300}', "Unix seconds"),
        ('{"key":"a","value":{"$x":1}}', "unknown tag"),
        ("nonsense", "not JSON"),
    ],
)
def test_what_is_no_item_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lines.read(text)


def test_a_store_comes_back(open_store: Callable[..., shmkv.Store], new_name: Any) -> None:
    items = {"a": "text", b"\xff": b"\0", "n": 5, "f": 1.5, "t": True, "none": None, "big": 1 << 99}
    items |= {"list": [1, (2, {3})], "dict": {1: "x"}}
    source, target = open_store(), open_store(new_name())
    source.update(items)
    source.set("soon", "x", ttl=60)
    counts = Loaded()
    lines.load(target, written(source), counts, now=lambda: NOW)
    assert counts == Loaded(stored=len(items) + 1)
    assert dict(target.items()) == items | {"soon": "x"}
    assert target.ttl("soon") == pytest.approx(60, abs=1)
    assert target.ttl("a") is None


def test_deadlines_pass_while_the_file_lies(store: shmkv.Store) -> None:
    store.set("short", 1, ttl=10)
    store.set("long", 2, ttl=100)
    text = written(store)
    store.clear()
    counts = Loaded()
    lines.load(store, text, counts, now=lambda: NOW + 50)
    assert counts == Loaded(stored=1, expired=1)
    assert "short" not in store
    assert store.ttl("long") == pytest.approx(50, abs=1)


def test_expired_items_are_not_dumped(store: shmkv.Store, clock: Clock) -> None:
    store.set("a", 1, ttl=10)
    clock.advance(11)
    assert written(store) == []


def test_items_that_go_meanwhile_are_left_out(store: shmkv.Store) -> None:
    store["there"] = 1
    found = list(lines.dump(store, ["gone", "there"]))
    assert [line.key for line in found] == ["there"]


def test_a_bad_line_gives_its_number_and_ends(store: shmkv.Store) -> None:
    counts = Loaded()
    text = ['{"key":"a","value":1}', "", "nonsense", '{"key":"b","value":1}']
    with pytest.raises(BadLine, match=r"^line 3: not JSON"):
        lines.load(store, text, counts)
    assert counts == Loaded(stored=1, bad=1)
    assert list(store) == ["a"]


def test_bad_lines_may_be_passed_over(store: shmkv.Store) -> None:
    counts, said = Loaded(), []
    text = [b"\xff", b'{"key":"b","value":1}', b"[]"]
    lines.load(store, text, counts, on_bad=lambda bad: said.append(str(bad)))
    assert counts == Loaded(stored=1, bad=2)
    assert [text.partition(":")[0] for text in said] == ["line 1", "line 3"]


def test_refused_items_are_told(open_store: Callable[..., shmkv.Store]) -> None:
    store = open_store(size="2MiB", max_size="2MiB", evict=False)
    text = [
        lines.write(Line("small", "x", None)),
        lines.write(Line("large", b"x" * (1 << 20), None)),
        lines.write(Line("small2", "x", None)),
    ]
    counts, said = Loaded(), []
    lines.load(store, text, counts, on_refused=lambda n, key, why: said.append((n, key, type(why))))
    assert counts == Loaded(stored=2, refused=1)
    assert said == [(2, "large", shmkv.TooLarge)]
    with pytest.raises(shmkv.TooLarge):
        lines.load(store, text, Loaded())


def test_values_of_other_codecs_travel_undecoded(
    open_store: Callable[..., shmkv.Store], new_name: Any
) -> None:
    source = open_store(codec="pickle")
    source["p"] = 1j
    target = open_store(new_name())
    counts = Loaded()
    lines.load(target, written(source), counts)
    assert counts == Loaded(stored=1)
    assert target._get_encoded("p") == source._get_encoded("p")
    assert open_store(target.name, codec="pickle")["p"] == 1j


class Restless:
    """A store whose deadline changes between any two looks at it."""

    name = "restless"

    def __init__(self) -> None:
        self.looks = 0

    def ttl(self, _key: str) -> float:
        self.looks += 1
        return float(100 * self.looks)

    def _get_encoded(self, _key: str) -> int:
        return 1


def test_a_value_never_goes_with_the_deadline_of_another() -> None:
    store: Any = Restless()
    with pytest.raises(shmkv.Busy, match="changes faster"):
        next(lines.dump(store, ["k"]))
    assert store.looks == lines.LOOKS + 1


class Changed(Restless):
    """A store that is written between the first look and the second."""

    def ttl(self, _key: str) -> float:
        self.looks += 1
        return 10.0 if self.looks == 1 else 500.0


def test_a_value_that_was_replaced_goes_with_its_own_deadline() -> None:
    store: Any = Changed()
    assert next(lines.dump(store, ["k"], now=lambda: NOW)).expires == NOW + 500


def test_a_pause_between_the_readings_of_two_clocks_moves_no_deadline() -> None:
    store: Any = Changed()
    paused = iter((NOW, NOW + 2, NOW + 2, NOW + 7, NOW + 9, NOW + 9.001))
    assert next(lines.dump(store, ["k"], now=lambda: next(paused))).expires == NOW + 9 + 500
