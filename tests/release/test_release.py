"""The sdist and the wheel hold what they should, install into a fresh environment, and work there.

Owns: what each artefact holds. Both are made once, in a temporary folder that is removed; what
fails while they are made is shown by the test that asks for them first.

Does not: upload, or build for another machine or Python.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import shmkv
from tests.conftest import segment_entries
from tests.release import builder
from tests.release.builder import PROJECT, ROOT, Artefact, Release

VERSION = PROJECT["project"]["version"]
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
WHEEL_ENDS = (".py", ".pyi", "/py.typed", "/page.html", "/page.css")
SMOKE = Path(__file__).with_name("smoke.py")

pytestmark = pytest.mark.timeout(600)  # the first test waits for two compilations


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    """Both artefacts, made from a copy of the checkout and installed."""
    with tempfile.TemporaryDirectory(prefix="shmkv-release-") as folder:
        yield builder.make(Path(folder))


@pytest.fixture(params=["sdist", "wheel"])
def artefact(request: pytest.FixtureRequest, release: Release) -> Artefact:
    """One after the other."""
    return release.sdist if request.param == "sdist" else release.wheel


def files_under(folder: Path) -> set[str]:
    """Paths of all files, as seen from the folder."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def wheel_file(release: Release, path: str) -> bytes:
    """The bytes of one file of the wheel; `*` at the front means its metadata."""
    path = path.replace("*", f"shmkv-{VERSION}.dist-info", 1)
    with zipfile.ZipFile(release.wheel.file) as archive:
        return archive.read(path)


def message(text: bytes) -> Message:
    """The headers of a metadata file."""
    return Parser().parsestr(text.decode())


# ---- what they hold -----------------------------------------------------------------------------


def test_the_sdist_is_the_checkout(release: Release) -> None:
    """C sources, headers, tests, examples, READMEs, and the Makefile that runs all of it."""
    with tarfile.open(release.sdist.file) as archive:
        names = [member.name for member in archive if member.isfile()]
    top = f"shmkv-{VERSION}/"
    assert all(name.startswith(top) for name in names)
    held = {name.removeprefix(top) for name in names}
    made = {name for name in held if name in {"PKG-INFO", "setup.cfg"} or ".egg-info/" in name}
    source = {name for name in files_under(release.source) if ".egg-info/" not in name}
    assert held - made == source
    assert {"shmkv/_csrc/layout.h", "shmkv/_csrc/module.c", "tests/c/kv_test.h"} <= held


def test_the_wheel_is_the_package_alone(release: Release) -> None:
    """Python, types, the page of a report, one compiled file: no C, no READMEs, no tests."""
    package = {name for name in files_under(release.source) if name.startswith("shmkv/")}
    wanted = {name for name in package if name.endswith(WHEEL_ENDS)}
    assert {"shmkv/_core.pyi", "shmkv/py.typed", "shmkv/inspect/decode.py"} <= wanted
    compiled = "_core" + (sysconfig.get_config_var("EXT_SUFFIX") if FREE_THREADED else ".abi3.so")
    wanted.add(f"shmkv/{compiled}")
    about = ["METADATA", "WHEEL", "RECORD", "top_level.txt", "entry_points.txt", "licenses/LICENSE"]
    wanted |= {f"shmkv-{VERSION}.dist-info/{name}" for name in about}
    with zipfile.ZipFile(release.wheel.file) as archive:
        assert set(archive.namelist()) == wanted


def test_the_wheel_serves_every_later_python(release: Release) -> None:
    platform = re.sub(r"\W", "_", sysconfig.get_platform())
    major, minor = sys.version_info[:2]
    tag = f"cp{major}{minor}-cp{major}{minor}t" if FREE_THREADED else "cp311-abi3"
    assert release.wheel.file.name == f"shmkv-{VERSION}-{tag}-{platform}.whl"
    about = message(wheel_file(release, "*/WHEEL"))
    assert about["Root-Is-Purelib"] == "false"
    assert about.get_all("Tag") == [f"{tag}-{platform}"]


@pytest.mark.skipif(FREE_THREADED, reason="a free-threaded Python has no stable ABI")
def test_the_wheel_keeps_to_the_stable_abi(release: Release) -> None:
    """abi3audit looks up every symbol: none is newer than 3.11, none is private."""
    audit = [sys.executable, "-m", "abi3audit", "--strict", "--report"]
    (spec,) = json.loads(builder.run(*audit, release.wheel.file, cwd=release.source))[
        "specs"
    ].values()
    (extension,) = spec["wheel"]
    assert extension["name"] == "_core.abi3.so"
    result = extension["result"]
    assert (result["is_abi3"], result["is_abi3_baseline_compatible"]) == (True, True)
    assert result["baseline"] == "3.11"


