"""get, set, del, exists, incr, ttl: values in and out, exit codes, JSON."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv.inspect.export import from_json, loads
from tests.conftest import Clock
from tests.unit.cli.conftest import Run

# ---- get ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", b"text\n"),
        ("", b"\n"),
        ("two\nlines\n\x1b[31m", b"two\nlines\n\x1b[31m\n"),
        (b"\x00\xff\r\n", b"\x00\xff\r\n"),
        (b"", b""),
        (None, b"null\n"),
        (True, b"true\n"),
        (False, b"false\n"),
        (-5, b"-5\n"),
        (1 << 70, b"1180591620717411303424\n"),
        (1 << 20_000, b"0x1" + b"0" * 5000 + b"\n"),
        (1.5, b"1.5\n"),
        (float("inf"), b"inf\n"),
        ([1, "é"], '[1,"é"]\n'.encode()),
        ((1,), b'{"$tuple":[1]}\n'),
        (decimal.Decimal("1.10"), b"1.10\n"),
        (uuid.UUID(int=1), b"00000000-0000-0000-0000-000000000001\n"),
        (dt.date(2026, 1, 2), b"2026-01-02\n"),
        (dt.timedelta(seconds=90), b"0:01:30\n"),
    ],
    ids=lambda part: type(part).__name__,
)
def test_get_shows_values(run: Run, store: shmkv.Store, value: Any, shown: bytes) -> None:
    store["k"] = value
    assert run("get", store.name, "k").stdout_bytes == shown
    as_json = run("get", store.name, "k", "--json").stdout
    back = from_json(loads(as_json))
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "raw"), [("text\n", b"text\n"), (b"\0\n", b"\0\n"), (5, b"5"), ([1], b"[1]")]
)
def test_exact_values(run: Run, store: shmkv.Store, tmp_path: Path, value: Any, raw: bytes) -> None:
    store["k"] = value
    assert run("get", store.name, "k", "--raw").stdout_bytes == raw
    target = tmp_path / "out"
    target.write_text("former")
    assert run("get", store.name, "k", "-o", str(target)).stdout_bytes == b""
    assert target.read_bytes() == raw
    assert target.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_miss(run: Run, store: shmkv.Store, tmp_path: Path, clock: Clock) -> None:
    store.set("k", "v", ttl=5)
    clock.advance(6)
    target = tmp_path / "out"
    for options in ([], ["--json"], ["--raw"], ["-o", str(target)]):
        result = run("get", store.name, "k", *options, code=1)
        assert result.output == ""
    assert not target.exists()


def test_get_leaves_no_trace(run: Run, store: shmkv.Store) -> None:
    store["k"] = 1
    before = store.stats()
    run("get", store.name, "k")
    run("exists", store.name, "k")
    run("scan", store.name, "--long")
    assert dataclasses.replace(store.stats(), ages=before.ages) == before


def test_a_value_of_another_codec(run: Run, open_store: Callable[..., shmkv.Store]) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.remove, ("/nowhere/at/all",)

    store = open_store(codec="pickle")
    store["p"] = Bomb()
    data = store._get_encoded("p").data
    said = run("get", store.name, "p", code=3).stderr
    assert "codec 'pickle'" in said
    assert "--raw" in said
    assert run("get", store.name, "p", "-o", "/nowhere/x", code=3).stdout == ""
    assert run("get", store.name, "p", "--raw").stdout_bytes == data
    form = json.loads(run("get", store.name, "p", "--json").stdout)
    assert form["$codec"]["name"] == "pickle"
    assert from_json(form).data == data


def test_options_that_exclude_each_other(run: Run) -> None:
    run("get", "web", "k", "--raw", "--json", code=2)
    run("set", "web", "k", "v", "--nx", "--xx", code=2)
    run("set", "web", "k", "--type", "none", "--file", "x", code=2)
    run("scan", "web", "-0", "--json", code=2)
    run("import", "web", "--size", "2MiB", code=2)


# ---- set ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", "5", "5"),
        ("str", "", ""),
        ("bytes", "é", "é".encode()),
        ("int", " -5\n", -5),
        ("int", "9" * 300, int("9" * 300)),
        ("float", "1e3", 1000.0),
        ("float", "-inf", float("-inf")),
        ("bool", "True", True),
        ("bool", "no", False),
        ("json", '{"a": [1, {"$tuple": []}]}', {"a": [1, ()]}),
        ("json", '{"$decimal": "1.10"}', decimal.Decimal("1.10")),
    ],
)
@pytest.mark.parametrize("way", ["argument", "stdin", "file"])
def test_set_reads_values(
    run: Run, store: shmkv.Store, tmp_path: Path, kind: str, text: str, value: Any, way: str
) -> None:
    if way == "argument":
        run("set", store.name, "--type", kind, "--", "k", text)
    elif way == "stdin":
        run("set", store.name, "k", "-", "--type", kind, stdin=text.encode())
    else:
        (tmp_path / "in").write_bytes(text.encode())
        run("set", store.name, "k", "--file", str(tmp_path / "in"), "--type", kind)
    assert (store["k"], type(store["k"])) == (value, type(value))


@pytest.mark.parametrize("data", [b"", b"\n", b"a\r\nb", bytes(range(256)), b"x" * 300_000])
def test_bytes_go_in_and_come_out_as_they_are(run: Run, store: shmkv.Store, data: bytes) -> None:
    run("set", store.name, "k", "-", "--type", "bytes", stdin=data)
    assert store["k"] == data
    assert run("get", store.name, "k").stdout_bytes == data


def test_none_takes_no_value(run: Run, store: shmkv.Store) -> None:
    run("set", store.name, "k", "--type", "none")
    assert store["k"] is None
    run("set", store.name, "k", "none", "--type", "none", code=2)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int", "1_000"),
        ("int", "1.0"),
        ("int", "٣"),
        ("int", "9" * 5000),
        ("float", "1_0.0"),
        ("float", "."),
        ("float", "e5"),
        ("bool", "maybe"),
        ("json", "{"),
        ("json", '{"$pickle": "AA=="}'),
        ("json", "[" * 100_000),
        ("yaml", "x"),
    ],
)
def test_what_is_no_value(run: Run, store: shmkv.Store, kind: str, text: str) -> None:
    run("set", store.name, "k", text, "--type", kind, code=2)
    assert "k" not in store


def test_a_file_that_is_not_there(run: Run, store: shmkv.Store) -> None:
    said = run("set", store.name, "k", "--file", "/no/such/file", code=2).stderr
    assert "/no/such/file: No such file" in said


def test_deadlines(run: Run, store: shmkv.Store, clock: Clock) -> None:
    run("set", store.name, "k", "v", "--ttl", "1m")
    clock.advance(50)
    assert "k" in store
    run("set", store.name, "k", "v")
    clock.advance(9999)
    assert "k" in store
    assert "duration" in run("set", store.name, "k", "v", "--ttl", "0", code=2).stderr


def test_only_new_only_there(run: Run, store: shmkv.Store) -> None:
    run("set", store.name, "k", "1", "--xx", code=1)
    assert "k" not in store
    run("set", store.name, "k", "2", "--nx")
    run("set", store.name, "k", "3", "--nx", code=1)
    assert store["k"] == "2"
    run("set", store.name, "k", "4", "--xx", "--ttl", "never")
    assert store["k"] == "4"


def test_what_the_store_refuses(run: Run, store: shmkv.Store) -> None:
    said = run("set", store.name, "k", "-", stdin=b"x" * (4 << 20), code=3).stderr
    assert said.startswith("shmkv: ")
    assert said.count("\n") == 1


# ---- del, exists, incr, ttl ---------------------------------------------------------------------


def test_del_counts(run: Run, store: shmkv.Store) -> None:
    store.update({"a": 1, "b": 2, "c": 3})
    assert run("del", store.name, "a", "b", "x").stdout == "2\n"
    assert run("del", store.name, "a", code=1).stdout == "0\n"
    assert run("del", store.name, "c", "--json").stdout == '{"deleted":1}\n'
    assert len(store) == 0


def test_exists_is_about_all_keys(run: Run, store: shmkv.Store) -> None:
    store.update({"a": 1, b"\xff": 2})
    assert run("exists", store.name, "a", os.fsdecode(b"\xff")).output == ""
    assert run("exists", store.name, "a", "x", code=1).output == ""
    found = json.loads(run("exists", store.name, "a", "x", "--json", code=1).stdout)
    assert found == [{"key": "a", "exists": True}, {"key": "x", "exists": False}]


def test_incr(run: Run, store: shmkv.Store, clock: Clock) -> None:
    assert run("incr", store.name, "n", "--ttl", "60").stdout == "1\n"
    assert run("incr", store.name, "n", "41").stdout == "42\n"
    assert run("incr", store.name, "n", "--json").stdout == "43\n"
    assert run("incr", store.name, "m", "5", "--default", "100").stdout == "105\n"
    run("incr", store.name, "x", "--default", "none", code=1)
    clock.advance(61)
    assert "n" not in store


@pytest.mark.parametrize("delta", ["x", "1.5", "", "9" * 30, "1_0"])
def test_what_is_no_delta(run: Run, store: shmkv.Store, delta: str) -> None:
    assert "whole number" in run("incr", store.name, "n", delta, code=2).stderr


def test_what_cannot_be_counted(run: Run, store: shmkv.Store) -> None:
    store.update({"s": "text", "n": (1 << 63) - 1})
    assert "key 's'" in run("incr", store.name, "s", code=3).stderr
    assert "64 bits" in run("incr", store.name, "n", code=3).stderr
    assert store["n"] == (1 << 63) - 1


def test_ttl_reads_and_sets(run: Run, store: shmkv.Store) -> None:
    store["k"] = 1
    assert run("ttl", store.name, "k").stdout == "never\n"
    assert run("ttl", store.name, "k", "--json").stdout == "null\n"
    assert run("ttl", store.name, "k", "10m").stdout == ""
    assert 540 < float(run("ttl", store.name, "k").stdout) <= 600
    assert 540 < json.loads(run("ttl", store.name, "k", "--json").stdout) <= 600
    run("ttl", store.name, "k", "never")
    assert store.ttl("k") is None
    run("ttl", store.name, "x", code=1)
    run("ttl", store.name, "x", "5", code=1)
    assert "duration" in run("ttl", store.name, "k", "-5", code=2).stderr
