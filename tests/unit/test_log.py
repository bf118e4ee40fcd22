"""The log of a program: what is told, at which level, and that nobody pays who does not listen."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import shmkv
from shmkv import leftovers
from tests.conftest import MIB, segment_path

ROOT = Path(__file__).parents[2]


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Levels and lines since the last look, all of them under the one logger."""
    found = [(one.levelname, one.getMessage()) for one in caplog.records]
    assert {one.name for one in caplog.records} <= {"shmkv"}
    caplog.clear()
    return found


def test_the_life_of_a_store(store_name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "shmkv")
    with shmkv.open(store_name, size=2 * MIB) as store:
        level, text = said(caplog)[0]
        assert (level, f"{store_name}' created: 2097152 bytes of at most 8388608" in text) == (
            "INFO",
            True,
        )
        store["secret-key"] = "secret-value"
        store.get("secret-key")
        store.incr("n")
        assert said(caplog) == []
        with shmkv.open(store_name, readonly=True):
            ((level, text),) = said(caplog)
            assert (level, "attached to read" in text) == ("DEBUG", True)
        assert said(caplog) == [("DEBUG", f"store '{store_name}' is closed")]
    said(caplog)
    shmkv.unlink(store_name)
    ((level, text),) = said(caplog)
    assert (level, text.endswith("its name is removed")) == ("INFO", True)


def test_refusals_and_what_is_made_anew(store_name: str, caplog: pytest.LogCaptureFixture) -> None:
    shmkv.open(store_name, size=2 * MIB).close()
    caplog.set_level(logging.DEBUG, "shmkv")
    with pytest.raises(shmkv.Mismatch):
        shmkv.open(store_name, size=16 * MIB)
    level, text = said(caplog)[-1]
    assert (level, text.startswith("refused: store")) == ("DEBUG", True)
    shmkv.open(store_name, size=16 * MIB, on_mismatch="recreate").close()
    assert [level for level, _ in said(caplog)] == ["DEBUG", "WARNING", "INFO", "DEBUG"]
    with segment_path(store_name).open("r+b") as file:
        file.write(b"garbage!")
    with pytest.raises(shmkv.Corrupt):
        shmkv.open(store_name)
    assert [level for level, _ in said(caplog)] == ["WARNING"]
    leftovers.collect(names=frozenset({store_name}), remove=True)
    ((level, text),) = said(caplog)
    assert (level, text.endswith("nobody has it")) == ("INFO", True)


def test_what_the_dead_left_is_told_once(store_name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shmkv")
    with shmkv.open(store_name, size=2 * MIB) as store:
        other = shmkv.open(store_name)
        other._abandon()  # as a death would
        said(caplog)
        store.check()
        want = f"store '{store_name}': 1 attachments of processes that ended were folded"
        assert said(caplog) == [("INFO", want)]
        store.stats()
        assert said(caplog) == []


def test_without_handlers_nothing_is_printed(store_name: str) -> None:
    program = f"""
import logging, shmkv
try:
    with shmkv.open({store_name!r}, size="2m"): pass
    shmkv.open({store_name!r}, size="4m", max_size="32m", on_mismatch="recreate").close()
finally:
    shmkv.unlink({store_name!r}, missing_ok=True)
assert [type(one) for one in logging.getLogger("shmkv").handlers] == [logging.NullHandler]
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")


def test_nobody_pays_for_a_log_that_is_not_there(store_name: str) -> None:
    program = f"""
import sys, shmkv
try:
    with shmkv.open({store_name!r}, size="2m") as store:
        store["k"] = 1
        store.stats()
finally:
    shmkv.unlink({store_name!r}, missing_ok=True)
assert "logging" not in sys.modules, "something imports logging"
"""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SHMKV_")}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=clean, timeout=60, check=True)
