"""The whole screen, driven by textual's own pilot: sizes, keys, a store that goes away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

import shmkv
from shmkv.top.draw import WIDE
from tests.conftest import MIB

pytest.importorskip("textual", reason="needs shmkv[top]")

from textual.pilot import Pilot
from textual.widgets import Footer, Input

from shmkv.top.screen import Top

Open = Callable[..., shmkv.Store]
NEVER = 3600.0  # between two looks: the tests look when they want to


@pytest.fixture
def reader(store: shmkv.Store, open_store: Open) -> shmkv.Store:
    """A read-only handle of a store with some items."""
    for i in range(30):
        store.set(f"user:{i}", b"v" * i)
        store.set(f"page:{i}", i)
    for _ in range(4):
        store.get("page:7")
    return open_store(readonly=True)


def shown(app: Top) -> list[str]:
    """The lines of the view."""
    return app.text().plain.splitlines()


def drive(
    store: shmkv.Store,
    steps: Callable[[Top, Pilot[None]], Awaitable[None]],
    *,
    width: int = 80,
    prefix: str = "",
) -> None:
    """Run the screen with so many columns."""

    async def run() -> None:
        app = Top(store, uid=os.getuid(), interval=NEVER, prefix=prefix)
        async with app.run_test(size=(width, 30)) as pilot:
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(run())


@pytest.mark.parametrize("width", [80, 40])
def test_nothing_that_matters_is_cut(store: shmkv.Store, reader: shmkv.Store, width: int) -> None:
    async def steps(app: Top, pilot: Pilot[None]) -> None:
        store.get("page:7")
        await app.look()
        lines = shown(app)
        assert max(map(len, lines)) <= width - 1
        text = "\n".join(lines)
        for word in ("60 items", "8 M", "reads/s", "hit ratio", "writes/s", "evicted/s"):
            assert word in text
        for word in ("small", "free", "index", "garbage", "expired", "daemon", "none is needed"):
            assert word in text
        assert str(os.getpid()) in text
        assert "  page:7" in text
        assert "…" not in text
        assert ("cleaning" in text) == (width - 1 >= WIDE)
        footer = app.query_one(Footer)
        assert footer.region.width == width
        drawn = "".join(str(one.render()) for one in footer.query("FooterKey"))
        assert all(word in drawn for word in ("quit", "sort", "keys", "prefix", "pause"))

    drive(reader, steps, width=width)


def test_another_width(reader: shmkv.Store) -> None:
    async def steps(app: Top, pilot: Pilot[None]) -> None:
        await pilot.resize_terminal(40, 20)
        await pilot.pause()
        assert max(map(len, shown(app))) <= 39

    drive(reader, steps)


def test_rates_come_with_the_second_look(store: shmkv.Store, reader: shmkv.Store) -> None:
    async def steps(app: Top, pilot: Pilot[None]) -> None:
        (line,) = [one for one in shown(app) if one.startswith("reads/s")]
        assert line.split() == ["reads/s", "0"]
        store.get("page:1")
        await app.look()
        (line,) = [one for one in shown(app) if one.startswith("reads/s")]
        assert line.split()[1] != "0"
        assert line.endswith("█")

    drive(reader, steps)


def test_sorting(reader: shmkv.Store) -> None:
    async def steps(app: Top, pilot: Pilot[None]) -> None:
        assert "(by reads)" in "\n".join(shown(app))
        await pilot.press("s")
        assert "(by writes)" in "\n".join(shown(app))
        await pilot.press("k", "k")
        sizes = [int(one.split()[2]) for one in shown(app) if "  user:" in one]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) > 1

    drive(reader, steps, prefix="user:")


def test_a_prefix(reader: shmkv.Store) -> None:
    async def steps(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"user:1", "enter")
        await pilot.pause()
        text = "\n".join(shown(app))
        assert "beginning user:1" in text
        assert "  user:11" in text
        assert "page:" not in text
        assert not app.query_one("#filter", Input).has_class("asked")
        await pilot.press("slash", *"zzz", "escape")  # given up: nothing changes
        await pilot.press("s")
        assert app.seen.prefix == "user:1"
        assert app.seen.order == "writes"

    drive(reader, steps)


def test_pausing(store: shmkv.Store, reader: shmkv.Store) -> None:
    async def steps(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        store.set("one more", 1)
        await app.look()
        assert "60 items" in shown(app)[0]
        await pilot.press("p")
        await app.look()
        assert "61 items" in shown(app)[0]

    drive(reader, steps)


def test_quitting(reader: shmkv.Store) -> None:
    async def steps(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("q")
        await pilot.pause()
        assert not app.is_running

    drive(reader, steps)


def test_a_store_that_is_removed(store: shmkv.Store, reader: shmkv.Store, open_store: Open) -> None:
    async def steps(app: Top, pilot: Pilot[None]) -> None:
        shmkv.unlink(store.name)
        await app.look()
        assert "the store was removed" in shown(app)[1]
        open_store(size=2 * MIB)
        await app.look()
        assert "made again" in "\n".join(shown(app))
        assert "60 items" in shown(app)[0]

    drive(reader, steps)


def test_trouble_is_said(reader: shmkv.Store) -> None:
    async def steps(app: Top, pilot: Pilot[None]) -> None:
        reader.close()
        await app.look()
        assert "closed" in shown(app)[1]
        assert "60 items" in shown(app)[0]

    drive(reader, steps)
