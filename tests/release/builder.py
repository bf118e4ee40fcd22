"""Makes the sdist and the wheel of this checkout and installs each into a fresh environment.

Owns: the copy of the checkout that is built, the wheels of the dependencies, and how pip is called.

Promises: nothing is written into the checkout, into pip's cache or outside of the given folder, and
nothing is fetched: no network is needed. pip resolves what the artefact's own metadata ask for, and
the sdist is built by the backend it names, in isolation, as on a user's machine; but both find
nothing except the distributions this environment has (the dependencies and setuptools), packed into
wheels again. What a wheel of theirs on the index would hold is not tested here.

Does not: judge; the tests do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SECONDS = 200  # for one command; compiling takes 10 on an idle core
BUILT = [".*", "build", "dist", "*.egg-info", "__pycache__", "*.py[cod]", "*.so", "*.o"]
BUILT += ["*.gcda", "*.gcno"]


class Failed(AssertionError):
    """A command did not succeed; the message is all it printed."""


@dataclass(frozen=True)
class Artefact:
    """A file to hand to others, and the interpreter of the environment it is installed in."""

    file: Path
    python: Path

    @property
    def site(self) -> Path:
        """Where the environment keeps packages."""
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        return self.python.parents[1] / "lib" / version / "site-packages"


@dataclass(frozen=True)
class Release:
    """Both artefacts, and the copy of the checkout they were made from."""

    source: Path
    sdist: Artefact
    wheel: Artefact


def environment(wheels: Path | None = None) -> dict[str, str]:
    """Ours, without what would change a build, an import or pip; pip sees `wheels` and no index."""
    unwanted = ("PIP_", "PYTHON", "SHMKV_", "DISTUTILS_", "SETUPTOOLS_")
    flags = {"CFLAGS", "CPPFLAGS", "LDFLAGS"}
    found = {k: v for k, v in os.environ.items() if not k.startswith(unwanted) and k not in flags}
    found |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "PIP_NO_INPUT": "1"}
    found |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1"}
    if wheels is not None:
        found["PIP_FIND_LINKS"] = str(wheels)
    return found


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """What a command printed; raises Failed when it does not succeed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment() if env is None else env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    if done.returncode != 0:
        said = " ".join(str(part) for part in command)
        raise Failed(f"exit code {done.returncode} of {said}\n{done.stdout}")
    return done.stdout


# ---- building -----------------------------------------------------------------------------------


def copy_checkout(target: Path) -> None:
    """What people wrote, also if it is new and not yet added; nothing that was built."""
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*BUILT))


def build(kind: str, source: Path, into: Path) -> Path:
    """The one file that `build` makes of a source tree, with the setuptools of this environment."""
    made = into / kind
    options = ["--no-isolation", f"--{kind}", "--outdir", str(made)]
    run(sys.executable, "-m", "build", *options, source, cwd=into)
    (file,) = made.iterdir()
    return file


def unpack(sdist: Path, into: Path) -> Path:
    """The tree inside of an sdist."""
    with tarfile.open(sdist) as archive:
        archive.extractall(into, filter="data")
    return into / sdist.name.removesuffix(".tar.gz")


# ---- dependencies -------------------------------------------------------------------------------


def needed_distributions() -> set[str]:
    """What installing and building need here, and what that needs in turn."""
    found: set[str] = set()
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    while asked:
        requirement = Requirement(asked.pop())
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and requirement.name not in found:
            found.add(requirement.name)
            asked += metadata.requires(requirement.name) or []
    return found


def pack(name: str, into: Path) -> None:
    """Make a wheel again of a distribution that is installed here."""
    distribution = metadata.distribution(name)
    tree = into / f"{name}.tree"
    for file in distribution.files or []:
        if ".." not in file.parts and "__pycache__" not in file.parts:  # not what pip made: scripts
            target = tree / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
    run(sys.executable, "-m", "wheel", "pack", tree, "--dest-dir", into, cwd=into)
    shutil.rmtree(tree)


# ---- installing ---------------------------------------------------------------------------------


def install(artefact: Path, into: Path, wheels: Path) -> Artefact:
    """A fresh environment with the artefact and its dependencies, without even pip."""
    venv.create(into, with_pip=False)
    python = into / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    env = environment(wheels)
    run(*pip, "install", artefact, cwd=into, env=env)
    run(*pip, "check", cwd=into, env=env)
    return Artefact(artefact, python)


def make(folder: Path) -> Release:
    """Everything in `folder`: the wheel is built from the sdist while the sdist is installed."""
    source, wheels = folder / "source", folder / "wheels"
    copy_checkout(source)
    wheels.mkdir()
    with ThreadPoolExecutor(2) as threads:
        packed = [threads.submit(pack, name, wheels) for name in sorted(needed_distributions())]
        sdist = build("sdist", source, folder)
        for one in packed:
            one.result()
        from_sdist = threads.submit(install, sdist, folder / "from_sdist", wheels)
        wheel = build("wheel", unpack(sdist, folder / "unpacked"), folder)
        from_wheel = install(wheel, folder / "from_wheel", wheels)
        return Release(source, from_sdist.result(), from_wheel)
