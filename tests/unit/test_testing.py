"""The fixtures of `shmkv.testing`: used here as a program's own tests would use them.

What they do to a run (unlink after a failure, reset of the clock, a leak that fails its test) is
seen from outside: small test files are run by a pytest of their own, in another process.
"""

from __future__ import annotations

import datetime as dt
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkv
from shmkv import _core, testing
from shmkv.testing import Clock, OpenStore
from tests.conftest import segment_entries

pytest_plugins = ["shmkv.testing"]

ROOT = Path(__file__).parents[2]
LIMIT_S = 60
QUIET = {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONWARNINGS": "error"}
HEAD = """
import os
import pytest
import shmkv
from shmkv import _core

pytest_plugins = ["shmkv.testing"]
"""


class Run:
    """A run of pytest that has ended."""

    def __init__(self, folder: Path, source: str, *words: str) -> None:
        (folder / "test_it.py").write_text(HEAD + textwrap.dedent(source))
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", *words]
        done = subprocess.run(
            [*command, "test_it.py"],
            cwd=folder,
            env={**os.environ, **QUIET, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        self.code = done.returncode
        self.text = done.stdout + done.stderr

    def outcomes(self) -> dict[str, str]:
        """What the summary says of each test; a test that passed and then broke says ERROR."""
        found = re.findall(r"^(PASSED|FAILED|ERROR) test_it.py::(\w+)", self.text, re.M)
        return {test: outcome for outcome, test in sorted(found, reverse=True)}

    def told(self) -> set[str]:
        """Stores that were called leaks. Other programs of this machine may add theirs: whoever
        closes a store and unlinks it later than that looks like a leak in between."""
        lines = re.findall(r"^stores left in /dev/shm: (.*): close them", self.text, re.M)
        return {name for line in lines for name in line.split(", ")}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Run a test file that uses the fixtures."""

    def make(source: str, *words: str) -> Run:
        return Run(tmp_path, source, *words)

    return make


# ---- stores -------------------------------------------------------------------------------------


def test_a_fresh_store(shmkv_store: shmkv.Store) -> None:
    assert type(shmkv_store) is shmkv.Store
    assert len(shmkv_store) == 0
    assert shmkv_store.evict
    assert 2 << 20 <= shmkv_store.size <= 8 << 20
    assert re.fullmatch(rf"pytest-{os.getpid()}-\w+-\d+", shmkv_store.name)
    with shmkv.open(shmkv_store.name, create=False) as other:
        other["k"] = "v"
    assert shmkv_store["k"] == "v"


def test_stores_without_a_label_are_different(shmkv_open: OpenStore) -> None:
    opened = [shmkv_open() for _ in range(3)]
    assert len({store.name for store in opened}) == 3


def test_the_same_label_is_the_same_store(shmkv_open: OpenStore) -> None:
    one, two, other = shmkv_open("web"), shmkv_open("web"), shmkv_open("jobs")
    one["k"] = 1
    assert two.name == one.name != other.name
    assert one.name.endswith("-web")
    assert two["k"] == 1
    assert "k" not in other


def test_options_reach_open(shmkv_open: OpenStore) -> None:
    writer = shmkv_open("web", size="2MiB", evict=False, lock_timeout=1.0)
    assert (writer.size, writer.evict) == (2 << 20, False)
    writer["k"] = 1
    reader = shmkv_open("web", readonly=True)
    assert reader.readonly
    assert reader["k"] == 1
    assert shmkv_open("web", create=False)["k"] == 1
    with pytest.raises(shmkv.Mismatch):
        shmkv_open("web", size="3MiB")
    with pytest.raises(shmkv.NotFound):
        shmkv_open("nobody", create=False)


def test_a_bad_label_is_told_at_once_and_leaves_no_trouble(run: Callable[..., Run]) -> None:
    done = run("""
        def test_bad(shmkv_open):
            with pytest.raises(ValueError, match="a b"):
                shmkv_open("a b")
    """)
    assert done.outcomes() == {"test_bad": "PASSED"}, done.text


def test_nothing_is_left_whatever_happens(run: Callable[..., Run]) -> None:
    before = segment_entries()
    done = run("""
        names = []

        def test_fails(shmkv_store):
            names.append(shmkv_store.name)
            shmkv_store["k"] = 1
            assert False

        def test_raises(shmkv_open):
            names.extend(shmkv_open(label).name for label in ("a", "b"))
            raise LookupError

        def test_unlinks_itself(shmkv_store):
            names.append(shmkv_store.name)
            shmkv_store.close()
            shmkv.unlink(shmkv_store.name)

        def test_they_are_gone():
            assert len(names) == 4
            assert not set(names) & set(shmkv.names())
    """)
    assert done.code == 1
    assert done.outcomes() == {
        "test_fails": "FAILED",
        "test_raises": "FAILED",
        "test_unlinks_itself": "PASSED",
        "test_they_are_gone": "PASSED",
    }, done.text
    assert not {e for e in segment_entries() - before if e.split(".", 2)[2].startswith("pytest-")}


def test_a_fork_that_returns_into_pytest_removes_nothing(run: Callable[..., Run]) -> None:
    done = run("""
        def test_forks(shmkv_store):
            shmkv_store["k"] = 1
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                assert not shmkv_store.closed
                with shmkv.open(shmkv_store.name, create=False) as other:
                    assert other["k"] == 1
    """)
    assert done.code == 0, done.text


# ---- time ---------------------------------------------------------------------------------------


def test_deadlines_pass_when_the_clock_is_advanced(
    shmkv_store: shmkv.Store, shmkv_clock: Clock
) -> None:
    shmkv_store.set("session", "ann", ttl=1800)
    shmkv_store["for ever"] = 1
    shmkv_clock.advance(1700)
    assert 0 < (shmkv_store.ttl("session") or 0) <= 100
    shmkv_clock.advance(dt.timedelta(seconds=101))
    assert "session" not in shmkv_store
    assert list(shmkv_store) == ["for ever"]
    assert shmkv_clock.offset == 1801


def test_the_clock_goes_on_by_itself(shmkv_store: shmkv.Store, shmkv_clock: Clock) -> None:
    start = _core.clock_ms()
    shmkv_store.set("k", 1, ttl=0.05)
    end = time.monotonic() + LIMIT_S
    while "k" in shmkv_store:
        assert time.monotonic() < end
    assert _core.clock_ms() - start >= 45


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan"), dt.timedelta(days=-1)])
def test_the_clock_goes_forward_only(shmkv_clock: Clock, seconds: float | dt.timedelta) -> None:
    with pytest.raises(ValueError, match="forward"):
        shmkv_clock.advance(seconds)
    assert shmkv_clock.offset == 0


def test_real_time_returns(run: Callable[..., Run]) -> None:
    done = run("""
        start = _core.clock_ms()

        def test_moves(shmkv_clock):
            shmkv_clock.advance(1_000_000)
            assert _core.clock_ms() - start >= 1_000_000_000

        def test_moves_and_fails(shmkv_clock):
            shmkv_clock.advance(1_000_000)
            assert False

        def test_returns():
            assert _core.clock_ms() - start < 60_000
    """)
    assert done.outcomes() == {
        "test_moves": "PASSED",
        "test_moves_and_fails": "FAILED",
        "test_returns": "PASSED",
    }, done.text


def look(name: str, offset: float) -> None:
    """In a child: exit code 1 when the item is there, 0 when it has expired."""
    Clock().advance(offset)
    with shmkv.open(name, create=False) as store:
        sys.exit("k" in store)


def look_inherited(store: shmkv.Store) -> None:
    sys.exit("k" in store)


def code_of(child: multiprocessing.process.BaseProcess) -> int | None:
    child.start()
    try:
        child.join(LIMIT_S)
        return child.exitcode
    finally:
        child.kill()
        child.join(LIMIT_S)


def test_forks_keep_the_moved_clock(shmkv_store: shmkv.Store, shmkv_clock: Clock) -> None:
    shmkv_store.set("k", 1, ttl=100)
    context = multiprocessing.get_context("fork")
    assert code_of(context.Process(target=look_inherited, args=(shmkv_store,))) == 1
    shmkv_clock.advance(101)
    assert code_of(context.Process(target=look_inherited, args=(shmkv_store,))) == 0


def test_spawned_processes_are_told(shmkv_store: shmkv.Store, shmkv_clock: Clock) -> None:
    shmkv_store.set("k", 1, ttl=100)
    shmkv_clock.advance(101)
    context = multiprocessing.get_context("spawn")
    name = shmkv_store.name
    assert code_of(context.Process(target=look, args=(name, 0.0))) == 1
    assert code_of(context.Process(target=look, args=(name, shmkv_clock.offset))) == 0


# ---- leaks --------------------------------------------------------------------------------------


def test_a_leak_fails_its_test_only(run: Callable[..., Run], new_name: Callable[[], str]) -> None:
    leaked, tidy = new_name(), new_name()
    done = run(f"""
        @pytest.mark.usefixtures("shmkv_no_leaks")
        def test_leaks(shmkv_store):
            shmkv.open({leaked!r}, size="2MiB").close()

        def test_is_tidy(shmkv_store, shmkv_open, shmkv_no_leaks):
            shmkv_open("other")  # is still there when shmkv_no_leaks looks
            shmkv.open({tidy!r}, size="2MiB").close()
            shmkv.unlink({tidy!r})
    """)
    assert done.code == 1
    assert done.outcomes()["test_leaks"] == "ERROR", done.text
    assert leaked in done.told()
    assert tidy not in done.told()
    assert not {name for name in done.told() if name.startswith("pytest-")}
    assert leaked in shmkv.names()  # it is told, not taken away


def test_a_leak_that_is_still_open_is_one_too(
    run: Callable[..., Run], new_name: Callable[[], str]
) -> None:
    mine, childs = new_name(), new_name()
    done = run(f"""
        import subprocess, sys
        CHILD = '''if True:
            import shmkv, sys
            store = shmkv.open({childs!r}, size="2MiB")
            print("open", flush=True)
            sys.stdin.read()
        '''

        @pytest.fixture
        def children():
            children = []
            yield children
            for child in children:
                child.kill()
                child.communicate()

        def test_leaks(shmkv_no_leaks, request):
            request.config.kept = shmkv.open({mine!r}, size="2MiB")

        def test_leaks_in_a_child(children, shmkv_no_leaks):
            pipe = subprocess.PIPE
            command = [sys.executable, "-c", CHILD]
            children.append(subprocess.Popen(command, stdin=pipe, stdout=pipe))
            assert children[0].stdout.readline() == b"open\\n"
    """)
    assert done.outcomes() == {"test_leaks": "ERROR", "test_leaks_in_a_child": "ERROR"}, done.text
    assert {mine, childs} <= done.told()


def test_stores_of_others_are_no_leaks(
    run: Callable[..., Run], shmkv_open: OpenStore, new_name: Callable[[], str], tmp_path: Path
) -> None:
    """While the run lasts, a process that is not of the run makes a store and keeps it open."""
    ask, answer, name = tmp_path / "ask", tmp_path / "answer", new_name()
    os.mkfifo(ask)
    os.mkfifo(answer)
    maker = multiprocessing.get_context("fork").Process(
        target=make_when_asked, args=(name, str(ask), str(answer))
    )
    maker.start()
    try:
        done = run(f"""
            def test_is_tidy(shmkv_no_leaks):
                with open({str(ask)!r}, "w") as ask:
                    ask.write("make")
                with open({str(answer)!r}) as answer:
                    assert answer.read(4) == "made"
                assert {name!r} in shmkv.names()
        """)
    finally:
        maker.kill()
        maker.join(LIMIT_S)
    assert " passed" in done.text, done.text
    assert name not in done.told()


def make_when_asked(name: str, ask: str, answer: str) -> None:
    with open(ask) as question:
        assert question.read(4) == "make"
    with shmkv.open(name, size="2MiB"), open(answer, "w") as reply:
        reply.write("made")
        reply.flush()
        signal.pause()  # the parent ends it


# ---- the package --------------------------------------------------------------------------------


def test_the_example_of_the_essay(run: Callable[..., Run]) -> None:
    lines = (testing.__doc__ or "").splitlines()
    example = "\n".join(line for line in lines if not line or line.startswith("    "))
    done = run(example)
    assert done.outcomes() == {"test_a_session_ends": "PASSED", "test_two_handles": "PASSED"}


def test_the_package_does_without_pytest() -> None:
    """Only `shmkv.testing` imports it."""
    words = "import shmkv, sys; sys.exit('pytest' in sys.modules or 'shmkv.testing' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, timeout=LIMIT_S)
    assert done.returncode == 0
