"""Items and entries, decoded a second time: what they say, and every way to be wrong."""

from __future__ import annotations

import random

import pytest

from shmkv.disk import items
from shmkv.disk.items import ItemError

ONE = items.pack_item(
    "k\u00e9y", items.STR, "v\u00e4lue".encode(), deadline=77, counter=3, main=True
)
TWO = items.pack_item(b"\xff", items.INT, (5).to_bytes(8, "little"))


def test_items_come_back() -> None:
    one, two = items.items(ONE + TWO)
    assert one[:6] == ("k\u00e9y".encode(), True, items.STR, 77, 3, True)
    assert two[:6] == (b"\xff", False, items.INT, None, 0, False)
    assert (ONE + TWO)[two.value_at : two.end] == (5).to_bytes(8, "little")
    assert (one.end, two.end) == (len(ONE), len(ONE) + len(TWO))
    assert (one.type_name, two.type_name) == ("str", "int")


def test_an_item_lies_as_drawn() -> None:
    flags = 1 | 2 | 3 << 2 | 16
    head = (6).to_bytes(4, "little") + (4).to_bytes(2, "little") + bytes([2, flags])
    assert head + (77).to_bytes(8, "little") + "k\u00e9yv\u00e4lue".encode() == ONE


def test_entries_come_back() -> None:
    data = items.pack_entry(9, [ONE, TWO]) + items.pack_entry(8, [])
    (first, found), (second, nothing) = items.entries(data)
    assert (first, second, nothing) == (9, 8, [])
    assert [one.key for one in found] == ["k\u00e9y".encode(), b"\xff"]
    assert data[:9] == (9).to_bytes(8, "little") + b"\2"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (TWO[:6] + b"\0" + TWO[7:], "unknown type 0"),
        (TWO[:6] + b"\x15" + TWO[7:], "unknown type 21"),
        (TWO[:7] + b"\x20" + TWO[8:], "unknown flags"),
        (TWO[:4] + b"\0\0" + TWO[6:], "without a key"),
        (TWO[:4] + b"\xff\xff" + TWO[6:], "65535 bytes is cut off"),
        (b"\x07" + TWO[1:], "type int with 7 bytes"),
        (items.pack_item("k", items.FLOAT, b"1234"), "type float with 4 bytes"),
        (items.pack_item("k", items.BOOL, b"\2"), "a bool that is 2"),
        (items.pack_item("k", items.BOOL, b""), "type bool with 0 bytes"),
        (items.pack_item("k", items.NONE, b"x"), "type None with 1 bytes"),
        (items.pack_item("k", items.STR, b"\xff"), "a str that is no UTF-8"),
        (TWO[:7] + b"\1" + TWO[8:], "key is no UTF-8"),
        (ONE[:-1], "some are cut off"),
        (ONE[:5], "5 bytes are left"),
    ],
)
def test_what_is_no_item(data: bytes, words: str) -> None:
    with pytest.raises(ItemError, match=words) as caught:
        list(items.items(TWO + data))
    assert caught.value.at == len(TWO)


def test_entries_that_are_cut() -> None:
    data = items.pack_entry(9, [ONE, TWO])
    for length in range(1, len(data)):
        with pytest.raises(ItemError):
            list(items.entries(data[:length]))


def test_random_bytes_never_crash() -> None:
    chance = random.Random(20_261_122)
    refused = 0
    for _ in range(3000):
        data = bytearray(ONE + TWO)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            for one in items.items(data):
                assert 0 < one.end <= len(data)
        except ItemError:
            refused += 1
    assert refused > 1000
