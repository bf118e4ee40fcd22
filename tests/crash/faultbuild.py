"""The build of the package that the crash matrix runs on.

Owns the way to `shmkv._core` with living FAULT(name) points, and the list of those names as the
sources have them. `load()` puts a finder in front of the import system that answers for that one
module; all other modules of the package come from the checkout. It is called once, before the first
import of `shmkv`, in an interpreter of its own, so that the ordinary tests keep the release build.

Promises: a missing build, or one that was made of other sources, is said in one sentence.
Does not: compile (`make build` does).
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "shmkv" / "_csrc"
FAULT_BUILD = ROOT / "build" / "fault" / "shmkv"
MODULE = "shmkv._core"


class _Finder(importlib.abc.MetaPathFinder):
    """Answers for the extension module, and for nothing else."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != MODULE:
            return None
        return importlib.util.spec_from_file_location(fullname, self._file)


def names_in_sources() -> set[str]:
    """Every name that stands in a FAULT(...) of the C sources; fault.[ch] define the macro."""
    names: set[str] = set()
    for file in SOURCES.glob("*.[ch]"):
        if file.stem != "fault":
            names |= set(re.findall(r"\bFAULT\((\w+)\)", file.read_text()))
    return names


def load() -> None:
    """Make every later `import shmkv` use the build with fault points."""
    if MODULE in sys.modules:
        raise RuntimeError(f"{MODULE} was imported before the fault build could be chosen")
    files = sorted(FAULT_BUILD.glob("_core*.so"))
    if len(files) != 1:
        raise SystemExit(f"{FAULT_BUILD} holds {len(files)} extension modules: run 'make build'.")
    sys.meta_path.insert(0, _Finder(files[0]))
    from shmkv import _core

    if not hasattr(_core, "fault_arm"):
        raise SystemExit(f"{files[0]} was built without fault points: run 'make build'.")
    built = set(_core.fault_sites())
    if built != names_in_sources():
        differing = ", ".join(sorted(built ^ names_in_sources()))
        raise SystemExit(f"{files[0]} is not of these sources ({differing}): run 'make build'.")
