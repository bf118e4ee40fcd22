"""Types as users meet them: examples pass mypy --strict, misuse fails, the stub is the module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import shmkv

HERE = Path(__file__).parent
PACKAGE = Path(shmkv.__file__).parent
TIMEOUT = 300


def run(*command: str) -> str:
    """Run a module of this Python; give its output, fail unless it ends well."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=PACKAGE.parent,
        env={**os.environ, "MYPYPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


@pytest.mark.parametrize("name", ["api_examples.py", "api_misuse.py"])
def test_examples(name: str, tmp_path: Path) -> None:
    run(
        "mypy",
        "--strict",
        "--warn-unused-ignores",
        "--config-file=",
        "--follow-imports=silent",  # the package as if installed: its inside is not the user's
        f"--cache-dir={tmp_path}",
        str(HERE / name),
    )


def test_every_public_method_has_an_example() -> None:
    text = (HERE / "api_examples.py").read_text()
    classes = [c for c in shmkv.Store.__mro__ if c.__module__.startswith("shmkv")]
    public = {name for c in classes for name in vars(c) if not name.startswith("_")}
    assert len(public) > 25
    assert {name for name in public if f".{name}" not in text} == set()


def test_the_package_says_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_the_stub_is_the_module() -> None:
    config = HERE.parents[1] / "pyproject.toml"
    run("mypy.stubtest", "--concise", f"--mypy-config-file={config}", "shmkv._core")
