"""Addresses that metrics may be served at, and those that are refused in words."""

from __future__ import annotations

import os

import pytest

from shmkv.metrics import Address, parse


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("127.0.0.1:9101", Address(host="127.0.0.1", port=9101), "http://127.0.0.1:9101/metrics"),
        ("127.9.9.9:0", Address(host="127.9.9.9", port=0), "http://127.9.9.9:0/metrics"),
        ("localhost:65535", Address(host="127.0.0.1", port=65535), None),
        ("[::1]:9101", Address(host="::1", port=9101), "http://[::1]:9101/metrics"),
        ("::1:9101", Address(host="::1", port=9101), None),
        ("unix:/run/shmkv/web", Address(path="/run/shmkv/web"), "unix:/run/shmkv/web"),
        ("unix:web.sock", Address(path=os.path.abspath("web.sock")), None),
        ("unix:/" + "x" * 106, Address(path="/" + "x" * 106), None),
    ],
)
def test_good(text: str, address: Address, shown: str | None) -> None:
    assert parse(text) == address
    if shown is not None:
        assert str(address) == shown


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:9101",
        ":9101",
        "[::]:9101",
        "*:9101",
        "192.168.1.1:9101",
        "8.8.8.8:80",
        "example.org:9101",
        "127.0.0.1.example.org:9101",
        "[::1%lo]:9101",
        "\u0661.0.0.1:9101",
    ],
)
def test_other_hosts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="on this machine only, not on"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no address: write unix:/path or 127.0.0.1:PORT"),
        ("9101", "is no address"),
        ("127.0.0.1", "is no address"),
        ("127.0.0.1:", "is no address"),
        ("127.0.0.1:65536", "is no address"),
        ("127.0.0.1:99999999999999", "is no address"),
        ("127.0.0.1:-1", "is no address"),
        ("127.0.0.1:\u0661", "is no address"),
        ("127.0.0.1:http", "is no address"),
        ("unix:", "names no file"),
        ("unix:/a\0b", "names no file"),
        ("unix:/" + "x" * 107, "too long for a socket"),
    ],
)
def test_what_is_no_address(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)
