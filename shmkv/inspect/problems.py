"""Is a decoded segment sound? The invariants of the core, verified without it.

Owns: `problems(segment) -> list[str]`, one sentence for each thing that is wrong.

Promises: whatever was decoded can be judged: no exception, and time in proportion to the
segment. What a killed process may leave behind by the protocol (held locks, taken pages, a split
or counts not finished under a lock) is no problem while its row is there to be folded.

Does not: repair, or see whether the process of a row is alive: only the kernel knows. A copy that
was made while others wrote may show problems that the segment never had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from shmkv.inspect.geometry import Hash
from shmkv.inspect.layout import (
    BUCKETS,
    GRANULE,
    INDEX_BYTES,
    NUMBER_MASK,
    OVERFLOW_STICKS,
    Flag,
    State,
    Type,
)
from shmkv.inspect.parts import Damaged, IndexSegment, Item, Page, Segment, Slot, Stripe

PARSED = (State.OPEN, State.CLOSED, State.CLEANING)
_LENGTHS: dict[int, tuple[int, int | None]] = {  # of values, in bytes
    Type.INT: (0, 0),
    Type.FLOAT: (0, 0),
    Type.BIGINT: (8, None),
    Type.BOOL: (1, 1),
    Type.NONE: (0, 0),
}
WHOLE = (*PARSED, State.LIMBO)  # runs that are completely formed and backed


def problems(segment: Segment) -> list[str]:
    """What is wrong; empty if nothing is."""
    facts = _Facts(segment)
    found = [*_header(facts), *_rows(facts), *_locks(facts)]
    for stripe in segment.stripes:
        found += _directory(facts, stripe)
        found += _stripe(facts, stripe)
        for index_segment in stripe.segments:
            found += _index_segment(facts, stripe, index_segment)
    found += _owners(facts)
    found += _twice(facts)
    for page in segment.pages:
        found += _page(facts, page)
    found += _births(facts)
    return found


class _Facts:
    """A segment and what several checks need to know of it."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.g = segment.geometry
        self.head = segment.header
        self.limit = self.g.bases_within(self.head.size)
        self.numbers = {row.number for row in segment.rows if row.number}
        self.starts = {item.ref for page in segment.pages for item in page.items}
        self.page_of: dict[int, Page] = {}
        for page in segment.pages:
            for base in range(page.base, page.base + 1 + len(page.interior)):
                self.page_of[base] = page


# ---- header, rows, locks ------------------------------------------------------------------------


def _header(f: _Facts) -> Iterator[str]:
    if f.head.index_high > f.g.bases_max:
        yield f"header: index_high {f.head.index_high} is beyond base {f.g.bases_max}"
    lines, most = f.head.ghost, f.g.ghost_within(f.head.size)
    if lines & (lines - 1):
        yield f"header: the ghost has {lines} lines, no power of two"
    if lines > most:
        yield f"header: the ghost has {lines} lines, there is room for {most}"
    for k, appender in enumerate(f.head.appenders):
        if appender.current > f.g.bases_max:
            yield f"appender {k}: its page {appender.current - 1} is beyond base {f.g.bases_max}"
        elif k > f.g.appender_own and any(appender):
            yield f"appender {k}: in use, but the last one is {f.g.appender_own}"


def _rows(f: _Facts) -> Iterator[str]:
    for row in f.segment.rows:
        n = row.number
        if n and (n > NUMBER_MASK or n % f.g.rows != row.index):
            yield f"row {row.index}: number {n} does not belong to it"
        for what, refs in (("reservation", row.reservation), ("pin", row.pin)):
            for ref in filter(None, refs):
                if not f.g.off_arena <= ref * GRANULE < f.head.watermark:
                    yield f"row {row.index}: {what} {ref} lies outside the backed arena"
                elif not n:
                    yield f"row {row.index}: belongs to nobody and holds {what} {ref}"


def _locks(f: _Facts) -> Iterator[str]:
    words = {f"stripe {s.index}": s.lock for s in f.segment.stripes}
    words |= {f"appender {k}": a.lock for k, a in enumerate(f.head.appenders)}
    words |= {f"cleaner slot {k}": lock for k, lock in enumerate(f.head.cleaners)}
    words["journal"] = f.head.journal.lock
    for name, word in words.items():
        number = word & NUMBER_MASK
        if number and number not in f.numbers:
            yield f"{name}: locked by attachment {number}, which has no row"


# ---- index --------------------------------------------------------------------------------------


def _directory(f: _Facts, stripe: Stripe) -> Iterator[str]:
    """Aligned blocks of equal entries, each as long as its depth says."""
    bits, words, at = f.g.dir_bits, stripe.directory, 0
    while at < len(words) and not stripe.lock:
        depth = words[at] >> 24
        span = 1 << (bits - depth) if depth <= bits else 0
        if not span or at % span:
            yield f"stripe {stripe.index}: directory entry {at} has depth {depth}"
            return
        for i in range(at, at + span):
            if words[i] != words[at]:
                yield f"stripe {stripe.index}: directory entries {at} and {i} differ within a block"
        at += span


