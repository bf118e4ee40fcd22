"""A page about a store: `shmkv report`.

    from shmkv.report import gather, render

    with target.look("web", uid) as store:
        seen = gather(store, found, when=time.time())
    html = render(seen)

Owns: what is read (`gather`, with `pages` and `items`), the charts (`charts`), and the page
(`page`, with `page.html` and `page.css`).

Promises: a store is only read, and let go before anything is formatted. The page is one file that
needs no network and no script, of 2 MB at most. What stood in keys cannot act in it.

Does not: know the command line. Needs jinja2, matplotlib and numpy: `shmkv[report]`.
"""

from shmkv.report.gather import Seen, gather, salvage
from shmkv.report.page import render

__all__ = ["Seen", "gather", "render", "salvage"]
