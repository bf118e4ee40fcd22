"""What kinds of damage are made of: edits, and the places worth damaging.

Owns: `Kinds`, a table of kinds: how to break exactly one invariant, what the decoder must say, and
whether the core's own `check` must find it as well; and the search for victims.

Promises: a kind picks its victim by looking at the decoded segment, so it fits any store that has
items, garbage, closed pages and a split; a store without one of these is a fault of the test.

Does not: know the kinds (damage_index.py, damage_pages.py) or write into a living segment.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from shmkv.inspect import IndexSegment, Item, Page, Segment, Slot, Stripe
from shmkv.inspect.layout import (
    BUCKET,
    PAGE,
    STRIPE,
    Record,
    State,
    Type,
)

NOBODY = 0x1234567


class Edit(NamedTuple):
    """Bytes to write at an offset."""

    at: int
    data: bytes


Plant = Callable[[Segment], Edit]


class Damage(NamedTuple):
    """A kind of damage."""

    plant: Plant
    says: str  # a regular expression that one of the decoder's problems matches
    core: bool  # does `check` have to find it as well?


class Kinds(dict[str, Damage]):
    """Kinds by name."""

    def add(self, says: str, *, core: bool) -> Callable[[Plant], Plant]:
        """A decorator that enters a kind."""

        def enter(plant: Plant) -> Plant:
            self[plant.__name__] = Damage(plant, says, core)
            return plant

        return enter


# ---- where things lie ---------------------------------------------------------------------------


def edit(record: Record, at: int, name: str, value: int, *, nth: int = 0) -> Edit:
    """A field of a structure, or the n-th of an array."""
    offset, code = record.fields[name]
    one = "B" if code.endswith("s") else code[-1]
    return Edit(at + offset + nth * struct.calcsize(one), struct.pack(f"<{one}", value))


def stripe_at(segment: Segment, stripe: Stripe) -> int:
    """Offset of a stripe."""
    return segment.geometry.off_stripes + stripe.index * STRIPE.size


def bucket_at(where: IndexSegment, bucket: int) -> int:
    """Offset of a bucket."""
    return where.number * 4096 + bucket * BUCKET.size


def page_at(segment: Segment, base: int) -> int:
    """Offset of an entry of the page table."""
    return segment.geometry.off_pages + base * PAGE.size


def directory_at(segment: Segment, stripe: Stripe, entry: int) -> int:
    """Offset of a directory entry."""
    g = segment.geometry
    return g.off_dirs + (stripe.index << g.dir_bits) * 4 + entry * 4


def places(segment: Segment) -> Iterator[tuple[Stripe, IndexSegment, Slot, Item]]:
    """All items and where the index has them."""
    for stripe in segment.stripes:
        for where in stripe.segments:
            for slot in where.slots:
                assert isinstance(slot.item, Item)
                yield stripe, where, slot, slot.item


def a_place(segment: Segment) -> tuple[Stripe, IndexSegment, Slot, Item]:
    """An item of a closed log page that is not the first of it, small and of type BYTES."""
    closed = {i.ref for page in segment.pages if page.state == State.CLOSED for i in page.items[1:]}
    return next(p for p in places(segment) if p[3].ref in closed and p[3].type == Type.BYTES)


def a_page(segment: Segment) -> Page:
    """A closed log page of one base page that ends with a living item."""
    alive = {item.ref for item in segment.items()}
    return next(
        page
        for page in segment.pages
        if page.state == State.CLOSED and page.run == 1 and page.items[-1].ref in alive
    )