def _stripe(f: _Facts, stripe: Stripe) -> Iterator[str]:
    """Counts, and words that nobody uses yet. What a lock protects may be unfinished."""
    name = f"stripe {stripe.index}"
    if stripe.txn:
        yield f"{name}: txn {stripe.txn}, which is not in use"
    found = [slot.item for s in stripe.segments for slot in s.slots]
    items = [item for item in found if isinstance(item, Item)]
    live = sum(item.size for item in items)
    if not stripe.lock and (stripe.count, stripe.live) != (len(items), live):
        yield (
            f"{name}: counts {stripe.count} items, {stripe.live} B; found {len(items)}, {live} B"
        )


def _index_segment(f: _Facts, stripe: Stripe, segment: IndexSegment) -> Iterator[str]:
    name = f"stripe {stripe.index} index segment {segment.number}"
    if segment.owner != stripe.index + 1:
        whose = {None: "no index segment", 0: "free"}.get(segment.owner, "another stripe's")
        yield f"{name}: directory entry {segment.entry} names it, but it is {whose}"
        return
    passed = [0] * BUCKETS
    for slot in segment.slots:
        yield from _slot(f, stripe, segment, slot, passed)
    for bucket, (count, least) in enumerate(zip(segment.overflow, passed, strict=True)):
        if count < min(least, OVERFLOW_STICKS):
            yield f"{name} bucket {bucket}: overflow count {count}, but {least} items passed"


def _slot(
    f: _Facts, stripe: Stripe, segment: IndexSegment, slot: Slot, passed: list[int]
) -> Iterator[str]:
    """The item is where its key says and its page allows; counts the path into `passed`."""
    name, item = f"ref {slot.ref}", slot.item
    if isinstance(item, Damaged):
        yield f"stripe {stripe.index} bucket {slot.bucket}: {name} {item.why}"
        return
    home = Hash.of(item.key, f.head.config.seed, f.g)
    shift = f.g.dir_bits - segment.depth
    if home.stripe != stripe.index:
        yield f"{name}: its key belongs to stripe {home.stripe}, not {stripe.index}"
    elif shift >= 0 and (home.directory ^ segment.entry) >> shift:
        yield f"{name}: its key belongs to another index segment than {segment.number}"
    else:
        path = home.path()
        before = path[: path.index(slot.bucket)]
        for bucket in before:
            passed[bucket] += 1
        if slot.tag != home.tag:
            yield f"{name}: tag {slot.tag:#04x}, but its key's is {home.tag:#04x}"
    if item.flags & Flag.NAMESPACE:
        yield f"{name}: is in namespace {item.namespace}, and none is in use"
    if not stripe.lock and (stripe.ver - item.version) & 0xFFFFFFFF >= 1 << 31:
        yield f"{name}: version {item.version} is newer than its stripe's {stripe.ver}"
    yield from _place(f, item)
    yield from _value(item)


def _place(f: _Facts, item: Item) -> Iterator[str]:
    """An indexed item starts where its page's items start, below the tail."""
    page = f.page_of.get(f.g.base_of(item.ref * GRANULE))
    if page is None or page.state not in PARSED:
        state = "outside the present size" if page is None else f"in state {page.state}"
        yield f"ref {item.ref}: indexed, but its page is {state}"
    elif item.ref + item.size // GRANULE > f.g.base_ref(page.base) + page.tail:
        yield f"ref {item.ref}: lies beyond the tail of page {page.base}"
    elif item.ref < f.g.base_ref(page.base) + (page.walked >> 1):
        yield f"ref {item.ref}: lies in the part of page {page.base} that was emptied"
    elif item.ref not in f.starts:
        yield f"ref {item.ref}: no item of page {page.base} starts there"


def _value(item: Item) -> Iterator[str]:
    """An indexed item is complete: its words and bytes are what its type asks for."""
    counter = item.type in (Type.INT, Type.FLOAT)
    if counter != (item.counter is not None):
        has = "has no" if counter else "has a"
        yield f"ref {item.ref}: type {item.type} {has} counter word"
    least, most = _LENGTHS.get(item.type, (0, None))
    n = len(item.value)
    if n < least or (most is not None and n > most):
        yield f"ref {item.ref}: type {item.type} with {n} value bytes"
    if item.type == Type.STR and not _is_utf8(item.value):
        yield f"ref {item.ref}: its value is not UTF-8"
    if item.is_str and not _is_utf8(item.key):
        yield f"ref {item.ref}: its key is not UTF-8"


