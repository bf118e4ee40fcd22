"""Visit every page on every worker, so that memory is compared with everybody knowing everything.

A connection stays with the worker that took it, so connections are opened until each worker has
some; each worker's connections then share the pages among them.
"""

import threading
import time

from examples.webapp import articles
from examples.webapp.load import Client, Tally, address_of
from examples.webapp.server import WORKERS, DemoError, Server

CONNECTIONS = 4  # for each worker
SECONDS = 30.0  # in which every worker must have taken its connections


def connect_to_all(server: Server, tallies: list[Tally]) -> dict[int, list[Client]]:
    """Clients by worker, `CONNECTIONS` for each; what they see goes into new `tallies`."""
    by_worker: dict[int, list[Client]] = {}
    end = time.monotonic() + SECONDS
    while sum(len(c) >= CONNECTIONS for c in by_worker.values()) < WORKERS:
        if time.monotonic() > end:
            raise DemoError(f"no connection to some worker in {SECONDS:.0f} s:\n{server.log()}")
        tallies.append(Tally())
        client = Client(server.port, tallies[-1], lasts=articles.COUNT)
        client.get("/stats", "127.0.0.1")
        if client.worker:
            by_worker.setdefault(client.worker, []).append(client)
    return by_worker


def every_page_on_every_worker(server: Server, tally: Tally) -> None:
    """Crawl; the answers are added to `tally`."""
    tallies: list[Tally] = []
    by_worker = connect_to_all(server, tallies)

    def visit(client: Client, place: int) -> None:
        for number in range(1 + place, articles.COUNT + 1, CONNECTIONS):
            client.article(
                number, address_of(1 << 23 | (client.worker * 7919 + number) % (1 << 23))
            )

    threads = [
        threading.Thread(target=visit, args=(client, place))
        for clients in by_worker.values()
        for place, client in enumerate(clients[:CONNECTIONS])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in (client for clients in by_worker.values() for client in clients):
        client.close()
    for each in tallies:
        tally.add(each)
