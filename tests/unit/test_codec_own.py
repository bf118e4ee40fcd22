"""Codecs of one's own: registering, writing, reading, failing; and values that others encoded."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from shmkv import codec as codecs
from tests.unit.codec_values import READS, Own

Opener = Callable[..., shmkv.Store]


pytestmark = pytest.mark.usefixtures("registry")


def test_a_codec_of_ones_own(open_store: Opener, own: Own) -> None:
    store = open_store(codec=own.name)
    for value in ([1, {"a": None}], {"k": [1.5]}, []):
        store.set("k", value)
        assert store["k"] == value
        assert store._get_encoded("k") == shmkv.Encoded(own.name, own.encode(value))
        assert store.pop("k") == value
    store.set("k", "plain")
    assert store._get_encoded("k") == "plain"


def test_every_store_of_the_process_reads_it(
    store: shmkv.Store, open_store: Opener, own: Own
) -> None:
    open_store(codec=own.name).set("k", [1])
    for reader in (store, open_store(codec="pickle"), open_store(readonly=True)):
        assert reader["k"] == [1]


def test_a_reader_without_the_codec(
    store: shmkv.Store, open_store: Opener, own: Own, registry: dict[str, Any]
) -> None:
    open_store(codec=own.name).set("k", [1])
    registry.clear()
    for read in (lambda: store.get("k"), lambda: store.pop("k"), lambda: list(store.values())):
        with pytest.raises(shmkv.CodecError, match=r"own-1\.x_.*register_codec"):
            read()
    assert store._get_encoded("k") == shmkv.Encoded(own.name, b"own[1]")
    shmkv.register_codec(own)
    assert store.pop("k") == [1]


@pytest.mark.parametrize(
    "name", ["", "A", "-a", ".a", "_a", "a b", "a" * 33, "\u00e9", "a\n", "a/b", "a\0"]
)
def test_names_that_are_none(store: shmkv.Store, name: str) -> None:
    with pytest.raises(ValueError, match="name of a codec"):
        shmkv.register_codec(Own(name))
    with pytest.raises(shmkv.CodecError, match="name of a codec"):
        store.set("k", shmkv.Encoded(name, b""))
    assert "k" not in store


@pytest.mark.parametrize("name", ["a", "0", "a" * 32, "json", "a.b-c_d"])
def test_names_that_are(open_store: Opener, name: str) -> None:
    shmkv.register_codec(Own(name))
    store = open_store(codec=name)
    store.set("k", [1])
    assert store["k"] == [1]


def test_a_name_is_taken_once(own: Own) -> None:
    shmkv.register_codec(own)  # the same: nothing happens
    with pytest.raises(ValueError, match="already"):
        shmkv.register_codec(Own(own.name))
    for name in ("safe", "pickle"):
        with pytest.raises(ValueError, match="already"):
            shmkv.register_codec(Own(name))
    assert codecs.find(own.name) is own


@pytest.mark.parametrize("lacking", ["name", "encode", "decode"])
def test_what_a_codec_must_have(lacking: str) -> None:
    parts: dict[str, Any] = {"name": "own", "encode": bytes, "decode": bytes}
    del parts[lacking]
    with pytest.raises(TypeError, match=lacking):
        shmkv.register_codec(type("Part", (), parts)())
    parts[lacking] = 5
    with pytest.raises(TypeError, match=lacking):
        shmkv.register_codec(type("Part", (), parts)())


def test_an_unknown_codec_names_those_there_are(open_store: Opener, own: Own) -> None:
    with pytest.raises(ValueError, match=r"nowhere.*safe, pickle, own-1\.x_"):
        open_store(codec="nowhere")


@pytest.mark.parametrize("made", ["text", None, 5, [1], object()], ids=repr)
def test_a_codec_that_makes_no_bytes(
    open_store: Opener, own: Own, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(codec=own.name)
    store.set("k", b"stays")
    monkeypatch.setattr(own, "encode", lambda value: made)
    with pytest.raises(TypeError, match=rf"{own.name}.*bytes, not {type(made).__name__}"):
        store.set("k", [1])
    with pytest.raises(TypeError, match=rf"bytes, not {type(made).__name__}"):
        store.set("k", shmkv.Encoded("x", made))
    assert store["k"] == b"stays"


def test_a_codec_may_make_any_buffer(
    open_store: Opener, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(codec=own.name)
    scattered = memoryview(b"o-w-n-[-1-]-")[::2]
    for made in (bytearray(b"own[1]"), memoryview(b"own[1]"), scattered):
        monkeypatch.setattr(own, "encode", lambda value, made=made: made)
        store.set("k", [1])
        assert store["k"] == [1]


class OwnError(Exception):
    """Raised by codecs here."""


def test_what_encode_raises_comes_through(
    open_store: Opener, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(codec=own.name)
    store.set("k", b"stays", ttl=1000)

    def fail(value: Any) -> bytes:
        raise OwnError("as it is")

    monkeypatch.setattr(own, "encode", fail)
    for write in (
        lambda: store.set("k", [1]),
        lambda: store.add("new", [1]),
        lambda: store.replace("k", [1]),
        lambda: store.cas("k", [1], store.gets("k")[1]),
        lambda: store.set_many({"k": [1]}),
        lambda: store.update_with("k", lambda v: [v]),
        lambda: store.setdefault("new", [1]),
    ):
        with pytest.raises(OwnError, match="as it is"):
            write()
    assert dict(store) == {"k": b"stays"}
    assert store.ttl("k") is not None


@pytest.mark.parametrize("error", [OwnError, ValueError, KeyError, MemoryError, shmkv.Corrupt])
def test_what_decode_raises_is_told_and_nothing_is_lost(
    open_store: Opener, own: Own, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    store = open_store(codec=own.name)
    store.set("k", [1])

    def fail(data: bytes) -> Any:
        raise error("of its own")

    with monkeypatch.context() as patch:
        patch.setattr(own, "decode", fail)
        for read in READS.values():
            with pytest.raises(shmkv.CodecError, match=rf"{own.name}.*{error.__name__}.*its own"):
                read(store)
    assert store.pop("k") == [1]


def test_what_is_no_error_comes_through(
    open_store: Opener, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(codec=own.name)
    store.set("k", [1])

    def interrupted(data: bytes) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(own, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.pop("k")
    assert "k" in store


def test_a_codec_may_use_and_close_the_store(
    open_store: Opener, own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs in between may do anything with the store."""
    store = open_store(codec=own.name)
    store.set("k", [1])

    def meddle(data: bytes) -> Any:
        store.set("other", b"o" * 100_000)
        store.delete("k")
        return [2]

    monkeypatch.setattr(own, "decode", meddle)
    assert store.get("k") == [2]
    store.set("k", shmkv.Encoded(own.name, b""))
    assert store.pop("k", None) is None  # it was gone when it was to be removed

    def close(data: Any) -> Any:
        store.close()
        return b""

    monkeypatch.setattr(own, "encode", close)
    with pytest.raises(shmkv.Closed):
        store.set("k", [1])
    with pytest.raises(shmkv.Closed):
        store.get("k")


