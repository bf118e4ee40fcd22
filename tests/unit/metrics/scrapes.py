"""What the tests of metrics share: a scrape as numbers, and requests to an endpoint.

Promises: every request is bounded in time.
"""

from __future__ import annotations

import http.client
import socket
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from shmkv.metrics import Address, StoreCollector, text

SECONDS = 30.0

Samples = dict[tuple[str, ...], float]


def numbers(said: bytes) -> Samples:
    """Each sample by its name and the values of its labels, the store first."""
    found = {}
    for family in text_string_to_metric_families(said.decode()):
        for sample in family.samples:
            rest = [value for label, value in sample.labels.items() if label != "store"]
            found[sample.name, sample.labels["store"], *rest] = sample.value
    return found


def scrape(*names: str, **options: Any) -> Samples:
    """What a collector says of stores."""
    return numbers(text(StoreCollector(*names, **options)))


def connect(address: Address) -> socket.socket:
    """A connection to an endpoint."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    if address.path is not None:
        family = socket.AF_UNIX
    made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(SECONDS)
    try:
        made.connect(address.path or (address.host, address.port))
    except OSError:
        made.close()
        raise
    return made


def get(address: Address, path: str = "/metrics", **headers: str) -> tuple[int, str, bytes]:
    """GET: status, content type, body."""
    asks = http.client.HTTPConnection("localhost", timeout=SECONDS)
    asks.sock = connect(address)
    try:
        asks.request("GET", path, headers=headers)
        answer = asks.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read()
    finally:
        asks.close()
