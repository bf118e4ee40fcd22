"""Bytes for an entry: each peer filled with keys of 16 B and values of 100 B, in random order.

Bytes are what the machine gives up: blocks of the segment or of files in /dev/shm, growth of the
server process, or, of uWSGI and APCu, what they say of memory they took beforehand; the row says
which. lmdb is filled in order of its keys, too, which is its best case. A peer too slow for a
million entries gets fewer, and its row says so.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench.keys import VALUE_BYTES, make_keys, make_values
from tests.bench.peers.kv import Record, Say
from tests.bench.peers.peer import Peer, started
from tests.bench.peers.work import Pairs

SORTED = "lmdb"  # also filled in the order of its keys


@dataclass(frozen=True)
class Bytes:
    """One row."""

    peer: str
    per_entry: float
    entries: int
    how: str
    seconds: float


class Entries:
    """The pairs, made once for all peers: in order, and shuffled."""

    def __init__(self, count: int) -> None:
        self._keys, self._values = make_keys(count), make_values(count)
        self._order = list(range(count))
        random.Random(1).shuffle(self._order)

    def shuffled(self, count: int) -> Pairs:
        """`count` of them; copies, so that the memory of a dict is its own."""
        return ((bytes(bytearray(k)), bytes(bytearray(v))) for k, v in self._some(count))

    def in_order(self, count: int) -> Pairs:
        """`count` of them, by key."""
        return zip(self._keys[:count], self._values[:count], strict=True)

    def _some(self, count: int) -> Iterator[tuple[bytes, bytes]]:
        return ((self._keys[i], self._values[i]) for i in self._order[:count])


def one(peer: Peer, count: int, pairs: Pairs, how: str) -> Bytes:
    """Fill a new one and count."""
    with started(peer, count, VALUE_BYTES):
        began = time.monotonic()
        held = peer.bytes_for(pairs)
        return Bytes(peer.name, held / count, count, how, time.monotonic() - began)


def measure(
    peers: Sequence[Peer], entries: int, record: Record, deadline: float, say: Say
) -> list[Bytes]:
    """All peers whose memory can be counted, until the deadline."""
    rows, made = list[Bytes](), Entries(entries)
    for peer in peers:
        count = int(entries * peer.memory_share)
        if peer.counted is None:
            continue
        if time.monotonic() > deadline:
            record.failures.append(f"{peer.name}, memory: no time left")
            continue
        try:
            rows.append(one(peer, count, made.shuffled(count), peer.counted))
            if peer.name == SORTED:
                how = "the same, keys in order"
                rows.append(one(peer, count, made.in_order(count), how))
        except Exception as error:  # noqa: BLE001 (whatever a peer does, it is written down)
            record.fail(peer, "memory", error)
        else:
            say(f"memory of {peer.name}: {rows[-1].per_entry:.0f} B, {rows[-1].seconds:.1f} s")
    return rows
