"""`shmkv report` as a person calls it: where the page goes, and what is said of a bad store.

Owns: exit codes and lines. What is on the page is looked at elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import shmkv
from shmkv.cli.app import cli
from shmkv.inspect.layout import HEADER
from tests.conftest import segment_path
from tests.unit.report.test_gather import write

ROOT = Path(__file__).parents[3]
Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Call it in an empty folder."""
    monkeypatch.delenv("SHMKV_STORE", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, ["report", *args])
        assert result.exit_code == code, (args, result.output, result.exception)
        assert "Traceback" not in result.stderr
        return result

    return call


def test_the_page_is_a_file_of_the_stores_name(run: Run, store: shmkv.Store) -> None:
    told = run(store.name).stdout
    page = Path(f"{store.name}.report.html")
    assert told.startswith(f"{page}: ")
    assert told.rstrip().endswith("KiB")
    assert page.read_bytes().startswith(b"<!doctype html>")
    assert page.stat().st_mode & 0o777 == 0o600
    assert os.listdir() == [page.name]
    run("-s", store.name)  # again: it is replaced


def test_the_page_can_go_elsewhere(run: Run, store: shmkv.Store) -> None:
    Path("old.html").write_text("old")
    run(store.name, "-o", "old.html")
    assert Path("old.html").read_bytes().endswith(b"</html>\n")
    out = run(store.name, "-o", "-").stdout
    assert out.startswith("<!doctype html>")
    assert out.endswith("</html>\n")
    assert os.listdir() == ["old.html"]


def test_a_place_that_cannot_be_written(run: Run, store: shmkv.Store) -> None:
    told = run(store.name, "-o", "no/such/folder.html", code=3).stderr
    assert told.count("\n") == 1
    assert "No such file or directory" in told
    assert "directory" in run(store.name, "-o", ".", code=3).stderr


def test_no_such_store(run: Run, store: shmkv.Store) -> None:
    told = run(f"{store.name}x", code=3).stderr
    assert told == f"shmkv: store '{store.name}x' does not exist: did you mean {store.name!r}?\n"
    assert run("no/name", code=3).stderr.count("\n") == 1
    assert os.listdir() == []


def test_another_version_is_refused(run: Run, store: shmkv.Store) -> None:
    write(store.name, HEADER.fields["layout_version"][0], b"\x63\0\0\0")
    told = run(store.name, code=3).stderr
    assert told.startswith(f"shmkv: store {store.name!r} is other version: layout version 99, not")
    assert os.listdir() == []


def test_a_half_made_store_is_refused(run: Run, store_name: str) -> None:
    segment_path(store_name).touch(0o600)
    assert "is half made: its creator ended" in run(store_name, code=3).stderr


def test_a_link_is_refused(run: Run, store_name: str, tmp_path: Path) -> None:
    segment_path(store_name).symlink_to("/etc/hostname")
    try:
        assert "is refused: a symbolic link" in run(store_name, code=3).stderr
    finally:
        segment_path(store_name).unlink()


def test_a_damaged_store_gives_what_is_left(run: Run, store: shmkv.Store) -> None:
    write(store.name, 0, b"\x11" * 8)
    told = run(store.name, "-o", "page.html", code=3).stderr
    assert f"store {store.name!r}: Nobody can attach to this store (begins with" in told
    assert "What is wrong" in Path("page.html").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: only root can become another user")
def test_who_may_only_read_gets_a_page_and_who_may_not_a_word(
    open_store: Callable[..., shmkv.Store], new_name: Callable[[], str]
) -> None:
    open_store(shown := new_name(), mode=0o644)
    open_store(closed := new_name())
    runs = {name: _as_nobody(name) for name in (shown, closed)}
    assert runs[shown].returncode == 0, runs[shown].stderr
    assert runs[shown].stdout.startswith(b"<!doctype html>")
    assert runs[closed].returncode == 3
    assert runs[closed].stderr.decode() == (
        f"shmkv: store {closed!r} is unreadable: mode 0600 keeps this user out;"
        " shmkv doctor says more\n"
    )


def _as_nobody(name: str) -> subprocess.CompletedProcess[bytes]:
    """Asked by another user, in a process that was root long enough to import everything."""
    code = (
        "import os, sys, shmkv.report, shmkv.cli.reporting; from shmkv.cli import main;"
        f"os.setgid(65534); os.setuid(65534); sys.argv = ['shmkv', 'report', {name!r}, '--owner',"
        f" '0', '-o', '-']; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("library", ["jinja2", "matplotlib", "numpy"])
def test_without_a_library_it_says_what_to_install(
    run: Run, store: shmkv.Store, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("shmkv.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(shmkv, "report", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    told = run(store.name, code=3).stderr
    assert told == f"shmkv: report needs {library}: pip install 'shmkv[report]'\n"
    monkeypatch.undo()
