"""Damage to the index: stripes, directories, buckets, index segments.

Owns: `DAMAGES`, one kind for each thing the index promises.
"""

from __future__ import annotations

import struct

from shmkv.inspect import IndexSegment, Segment
from shmkv.inspect.geometry import Hash
from shmkv.inspect.layout import BUCKET, SLOTS, STRIPE, Type
from tests.layout.damage import (
    NOBODY,
    Edit,
    Kinds,
    a_place,
    bucket_at,
    directory_at,
    edit,
    page_at,
    places,
    stripe_at,
)

DAMAGES = Kinds()


# ---- stripes and directories --------------------------------------------------------------------


@DAMAGES.add("counts 1 items|counts .* items.*found", core=True)
def stripe_count(segment: Segment) -> Edit:
    stripe = a_place(segment)[0]
    return edit(STRIPE, stripe_at(segment, stripe), "count", stripe.count + 1)


@DAMAGES.add("counts .* items.*found", core=True)
def stripe_live(segment: Segment) -> Edit:
    stripe = a_place(segment)[0]
    return edit(STRIPE, stripe_at(segment, stripe), "live", stripe.live - 16)


@DAMAGES.add("txn 7", core=False)
def stripe_transaction(segment: Segment) -> Edit:
    return edit(STRIPE, stripe_at(segment, segment.stripes[0]), "txn", 7)


@DAMAGES.add(f"stripe 0: locked by attachment {NOBODY}", core=False)
def stripe_locked_by_nobody(segment: Segment) -> Edit:
    return edit(STRIPE, stripe_at(segment, segment.stripes[0]), "lock", NOBODY)


@DAMAGES.add("is newer than its stripe's", core=False)
def stripe_version_fallen_back(segment: Segment) -> Edit:
    stripe = a_place(segment)[0]
    return edit(STRIPE, stripe_at(segment, stripe), "ver", 0)


@DAMAGES.add("directory entry 0 has depth 31", core=True)
def directory_depth(segment: Segment) -> Edit:
    stripe = segment.stripes[0]
    at = directory_at(segment, stripe, 0)
    return Edit(at, struct.pack("<I", stripe.directory[0] & 0xFFFFFF | 31 << 24))


@DAMAGES.add("differ within a block", core=True)
def directory_block(segment: Segment) -> Edit:
    stripe = segment.stripes[0]
    last = len(stripe.directory) - 1
    assert stripe.directory[last] == stripe.directory[last - 1]
    other = segment.stripes[1].directory[0] & 0xFFFFFF | stripe.directory[last] & 0xFF000000
    return Edit(directory_at(segment, stripe, last), struct.pack("<I", other))


@DAMAGES.add("names it, but it is no index segment", core=True)
def directory_to_nowhere(segment: Segment) -> Edit:
    stripe = segment.stripes[0]
    return Edit(directory_at(segment, stripe, 0), struct.pack("<I", stripe.directory[0] | 0xFFFFFF))


# ---- buckets ------------------------------------------------------------------------------------


@DAMAGES.add("tag 0x", core=True)
def slot_tag(segment: Segment) -> Edit:
    _, where, slot, _ = a_place(segment)
    return edit(BUCKET, bucket_at(where, slot.bucket), "tag", slot.tag ^ 1, nth=slot.nth)


@DAMAGES.add("overflow count 0, but", core=True)
def overflow_too_low(segment: Segment) -> Edit:
    config, geometry = segment.header.config, segment.geometry
    for _, where, slot, item in places(segment):
        home = Hash.of(item.key, config.seed, geometry).bucket
        if home != slot.bucket:
            return edit(BUCKET, bucket_at(where, home), "overflow", 0)
    raise AssertionError("no item lies outside its home bucket")


@DAMAGES.add("counts .* items.*found", core=True)
def ref_lost(segment: Segment) -> Edit:
    _, where, slot, _ = a_place(segment)
    return edit(BUCKET, bucket_at(where, slot.bucket), "ref", 0, nth=slot.nth)


@DAMAGES.add("lies outside the backed arena", core=True)
def ref_beyond_the_watermark(segment: Segment) -> Edit:
    _, where, slot, _ = a_place(segment)
    return edit(BUCKET, bucket_at(where, slot.bucket), "ref", 0xFFFFFFFF, nth=slot.nth)


@DAMAGES.add("ref 1 lies outside the backed arena", core=True)
def ref_into_the_header(segment: Segment) -> Edit:
    _, where, slot, _ = a_place(segment)
    return edit(BUCKET, bucket_at(where, slot.bucket), "ref", 1, nth=slot.nth)


@DAMAGES.add("no item of page|has type|has flags|has no key|leave the backed", core=True)
def ref_into_the_middle_of_an_item(segment: Segment) -> Edit:
    _, where, slot, item = next(
        p for p in places(segment) if p[3].type == Type.BYTES and len(p[3].value) > 1000
    )
    return edit(BUCKET, bucket_at(where, slot.bucket), "ref", item.ref + 30, nth=slot.nth)


def free_slot(segment: Segment, where: IndexSegment, bucket: int) -> int | None:
    """A slot of a bucket that is not in use."""
    used = {slot.nth for slot in where.slots if slot.bucket == bucket}
    return next((i for i in range(SLOTS) if i not in used), None)


@DAMAGES.add("ref .*: indexed 2 times", core=True)
def ref_twice(segment: Segment) -> Edit:
    for _, where, slot, item in places(segment):
        free = free_slot(segment, where, slot.bucket)
        if free is not None:
            return edit(BUCKET, bucket_at(where, slot.bucket), "ref", item.ref, nth=free)
    raise AssertionError("no bucket has room")


@DAMAGES.add("key .*: indexed 2 times", core=True)
def key_twice(segment: Segment) -> Edit:
    alive = {item.ref for item in segment.items()}
    old = {i.key: i.ref for page in segment.pages for i in page.items if i.ref not in alive}
    for _, where, slot, item in places(segment):
        free = free_slot(segment, where, slot.bucket)
        if item.key in old and free is not None:
            return edit(BUCKET, bucket_at(where, slot.bucket), "ref", old[item.key], nth=free)
    raise AssertionError("no living key has an old item")


# ---- index segments -----------------------------------------------------------------------------


def owner_edit(segment: Segment, number: int, owner: int) -> Edit:
    """Another owner of an index segment."""
    g = segment.geometry
    base = g.base_of(number * 4096)
    which = (number * 4096 - g.off_arena) // 4096 % g.index_per_base
    return Edit(page_at(segment, base) + 32 + 2 * which, struct.pack("<H", owner))


@DAMAGES.add("names it, but it is free", core=True)
def index_segment_freed(segment: Segment) -> Edit:
    return owner_edit(segment, a_place(segment)[1].number, 0)


@DAMAGES.add("names it, but it is another stripe's", core=True)
def index_segment_of_another(segment: Segment) -> Edit:
    stripe, where, *_ = a_place(segment)
    return owner_edit(segment, where.number, (stripe.index + 1) % len(segment.stripes) + 1)


@DAMAGES.add("owned by stripe 0, which does not name it", core=True)
def index_segment_not_named(segment: Segment) -> Edit:
    for page in segment.pages:
        for i in range(segment.geometry.index_per_base if page.owners else 0):
            if page.owners[i] == 0:
                number = segment.geometry.base_ref(page.base) * 16 // 4096 + i
                return owner_edit(segment, number, 1)
    raise AssertionError("no index segment is free")