def test_the_metadata(release: Release) -> None:
    about = message(wheel_file(release, "*/METADATA"))
    assert (about["Name"], about["Version"]) == ("shmkv", VERSION)
    assert about["Requires-Python"] == ">=3.11"
    assert about["License-Expression"] == "MIT"
    assert about["Description-Content-Type"] == "text/markdown"
    needs = [Requirement(text) for text in about.get_all("Requires-Dist") or []]
    always = {need.name.replace("_", "-") for need in needs if need.marker is None}
    assert always == {"posix-ipc", "xxhash", "ormsgpack", "click"}
    assert all("extra ==" in str(need.marker) for need in needs if need.marker is not None)
    scripts = wheel_file(release, "*/entry_points.txt").decode().split("\n")
    assert [line for line in scripts if line] == ["[console_scripts]", "shmkv = shmkv.cli:main"]
    assert wheel_file(release, "*/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_version_is_the_same_everywhere() -> None:
    assert shmkv.__version__ == VERSION
    entry = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert entry is not None
    assert entry[1] == VERSION


# ---- what they do -------------------------------------------------------------------------------


def test_it_works_where_nothing_else_is(
    artefact: Artefact, new_name: Callable[[], str], tmp_path: Path
) -> None:
    before = segment_entries()
    name = new_name()
    script = shutil.copy(SMOKE, tmp_path)
    said = builder.run(artefact.python, "-I", script, name, ROOT, cwd=tmp_path)
    assert said == "smoke: ok\n"
    assert {entry for entry in segment_entries() - before if name in entry} == set()
    assert [entry.name for entry in tmp_path.iterdir()] == [SMOKE.name]


def test_both_install_the_same(release: Release) -> None:
    """The same files, and the same compiled bytes although folders differed: nothing of the machine
    that built them is inside."""
    from_sdist, from_wheel = (a.site / "shmkv" for a in (release.sdist, release.wheel))
    held = {name for name in files_under(from_wheel) if "__pycache__" not in name}
    assert held == {name for name in files_under(from_sdist) if "__pycache__" not in name}
    differ = [n for n in held if (from_sdist / n).read_bytes() != (from_wheel / n).read_bytes()]
    assert differ == []


# ---- what is missing is said --------------------------------------------------------------------

WITHOUT_HEADERS = """
import runpy, sys, sysconfig
find = sysconfig.get_path
sysconfig.get_path = lambda name, *rest, **more: (
    "nowhere" if "include" in name else find(name, *rest, **more))
import setuptools.command.build_ext as module
take = module.build_ext.finalize_options
def without(self):
    take(self)
    self.include_dirs = []
module.build_ext.finalize_options = without
sys.argv = ["setup.py", "--quiet", "build_ext"]
runpy.run_path("setup.py", run_name="__main__")
"""


def compile_in(source: Path, command: list[str], environment: dict[str, str]) -> str:
    """What compiling says where it must fail: the last line."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=source,
        env=builder.environment() | environment,
        capture_output=True,
        text=True,
        timeout=builder.SECONDS,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("lacking", "compiler", "command"),
    [
        ("a C compiler that works", "/nonexistent/cc", ["setup.py", "--quiet", "build_ext"]),
        ("the headers of the C library", "gcc -nostdinc", ["setup.py", "--quiet", "build_ext"]),
        ("Python.h", "gcc", ["-c", WITHOUT_HEADERS]),
    ],
    ids=["compiler", "libc", "python"],
)
def test_what_compiling_lacks_is_said_in_a_sentence(
    lacking: str, compiler: str, command: list[str], tmp_path: Path
) -> None:
    if compiler.startswith("gcc") and shutil.which("gcc") is None:
        pytest.skip("NOT RUN: no gcc to take the headers from")
    source = tmp_path / "source"
    builder.copy_checkout(source)
    said = compile_in(source, command, {"CC": compiler})
    assert said.startswith(f"shmkv cannot be compiled here for want of {lacking}")
    assert f"'{compiler.split()[0]}'" in said
    assert "apt-get install gcc libc6-dev python3-dev" in said
    assert not list(source.rglob("*.o"))


def test_an_unknown_build_is_refused(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    said = compile_in(tmp_path, ["setup.py", "build_ext"], {"SHMKV_BUILD": "fast"})
    assert said == (
        "SHMKV_BUILD=fast is not a build: choose one of"
        " release, fault, debug, asan, tsan, cov, none."
    )
    assert not (tmp_path / "build").exists()
