"""The C extension `shmkv._core`; everything else about the package stands in pyproject.toml.

Owns the compiler's flags, what the sdist holds beyond the package (the whole checkout but its dot
files: who builds from it can also test it), and one sentence about what a host lacks. `SHMKV_BUILD`
picks one of the builds in `BUILDS`; without it the release is built. Built against the Limited API
of Python 3.11, one file serves every later version; a free-threaded Python has no such API and gets
a file of its own.

`python setup.py build_ext` compiles always, so that a change of `SHMKV_BUILD` can never leave
objects of another build in place. Knowing when nothing changed is the Makefile's work.
"""

import glob
import os
import subprocess
import sys
import sysconfig
from typing import NamedTuple

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist


class Build(NamedTuple):
    """Flags of one build."""

    compile: list[str]
    link: list[str]
    macros: list[tuple[str, str]]


ASAN = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
CHECKED = ["-UNDEBUG", "-g3", "-fno-omit-frame-pointer"]

BUILDS = {
    # Without -g, which Python's own flags ask for: the file is a fifth as large, and the same
    # wherever it is built. Function names stay, for profilers; `debug` has the lines.
    "release": Build(["-O2", "-g0"], [], []),
    "fault": Build(["-O2"], [], [("KV_FAULT", "1")]),
    "debug": Build(["-Og", *CHECKED], [], [("KV_DEBUG", "1")]),
    "asan": Build(["-O1", *CHECKED, *ASAN], ASAN, []),
    "tsan": Build(["-O1", *CHECKED, "-fsanitize=thread"], ["-fsanitize=thread"], []),
    "cov": Build(["-O0", *CHECKED, "--coverage"], ["--coverage"], [("KV_FAULT", "1")]),
    # The Python part only: `make venv` uses it, so that a missing compiler is never its problem.
    "none": Build([], [], []),
}

WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion"]


# What compiling needs, in the order in which it can be missed.
NEEDS = [
    ("a C compiler that works", "int shmkv;"),
    ("the headers of the C library and of Linux", "#include <stdlib.h>\n#include <linux/futex.h>"),
    ("Python.h, the headers of Python", "#include <Python.h>"),
]


class Compile(build_ext):
    """Compiles, but first says in one sentence what is missing for it."""

    def build_extensions(self) -> None:
        """Ask the compiler itself: only that proves headers usable."""
        command = [*self.compiler.compiler_so, *(f"-I{d}" for d in self.compiler.include_dirs)]
        for need, source in NEEDS:
            if not compiles(command, source):
                sys.exit(
                    f"shmkv cannot be compiled here for want of {need} (the compiler is"
                    f" '{command[0]}'): on Debian run 'apt-get install gcc libc6-dev python3-dev'"
                    " as root, or set CC to a C compiler."
                )
        super().build_extensions()


def compiles(command: list[str], source: str) -> bool:
    """Does the compiler accept this source?"""
    probe = [*command, "-isystem", sysconfig.get_path("include"), "-fsyntax-only", "-xc", "-"]
    try:
        done = subprocess.run(probe, input=source, text=True, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return done.returncode == 0


class Sources(sdist):
    """The sdist: the checkout without dot files and without what was built in it."""

    def make_distribution(self) -> None:
        """Add what setuptools does not take by itself: tests, examples, READMEs, the Makefile."""
        for room in ("shmkv", "tests", "examples"):
            self.filelist.graft(room)
        self.filelist.extend(["CHANGELOG.md", "Makefile"])
        for made in ("*.py[cod]", "*.so", "*.o", "*.gcda", "*.gcno"):
            self.filelist.global_exclude(made)
        super().make_distribution()


def core(build: Build) -> Extension:
    """The extension with the flags of `build`."""
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    # Python's own headers are not ours to warn about: as system headers they are silent.
    headers = ["-isystem", sysconfig.get_path("include")]
    limited = [] if free_threaded else [("Py_LIMITED_API", "0x030B0000")]
    return Extension(
        "shmkv._core",
        sources=sorted(glob.glob("shmkv/_csrc/*.c")),
        depends=sorted(glob.glob("shmkv/_csrc/*.h")),
        define_macros=[("_GNU_SOURCE", "1"), *limited, *build.macros],
        extra_compile_args=["-std=c11", "-fvisibility=hidden", *headers, *WARNINGS, *build.compile],
        extra_link_args=build.link,
        py_limited_api=not free_threaded,
    )


def main() -> None:
    """Check what can be known before compiling, then hand over to setuptools."""
    if not sys.platform.startswith("linux"):
        sys.exit(
            f"shmkv runs on Linux only (this is {sys.platform}): use a Linux host or container."
        )
    name = os.environ.get("SHMKV_BUILD") or "release"
    if name not in BUILDS:
        sys.exit(f"SHMKV_BUILD={name} is not a build: choose one of {', '.join(BUILDS)}.")
    extension = core(BUILDS[name])
    options = {"build_ext": {"force": "1"}}
    if extension.py_limited_api and name != "none":
        options["bdist_wheel"] = {"py_limited_api": "cp311"}
    setup(
        ext_modules=[] if name == "none" else [extension],
        cmdclass={"build_ext": Compile, "sdist": Sources},
        options=options,
    )


main()
