"""The page itself: HTML of what a report says.

Owns: `render`, the template (`page.html`), the style (`page.css`), and the bound of a page's size.

Promises: everything is escaped but the style sheet and the pictures this room has made; a policy in
the page forbids scripts and anything from outside besides. UTF-8, of `BYTES_MOST` at most.

Does not: choose words or figures (`telling`).
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from shmkv.report.gather import Seen
from shmkv.report.telling import view

HERE = Path(__file__).parent
BYTES_MOST = 2 << 20


UNIT = re.compile(r"(?<=\d) (?=(?:%|bytes|[KMG]iB|ms|s|min|h|d|points|items)(?![\w]))")


def tied(text: str) -> str:
    """A text whose figures are not parted from their units."""
    return UNIT.sub("\u00a0", text)


@functools.cache
def _template() -> tuple[Template, Markup]:
    """The page and its style, read once."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["tied"] = tied
    style = re.sub(r"/\*.*?\*/\s*", "", (HERE / "page.css").read_text(), flags=re.S)
    return environment.get_template("page.html"), Markup(style)


def render(seen: Seen, *, zone: dt.tzinfo | None = None) -> bytes:
    """The page of a store; times are of the zone, by default this machine's."""
    local = zone or dt.datetime.fromtimestamp(seen.when).astimezone().tzinfo or dt.UTC
    template, style = _template()
    data = template.render(v=view(seen, local), css=style).encode()
    assert len(data) <= BYTES_MOST, f"the page has {len(data)} bytes"
    return data
