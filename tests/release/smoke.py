"""A first hour with an installed shmkv: `python -I smoke.py NAME CHECKOUT`, in a folder of its own.

Runs where nothing is but Python, shmkv and its dependencies, and never imports from the checkout.
Uses the store NAME and unlinks it. Prints `smoke: ok` at its end; anything wrong raises.
"""

from __future__ import annotations

import datetime as dt
import decimal
import multiprocessing
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import shmkv

ROUNDS = 20_000
SECONDS = 60

VALUES: dict[str, Any] = {
    "none": None,
    "text": "Grüße",
    "bytes": b"\x00\xff",
    "large": 10**40,
    "list": [1, "two", 3.0, [None, True]],
    "dict": {"a": 1, 2: ("b", b"c"), None: {"nested": [1]}},
    "set": {1, "one"},
    "moment": dt.datetime(2026, 11, 22, 16, 30, tzinfo=dt.timezone.utc),  # noqa: UP017
    "price": decimal.Decimal("19.90"),
    "id": uuid.UUID(int=7),
}


def check_place(checkout: Path) -> None:
    """The package is the one of this environment, all of it."""
    for module in (shmkv, shmkv.errors, shmkv._core):
        file = Path(str(module.__file__)).resolve()
        assert file.is_relative_to(Path(sys.prefix).resolve()), file
        assert not file.is_relative_to(checkout), file
    assert not any(Path(entry).resolve() == checkout for entry in sys.path), sys.path


def count(store: shmkv.Store) -> None:
    """What another process does: it got the handle by pickle."""
    for _ in range(ROUNDS):
        store.incr("hits")
    store["from the other"] = store["list"]
    store.close()


def two_processes(store: shmkv.Store) -> None:
    """Both count on one key, and nothing is lost."""
    other = multiprocessing.get_context("spawn").Process(target=count, args=(store,))
    other.start()
    try:
        for _ in range(ROUNDS):
            store.incr("hits")
        other.join(SECONDS)
        assert other.exitcode == 0, other.exitcode
    finally:
        other.kill()
        other.join()
    assert store["hits"] == 2 * ROUNDS
    assert store["from the other"] == VALUES["list"]


def use(name: str) -> None:
    """What the README shows first."""
    with shmkv.open(name, size="4MiB", create="new") as store:
        for key, value in VALUES.items():
            store[key] = value
            assert store[key] == value, key
            assert type(store[key]) is type(value), key
        store.set("page", b"<html>", ttl=30)
        left = store.ttl("page")
        assert left is not None, "no deadline"
        assert 0 < left <= 30, left
        with store.view("page") as memory:
            assert bytes(memory) == b"<html>"
        two_processes(store)
        command_line(name)
        assert store.get("missing") is None
        report = store.check()
        assert report.ok, report
        assert name in shmkv.names()


def command_line(name: str) -> None:
    """The command is there by both its names, and reads the same store."""
    installed = str(Path(sys.prefix) / "bin" / "shmkv")
    for command in ([installed], [sys.executable, "-I", "-m", "shmkv"]):
        assert said(*command, "--version") == f"shmkv {shmkv.__version__}\n"
        assert said(*command, "get", name, "text") == "Grüße\n"


def said(*command: str) -> str:
    """The output of a command that succeeds."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=SECONDS
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def main() -> None:
    """Use the package, leave nothing."""
    name, checkout = sys.argv[1], Path(sys.argv[2])
    check_place(checkout)
    try:
        use(name)
    finally:
        shmkv.unlink(name, missing_ok=True)
    assert name not in shmkv.names()
    print("smoke: ok")


if __name__ == "__main__":
    main()
