"""ls, info, stats, check, rm, doctor: what they show, and that odd segments do not stop them."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv.inspect.doctor import Places
from tests.conftest import MIB, SHM, segment_path
from tests.unit.cli.conftest import Run


def listed(run: Run, *names: str) -> dict[str, dict[str, Any]]:
    """What ls tells of some stores; other runs on this machine have theirs."""
    rows = json.loads(run("ls", "--json").stdout)
    return {row["name"]: row for row in rows if row["name"] in names}


@pytest.fixture
def image(store_name: str) -> bytes:
    """The bytes of a good segment; the store itself is gone."""
    with shmkv.open(store_name, size=2 * MIB, max_size=2 * MIB) as store:
        store.set("k", b"v")
    content = segment_path(store_name).read_bytes()
    shmkv.unlink(store_name)
    return content


def place(name: str, content: bytes) -> Path:
    path = segment_path(name)
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


# ---- ls -----------------------------------------------------------------------------------------


def test_ls(run: Run, store: shmkv.Store) -> None:
    store.update({"a": 1, "b": 2})
    row = listed(run, store.name)[store.name]
    assert row == {
        "name": store.name,
        "owner": os.getuid(),
        "size": 8 * MIB,
        "max_size": 32 * MIB,
        "used": store.stats().bytes_backed,
        "items": 2,
        "attached": 1,
        "state": "ok",
        "why": None,
    }
    lines = run("ls").stdout.splitlines()
    assert lines[0].split() == ["NAME", "OWNER", "SIZE", "USED", "ITEMS", "ATTACHED", "STATE"]
    (line,) = [line.split() for line in lines if line.startswith(store.name + " ")]
    assert line[2:4] == ["8", "MiB"]
    assert line[-3:] == ["2", "1", "ok"]
    (line,) = [
        line.split()
        for line in run("ls", "--bytes", "--all").stdout.splitlines()
        if line.startswith(store.name + " ")
    ]
    assert line[2:4] == [str(8 * MIB), str(store.stats().bytes_backed)]


def odd(image: bytes) -> dict[str, bytes]:
    version = bytearray(image)
    struct.pack_into("<I", version, 8, 99)
    index = bytearray(image)
    index[4096:] = os.urandom(len(index) - 4096)
    return {
        "half made": b"",
        "damaged": os.urandom(2 * MIB),
        "cut": image[:MIB],
        "other version": bytes(version),
        "torn": bytes(index),
    }


@pytest.mark.parametrize("what", ["half made", "damaged", "cut", "other version", "torn", "link"])
def test_odd_segments_are_listed_and_refused_in_words(
    run: Run, new_name: Callable[[], str], image: bytes, what: str, tmp_path: Path
) -> None:
    name = new_name()
    if what == "link":
        (tmp_path / "target").write_bytes(image)
        segment_path(name).symlink_to(tmp_path / "target")
        state = "refused"
    else:
        place(name, odd(image)[what])
        state = {"cut": "damaged", "torn": "ok"}.get(what, what)
    row = listed(run, name)[name]
    assert row["state"] == state
    assert (row["why"] is None) == (state == "ok")
    assert name in run("ls").stdout
    if what == "torn":
        assert run("check", name, code=1).stdout.endswith("problems\n")
        assert not json.loads(run("check", name, "--json", code=1).stdout)["ok"]
        assert run("get", name, "k", code=run_code(run, name)).stderr.count("\n") <= 1
    else:
        for verb in (["get", name, "k"], ["set", name, "k", "v"], ["info", name], ["export", name]):
            said = run(*verb, code=3).stderr
            assert said.startswith("shmkv: store ")
            assert said.count("\n") == 1
    run("rm", "--force", name)
    assert name not in listed(run, name)


def run_code(run: Run, name: str) -> int:
    """In a torn segment the key may be gone or its place may be met as damaged: 1 or 3."""
    try:
        with shmkv.open(name, readonly=True) as store:
            return 0 if "k" in store else 1
    except shmkv.Corrupt:
        return 3


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is unreadable for root")
def test_an_unreadable_segment(run: Run, new_name: Callable[[], str], image: bytes) -> None:
    name = new_name()
    place(name, image).chmod(0)
    assert listed(run, name)[name]["state"] == "unreadable"
    assert "mode 0o0" in run("get", name, "k", code=3).stderr


# ---- info, stats, check -------------------------------------------------------------------------


def test_info_of_a_store(run: Run, store: shmkv.Store) -> None:
    found = json.loads(run("info", store.name, "--json").stdout)
    stats = store.stats()
    assert found["created"] == pytest.approx(stats.created)
    assert found["file"] == str(segment_path(store.name))
    assert (found["size"], found["max_size"]) == (store.size, store.max_size)
    assert (found["rows"], found["attached"], found["evict"]) == (stats.rows, 1, True)
    assert found["layout_version"] >= 1
    text = run("info", store.name).stdout
    assert "8 MiB" in text
    assert str(8 * MIB) in run("info", store.name, "--bytes").stdout


def test_info_of_an_item(run: Run, store: shmkv.Store) -> None:
    store.set(b"\xff", [1, 2], ttl=600)
    key = os.fsdecode(b"\xff")
    found = json.loads(run("info", store.name, key, "--json").stdout)
    assert found["key"] == {"$bytes": "/w=="}
    assert found["type"] == "list"
    assert 540 < found["ttl"] <= 600
    text = run("info", store.name, key).stdout
    assert '"\\xff"' in text
    run("info", store.name, "missing", code=1)


def test_stats(run: Run, store: shmkv.Store) -> None:
    store["k"] = 1
    store.get("k")
    store.get("x")
    told, now = json.loads(run("stats", store.name, "--json").stdout), store.stats().as_dict()
    assert [age is None for age in told.pop("ages")] == [age is None for age in now.pop("ages")]
    assert told == now
    text = dict(line.split(maxsplit=1) for line in run("stats", store.name).stdout.splitlines())
    assert (text["hits"], text["misses"], text["hit_ratio"]) == ("1", "1", "0.5000")
    assert text["size"] == "8 MiB"
    assert f" {8 * MIB}\n" in run("stats", store.name, "--bytes").stdout


def test_check(run: Run, store: shmkv.Store) -> None:
    store["k"] = 1
    assert run("check", store.name).stdout.startswith("ok: 1 items")
    report = json.loads(run("check", store.name, "--json").stdout)
    assert (report["ok"], report["problems"], report["items"]) == (True, [], 1)


def test_check_folds_what_the_dead_left(run: Run, store: shmkv.Store) -> None:
    child = os.fork()
    if child == 0:
        store.set("child", 1)
        os._exit(0)
    os.waitpid(child, 0)
    assert run("check", store.name).stdout.endswith(", 1 dead attachments\n")
    assert json.loads(run("check", store.name, "--json").stdout)["dead_rows"] == 1
    assert "1 dead attachments folded" in run("check", store.name, "--fold").stdout
    assert "0 dead attachments folded" in run("check", store.name, "--fold").stdout


# ---- rm -----------------------------------------------------------------------------------------


def test_rm_by_force(run: Run, new_name: Callable[[], str]) -> None:
    names = [new_name(), new_name()]
    for name in names:
        shmkv.open(name, size="2MiB").close()
    run("rm", "-f", *names)
    assert not set(names) & set(shmkv.names())


def test_rm_asks_and_where_it_cannot_it_does_not_remove(run: Run, store: shmkv.Store) -> None:
    assert "--force" in run("rm", store.name, stdin=b"y\n", code=2).stderr
    assert store.name in shmkv.names()


def test_rm_never_takes_the_store_of_the_environment(run: Run, store: shmkv.Store) -> None:
    run("rm", "--force", SHMKV_STORE=store.name, code=2)
    assert store.name in shmkv.names()


def test_rm_of_what_is_not_there(run: Run, store: shmkv.Store, new_name: Any) -> None:
    missing = new_name()
    run("rm", "-f", "--missing-ok", missing)
    said = run("rm", "-f", missing, store.name, code=3).stderr
    assert f"store '{missing}' does not exist" in said
    assert store.name not in shmkv.names()
    assert "no name of a store" in run("rm", "-f", "../x", code=3).stderr


# ---- doctor -------------------------------------------------------------------------------------


def test_doctor_of_a_store(run: Run, store: shmkv.Store) -> None:
    found = json.loads(run("doctor", store.name, "--json", obj=Places()).stdout)
    assert {"severity", "topic", "text", "fix"} == set(found[0])
    mine = [one for one in found if one["topic"] == f"store {store.name}"]
    assert [one["severity"] for one in mine] == ["ok", "ok"]
    assert "every invariant holds" in mine[1]["text"]
    assert "does not exist" in run("doctor", "no-such-store", code=3).stderr
    assert "no name of a store" in run("doctor", "a/b", code=3).stderr


def test_doctor_says_what_to_type(run: Run, tmp_path: Path) -> None:
    places = Places(shm=tmp_path, proc=tmp_path, cgroup=tmp_path, root=tmp_path)
    path = tmp_path / f"shmkv.{os.geteuid()}.web"
    path.write_bytes(b"garbage")
    result = run("doctor", obj=places, code=1)
    assert "problem  store web: damaged: cut to 7 bytes\n" in result.stdout
    assert "\n         shmkv gc -- web\n" in result.stdout
    path.unlink()
    run("doctor", obj=places)


def test_doctor_checks_what_is_inside(run: Run, new_name: Callable[[], str], image: bytes) -> None:
    name = new_name()
    place(name, odd(image)["torn"])
    result = run("doctor", name, code=1)
    assert "invariants are broken" in result.stdout


def test_the_folder_of_shared_memory() -> None:
    assert Places().shm == SHM
