"""Read-only handles: they see everything, change nothing, and are told so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from tests.conftest import Clock, segment_path

WRITES: dict[str, Callable[[shmkv.Store, Any], Any]] = {
    "set": lambda s, k: s.set(k, 1),
    "setitem": lambda s, k: s.__setitem__(k, 1),
    "delitem": lambda s, k: s.__delitem__(k),
    "add": lambda s, k: s.add(k, 1),
    "replace": lambda s, k: s.replace(k, 1),
    "delete": lambda s, k: s.delete(k),
    "incr": lambda s, k: s.incr(k),
    "decr": lambda s, k: s.decr(k),
    "touch": lambda s, k: s.touch(k, 5),
    "touch none": lambda s, k: s.touch(k, None),
    "expire_at": lambda s, k: s.expire_at(k, 4e9),
    "expire_at past": lambda s, k: s.expire_at(k, 1),
    "cas": lambda s, k: s.cas(k, 1, 5),
    "update_with": lambda s, k: s.update_with(k, lambda v: v, default=1),
    "set_many": lambda s, k: s.set_many({k: 1}),
    "delete_many": lambda s, k: s.delete_many([k]),
    "pop": lambda s, k: s.pop(k),
    "pop default": lambda s, k: s.pop(k, None),
    "popitem": lambda s, _: s.popitem(),
    "setdefault": lambda s, k: s.setdefault(k, 1),
    "update": lambda s, k: s.update({k: 1}),
    "append": lambda s, k: s.append(k, b"t"),
    "rename": lambda s, k: s.rename(k, "other"),
    "clear": lambda s, _: s.clear(),
    "resize": lambda s, _: s.resize(s.max_size),
}


@pytest.mark.parametrize("key", ["here", "nowhere"])
@pytest.mark.parametrize("write", WRITES)
def test_every_write_is_refused(
    open_store: Callable[..., shmkv.Store], write: str, key: str
) -> None:
    writer = open_store()
    writer.set("here", 5, ttl=1000)
    token = writer.gets("here")[1]
    reader = open_store(readonly=True)
    with pytest.raises(shmkv.ReadOnly, match=reader.name):
        WRITES[write](reader, key)
    assert dict(writer.items()) == {"here": 5}
    assert writer.gets("here")[1] == token
    assert (writer.ttl("here") or 0) > 900


def test_every_read_works(open_store: Callable[..., shmkv.Store]) -> None:
    writer, reader = open_store(), open_store(readonly=True)
    values = {"int": 5, "str": "s" * 50_000, "bytes": b"v" * 300_000, "none": None}
    writer.set_many(values, ttl=1000)
    assert reader.readonly
    assert not writer.readonly
    assert {key: reader[key] for key in values} == values
    assert reader.get("nowhere", 7) == 7
    assert "int" in reader
    assert "nowhere" not in reader
    assert len(reader) == 4
    assert dict(reader.items()) == values
    assert set(reader.scan(match="*t*")) == {"int", "str", "bytes"}
    assert reader.get_many([*values, "nowhere"]) == values
    assert reader.gets("int") == writer.gets("int")
    assert 900 < (reader.ttl("int") or 0) <= 1000
    assert reader.info("str")[:2] == ("str", 50_000)
    assert reader.stats().items == 4
    assert reader.check().ok
    assert (reader.size, reader.max_size) == (writer.size, writer.max_size)
    with reader.view("bytes") as view:
        assert view == values["bytes"]


def test_reads_follow_the_writer(open_store: Callable[..., shmkv.Store], clock: Clock) -> None:
    writer, reader = open_store(), open_store(readonly=True)
    for turn in range(2000):
        writer.set("k", b"%d" % turn * (turn % 50))
        assert reader["k"] == b"%d" % turn * (turn % 50)
    writer.touch("k", 10)
    clock.advance(11)
    assert "k" not in reader
    writer.clear()
    assert list(reader) == []


def test_a_reader_is_not_counted_and_counts_nothing(
    open_store: Callable[..., shmkv.Store],
) -> None:
    writer = open_store()
    writer.set("k", 1)
    reader = open_store(readonly=True)
    before = writer.stats()
    for _ in range(100):
        reader.get("k")
        reader.get("nowhere")
    assert writer.stats() == before


def test_a_reader_never_creates(store_name: str) -> None:
    for options in ({}, {"create": False}, {"create": True}):
        with pytest.raises(shmkv.NotFound, match=store_name):
            shmkv.open(store_name, readonly=True, **options)  # type: ignore[arg-type]
        assert not segment_path(store_name).exists()


def test_a_reader_writes_no_byte_of_the_segment(store: shmkv.Store) -> None:
    store.set_many({f"k{n}": b"v" * n for n in range(200)})
    content = segment_path(store.name).read_bytes()
    with shmkv.open(store.name, create=False, readonly=True) as reader:
        assert len(list(reader.items())) == 200
        assert reader.get("k5") == b"v" * 5
        assert reader.check().ok
        with reader.view("k199"):
            pass
    assert segment_path(store.name).read_bytes() == content
