"""The load: keep-alive clients as the web has them, in processes of their own.

Run as a module, it drives one server for some seconds and prints what happened as JSON:

    python -m examples.webapp.load PORT SECONDS CONNECTIONS SEED [--greedy]

Each connection asks for one page after the other, the popular ones more often (zipf), each time
for another client address, as a proxy in front of the server would. `--greedy` adds one client
that wants far more than its share. Every page is compared with the first answer for the same
article: a mixture of two pages would show. The module also holds `Client` for other drivers.
"""

from __future__ import annotations

import argparse
import bisect
import http.client
import itertools
import json
import random
import threading
import time
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

from examples.webapp import articles

ZIPF = 1.0
CLIENTS = 20_000  # addresses behind the connections
GREEDY_ADDRESS = "203.0.113.7"
GREEDY_PER_SECOND = 200  # requests it wants
GREEDY_CONNECTIONS = 8  # so that it meets every worker
REQUESTS_PER_CONNECTION = 200  # then a new one, so that restarted workers get their share
TIMEOUT = 15.0


@dataclass
class Failure:
    """A request without an answer. `when` is on the monotonic clock; `worker` 0 is not known."""

    when: float
    worker: int
    error: str


@dataclass
class Tally:
    """What came back. `seconds` is the time in which clients were asking."""

    pages: int = 0
    limited: int = 0
    hits: int = 0  # of pages other than the greedy client's
    greedy_pages: int = 0
    greedy_asked: int = 0
    greedy_seconds: int = 0  # seconds of the wall clock that the greedy client touched
    seconds: float = 0.0
    other: list[str] = field(default_factory=list)  # answers that should not be
    failures: list[Failure] = field(default_factory=list)
    sums: dict[int, int] = field(default_factory=dict)  # article to checksum

    @property
    def answered(self) -> int:
        """Answers to requests the application counts."""
        return self.pages + self.limited

    def add(self, more: Tally) -> None:
        """Take in what another client saw; pages that differ become `other`."""
        for name in ("pages", "limited", "hits", "greedy_pages", "greedy_asked"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        self.greedy_seconds = max(self.greedy_seconds, more.greedy_seconds)
        self.seconds = max(self.seconds, more.seconds)
        self.other += more.other
        self.failures += more.failures
        for number, checksum in more.sums.items():
            self.note_sum(number, checksum)

    def note_sum(self, number: int, checksum: int) -> None:
        """Compare the page of an article with what it was before."""
        if self.sums.setdefault(number, checksum) != checksum:
            self.other.append(f"article {number} came with other bytes than before")

    @classmethod
    def from_json(cls, text: str) -> Tally:
        """The opposite of `json.dumps(asdict(tally))`."""
        raw: dict[str, Any] = json.loads(text)
        raw["failures"] = [Failure(**failure) for failure in raw["failures"]]
        raw["sums"] = {int(number): checksum for number, checksum in raw["sums"].items()}
        return cls(**raw)


class Zipf:
    """Article numbers: the one of rank r is chosen in proportion to 1 / r ** ZIPF."""

    def __init__(self, count: int, source: random.Random) -> None:
        self._sums = list(itertools.accumulate(1 / rank**ZIPF for rank in range(1, count + 1)))
        self._source = source

    def __call__(self) -> int:
        """The next article."""
        return 1 + bisect.bisect(self._sums, self._source.random() * self._sums[-1])


class Client:
    """One keep-alive connection; knows which worker answered last on it."""

    def __init__(self, port: int, tally: Tally, *, lasts: int = REQUESTS_PER_CONNECTION) -> None:
        self._port = port
        self._tally = tally
        self._lasts = lasts
        self._left = 0
        self._http: http.client.HTTPConnection | None = None
        self.worker = 0

    def get(self, path: str, address: str) -> tuple[int, bytes]:
        """Status and body; status 0 when the connection died, which is then a `Failure`."""
        if self._left == 0 or self._http is None:
            self.close()
            self._http = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
            self._left = self._lasts
        self._left -= 1
        try:
            self._http.request("GET", path, headers={"X-Forwarded-For": address})
            answer = self._http.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            failure = Failure(time.monotonic(), self.worker, f"{type(error).__name__}: {error}")
            self._tally.failures.append(failure)
            self.close()
            return 0, b""
        self.worker = int(answer.headers.get("X-Worker", "0"))
        self._tally.hits += answer.headers.get("X-Cache") == "hit"
        return answer.status, body

    def article(self, number: int, address: str) -> int:
        """Ask for an article, check and count the answer, return its status."""
        status, body = self.get(f"/article/{number}", address)
        tally = self._tally
        if status == 200:
            tally.pages += 1
            page, _, footer = body.rpartition(b"<footer>")
            if b"<article id=a%d>" % number not in page or not footer.endswith(b"</html>"):
                tally.other.append(f"article {number} came as another or cut off")
            tally.note_sum(number, zlib.crc32(page))
        elif status == 429:
            tally.limited += 1
        elif status:
            tally.other.append(f"article {number}: status {status}")
        return status

    def close(self) -> None:
        """Drop the connection; the next request makes another."""
        if self._http is not None:
            self._http.close()
        self._http, self._left, self.worker = None, 0, 0


def address_of(client: int) -> str:
    """An address of the private range for client 0 to 2 ** 24."""
    return f"10.{client >> 16 & 255}.{client >> 8 & 255}.{client & 255}"


def _ask_until(end: float, port: int, seed: int, tally: Tally) -> None:
    source = random.Random(seed)
    choose = Zipf(articles.COUNT, source)
    client = Client(port, tally)
    while time.monotonic() < end:
        client.article(choose(), address_of(source.randrange(CLIENTS)))
    client.close()


def _be_greedy_until(end: float, port: int, tally: Tally) -> None:
    clients = [Client(port, tally) for _ in range(GREEDY_CONNECTIONS)]
    began = int(time.time())
    start = time.monotonic()
    for turn in itertools.count():
        due = start + turn / GREEDY_PER_SECOND
        if due >= end or time.monotonic() >= end:
            break
        time.sleep(max(0.0, due - time.monotonic()))
        tally.greedy_asked += 1
        number = 1 + turn % 10
        tally.greedy_pages += clients[turn % len(clients)].article(number, GREEDY_ADDRESS) == 200
    tally.greedy_seconds = int(time.time()) - began + 1
    tally.hits = 0  # its ten pages are always there: they would flatter the ratio
    for client in clients:
        client.close()


def drive(port: int, seconds: float, connections: int, seed: int, greedy: bool) -> Tally:
    """Let `connections` clients ask for `seconds`, one thread each."""
    total = Tally()
    tallies = [Tally() for _ in range(connections + greedy)]
    start = time.monotonic()
    end = start + seconds
    threads = [
        threading.Thread(target=_ask_until, args=(end, port, seed * 1000 + n, tallies[n]))
        for n in range(connections)
    ]
    if greedy:
        threads.append(threading.Thread(target=_be_greedy_until, args=(end, port, tallies[-1])))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for tally in tallies:
        total.add(tally)
    total.seconds = time.monotonic() - start
    return total


def main() -> None:
    """Drive, and print the tally as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("connections", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--greedy", action="store_true")
    wish = parser.parse_args()
    tally = drive(wish.port, wish.seconds, wish.connections, wish.seed, wish.greedy)
    print(json.dumps(asdict(tally)))


if __name__ == "__main__":
    main()
