"""Which store a call means, how keys and durations are read, and what is said of missing stores."""

from __future__ import annotations

import os
from collections.abc import Callable

import click
import pytest

import shmkv
from shmkv.cli.call import NEVER, Duration
from shmkv.cli.target import Ambiguous, Misfit, Operands, split
from tests.unit.cli.conftest import Run

STORES = {"web", "api"}


def told(line: str, usage: str, option: str | None = None, default: str | None = None) -> str:
    """ "store: operands", or the name of the refusal."""
    try:
        name, rest = split(
            line.split(),
            Operands.of(usage),
            option=option,
            default=default,
            is_store=STORES.__contains__,
        )
    except (Ambiguous, Misfit) as error:
        return type(error).__name__
    return f"{name}: {' '.join(rest)}"


@pytest.mark.parametrize(
    ("usage", "line", "alone", "with_option", "with_default"),
    [
        ("KEY", "", "Misfit", "Misfit", "Misfit"),
        ("KEY", "web", "Misfit", "opt: web", "env: web"),
        ("KEY", "web k", "web: k", "Misfit", "web: k"),
        ("KEY", "new k", "new: k", "Misfit", "new: k"),
        ("KEY", "web k x", "Misfit", "Misfit", "Misfit"),
        ("KEY VALUE", "k v", "Misfit", "opt: k v", "env: k v"),
        ("KEY VALUE", "web k v", "web: k v", "Misfit", "web: k v"),
        ("KEY...", "k", "Misfit", "opt: k", "env: k"),
        ("KEY...", "web k", "web: k", "opt: web k", "Ambiguous"),
        ("KEY...", "a b c", "a: b c", "opt: a b c", "env: a b c"),
        ("KEY [DELTA]", "k 5", "k: 5", "opt: k 5", "env: k 5"),
        ("KEY [DELTA]", "web k", "web: k", "opt: web k", "Ambiguous"),
        ("KEY [DELTA]", "web k 5", "web: k 5", "Misfit", "web: k 5"),
        ("[KEY]", "", "Misfit", "opt: ", "env: "),
        ("[KEY]", "web", "web: ", "opt: web", "Ambiguous"),
        ("[KEY]", "k", "k: ", "opt: k", "env: k"),
        ("", "", "Misfit", "opt: ", "env: "),
        ("", "web", "web: ", "Misfit", "web: "),
    ],
)
def test_the_store_is_told_from_the_operands(
    usage: str, line: str, alone: str, with_option: str, with_default: str
) -> None:
    assert told(line, usage) == alone
    assert told(line, usage, option="opt") == with_option
    assert told(line, usage, option="opt", default="env") == with_option
    assert told(line, usage, default="env") == with_default


def test_all_three_ways(run: Run, store: shmkv.Store) -> None:
    store["k"] = "v"
    assert run("get", store.name, "k").stdout == "v\n"
    assert run("get", "-s", store.name, "k").stdout == "v\n"
    assert run("get", "k", "--store", store.name).stdout == "v\n"
    assert run("get", "k", SHMKV_STORE=store.name).stdout == "v\n"
    assert run("get", store.name, "k", SHMKV_STORE="another").stdout == "v\n"
    assert run("get", "-s", store.name, "k", SHMKV_STORE="another").stdout == "v\n"
    assert "NAME KEY" in run("get", "k", SHMKV_STORE="", code=2).stderr


def test_an_ambiguous_line_changes_nothing(run: Run, store: shmkv.Store) -> None:
    store.update({"k": 1, store.name: 2})
    result = run("del", store.name, "k", SHMKV_STORE="another", code=2)
    assert f"-s {store.name} 'k'" in result.stderr
    assert f"-s another '{store.name}' 'k'" in result.stderr
    assert len(store) == 2


def test_keys_that_begin_with_a_dash(run: Run, store: shmkv.Store) -> None:
    run("set", store.name, "--", "--json", "-v")
    assert store["--json"] == "-v"
    assert run("get", store.name, "--", "--json").stdout == "-v\n"
    assert "--jso" in run("get", store.name, "--jso", code=2).stderr


