"""The view on the whole terminal, by textual.

Owns: when a store is looked at, which key does what, colours. The text itself is of `draw`.

Promises: the store is looked at once an interval, hot keys so seldom that looking for them takes at
most a hundredth of the time, both in a thread of their own: the screen answers meanwhile. A store
that is removed or remade, or damaged, is said and the last figures stay.

Does not: compute (`model`), or end with a traceback because of a store.
"""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.widgets import Footer, Input, Static

from shmkv.errors import Error
from shmkv.store import Store
from shmkv.top.draw import View, screen_lines
from shmkv.top.hot import Heat, ranked
from shmkv.top.model import KEY_ORDERS, ORDERS, Frame, Meter, next_of
from shmkv.top.sample import fate

STYLES = {"plain": "", "head": "bold", "bad": "bold red", "dim": "dim"}
HOT_SHARE = 100  # a look for hot keys is followed by so many times its length without
HOT_SHOWN = 20
GONE = {
    "removed": "the store was removed: its users go on with it, nobody finds it any more",
    "remade": "the store was removed and made again: this is the old one, start top again",
}


class Top(App[None]):
    """The screen of one store."""

    CSS = """
    VerticalScroll { scrollbar-size-vertical: 1; }
    #filter { dock: bottom; display: none; height: 3; }
    #filter.asked { display: block; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("s", "sort", "sort"),
        Binding("k", "sort_keys", "keys"),
        Binding("slash", "filter", "prefix", key_display="/"),
        Binding("p", "pause", "pause"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("escape", "leave_filter", show=False),
    ]

    def __init__(self, store: Store, *, uid: int, interval: float, prefix: str = "") -> None:
        super().__init__()
        self._store = store
        self._uid = uid
        self._interval = interval
        self._meter = Meter(store)
        self._frame: Frame | None = None
        self._heat: Heat | None = None
        self._hot_at = 0.0
        self._looking = False
        self._paused = False
        self._lines = -1
        self.seen = View(prefix=prefix)
        """What is chosen."""

    def compose(self) -> ComposeResult:
        """The view, a line to type a prefix into, and the keys."""
        with VerticalScroll():
            yield Static(id="view")
        yield Input(placeholder="keys that begin so; empty: all", id="filter")
        yield Footer(show_command_palette=False)

    async def on_mount(self) -> None:
        """Begin."""
        self.query_one(VerticalScroll).focus()
        await self.look()
        self.set_interval(self._interval, self.look)

    def on_resize(self, _event: Resize) -> None:
        """Another width."""
        self.draw()

    # --- looking --------------------------------------------------------------------------------

    async def look(self) -> None:
        """Look at the store and draw; a look that takes long is not overtaken."""
        if self._looking or self._paused:
            return
        self._looking = True
        try:
            await asyncio.to_thread(self._look)
            found = await asyncio.to_thread(lambda: fate(self._store, self._uid))
            note = GONE.get(found or "", "")
        except (Error, OSError) as error:
            note = str(error)
        finally:
            self._looking = False
        self.seen = self.seen._replace(note=note)
        self.draw()

    def _look(self) -> None:
        self._frame = self._meter.look()
        if time.monotonic() >= self._hot_at:
            prefix = self.seen.prefix.encode() or None
            self._heat = ranked(self._store, HOT_SHOWN, prefix=prefix)
            self._hot_at = time.monotonic() + HOT_SHARE * self._heat.seconds

    def text(self) -> Text:
        """What is to be seen."""
        if self._frame is None:
            return Text(f"{self._store.name}: looking")
        lines = screen_lines(
            self._store.name,
            self._frame,
            self._meter.histories,
            self._heat,
            width=self.size.width - 1,  # the scroll bar
            view=self.seen,
        )
        shown = Text(no_wrap=True)
        for line in lines:
            shown.append(line.text + "\n", STYLES[line.style])
        return shown

    def draw(self) -> None:
        """Show it. Only another number of lines has to be laid out anew."""
        text = self.text()
        lines = text.plain.count("\n")
        self.query_one("#view", Static).update(text, layout=lines != self._lines)
        self._lines = lines

    # --- keys -----------------------------------------------------------------------------------

    def action_sort(self) -> None:
        """The next order of processes."""
        self.seen = self.seen._replace(order=next_of(ORDERS, self.seen.order))
        self.draw()

    def action_sort_keys(self) -> None:
        """The next order of hot keys."""
        self.seen = self.seen._replace(key_order=next_of(KEY_ORDERS, self.seen.key_order))
        self.draw()

    def action_pause(self) -> None:
        """Stand still, or go on."""
        self._paused = not self._paused

    def action_filter(self) -> None:
        """Ask for a prefix."""
        asked = self.query_one("#filter", Input)
        asked.add_class("asked")
        asked.value = self.seen.prefix
        asked.focus()

    def action_leave_filter(self) -> None:
        """Ask no more."""
        self.query_one("#filter", Input).remove_class("asked")
        self.query_one(VerticalScroll).focus()

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Only keys that begin so, from now on."""
        self.seen = self.seen._replace(prefix=event.value)
        self._hot_at, self._heat = 0.0, None
        self.action_leave_filter()
        await self.look()
