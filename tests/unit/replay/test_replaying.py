"""The verb: words in, figures out, and one line for what is wrong."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shmkv.cli.app import cli

LINES = b"".join(b"key-%d %d\n" % (i * i % 701, 1000 + i * i % 701) for i in range(3000))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A small trace."""
    path = tmp_path / "small.txt"
    path.write_bytes(LINES)
    return path


def call(*args: object) -> Result:
    """Run the verb."""
    return CliRunner().invoke(cli, ["replay", *map(str, args)], prog_name="shmkv")


def test_figures_for_people(trace: Path) -> None:
    done = call(trace, "--size", "2MiB")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "small.txt: 3,000 requests"
    words = [" ".join(line.split()[:2]) for line in lines]
    for wanted in ("hit ratio", "byte hit", "utilisation", "ns per", "copied, bytes"):
        assert any(word.startswith(wanted) for word in words), wanted


def test_json(trace: Path) -> None:
    done = call(trace, "--size", "4m", "--json", "--overwrite", "50", "--limit", "2000")
    assert done.exit_code == 0, done.output
    data = json.loads(done.output)
    assert data["size"] == 4 << 20
    assert data["requests"] == 2000
    assert 850 < data["store"]["reads"] < 1150
    assert data["store"]["reads"] == data["lru"]["reads"]
    assert 0 < data["store_hit_ratio"] < 1


def test_shares_are_of_the_footprint_and_of_the_requests(trace: Path) -> None:
    done = call(trace, "--size", "999%", "--warmup", "50%", "--no-lru", "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.output)
    assert data["lru"] is None
    assert 2 << 20 < data["size"] < 8 << 20
    assert data["store"]["reads"] in (0, 3000)  # rounded to chunks, and there is one


def test_a_share_that_is_no_store(trace: Path) -> None:
    done = call(trace, "--size", "1%")
    assert done.exit_code == 3
    assert "2 MiB to 64 GiB" in done.output


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_curve(trace: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"curve{suffix}"
    done = call(trace, "--curve", path, "--points", "2", "--json")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.output)) >= 1
    start = path.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if suffix == ".png" else b"<?xml" in start
    assert [entry.name for entry in tmp_path.iterdir() if "part" in entry.name] == []


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, "say --size, or --curve"),
        (["--size", "2"], 2, "not between 2 MiB and 64 GiB"),
        (["--size", "big"], 2, "is not a size"),
        (["--size", "2MiB", "--warmup", "x"], 2, "neither a number of requests"),
        (["--size", "2MiB", "--overwrite", "101"], 2, "0<=x<=100"),
        (["--size", "2MiB", "--format", "arc"], 3, "give --value-size"),
        (["--size", "2MiB", "--format", "arc", "--value-size", "4KiB"], 3, ".txt:1: "),
        (["--size", "2MiB", "--value-size", "many"], 2, "write bytes, 8KiB, lognormal"),
        (["--size", "2MiB", "--value-size", "lognormal:1"], 2, "write bytes, 8KiB, lognormal"),
        (["--curve", "x.exe"], 2, "draws .png"),
    ],
)
def test_what_is_wrong(trace: Path, args: list[str], code: int, words: str) -> None:
    done = call(trace, *args)
    assert done.exit_code == code, done.output
    assert words in " ".join(done.output.split())


def test_sizes_for_traces_that_have_none(tmp_path: Path) -> None:
    path = tmp_path / "blocks.lis"
    path.write_bytes(b"1 50 0 0\n1 50 0 1\n")
    done = call(path, "--size", "2MiB", "--value-size", "lognormal:1000,0", "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.output)
    assert data["store"]["read_bytes"] == 100 * 1000
    assert data["store"]["misses"] == 50