def test_negative_numbers_may_stand_last(run: Run, store: shmkv.Store) -> None:
    assert run("incr", store.name, "n", "-5").stdout == "-5\n"
    assert run("incr", "--ttl", "5", store.name, "n", "-5").stdout == "-10\n"
    assert run("incr", store.name, "m", "--default", "-7").stdout == "-6\n"
    run("set", store.name, "t", "--type", "float", "-1.5")
    assert store["t"] == -1.5
    store["-5"] = "minus five"
    assert run("get", store.name, "-5").stdout == "minus five\n"


def test_bytes_that_are_no_text(run: Run, store: shmkv.Store) -> None:
    arg = os.fsdecode(b"\xff\n")
    store[b"\xff\n"] = "v"
    assert run("get", store.name, arg).stdout == "v\n"
    run("set", store.name, arg, os.fsdecode(b"\xfe"), "--type", "bytes")
    assert store[b"\xff\n"] == b"\xfe"
    assert "--type bytes" in run("set", store.name, "k", os.fsdecode(b"\xfe"), code=2).stderr


@pytest.mark.parametrize("key", ["", "x" * 65_536])
def test_keys_that_are_none(run: Run, store: shmkv.Store, key: str) -> None:
    assert "1 to 65535 bytes" in run("get", store.name, key, code=2).stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        ("1.5", 1.5),
        (".5s", 0.5),
        ("500ms", 0.5),
        ("15m", 900.0),
        ("2h", 7200.0),
        ("7d", 604_800.0),
        ("1w", 604_800.0),
        ("never", NEVER),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "0.0001", "1y", "nan", "inf", "1e5", "9" * 15, "٣"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no duration"):
        Duration().convert(text, None, None)


# ---- stores that are not there ------------------------------------------------------------------


def test_a_misspelt_store(run: Run, store: shmkv.Store) -> None:
    wrong = store.name[:-1] + "x" + store.name[-1:]
    said = run("get", wrong, "k", code=3).stderr
    assert said.startswith(f"shmkv: store '{wrong}' does not exist: did you mean '")
    assert said.count("\n") == 1


def test_a_store_that_resembles_none(run: Run) -> None:
    assert "shmkv ls" in run("get", "~~~~".replace("~", "Q"), "k", code=3).stderr


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to create for others")
def test_a_store_of_another_user(
    run: Run, new_name: Callable[[], str], open_store: Callable[..., shmkv.Store]
) -> None:
    name = new_name()
    with shmkv.open(name, size="2MiB", owner=65_534) as store:
        store["k"] = "v"
        try:
            said = run("get", name, "k", code=3).stderr
            assert "user 65534 has one of that name: add --owner 65534" in said
            assert run("get", name, "k", "--owner", "65534").stdout == "v\n"
            near = run("get", name + "x", "k", code=3).stderr
            assert f"'{name}' of user 65534 (--owner 65534)" in near
            with pytest.warns(UserWarning, match="owner=65534"):
                open_store(name, size="2MiB")["k"] = "mine"
            both = run("get", name, "k")
            assert both.stdout == "mine\n"
            assert "shmkv: note:" in both.stderr
            assert "--owner 65534" in both.stderr
        finally:
            shmkv.unlink(name, owner=65_534)


def test_owners_that_are_none(run: Run) -> None:
    assert "no user" in run("get", "web", "k", "--owner", "no/such/user", code=2).stderr
    assert "no user" in run("get", "web", "k", "--owner", str(1 << 32), code=2).stderr


def test_a_wider_mode_must_be_said(run: Run, store_name: str) -> None:
    with shmkv.open(store_name, size="2MiB", mode=0o660) as store:
        store["k"] = "v"
    assert "0o660" in run("get", store_name, "k", code=3).stderr
    assert run("get", store_name, "k", "--mode", "660").stdout == "v\n"
    assert "no mode" in run("get", store_name, "k", "--mode", "060", code=2).stderr


@pytest.mark.parametrize(
    "verb",
    [
        *("get k", "set k v", "del k", "exists k", "incr k", "ttl k", "ttl k 5", "info k", "info"),
        *("stats", "check", "check --fold", "scan", "export", "import"),
    ],
)
def test_no_verb_creates_a_store(run: Run, store_name: str, verb: str) -> None:
    name, *rest = verb.split()
    assert "does not exist" in run(name, "-s", store_name, *rest, stdin=b"", code=3).stderr
    assert store_name not in shmkv.names()
