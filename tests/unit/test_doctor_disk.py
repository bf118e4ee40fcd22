"""The doctor on disks: journals that nobody writes, old snapshots, directories that refuse.

Made-up machines are those of `test_doctor.py`; what a store really leaves in its header, and what
processes have open, is looked at where it really is.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shmkv
from shmkv.inspect import disk
from shmkv.inspect.doctor import Places, examine
from shmkv.inspect.finding import Finding
from shmkv.inspect.survey import OK, Found, survey
from shmkv.inspect.words import about, ago, journal, snapshot
from tests.conftest import MIB, SHM
from tests.stress.support import until
from tests.unit.cli.conftest import Run, Start, run, start
from tests.unit.daemon.saving import break_journal
from tests.unit.persist.conftest import Opener, folder, started
from tests.unit.test_doctor import ME, Machine, machine

__all__ = ["folder", "machine", "run", "start", "started"]
NOW = 1_000_000.0
HOUR = 3600.0


# ---- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s ago"),
        (119, "119 s ago"),
        (120, "2 min ago"),
        (305, "5 min ago"),
        (7199, "119 min ago"),
        (7200, "2 h ago"),
        (172_799, "47 h ago"),
        (172_800, "2 d ago"),
    ],
)
def test_ages(seconds: float, words: str) -> None:
    assert ago(seconds) == words


def test_what_is_said_of_a_disk() -> None:
    none = {"journal": None, "journal_broken": False, "journal_pending": 0, "snapshot_time": None}
    assert (journal(none), snapshot(none, NOW)) == (None, None)
    logged = none | {"journal": "always"}
    assert (journal(logged), snapshot(logged, NOW)) == (
        ("always, no keys wait", False),
        "never saved",
    )
    assert snapshot(none | {"snapshot_time": NOW - 200}, NOW) == "saved 3 min ago"
    assert about(3 * MIB // 2) == "1.5 MiB"


# ---- stores -------------------------------------------------------------------------------------


def found(**fields: Any) -> Found:
    """A store of two rows, as a survey finds it."""
    made = Found("web", ME, Path("/dev/shm/shmkv.0.web"), OK, rows=2, created=NOW - 60)
    return dataclasses.replace(made, **fields)


def said(one: Found, proc: Path, folder: str | None = None) -> list[Finding]:
    """What the doctor says of its disk."""
    return list(disk.of_store(one, proc, folder, NOW))


def process(proc: Path, pid: int, *links: str, words: str = "python") -> None:
    """A process that has these open."""
    (proc / str(pid) / "fd").mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_text(words.replace(" ", "\0"))
    for n, link in enumerate(links):
        (proc / str(pid) / "fd" / str(n)).symlink_to(link)


def test_a_store_without_a_disk_has_no_finding(tmp_path: Path) -> None:
    assert said(found(), tmp_path) == []
    assert said(found(state="damaged", journal="always", journal_broken=True), tmp_path) == []
    assert said(found(saved=NOW - HOUR), tmp_path) == []


def test_an_old_snapshot_is_a_note(tmp_path: Path) -> None:
    (one,) = said(found(saved=NOW - 3 * HOUR), tmp_path)
    assert (one.severity, one.text) == ("note", "it was last saved 3 h ago")
    assert one.fix == "shmkv snapshot -s web --path DIR"
    (one,) = said(found(saved=NOW - 3 * HOUR), tmp_path, "/var/lib/my shop")
    assert one.fix == "shmkv snapshot -s web --path '/var/lib/my shop'"


def test_a_journal_that_nobody_writes(tmp_path: Path) -> None:
    process(tmp_path, 7, "/dev/shm/shmkv.0.web", "/dev/null", str(tmp_path))
    (one,) = said(found(journal="everysec", attached=1), tmp_path)
    assert (one.severity, one.fix) == ("warning", "shmkv daemon -s web --path DIR")
    assert "nobody alive is seen to know" in one.text
    (one,) = said(found(journal="always", attached=1), tmp_path)
    assert one.severity == "problem"
    assert "writes raise PersistError" in one.text
    (one,) = said(found(journal="always"), tmp_path)
    assert one.severity == "warning", "nobody is there whose writes could be refused"


def test_who_knows_the_directory_writes_the_journal(tmp_path: Path) -> None:
    process(tmp_path, 7, "/dev/shm/shmkv.0.web", "/srv/journal-0000000003.shmkv")
    one = found(journal="everysec", attached=1)
    (note,) = said(one, tmp_path)
    assert (note.severity, note.fix) == ("note", "shmkv daemon -s web --path DIR")
    assert said(dataclasses.replace(one, journal="always"), tmp_path) == []
    assert said(dataclasses.replace(one, has_daemon=True), tmp_path) == []


def test_a_daemon_without_the_directory(tmp_path: Path) -> None:
    process(tmp_path, 7, "/dev/shm/shmkv.0.web")
    process(tmp_path, 8, "/dev/shm/shmkv.0.web", words="python -m shmkv daemon web")
    one = found(journal="everysec", attached=2, has_daemon=True)
    (warning,) = said(one, tmp_path)
    assert warning.text.startswith("its daemon was started without --path")
    assert warning.fix == "kill 8; shmkv daemon --standby -s web --path DIR"
    assert said(dataclasses.replace(one, attached=3), tmp_path) == [], "it may be out of sight"


def test_a_broken_journal_is_found_and_mended_as_it_says(
    open_store: Opener, folder: Path, run: Run
) -> None:
    store = open_store(path=folder, journal="everysec")
    assert [one for one in examine(Places(), name=store.name) if one.severity == "problem"] == []
    break_journal(store.name)
    findings = examine(Places(), name=store.name, folder=str(folder))
    (one,) = [one for one in findings if one.severity == "problem"]
    assert "its journal is broken" in one.text
    assert (
        run("doctor", store.name, "--path", str(folder), code=1).stdout.count("journal is broken")
        == 1
    )
    assert one.fix is not None
    run(*shlex.split(one.fix)[1:])
    run("doctor", store.name, "--path", str(folder))


def test_the_survey_sees_the_disk(store: shmkv.Store, open_store: Opener, folder: Path) -> None:
    (plain,) = survey(SHM, uid=ME, name=store.name)
    assert (plain.journal, plain.saved, plain.has_daemon) == (None, None, False)
    shmkv.unlink(store.name)
    for mode in ("everysec", "always"):
        logged = open_store(path=folder / mode, journal=mode)
        logged.snapshot()
        assert logged._daemon(True)
        (one,) = survey(SHM, uid=ME, name=logged.name)
        assert (one.journal, one.journal_broken, one.has_daemon) == (mode, False, True)
        assert one.saved == logged.stats().snapshot_time
        logged.close()
        shmkv.unlink(logged.name)


def test_a_real_daemon_is_seen_to_know_or_not(
    open_store: Opener, folder: Path, start: Start
) -> None:
    store = open_store(path=folder, journal="everysec")
    name = store.name
    store.close()
    for options, knows in (([], False), (["--path", str(folder)], True)):
        daemon = start("daemon", "-f", "-s", name, *options)
        with shmkv.open(name, readonly=True) as look:
            until(lambda look=look: look._daemon(False), "it works")  # type: ignore[misc]
        texts = [one for one in examine(Places(), name=name) if "journal" in one.text]
        assert [one.severity for one in texts] == ([] if knows else ["warning"]), texts
        if not knows:
            assert texts[0].fix is not None
            assert texts[0].fix.startswith(f"kill {daemon.pid}; ")
        daemon.terminate()
        assert daemon.wait(30) == 0


# ---- directories --------------------------------------------------------------------------------


@pytest.fixture
def judged(machine: Machine, tmp_path: Path) -> Callable[..., list[Finding]]:
    """What the doctor says of a directory."""

    def judge(folder: Path, *stores: Found, uid: int = ME) -> list[Finding]:
        space = machine.total, machine.free
        return list(disk.of_folder(str(folder), list(stores), uid, lambda _: space))

    return judge


def test_a_good_directory(judged: Callable[..., list[Finding]], tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o700)
    (one,) = judged(tmp_path / "store", found(backed=GIB))
    assert (one.severity, one.fix) == ("ok", None)
    assert one.text.endswith("has 8 GiB free of 8 GiB")


GIB = 1 << 30


def test_a_directory_that_is_none(judged: Callable[..., list[Finding]], tmp_path: Path) -> None:
    (one,) = judged(tmp_path / "my store")
    assert (one.severity, one.fix) == (
        "problem",
        f"install -d -m 700 -o {ME} {shlex.quote(str(tmp_path / 'my store'))}",
    )
    (tmp_path / "file").touch()
    assert "is no directory" in judged(tmp_path / "file")[0].text


def test_a_directory_of_others(judged: Callable[..., list[Finding]], tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o700)
    one, _ = judged(tmp_path / "store", uid=4_000_000)
    assert (one.severity, one.topic) == ("problem", "disk")
    assert one.fix == f"sudo chown 4000000 {tmp_path}/store && chmod 700 {tmp_path}/store"
    (tmp_path / "store").chmod(0o770)
    one, _ = judged(tmp_path / "store")
    assert "mode 770" in one.text
    assert one.fix == f"chmod 700 {tmp_path}/store"


def test_a_disk_that_is_full(
    judged: Callable[..., list[Finding]], machine: Machine, tmp_path: Path
) -> None:
    machine.free = GIB
    (one,) = judged(tmp_path, found(backed=2 * GIB), found(backed=4 * GIB))
    assert one.severity == "problem"
    assert one.text.endswith(
        "1 GiB free of 8 GiB: a snapshot may take 4 GiB, beside those that are there"
    )
    assert one.fix is not None
    assert re.fullmatch(r"sudo du -xhd1 /\S* \| sort -h \| tail", one.fix)
    machine.free = GIB // 4
    (one,) = judged(tmp_path, found(backed=MIB))
    assert (one.severity, one.text[-11:]) == ("warning", "nearly full")


def test_a_disk_that_is_read_only(
    judged: Callable[..., list[Finding]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    class ReadOnly:
        f_flag = os.ST_RDONLY | real(tmp_path).f_flag

    monkeypatch.setattr(os, "statvfs", lambda _: ReadOnly)
    one, _ = judged(tmp_path)
    assert one.severity == "problem"
    assert one.fix is not None
    assert one.fix.startswith("sudo mount -o remount,rw /")


# ---- the verbs ----------------------------------------------------------------------------------


def test_info_and_stats_say_it(run: Run, open_store: Opener, folder: Path) -> None:
    store = open_store(path=folder, journal="everysec")

    def told(verb: str) -> dict[str, str]:
        lines = run(verb, store.name).stdout.splitlines()
        return dict(line.split(maxsplit=1) for line in lines)

    for verb in ("info", "stats"):
        assert told(verb)["journal"] == "everysec, no keys wait"
        assert told(verb)["snapshot"] == "never saved"
    store.snapshot()
    with shmkv.open(store.name, create=False) as blind:
        blind["k"] = 1
    for verb in ("info", "stats"):
        assert re.fullmatch(r"saved \d+ s ago", told(verb)["snapshot"])
        assert told(verb)["journal"] == "everysec, 1 key waits"
        data = json.loads(run(verb, store.name, "--json").stdout)
        assert (data["journal"], data["journal_broken"], data["journal_pending"]) == (
            "everysec",
            False,
            1,
        )
        assert data["snapshot_time"] == store.stats().snapshot_time


def test_info_of_a_store_without_a_disk(run: Run, store: shmkv.Store) -> None:
    for verb in ("info", "stats"):
        text = run(verb, store.name).stdout
        assert re.search(r"^journal +none$", text, re.M)
        assert re.search(r"^snapshot +none$", text, re.M)
