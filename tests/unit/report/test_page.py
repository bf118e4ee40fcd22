"""What the page says, and what it is: one file, escaped, well-formed, of a bounded size.

Owns: the words and figures; how they look is test_look.py's.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

import shmkv
from shmkv.history import Curve, Moment, Point, Remembered
from shmkv.report import Seen, charts, gather, render, telling
from shmkv.report.page import BYTES_MOST, tied
from shmkv.report.pages import CELLS, LEVELS, QUEUED, Cell
from shmkv.report.tables import shown
from shmkv.report.telling import hit_ratio_at, view
from shmkv.top.sample import Attachment
from tests.conftest import MIB, unique_name
from tests.unit.report import made
from tests.unit.report.test_gather import found

VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """A page as a browser would read it: its headings, its text, its tags."""

    def __init__(self, data: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[int, str]] = []
        self.words: list[str] = []
        self.feed(data.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "title"):
            return
        if self.open and re.fullmatch("h[1-6]", self.open[-1]):
            self.headings.append((int(self.open[-1][1]), data))
        self.words.append(data)

    @property
    def text(self) -> str:
        """All of it, as one line."""
        return re.sub(r"\s+", " ", "".join(self.words)).replace("\u00a0", " ")


def looked(store: shmkv.Store) -> Seen:
    """A look at a store."""
    return gather(store, found(store.name), when=made.NOW)


def page(seen: Seen) -> Page:
    """Its page, read back."""
    return Page(render(seen, zone=dt.UTC))


@pytest.fixture(scope="module")
def full() -> Iterator[Seen]:
    """A store with everything there may be to tell."""
    name = unique_name()
    try:
        with shmkv.open(name, size="4MiB") as store:
            made.fill(store, 20_000)
            yield replace(looked(store), past=made.remembered(store.size))
    finally:
        shmkv.unlink(name, missing_ok=True)


@pytest.fixture(scope="module")
def html(full: Seen) -> bytes:
    """Its page."""
    return render(full, zone=dt.UTC)


# ---- what it is ---------------------------------------------------------------------------------


def test_a_page_is_one_file_that_needs_nothing(html: bytes) -> None:
    read, text = Page(html), html.decode()
    assert {"script", "link", "iframe", "img", "object"}.isdisjoint(tag for tag, _ in read.tags)
    for tag, attrs in read.tags:
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value is not None
                assert value.startswith("#"), (tag, value)
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert not re.search(r"(?:fill|stroke): #", text)  # colours are names of the style sheet
    assert ("html", {"lang": "en"}) in read.tags


def test_ids_are_there_once(html: bytes) -> None:
    read = Page(html)
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) > 3
    named = {(attrs.get("xlink:href") or "#")[1:] for tag, attrs in read.tags if tag == "use"}
    assert named <= set(ids)


def test_headings_are_in_order_and_pictures_have_words(html: bytes) -> None:
    read = Page(html)
    levels = [level for level, _ in read.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    pictures = [attrs for tag, attrs in read.tags if tag == "svg"]
    assert len(pictures) == 7
    for attrs in pictures:
        assert attrs["role"] == "img"
        assert len(attrs["aria-label"] or "") > 20


def test_the_same_store_gives_the_same_page(full: Seen, html: bytes) -> None:
    assert render(full, zone=dt.UTC) == html


@pytest.mark.parametrize("key", made.ODD_KEYS, ids=lambda key: ascii(key[:12]))
def test_odd_keys_are_escaped(store: shmkv.Store, key: str | bytes) -> None:
    store.set(key, b"x" * 100)
    store.set(key + (b":1" if isinstance(key, bytes) else ":1"), b"x")
    store.set(key + (b":2" if isinstance(key, bytes) else ":2"), b"x")
    read = page(looked(store))
    assert shown(key) in read.text
    assert {"b", "script", "img"}.isdisjoint(tag for tag, _ in read.tags)
    assert all(char.isprintable() for char in read.text)


def test_long_keys_are_cut_with_their_length() -> None:
    assert shown("a" * 60_000).endswith("aaa… (60,000 bytes)")
    assert shown(b"\xff" * 300).endswith("xff… (300 bytes)")
    assert shown("a" * 96) == "a" * 96
    assert len(shown("ü" * 97)) < 120


def test_the_worst_page_is_small_enough(full: Seen) -> None:
    """A map in which no two neighbours are alike, and as much of all else as there may be."""
    seen = full
    assert seen.map is not None
    assert seen.sample is not None
    cells = tuple(Cell(QUEUED + i % 16, i // 16 % LEVELS) for i in range(CELLS))
    attachments = tuple(
        Attachment(n, n, "<&" * 32, 0.0, True, False, seen.sample.attachments[0].totals)
        for n in range(1, 257)
    )
    many = tuple(
        moment(60.0 * i, i * 7919 % 1000, i * 104_729 % 1000)._replace(evicted=i * 31 % 17)
        for i in range(20_000)
    )
    worst = replace(
        seen,
        map=seen.map._replace(cells=cells, pages=1 << 20, per_cell=256),
        sample=replace(seen.sample, attachments=attachments),
        past=Remembered(many, made.curve(4 * MIB, until=made.NOW)),
    )
    data = render(worst, zone=dt.UTC)
    assert len(data) < BYTES_MOST / 2
    assert "And 232 more" in Page(data).text


def test_moments_that_cannot_be_told_apart_are_drawn_as_one() -> None:
    moments = made.moments(until=made.NOW)
    few = charts.thinned(moments)
    assert len(few) <= charts.STEPS + 1 < len(moments)
    for name in ("hits", "misses", "evicted"):
        assert sum(getattr(one, name) for one in few) == sum(getattr(one, name) for one in moments)
    assert few[0].start == moments[0].start
    assert all(one.start + one.seconds <= after.start + 1e-3 for one, after in pairwise(few))
    assert charts.thinned(moments[:5]) == list(moments[:5])


def test_a_map_of_one_kind_is_a_few_strokes() -> None:
    svg = charts.map_svg([Cell(0, 3)] * 4090, lambda cell: "free", "a map")
    assert len(svg) < 1500


# ---- what it says -------------------------------------------------------------------------------


def test_figures_of_the_head(store: shmkv.Store) -> None:
    for i in range(30):
        store.set(f"k{i}", i)
    for i in range(40):
        store.get(f"k{i}")
    told = {one.label: (one.value, one.note) for one in view(looked(store), dt.UTC).figures}
    assert told["Hit ratio"] == ("75.0 %", "of 40 reads")
    assert told["Items"] == ("30", "30 in the index")
    assert told["Attached"][0] == "1"
    assert told["Live bytes"][1].endswith(" of 8 MiB")


def test_an_empty_store_says_what_is_not_known(store: shmkv.Store) -> None:
    text = page(looked(store)).text
    assert "nothing was read yet" in text
    assert (
        "No daemon has kept a history. One does from the moment it is started:"
        f" shmkv daemon {store.name}"
    ) in text
    assert "No daemon has kept a curve of hit ratio over size" in text
    assert "There are none." in text


def test_a_daemon_without_a_history_is_told_so(store: shmkv.Store) -> None:
    seen = looked(store)
    assert seen.sample is not None
    with_one = replace(seen, sample=replace(seen.sample, has_daemon=True))
    assert "The daemon of this store has kept no history yet." in page(with_one).text


def moment(start: float, hits: int, misses: int) -> Moment:
    """A minute."""
    return Moment(start, 60.0, hits, misses, 0, 0, 0, 0, 1, 1, 1)


def test_the_past_in_a_sentence() -> None:
    day = 1_800_000_000.0
    moments = (moment(day, 90, 10), moment(day + 60, 50, 50), moment(day + 120, 0, 1))
    assert telling.past_words(moments, dt.UTC).replace("\u00a0", " ") == (
        "69.7 % of 201 reads hit in the 3 min that the daemon remembers. Fewest did from"
        " 15 Jan 2027, 08:01, for 60 s: 50.0 %."
    )
    assert "Nothing was read in the 60 s" in telling.past_words((moment(day, 0, 0),), dt.UTC)


def test_moments_without_length_are_left_out(store: shmkv.Store) -> None:
    moments = (moment(0.0, 1, 1)._replace(seconds=0.0), moment(60.0, 0, 0))
    told = view(replace(looked(store), past=Remembered(moments, None)), dt.UTC).past
    assert told.text.startswith("Nothing was read")
    assert len(told.pictures) == 3


def curve_of(*points: tuple[float, float], size: int = 8 * MIB) -> Curve:
    """A curve, given its points in MiB."""
    sizes = tuple(Point(int(mib * MIB), hit) for mib, hit in points)
    return Curve(0.0, 60.0, 0.01, 10, 1000, size, 0.5, sizes)


def what_if(*points: tuple[float, float]) -> str:
    """The sentence for a store of 8 MiB."""
    return telling.what_if_words(curve_of(*points), 8 * MIB)


def test_what_if_in_a_sentence() -> None:
    assert what_if((4, 0.4), (8, 0.6), (16, 0.65)) == (
        "With half the memory (4 MiB) 40.0 % of reads would hit, 20.0 points fewer than with the"
        " present 8 MiB. With twice the memory (16 MiB) 65.0 % of reads would hit, 5.0 points more"
        " than with the present 8 MiB."
    )
    assert "65.0 % of reads would hit, as with the present" in what_if((8, 0.65), (16, 0.65))
    assert what_if((8, 0.6)) == "The curve does not reach half or twice the present 8 MiB."


def test_what_if_of_a_store_that_has_grown_since() -> None:
    grown = curve_of((1, 0.1), (2, 0.2), (4, 0.3), (8, 0.4), (16, 0.5), size=4 * MIB)
    assert "With twice the memory (16 MiB) 50.0 %" in telling.what_if_words(grown, 8 * MIB)


def test_a_curve_without_points_is_none(store: shmkv.Store) -> None:
    seen = replace(looked(store), past=Remembered((), curve_of()))
    assert "No daemon has kept a curve" in view(seen, dt.UTC).what_if.text


@pytest.mark.parametrize(
    "points",
    [((8, 0.0),), ((8, 1.0), (8, 1.0)), ((0.001, 0.99), (1 << 16, 0.991))],
    ids=["one", "twice the same", "far"],
)
def test_charts_of_odd_curves_can_be_drawn(points: tuple[tuple[float, float], ...]) -> None:
    drawn = charts.what_if(curve_of(*points), 8 * MIB, "a label")
    assert [svg.count("now 8 MiB") for svg in drawn] == [1, 1, 1]


def test_the_curve_between_its_points() -> None:
    curve = Curve(0, 1, 1, 1, 1, 4, 0.5, (Point(4, 0.2), Point(16, 0.4), Point(16, 0.4)))
    assert hit_ratio_at(curve, 8) == pytest.approx(0.3)
    assert hit_ratio_at(curve, 16) == pytest.approx(0.4)
    assert hit_ratio_at(curve, 17) is None
    assert hit_ratio_at(curve._replace(points=(Point(4, 0.2),)), 4) == 0.2


def test_figures_are_tied_to_their_units() -> None:
    assert tied("of 12 MiB, 3 % in 5 min by 8 mules") == (
        "of 12\u00a0MiB, 3\u00a0% in 5\u00a0min by 8 mules"
    )


def test_a_sample_is_told_as_one(store: shmkv.Store) -> None:
    made.fill(store, 3000)
    seen = gather(store, found(store.name), when=made.NOW, most=500)
    text = page(seen).text
    assert re.search(r"random sample: 500 of [\d,]+ items, \d\d\.\d %", text)
    assert "Largest items of the sample" in text
    assert "~ " in text