# ---- values of others ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 100_000, bytearray(b"ab"), memoryview(b"ab")])
def test_a_value_of_another_codec_is_kept_as_it_is(store: shmkv.Store, data: Any) -> None:
    store.set("k", shmkv.Encoded("other", data))
    found = store._get_encoded("k")
    assert type(found) is shmkv.Encoded
    assert found == ("other", bytes(data))
    assert type(found.data) is bytes
    assert store.info("k").type == "encoded"
    with pytest.raises(shmkv.CodecError, match="other"):
        store.get("k")


def test_get_encoded_of_what_is_not(store: shmkv.Store) -> None:
    for value in (1, "s", b"", [1, (2,)], None):
        store.set("k", value)
        assert store._get_encoded("k") == value
    with pytest.raises(KeyError, match="missing"):
        store._get_encoded("missing")


def test_a_pickled_store_takes_its_codec_along(
    open_store: Opener, own: Own, registry: dict[str, Any]
) -> None:
    store = open_store(codec=own.name)
    packed = pickle.dumps(store)
    with pickle.loads(packed) as again:
        again.set("k", [1])
        assert again._get_encoded("k") == shmkv.Encoded(own.name, b"own[1]")
    registry.clear()
    with pytest.raises(ValueError, match=r"own-1\.x_.*register"):
        pickle.loads(packed)
    with pickle.loads(pickle.dumps(open_store(codec="pickle"))) as unsafe:
        unsafe.set("k", 1j)
        assert unsafe["k"] == 1j
    with pickle.loads(pickle.dumps(open_store())) as safe, pytest.raises(shmkv.CodecError):
        safe.get("k")