def _is_utf8(text: bytes | memoryview) -> bool:
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _owners(f: _Facts) -> Iterator[str]:
    """Each index segment has the owner that names it, and only that one."""
    named: dict[int, int] = {}
    for stripe in f.segment.stripes:
        for segment in stripe.segments:
            first = named.setdefault(segment.number, stripe.index)
            if first != stripe.index:
                yield f"index segment {segment.number}: named by stripes {first} and {stripe.index}"
    locked = {stripe.index for stripe in f.segment.stripes if stripe.lock}
    for page in f.segment.pages:
        first_number = f.g.base_ref(page.base) * GRANULE // INDEX_BYTES
        for i, owner in enumerate(page.owners):
            number = first_number + i
            if not owner:
                continue
            if i >= f.g.index_per_base or owner > f.g.stripes:
                yield f"index page {page.base}: segment {i} is owned by stripe {owner - 1}"
            elif owner - 1 not in locked and named.get(number) != owner - 1:
                yield f"index segment {number}: owned by stripe {owner - 1}, which does not name it"


def _twice(f: _Facts) -> Iterator[str]:
    refs = Counter(slot.ref for slot in f.segment.slots())
    yield from (f"ref {ref}: indexed {n} times" for ref, n in refs.items() if n > 1)
    keys = Counter(item.key for item in f.segment.items())
    yield from (f"key {key[:40]!r}: indexed {n} times" for key, n in keys.items() if n > 1)


# ---- pages --------------------------------------------------------------------------------------


def _page(f: _Facts, page: Page) -> Iterator[str]:
    name, end = f"page {page.base}", page.base + page.run
    if end > f.limit:
        yield f"{name}: run of {page.run} leaves the arena of {f.limit}"
        return
    if page.state == State.INTERIOR or page.state > State.INTERIOR:
        yield f"{name}: word {page.word:#x} has no head"
    if page.state in (*WHOLE, State.INDEX) and (
        f.g.off_arena + end * f.g.base_bytes > f.head.watermark
    ):
        yield f"{name}: lies beyond the watermark"
    if page.state in (State.TAKEN, State.CLEANING) and page.owner not in f.numbers:
        yield f"{name}: state {page.state} of attachment {page.owner}, which has no row"
    if page.state == State.INDEX and (page.run != 1 or page.base >= f.head.index_high):
        yield f"{name}: an index page of run {page.run}; index_high is {f.head.index_high}"
    if page.state == State.OPEN:
        yield from _open(f, page)
    else:
        yield from _queue(f, page)
    if page.state in WHOLE:
        for i, word in enumerate(page.interior, 1):
            if word & 15 != State.INTERIOR or word >> 8 & 0xFFFFFF != i:
                yield f"{name}: base {page.base + i} of its run has the word {word:#x}"
    if page.state in PARSED:
        yield from _content(f, page)


def _open(f: _Facts, page: Page) -> Iterator[str]:
    if page.owner > f.g.appender_own:
        yield f"page {page.base}: open for appender {page.owner}, which is none"
        return
    appender = f.head.appenders[page.owner]
    if not appender.lock and appender.current != page.base + 1:
        yield f"page {page.base}: open, but not the current page of appender {page.owner}"
    queue = f.g.appender_queue(page.owner)
    if page.queue != queue:
        yield f"page {page.base}: in queue {page.queue}, its appender {page.owner} fills {queue}"
    yield from _sizes(f, page)


def _queue(f: _Facts, page: Page) -> Iterator[str]:
    """Only pages with items are in a main queue, and only if the store has some."""
    if page.queue and (page.state not in PARSED or not f.g.mains):
        yield f"page {page.base}: state {page.state} in queue {page.queue}"
    else:
        yield from _sizes(f, page)


def _sizes(f: _Facts, page: Page) -> Iterator[str]:
    """In a page of a main queue all items are of its size."""
    others = (i for i in page.items if page.queue and f.g.main_of(i.size) != page.queue)
    for item in islice(others, 1):
        yield f"page {page.base}: in queue {page.queue}, but ref {item.ref} has {item.size} B"


def _content(f: _Facts, page: Page) -> Iterator[str]:
    room = page.run * f.g.base_granules
    if page.tail > room:
        yield f"page {page.base}: tail {page.tail} of {room} granules"
    if page.damage is not None:
        at = page.damage.ref - f.g.base_ref(page.base)
        yield f"page {page.base}: cannot be parsed at granule {at}: {page.damage.why}"
    elif page.dead > page.tail:
        yield f"page {page.base}: {page.dead} granules dead of {page.tail}"


def _births(f: _Facts) -> Iterator[str]:
    """Stamps count base pages, so each page has as many to itself as it is long."""
    end, last = 1, -1
    for page in sorted((p for p in f.segment.pages if p.state in WHOLE), key=lambda p: p.birth):
        if page.birth == 0 or page.birth + page.run > f.head.next_birth:
            yield f"page {page.base}: birth {page.birth}; the next is {f.head.next_birth}"
        elif page.birth < end:
            yield f"pages {last} and {page.base}: born {end - page.birth} base pages too close"
        end, last = page.birth + page.run, page.base
