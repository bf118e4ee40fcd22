"""Options from the environment: which there are, what wins, what they may not do, and the README.

The table `config.OPTIONS` is the one place; what is asserted of all options here walks over it.
"""

from __future__ import annotations

import inspect
import os
from typing import Any

import pytest

import shmkv
from shmkv import config
from shmkv.config import OPTIONS, WrongVariable, judge
from tests import readme
from tests.conftest import MIB

WITH = {
    "SHMKV_SIZE": "3MiB",
    "SHMKV_MAX_SIZE": "5MiB",
    "SHMKV_EVICT": "0",
    "SHMKV_ON_MISMATCH": "attach",
    "SHMKV_LOCK_TIMEOUT": "0.25",
    "SHMKV_DAEMON": "1",
}
VARIABLES = {option.variable: option for option in OPTIONS if option.variable}


def test_the_table_has_every_option_of_open_in_its_order() -> None:
    taken = [p for p in inspect.signature(shmkv.open).parameters.values() if p.name != "name"]
    assert [option.name for option in OPTIONS] == [p.name for p in taken]
    for option, argument in zip(OPTIONS, taken, strict=True):
        assert argument.default == (None if option.read else option.default), option.name
        assert set(option.name) <= set("abcdefghijklmnopqrstuvwxyz_")
        assert option.help
        assert bool(option.texts) == bool(option.read)
    assert set(config.Options._fields) >= {option.name for option in OPTIONS}


def test_what_the_environment_may_set() -> None:
    assert set(VARIABLES) == set(WITH)
    for name in ("codec", "mode", "owner", "path", "create", "readonly", "on_corrupt"):
        assert config.BY_NAME[name].variable is None


def test_the_readme_is_made_from_the_table() -> None:
    text = readme.README.read_text()
    assert text == readme.made(text), "python -m tests.readme"
    assert all(f"`{variable}`" in text for variable in VARIABLES)


def test_without_variables_defaults_hold() -> None:
    made = judge("web", environ={})
    assert (made.size, made.new_size, made.new_max_size) == (None, 64 * MIB, 256 * MIB)
    assert (made.evict, made.new_evict, made.on_mismatch) == (None, True, "fail")
    assert (made.lock_timeout, made.daemon, made.codec) == (5.0, False, "safe")
    assert made == judge("web", environ=dict.fromkeys(WITH, ""))


def test_variables_win_over_defaults_and_arguments_over_both() -> None:
    made = judge("web", environ=WITH)
    assert (made.size, made.new_size, made.new_max_size) == (None, 3 * MIB, 5 * MIB)
    assert (made.evict, made.new_evict, made.on_mismatch) == (None, False, "attach")
    assert (made.lock_timeout, made.daemon) == (0.25, True)
    said: dict[str, Any] = {"size": "4m", "max_size": "8m", "evict": True}
    said |= {"on_mismatch": "fail", "lock_timeout": 5.0, "daemon": False}
    made = judge("web", environ=WITH, **said)
    assert (made.new_size, made.new_max_size, made.new_evict) == (4 * MIB, 8 * MIB, True)
    assert (made.on_mismatch, made.lock_timeout, made.daemon) == ("fail", 5.0, False)


def test_a_size_that_is_said_makes_room_for_itself() -> None:
    made = judge("web", environ=WITH, size="16m")
    assert (made.new_size, made.new_max_size) == (16 * MIB, 16 * MIB)
    made = judge("web", environ=WITH, max_size="2m")
    assert (made.new_size, made.new_max_size) == (2 * MIB, 2 * MIB)
    with pytest.raises(WrongVariable, match="SHMKV_MAX_SIZE=2 MiB is less than SHMKV_SIZE=3 MiB"):
        judge("web", environ=WITH | {"SHMKV_MAX_SIZE": "2m"})


def test_who_only_reads_starts_no_daemon() -> None:
    assert not judge("web", environ=WITH, readonly=True).daemon
    with pytest.raises(ValueError, match="starts no daemon"):
        judge("web", environ={}, readonly=True, daemon=True)


WRONG = [
    ("SHMKV_SIZE", "plenty"),
    ("SHMKV_SIZE", "1"),
    ("SHMKV_MAX_SIZE", "65g"),
    ("SHMKV_EVICT", "maybe"),
    ("SHMKV_ON_MISMATCH", "recreate"),
    ("SHMKV_LOCK_TIMEOUT", "soon"),
    ("SHMKV_LOCK_TIMEOUT", "-1"),
    ("SHMKV_LOCK_TIMEOUT", "nan"),
    ("SHMKV_LOCK_TIMEOUT", "9999999999"),
    ("SHMKV_DAEMON", "yes"),
    ("SHMKV_SIZE", "4\x1bm\n"),
]


@pytest.mark.parametrize(("variable", "text"), WRONG)
def test_wrong_variables_are_named(
    variable: str, text: str, store_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(WrongVariable) as caught:
        shmkv.open(store_name)
    said = str(caught.value)
    assert said.startswith(f"{variable}={text!a} in the environment is refused: ")
    assert said.endswith(VARIABLES[variable].texts)
    assert store_name not in shmkv.names()


def test_stores_are_made_so_and_taken_as_they_are(
    store_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("SHMKV_SIZE", "SHMKV_MAX_SIZE", "SHMKV_EVICT"):
        monkeypatch.setenv(variable, WITH[variable])
    with shmkv.open(store_name) as store:
        assert (store.size, store.max_size, store.evict) == (3 * MIB, 5 * MIB, False)
        monkeypatch.setenv("SHMKV_SIZE", "4MiB")
        monkeypatch.setenv("SHMKV_EVICT", "1")
        with shmkv.open(store_name) as other:
            assert (other.size, other.evict) == (3 * MIB, False)
        with pytest.raises(shmkv.Mismatch):
            shmkv.open(store_name, size="4MiB")


def test_nothing_switches_on_pickle_or_lets_others_in(
    store_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for option in OPTIONS:
        if not option.read:
            monkeypatch.setenv(f"SHMKV_{option.name.upper()}", "pickle")
    with shmkv.open(store_name, size=2 * MIB) as store, pytest.raises(shmkv.CodecError):
        store["k"] = object()
    assert os.stat(f"/dev/shm/shmkv.{os.geteuid()}.{store_name}").st_mode & 0o777 == 0o600
