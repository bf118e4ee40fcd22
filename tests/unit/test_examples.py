"""Examples without the packages they show but do not need: they say so and do what they can.

`test_tidy.py` runs every example as it is; here a package is hidden from them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 60
HIDE = """
import runpy, sys
sys.modules[sys.argv[1]] = None
runpy.run_path(sys.argv[2], run_name="__main__")
"""


def run_without(package: str, example: str) -> list[str]:
    """The lines an example prints when it cannot import a package."""
    done = subprocess.run(
        [sys.executable, "-c", HIDE, package, str(ROOT / "examples" / example)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_array_needs_numpy() -> None:
    assert run_without("numpy", "02_pool_array.py") == [
        "This example needs numpy: pip install numpy."
    ]


def test_the_comparison_shows_its_half() -> None:
    first, *rest = run_without("diskcache", "06_from_diskcache.py")
    assert first == "diskcache is not installed: this shows the shmkv half."
    assert len(rest) > 10
    assert not [line for line in rest if "cache." in line]
    assert any("store.incr" in line for line in rest)


@pytest.mark.parametrize("package", ["numpy", "diskcache", "cachetools"])
def test_the_package_needs_none_of_them(package: str) -> None:
    words = f"import sys; sys.modules[{package!r}] = None; import shmkv, shmkv.testing"
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, timeout=LIMIT_S)
    assert done.returncode == 0
