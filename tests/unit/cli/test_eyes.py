"""top, hot, watch, plan as a person or a script calls them."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from tests.conftest import MIB, segment_path
from tests.unit.cli.conftest import SECONDS, Run, Start

ONCE = ("--once", "--interval", "10ms")
Finished = Callable[..., tuple[int, bytes, bytes]]


@pytest.fixture
def warm(store: shmkv.Store) -> shmkv.Store:
    """Three keys, read 0, 1 and 4 times."""
    store.update({"cold": 1, "user:1": "a", "user:2": b"\x00\xff"})
    for key, times in (("user:1", 1), ("user:2", 4)):
        for _ in range(times):
            store.get(key)
    return store


# ---- top ----------------------------------------------------------------------------------------


def test_top_as_json(run: Run, warm: shmkv.Store) -> None:
    found = json.loads(run("top", warm.name, *ONCE, "--json").stdout)
    assert (found["store"], found["items"], found["size"]) == (warm.name, 3, 8 * MIB)
    assert found["seconds"] >= 0.01
    assert found["rates"]["hits"] == 0
    assert found["hit_ratio"] is None
    assert found["hit_ratio_total"] == 1.0
    assert found["daemon"] is False
    assert found["problem"] is None
    assert set(found["evictions"]) == {"small", "main", "index", "expired"}
    assert {part["state"] for part in found["memory"]} == {"free", "index", "open"}
    (process,) = found["processes"]
    assert process["pid"] == os.getpid()
    assert [(one["key"], one["counter"]) for one in found["hottest"]] == [
        ("user:2", 3),
        ("user:1", 1),
        ("cold", 0),
    ]
    assert found["counters"] == [1, 1, 0, 1]


def test_top_as_text(run: Run, warm: shmkv.Store) -> None:
    lines = run("top", "-s", warm.name, *ONCE).stdout.splitlines()
    assert lines[0].startswith(warm.name[:8])
    assert max(map(len, lines)) <= 80
    assert any(line.endswith("  user:2") for line in lines)
    text = run("top", "-s", warm.name, *ONCE, "--prefix", "user:").stdout
    assert "beginning user:" in text
    assert "cold" not in text


def test_top_needs_a_terminal(run: Run, warm: shmkv.Store) -> None:
    pytest.importorskip("textual")
    assert "--once" in run("top", warm.name, code=3).stderr


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "ctrl-c"])
def test_top_on_a_terminal(start: Start, warm: shmkv.Store, key: bytes) -> None:
    pytest.importorskip("textual")
    master, slave = pty.openpty()
    try:
        process = start(
            *("top", warm.name, "--interval", "50ms"),
            env={"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"},
            **dict.fromkeys(("stdin", "stdout", "stderr"), slave),
        )
        seen, end = b"", time.monotonic() + SECONDS
        while b"user:2" not in seen and time.monotonic() < end:
            if select.select([master], [], [], 1)[0]:
                seen += os.read(master, 1 << 16)
        assert b"hit ratio" in seen
        os.write(master, key)
        while process.poll() is None and time.monotonic() < end:
            if select.select([master], [], [], 0.05)[0]:  # it writes until it ends
                seen += os.read(master, 1 << 16)
        assert process.wait(1) == 0
        assert b"Traceback" not in seen
    finally:
        os.close(slave)
        os.close(master)


def test_top_says_what_to_install(
    run: Run, warm: shmkv.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "shmkv.top.screen", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "textual"] or ["textual"]:
        monkeypatch.setitem(sys.modules, name, None)
    said = run("top", warm.name, code=3).stderr
    assert "pip install 'shmkv[top]'" in said
    assert said.count("\n") == 1
    run("top", warm.name, *ONCE)  # needs no library


def test_once_imports_no_library(finished: Finished, warm: shmkv.Store) -> None:
    code = (
        "import sys\nfrom shmkv.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    assert not {'textual', 'rich', 'numpy'} & set(sys.modules), 'imported'\n"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code, "top", warm.name, *ONCE, "--json"],
        capture_output=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_misuse_of_top(run: Run, warm: shmkv.Store) -> None:
    assert "--once" in run("top", warm.name, "--json", code=2).stderr
    assert "duration" in run("top", warm.name, "--interval", "soon", code=2).stderr
    assert "never" in run("top", warm.name, "--interval", "never", code=2).stderr
    run("top", code=2)


# ---- hot ----------------------------------------------------------------------------------------


def test_hot(run: Run, warm: shmkv.Store) -> None:
    lines = run("hot", warm.name).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["reads", "3+", "1", "0"]
    assert [line.split()[-1] for line in lines[1:]] == ["user:2", "user:1", "cold"]
    assert len(run("hot", warm.name, "-n", "1").stdout.splitlines()) == 2
    found = json.loads(run("hot", warm.name, "--json", "--prefix", "user:").stdout)
    assert found["counters"] == [0, 1, 0, 1]
    assert [one["key"] for one in found["keys"]] == ["user:2", "user:1"]
    assert run("hot", warm.name, "--prefix", "none").stdout.splitlines()[1:] == ["no items"]


def test_hot_counts(run: Run, warm: shmkv.Store) -> None:
    before = segment_path(warm.name).read_bytes()
    found = json.loads(run("hot", warm.name, "--count", "--interval", "20ms", "--json").stdout)
    assert found == {"counters": [1, 1, 0, 1], "keys": []}  # nobody reads
    assert run("hot", warm.name, "--count", "--interval", "1ms").stdout.endswith("no items\n")
    after = segment_path(warm.name).read_bytes()
    base = warm._geometry()["off_arena"]
    assert after[base:] == before[base:]  # pages and index, its counters included


# ---- watch --------------------------------------------------------------------------------------


def parsed(out: bytes) -> list[dict[str, Any]]:
    """Lines of JSON."""
    return [json.loads(line) for line in out.splitlines()]


def test_watch(start: Start, store: shmkv.Store) -> None:
    process = start("watch", store.name, "k", "--interval", "5ms", "--count", "3", "--json")
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    for change in (lambda: store.set("k", 1), lambda: store.set("k", "b"), lambda: store.pop("k")):
        change()
        lines.append(process.stdout.readline())
    assert process.wait(SECONDS) == 0
    found = parsed(b"".join(lines))
    assert [(one["what"], one["old"], one["new"]) for one in found] == [
        ("missing", None, None),
        ("set", None, 1),
        ("changed", 1, "b"),
        ("deleted", "b", None),
    ]
    assert {one["key"] for one in found} == {"k"}


def test_watch_as_text(start: Start, store: shmkv.Store) -> None:
    store.set("k", b"\x1b[0m", ttl=1000)
    process = start("watch", store.name, "k", "--interval", "5ms")
    assert process.stdout is not None
    assert process.stdout.readline().split(b" ", 1)[1].startswith(b"found b'\\x1b[0m' (ttl ")
    store.set("k", "x" * 1000)
    line = process.stdout.readline()
    assert b" changed b'\\x1b[0m' -> 'xxxx" in line
    assert len(line) < 300
    store.touch("k", 50)
    assert b" deadline (ttl " in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""


@pytest.mark.parametrize("again", [False, True])
def test_watching_a_store_that_goes(
    start: Start, store: shmkv.Store, open_store: Callable[..., shmkv.Store], again: bool
) -> None:
    made = shmkv.open(f"{store.name}-new", size=2 * MIB, create="new")
    made.close()
    try:
        process = start("watch", store.name, "k", "--interval", "5ms")
        assert process.stdout is not None
        assert process.stdout.readline().endswith(b"missing\n")
        if again:  # at once: the name means another store now
            os.replace(segment_path(f"{store.name}-new"), segment_path(store.name))
        else:
            shmkv.unlink(store.name)
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 3
        assert (b"made again" in said) == again
        assert b"was removed" in said
        assert said.count(b"\n") == 1
    finally:
        shmkv.unlink(f"{store.name}-new", missing_ok=True)


# ---- plan ---------------------------------------------------------------------------------------


def test_plan(run: Run) -> None:
    asked = ("plan", "--items", "1000000", "--avg", "100")
    found = json.loads(run(*asked, "--json").stdout)
    parts = sum(
        number
        for name, number in found.items()
        if name.startswith("bytes_") and name != "bytes_per_item"
    )
    assert parts == found["size"]
    lines = run(*asked).stdout.splitlines()
    assert lines[0].startswith(f"size={found['typed']}  (1")
    assert len(lines) == 9
    assert "keys and values" in lines[1]
    assert "MiB" not in "".join(run(*asked, "--bytes").stdout.splitlines()[1:])
    larger = json.loads(run(*asked, "--key", "100", "--ttl", "--json").stdout)
    assert larger["size"] > found["size"]
    keeping = json.loads(run(*asked, "--no-evict", "--json").stdout)
    assert keeping["bytes_ghost"] == 0
    run("plan", "--items", "1000", "--avg", "1.5KiB", "--values", "lognormal:0.5")
    roomy = json.loads(run(*asked, "--max-size", "8g", "--json").stdout)
    assert roomy["bytes_tables"] > found["bytes_tables"]


@pytest.mark.parametrize(
    "args",
    [
        ("--items", "0", "--avg", "1"),
        ("--items", "1", "--avg", "much"),
        ("--items", "1", "--avg", "-1"),
        ("--items", "1", "--avg", "1", "--values", "gauss"),
        ("--items", "1", "--avg", "1", "--values", "lognormal:x"),
        ("--items", "1", "--avg", "1", "--values", "lognormal:9"),
        ("--items", "1", "--avg", "1", "--values", "fixed:2"),
        ("--items", "1", "--avg", "1", "--max-size", "1"),
        ("--items", "1", "--avg", "1", "--key", "0"),
        ("--avg", "1"),
        ("--items", "1"),
    ],
)
def test_misuse_of_plan(run: Run, args: tuple[str, ...]) -> None:
    run("plan", *args, code=2)


def test_what_no_store_holds(run: Run) -> None:
    assert "64 GiB" in run("plan", "--items", "1000000000", "--avg", "1MiB", code=3).stderr


# ---- stores that cannot be looked at ------------------------------------------------------------

LOOKS = [("top", *ONCE), ("top", *ONCE, "--json"), ("hot",), ("hot", "--count"), ("watch",)]


def call_of(look: tuple[str, ...], name: str) -> tuple[str, ...]:
    return (look[0], "-s", name, *(("k",) if look[0] == "watch" else ()), *look[1:])


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_no_such_store(run: Run, store: shmkv.Store, look: tuple[str, ...]) -> None:
    said = run(*call_of(look, store.name + "x"), code=3).stderr
    assert f"did you mean {store.name!r}?" in said
    assert said.count("\n") == 1
    assert store.name + "x" not in shmkv.names()
    assert "no name of a store" in run(*call_of(look, "a/b"), code=3).stderr


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
@pytest.mark.parametrize(
    ("at", "byte", "word"),
    [(8, 99, "layout version 99"), (12, 0, "program of another kind"), (0, 0, "corrupt")],
)
def test_strange_segments(
    run: Run, store_name: str, look: tuple[str, ...], at: int, byte: int, word: str
) -> None:
    with shmkv.open(store_name, size=2 * MIB) as store:
        store["k"] = 1
    path = segment_path(store_name)
    content = bytearray(path.read_bytes())
    content[at] = byte
    path.write_bytes(content)
    said = run(*call_of(look, store_name), code=3).stderr
    assert word in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_no_permission(run: Run, store: shmkv.Store, look: tuple[str, ...]) -> None:
    segment_path(store.name).chmod(0o644)  # more than --mode allows
    said = run(*call_of(look, store.name), code=3).stderr
    assert "is refused" in said
    assert said.count("\n") == 1
    run(*call_of(look, store.name + "x"), "--owner", "nobody-of-this-name", code=2)


@pytest.mark.parametrize("look", LOOKS[:4], ids=" ".join)
def test_a_damaged_index_is_looked_at_as_far_as_can_be(
    run: Run, store_name: str, look: tuple[str, ...]
) -> None:
    with shmkv.open(store_name, size=2 * MIB) as store:
        for i in range(100):
            store.set(f"k{i}", i)
        geometry = store._geometry()
    path = segment_path(store_name)
    content = bytearray(path.read_bytes())
    at = geometry["off_dirs"]
    length = geometry["stripes"] * 4 << geometry["dir_bits"]
    content[at : at + length] = b"\xff" * length
    path.write_bytes(content)
    if look[0] == "hot":
        said = run(*call_of(look, store_name), code=3).stderr
        assert "corrupt" in said.lower()
        assert said.count("\n") == 1
        return
    text = run(*call_of(look, store_name)).stdout
    if "--json" in look:
        found = json.loads(text)
        assert found["items"] == 100
        assert found["hottest"] is None
        assert "corrupt" in found["problem"].lower()
    else:
        assert "100 items" in text
        assert "corrupt" in text.lower()
