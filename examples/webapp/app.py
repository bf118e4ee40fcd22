"""A web application whose workers share one page cache, one set of counters and one rate limit.

    gunicorn --config examples/webapp/gunicorn_conf.py 'examples.webapp.app:create()'

Every worker calls `create`, opens the same store by its name, and that is all there is to it. A
page is rendered once for all workers; a visit is one `incr`, which is exact whichever worker
counts it; a client is limited by `incr` on a key that names the client and the second, and that
expires by itself.

Behind a proxy the client is the last address of X-Forwarded-For; that header is only worth
something where the proxy sets it.
"""

import html
import os
import time
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

import shmkv
from examples.webapp import articles
from examples.webapp.rivals import Cache, Dict, NoPages

PAGE_SECONDS = 300.0
CLIENT_LIMIT = 20  # answers a client may have in each second
STORE_SIZE = "48MiB"


class App:
    """The WSGI application over one store."""

    def __init__(self, store: Cache, *, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self.clock = clock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, body, extra = self.answer(environ)
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("X-Worker", str(os.getpid())),
            *extra,
        ]
        start_response(status, headers)
        return [body]

    def answer(self, environ: WSGIEnvironment) -> tuple[str, bytes, list[tuple[str, str]]]:
        """Status, body and further headers; counts the request before it is answered."""
        path = environ["PATH_INFO"]
        if path == "/stats":
            return "200 OK", self.stats_page(), []
        total = self.store.incr("requests")
        if self.over_limit(client_of(environ)):
            return "429 Too Many Requests", b"slow down", [("Retry-After", "1")]
        number = article_number(path)
        if number is None:
            return "404 Not Found", b"no such page", []
        visits = self.store.incr(f"visits:{number}")
        page, found = self.page(number)
        footer = f"<footer>visit {visits} of this page, {total} of all</footer></html>"
        return "200 OK", page + footer.encode(), [("X-Cache", "hit" if found else "miss")]

    def page(self, number: int) -> tuple[bytes, bool]:
        """The page, and whether the store had it."""
        page = self.store.get(f"page:{number}")
        if page is not None:
            return page, True
        page = articles.render(articles.fetch(number))
        self.store.set(f"page:{number}", page, ttl=PAGE_SECONDS)
        return page, False

    def over_limit(self, client: str) -> bool:
        """Count this request of `client` in the present second; True when there were too many."""
        second = int(self.clock())
        return self.store.incr(f"rate:{client}:{second}", ttl=2.0) > CLIENT_LIMIT

    def stats_page(self) -> bytes:
        """What the store says about itself, as a table. Not counted as a request."""
        figures = {"requests": self.store.get("requests", 0), **self.store.stats().as_dict()}
        rows = (f"<tr><th>{html.escape(k)}<td>{html.escape(str(v))}" for k, v in figures.items())
        return f"<!doctype html><table>{''.join(rows)}</table></html>".encode()


def client_of(environ: WSGIEnvironment) -> str:
    """The address the request came from, the proxy's word included."""
    forwarded: str = environ.get("HTTP_X_FORWARDED_FOR", "")
    return forwarded.rpartition(",")[2].strip() or str(environ.get("REMOTE_ADDR", ""))


def article_number(path: str) -> int | None:
    """`/` is the first article; otherwise `/article/N`."""
    if path == "/":
        return 1
    text = path.removeprefix("/article/")
    if text == path or not (text.isascii() and text.isdigit()) or len(text) > 6:
        return None
    return int(text) if 1 <= int(text) <= articles.COUNT else None


def create() -> App:
    """One application per worker. WEBAPP_CACHE picks a rival of shmkv, for comparison."""
    kind = os.environ.get("WEBAPP_CACHE", "shmkv")
    if kind == "dict":
        return App(Dict())
    if kind == "none":
        return App(NoPages())
    return App(shmkv.open(os.environ.get("WEBAPP_STORE", "webapp"), size=STORE_SIZE))
