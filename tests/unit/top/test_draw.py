"""The view as text: every width, figures, keys that must not act on a terminal."""

from __future__ import annotations

import pytest

from shmkv.top.draw import View, count, duration, percent, safe, screen_lines, size
from shmkv.top.hot import Heat, Hot
from shmkv.top.model import Frame
from tests.unit.top.made import attachment, busy, sample

HEAT = Heat(
    (5, 4, 3, 30),
    (Hot("user:" + "7" * 90, 3, 12.0, 4096), Hot(b"\x1b[31m", 2, 0.5, 128), Hot("plain", 1, 9, 64)),
    0.01,
)


def drawn(width: int, **view: str) -> list[str]:
    frame, histories = busy()
    lines = screen_lines("web", frame, histories, HEAT, width=width, view=View(**view))
    return [line.text for line in lines]


@pytest.mark.parametrize("width", [1, 36, 40, 41, 63, 64, 79, 80, 120, 300])
def test_no_line_is_longer_than_the_screen(width: int) -> None:
    lines = drawn(width, note="the store was removed " * 5, prefix="user:" * 40)
    assert max(map(len, lines)) <= max(width, 36)


@pytest.mark.parametrize("width", [40, 80])
def test_what_matters_is_there(width: int) -> None:
    lines = drawn(width)
    text = "\n".join(lines)
    head = {line[:10].strip(): line for line in lines}
    assert lines[0].startswith("web  123M items  64 M")
    assert "1.3M" in head["reads/s"]
    assert "96.1 %" in head["hit ratio"]
    assert "6,172" in head["writes/s"]
    assert "500" in head["evicted/s"]
    assert "\nsmall          6 M   4.5 M      1 M" in text
    assert "56 M" in head["main 3"]
    assert "121 K" in head["main 3"]
    assert "    450      900" in text  # left the small queue: a second, in all
    assert "4190015" in text
    assert "  worker15" in text
    assert "100 %" in text
    assert "7,500" in text
    assert "and 4 more" in text
    assert "damage" in head
    assert "hottest key" in text
    assert "\n     3+  " in text
    assert any(line.endswith("…") and "user:777" in line for line in lines)
    assert "30 items stand at 3+" in text
    # nothing is cut but the long key and the sign of it
    assert sum("…" in line for line in lines) == 1


def test_wide_screens_show_more() -> None:
    wide, narrow = "\n".join(drawn(80)), "\n".join(drawn(40))
    for word in ("cleaning", "evicts/s", "bytes  hottest", "not read in the small queue"):
        assert word in wide
        assert word not in narrow
    # sparklines take what is left
    assert len(drawn(80)[2]) == 80
    assert len(drawn(40)[2]) == 40


def test_what_is_chosen_is_said() -> None:
    text = "\n".join(drawn(80, order="writes", key_order="size", prefix="us\n", note="gone"))
    assert "(by writes)" in text
    assert "(by size)" in text
    assert "beginning us\\n" in text
    assert "\ngone\n" in text


def test_keys_do_not_act_on_a_terminal() -> None:
    text = "\n".join(drawn(80))
    assert "\x1b" not in text
    assert "\\x1b[31m" in text
    assert safe("a\u202eb\n") == "a\\u202eb\\n"
    assert safe(b"\xff\x00") == "\\xff\\x00"


def test_an_empty_store() -> None:
    frame = Frame.of(None, sample(0.0))
    lines = [one.text for one in screen_lines("e", frame, busy()[1], None, width=40)]
    assert "nobody is attached to write" in lines
    assert any("not looked yet" in line for line in lines)
    lines = [
        one.text for one in screen_lines("e", frame, busy()[1], Heat((0,) * 4, (), 0.0), width=40)
    ]
    assert "no items" in lines


def test_the_daemon_is_named() -> None:
    helper = attachment(5, pid=321)._replace(is_daemon=True)
    one = sample(0.0, helper)
    frame = Frame.of(None, type(one)(one.at, one.when, one.totals, (helper,), (), True))
    text = "\n".join(line.text for line in screen_lines("e", frame, busy()[1], None, width=80))
    assert "works, process 321" in text
    assert "  daemon" in text.split("program")[1]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.25, "0.2"),
        (9.96, "10"),
        (42.4, "42"),
        (999.4, "999"),
        (999.6, "1,000"),
        (9_999, "9,999"),
        (9_999.6, "10k"),
        (12_345, "12.3k"),
        (433_000, "433k"),
        (999_600, "1M"),
        (4_200_000, "4.2M"),
        (5e9, "5G"),
        (7e15, "7000T"),
    ],
)
def test_counts(number: float, text: str) -> None:
    assert count(number) == text


def test_sizes_ratios_durations() -> None:
    assert [size(n) for n in (0, 1023, 1536, 240 << 20, 3 << 30)] == [
        "0 B",
        "1023 B",
        "1.5 K",
        "240 M",
        "3 G",
    ]
    assert [percent(r) for r in (None, 0.0, 0.9994, 0.9996, 1.0)] == [
        "-",
        "0.0 %",
        "99.9 %",
        "100 %",
        "100 %",
    ]
    assert [duration(s) for s in (0, 99, 100, 7200, 200_000, 1e9)] == [
        "0s",
        "99s",
        "2m",
        "2h",
        "2d",
        "999d",
    ]
