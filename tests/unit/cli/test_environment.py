"""Variables of the environment as the verbs take them: the same as `open`, with exit code 2."""

from __future__ import annotations

import shmkv
from tests.conftest import MIB
from tests.unit.cli.conftest import Run


def test_the_command_line_names_wrong_variables(run: Run, store: shmkv.Store) -> None:
    store["k"] = "v"
    for args in (("get", store.name, "k"), ("get", "-s", store.name, "k"), ("stats", store.name)):
        said = run(*args, code=2, SHMKV_LOCK_TIMEOUT="soon").stderr
        assert "SHMKV_LOCK_TIMEOUT='soon' in the environment is refused: lock_timeout" in said
    run("ls", SHMKV_LOCK_TIMEOUT="soon")
    assert run("get", store.name, "k", SHMKV_SIZE="2m").stdout == "v\n"


def test_import_makes_a_store_as_the_environment_says(run: Run, store_name: str) -> None:
    assert "[env var: SHMKV_SIZE]" in " ".join(run("import", "--help").stdout.split())
    run("import", store_name, "--create", stdin=b"", SHMKV_SIZE="3MiB")
    with shmkv.open(store_name, create=False) as store:
        assert store.size == 3 * MIB
    run("import", store_name, "--create", stdin=b"", SHMKV_SIZE="4MiB")
    run("import", store_name, stdin=b"", SHMKV_SIZE="4MiB")
    assert "SHMKV_SIZE" in run("import", store_name, stdin=b"", SHMKV_SIZE="x", code=2).stderr
    run("import", store_name, "--size", "3MiB", stdin=b"", code=2)
    run("import", store_name, "--create", "--size", "4MiB", stdin=b"", code=3)
