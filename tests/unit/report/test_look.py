"""Pages in Chromium, narrow to wide, light and dark: nothing overlaps, is cut, faint or too wide.

Owns: the stores whose pages are looked at, and the proof that each defect would be seen. Where
there is no Chromium, these tests are NOT RUN.

Promises: names lead nowhere, so a page that asks for anything fails; pages are files of a temporary
folder.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import shmkv
from shmkv.inspect.survey import Found, survey
from shmkv.report import Seen, gather, render, salvage
from tests.conftest import MIB, SHM, unique_name
from tests.unit.report import made
from tests.unit.report.chromium import MISSING, Browser

WIDTHS = (360, 800, 1400)
MEASURE = Path(__file__).with_name("measure.js").read_text()
SCENES = ("empty", "small", "full", "odd", "damaged", "attached")
PLANT = """(() => {{
  const one = document.createElement("{tag}");
  one.style.cssText = "{style}";
  one.textContent = "planted here, to be seen";
  document.{where}.append(one);
}})()"""
PLANT_SVG = """(() => {{
  const svg = [...document.querySelectorAll(".charts svg")].find((one) => one.clientWidth);
  const one = document.createElementNS("http://www.w3.org/2000/svg", "text");
  one.setAttribute("x", {x});
  one.setAttribute("y", {y});
  one.style.cssText = "{style}";
  one.textContent = "planted in a chart";
  svg.append(one);
}})()"""
DEFECTS = {
    "wide": PLANT.format(tag="p", where="body", style="width: 2000px; max-width: none"),
    "overlap": PLANT.format(
        tag="p", where="querySelector('h1')", style="position: absolute; top: 30px; left: 20px"
    ),
    "cut": PLANT.format(
        tag="p", where="body", style="width: 60px; overflow: hidden; white-space: nowrap"
    ),
    "faint": PLANT.format(tag="p", where="body", style="color: rgba(128, 128, 128, 0.6)"),
    "small": PLANT.format(tag="p", where="body", style="font-size: 8px"),
}
SVG_DEFECTS = {
    "wide": PLANT_SVG.format(x="'95%'", y=30, style="fill: var(--ink); font-size: 40px"),
    "overlap": PLANT_SVG.format(x="'20'", y=10, style="fill: var(--ink); font-size: 9px"),
    "faint": PLANT_SVG.format(x="'20'", y="'60%'", style="fill: var(--line); font-size: 9px"),
    "small": PLANT_SVG.format(x="'20'", y="'60%'", style="fill: var(--ink); font-size: 4px"),
}

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"NOT RUN: {MISSING}"),
    pytest.mark.timeout(240),
]


# ---- pages --------------------------------------------------------------------------------------


def found(name: str) -> Found:
    """The segment of a store of this user."""
    (one,) = survey(SHM, name=name)
    return one


def looked_at(name: str) -> Seen:
    """What a report has of a store."""
    with shmkv.open(name, readonly=True) as store:
        return gather(store, found(name), when=made.NOW)


def scene(which: str, name: str) -> Seen:
    """A store, as a report sees it."""
    if which == "empty":
        shmkv.open(name, size="64MiB").close()
        return looked_at(name)
    if which == "odd":
        with shmkv.open(name, size="4MiB") as store:
            made.fill_oddly(store)
        past = made.remembered(4 * MIB)
        return replace(looked_at(name), past=past._replace(moments=past.moments[-1:]))
    if which == "attached":
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(shmkv.open(name, size="2MiB"))
            return looked_at(name)
    with shmkv.open(name, size="4MiB" if which == "full" else "2MiB") as store:
        made.fill(store, 20_000 if which == "full" else 50)
    seen = looked_at(name)
    if which == "full":
        return replace(seen, past=made.remembered(4 * MIB))
    if which == "damaged":
        file = found(name)
        with open(file.path, "r+b") as segment:
            segment.write(b"\x13" * 12)
        return salvage(found(name), found(name).why, when=made.NOW)
    return seen


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A file for each scene."""
    folder = tmp_path_factory.mktemp("pages")
    files = {}
    with contextlib.ExitStack() as stack:
        for which in SCENES:
            name = f"{unique_name()}-{'long_name.' * 6}{which}" if which == "odd" else unique_name()
            stack.callback(shmkv.unlink, name, missing_ok=True)
            files[which] = folder / f"{which}.html"
            files[which].write_bytes(render(scene(which, name), zone=dt.UTC))
        yield files


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all."""
    with Browser() as one:
        yield one


def seen_wrong(browser: Browser) -> list[str]:
    """What is wrong with the page that is shown."""
    browser.whole()
    wrong: list[str] = browser.run(MEASURE)
    return wrong


# ---- what must not be ---------------------------------------------------------------------------


@pytest.mark.parametrize("which", SCENES)
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_are_well_to_read(
    browser: Browser, pages: dict[str, Path], which: str, width: int
) -> None:
    for dark in (False, True):
        assert browser.show(pages[which], width=width, dark=dark) == []
        assert seen_wrong(browser) == []


def test_dark_is_dark_and_light_is_light(browser: Browser, pages: dict[str, Path]) -> None:
    paper = {}
    for dark in (False, True):
        browser.show(pages["full"], width=800, dark=dark)
        paper[dark] = browser.run("getComputedStyle(document.body).backgroundColor")
    assert paper == {False: "rgb(252, 251, 249)", True: "rgb(21, 23, 26)"}


def test_paper_is_light(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show(pages["full"], width=800, dark=True, media="print")
    assert seen_wrong(browser) == []
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(252, 251, 249)"


def test_each_width_has_one_chart_of_its_own(browser: Browser, pages: dict[str, Path]) -> None:
    shown = []
    for width in WIDTHS:
        browser.show(pages["full"], width=width, dark=False)
        script = "[...document.querySelectorAll('.charts svg')].filter(s => s.clientWidth)"
        shown.append(browser.run(f"{script}.map(s => s.classList[0]).join()"))
    assert shown == ["narrow,narrow", "middle,middle", "wide,wide"]


def test_keys_with_markup_are_shown_and_do_nothing(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.show(pages["odd"], width=800, dark=False)
    assert browser.run("document.scripts.length") == 0
    assert browser.run("document.images.length") == 0
    assert "broken" not in browser.run("document.title")
    text = browser.run("document.body.innerText")
    assert made.MARKUP in text
    assert "<img src=x onerror=alert(1)>" in text
    assert "{{ 7 * 7 }}" in text


# ---- the eyes themselves ------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_seen(
    browser: Browser, pages: dict[str, Path], defect: str, dark: bool
) -> None:
    browser.show(pages["full"], width=360, dark=dark)
    browser.run(DEFECTS[defect])
    assert any(text.startswith(f"{defect}:") for text in seen_wrong(browser))


@pytest.mark.parametrize("defect", SVG_DEFECTS)
def test_a_defect_planted_in_a_chart_is_seen(
    browser: Browser, pages: dict[str, Path], defect: str
) -> None:
    browser.show(pages["full"], width=800, dark=True)
    browser.run(SVG_DEFECTS[defect])
    wrong = seen_wrong(browser)
    assert any(text.startswith(f"{defect}:") and "<text>" in text for text in wrong), wrong


def test_a_page_that_asks_for_something_is_seen(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "asks.html"
    page.write_text('<!doctype html><img src="http://example.invalid/a.png"><p>text')
    assert browser.show(page, width=800, dark=False) == ["http://example.invalid/a.png"]


def test_the_policy_of_a_page_keeps_scripts_out(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    """Should something get past the escaping after all."""
    page = tmp_path / "hit.html"
    page.write_bytes(
        pages["small"]
        .read_bytes()
        .replace(b"</main>", f"{made.MARKUP}<img src=http://example.invalid/></main>".encode())
    )
    browser.show(page, width=800, dark=False)
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.title") != "broken"
