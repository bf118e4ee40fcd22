"""scan, export, import: keys and items in streams, counts, bad lines, files whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from tests.unit.cli.conftest import Run

GOOD = b'{"key":"a","value":1}\n'
OTHER = b'{"key":"b","value":1}\n'

# ---- scan ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("plain key", "plain key"),
        ("größe", "größe"),
        ("two\nlines", '"two\\nlines"'),
        ("\x1b[31mred", '"\\x1b[31mred"'),
        ('"quoted"', '"\\"quoted\\""'),
        ('in "quotes"', 'in "quotes"'),
        ("back\\slash", "back\\slash"),
        ("tab\t\\", '"tab\\t\\\\"'),
        ("\u202egpj", '"\\u202egpj"'),
        ("\U000e0001", '"\\U000e0001"'),
        (b"\xff\x00", '"\\xff\\x00"'),
    ],
)
def test_scan_quotes_what_could_be_mistaken(
    run: Run, store: shmkv.Store, key: str | bytes, shown: str
) -> None:
    store[key] = 1
    assert run("scan", store.name).stdout == shown + "\n"
    raw = key.encode() if isinstance(key, str) else key
    assert run("scan", store.name, "-0").stdout_bytes == raw + b"\0"
    form = json.loads(run("scan", store.name, "--json").stdout)
    assert form == key if isinstance(key, str) else "$bytes" in form
    assert run("scan", store.name, "-l").stdout.endswith(f" never  {shown}\n")


def test_scan_chooses(run: Run, store: shmkv.Store) -> None:
    store.update({f"user:{n}": n for n in range(20)} | {"other": 1, b"\xff1": 2})
    users = {f"user:{n}" for n in range(20)}
    assert set(run("scan", store.name, "--prefix", "user:").stdout.split()) == users
    assert run("scan", store.name, "--match", "*r:[57]").stdout.split() != []
    found = run("scan", store.name, "--match", "user:1?", "--prefix", "user:").stdout.split()
    assert set(found) == {f"user:1{n}" for n in range(10)}
    assert len(run("scan", store.name, "--limit", "3").stdout.split()) == 3
    assert run("scan", store.name, "--limit", "0").stdout == ""
    binary = run("scan", store.name, "--prefix", os.fsdecode(b"\xff"), "--json").stdout
    assert json.loads(binary) == {"$bytes": "/zE="}


def test_scan_long(run: Run, store: shmkv.Store) -> None:
    store.set("k", b"x" * 2048, ttl=600)
    words = run("scan", store.name, "--long").stdout.split()
    assert words == ["bytes", "2", "KiB", words[3], "k"]
    assert 540 <= int(words[3]) <= 600
    assert run("scan", store.name, "-l", "--bytes").stdout.split()[1] == "2048"
    row = json.loads(run("scan", store.name, "-l", "--json").stdout)
    assert (row["key"], row["type"], row["size"]) == ("k", "bytes", 2048)


# ---- export and import --------------------------------------------------------------------------


def test_a_store_travels(
    run: Run, store: shmkv.Store, new_name: Callable[[], str], tmp_path: Path
) -> None:
    items = {"a": [1, (2,)], b"\xff": b"\0", "n": None, "big": 1 << 3000}
    store.update(items)
    store.set("soon", "x", ttl=600)
    file, other = str(tmp_path / "dump"), new_name()
    run("export", store.name, "-o", file)
    assert Path(file).stat().st_mode & 0o777 == 0o600
    written, printed = (
        [json.loads(line) for line in text.splitlines()]
        for text in (Path(file).read_text(), run("export", store.name).stdout)
    )
    for one, two in zip(written, printed, strict=True):  # each is told to 5 ms
        assert one.pop("expires", 0) == pytest.approx(two.pop("expires", 0), abs=0.01)
    assert written == printed
    done = run("import", other, file, "--create", "--size", "2MiB")
    assert done.stdout == "stored 5, expired 0, refused 0, bad 0\n"
    with shmkv.open(other, create=False) as copy:
        assert dict(copy.items()) == items | {"soon": "x"}
        assert copy.size == 2 << 20
        assert 540 < (copy.ttl("soon") or 0) <= 600.01


def test_export_chooses(run: Run, store: shmkv.Store) -> None:
    store.update({"a1": 1, "a2": 2, "b1": 3})
    found = run("export", store.name, "--prefix", "a", "--match", "*2").stdout
    assert json.loads(found) == {"key": "a2", "value": 2}


def test_an_export_that_fails_leaves_the_former_file(
    run: Run, store: shmkv.Store, tmp_path: Path
) -> None:
    target = tmp_path / "dump"
    target.write_text("former")
    run("export", "no-such-store-here", "-o", str(target), code=3)
    assert target.read_text() == "former"
    assert os.listdir(tmp_path) == ["dump"]
    said = run("export", store.name, "-o", str(tmp_path / "no" / "such"), code=2).stderr
    assert "cannot write" in said


def test_import_reads_standard_input(run: Run, store: shmkv.Store) -> None:
    assert run("import", store.name, stdin=GOOD).stdout.startswith("stored 1,")
    assert run("import", store.name, "-", "--json", stdin=GOOD + GOOD).stdout == (
        '{"stored":2,"expired":0,"refused":0,"bad":0}\n'
    )
    past = b'{"key":"old","value":1,"expires":1000000000}\n'
    assert "expired 1" in run("import", store.name, stdin=past).stdout
    assert list(store) == ["a"]


def test_a_bad_line_ends_an_import(run: Run, store: shmkv.Store) -> None:
    data = GOOD + b"{\n" + OTHER
    result = run("import", store.name, stdin=data, code=3)
    assert result.stdout == "stored 1, expired 0, refused 0, bad 1\n"
    assert result.stderr.startswith("shmkv: line 2: not JSON")
    assert result.stderr.count("\n") == 1
    assert list(store) == ["a"]


def test_bad_lines_may_be_skipped(run: Run, store: shmkv.Store) -> None:
    data = GOOD + b"\xff\x1b[0m\n" + OTHER
    result = run("import", store.name, "--skip-bad", stdin=data, code=1)
    assert result.stdout == "stored 2, expired 0, refused 0, bad 1\n"
    assert result.stderr.startswith("shmkv: line 2: ")
    assert set(store) == {"a", "b"}


def test_refused_items_end_with_3_after_all_lines(run: Run, store: shmkv.Store) -> None:
    large = b'{"key":"large","value":"' + b"x" * (2 << 20) + b'"}\n'
    result = run("import", store.name, stdin=large + GOOD, code=3)
    assert result.stdout == "stored 1, expired 0, refused 1, bad 0\n"
    assert "line 1: key 'large': " in result.stderr


def test_import_creates_only_when_told(run: Run, store_name: str) -> None:
    assert "does not exist" in run("import", store_name, stdin=GOOD, code=3).stderr
    assert store_name not in shmkv.names()
    assert (
        "not a size"
        in run("import", store_name, "--create", "--size", "many", stdin=GOOD, code=2).stderr
    )
    run("import", store_name, "--create", "--size", "2MiB", stdin=GOOD)
    run("import", store_name, "--create", stdin=GOOD)
    said = run("import", store_name, "--create", "--size", "4MiB", stdin=GOOD, code=3).stderr
    assert "another one" in said


def test_import_of_a_file_that_is_not_there(run: Run, store: shmkv.Store) -> None:
    assert "cannot read" in run("import", store.name, "/no/such/file", code=2).stderr
