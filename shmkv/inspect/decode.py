"""A segment read byte by byte, in plain Python: what is in it, without the C core.

Owns: `decode(buffer) -> Segment`. The buffer is the whole file of a segment: bytes, a bytearray, a
memoryview or an mmap. Values are not copied: an item holds a memoryview of its value, so the buffer
lives as long as the result.

Promises: reads only, and only below the watermark and in the ghost's lines in use; other bytes are
not backed by memory. Bytes that cannot be a segment raise `DecodeError`. Damage further in never
does: what cannot be read stands as `Damaged` in its place, with the reason. Every loop is bounded
by the geometry.

Does not: judge (`problems.py`), lock, or wait. A segment that others write into while it is read
shows a mixture of moments: decode a copy made while nobody writes, if the whole must be exact.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable

from shmkv.errors import Corrupt
from shmkv.inspect.geometry import Config, Geometry, geometry_of
from shmkv.inspect.layout import (
    APPENDER,
    APPENDERS,
    BUCKET,
    BUCKETS,
    CLEANER,
    CLEANERS,
    CONFIG,
    DEADLINE_AT,
    DEATH,
    DEATHS,
    FLAGS,
    GRANULE,
    HEADER,
    HEADER_BYTES,
    INDEX_BYTES,
    INDEX_PAGE,
    ITEM,
    JOURNAL,
    LAYOUT_VERSION,
    LINE,
    MAGIC,
    NAMESPACE_AT,
    NOTE,
    NOTE_KEY,
    NOTES,
    OPTIONS,
    PAGE,
    ROW,
    SLOTS,
    STRIPE,
    TYPE_LAST,
    Flag,
    State,
    counter_at,
    fingerprint,
    item_gap,
    item_words,
    round_up,
)
from shmkv.inspect.parts import (
    Appender,
    Attachments,
    Damaged,
    Death,
    Header,
    IndexSegment,
    Item,
    Journal,
    Note,
    Page,
    Row,
    Segment,
    Slot,
    Stripe,
)

Buffer = bytes | bytearray | memoryview | mmap.mmap
Read = Callable[[int, int], bytes]  # offset, length -> bytes, fewer at the end of the file
PARSED = (State.OPEN, State.CLOSED, State.CLEANING)  # pages whose items can be read


class DecodeError(Corrupt):
    """These bytes are not a segment this decoder can read; the message says why."""


def decode(buffer: Buffer) -> Segment:
    """The segment in a buffer. DecodeError: its header tells of something else."""
    view = memoryview(buffer).toreadonly().cast("B")
    header = _header(view)
    geometry = geometry_of(header.config)
    if geometry is None:
        raise DecodeError(f"no store has the configuration {header.config}")
    if len(view) != geometry.max_size:
        raise DecodeError(f"{len(view)} bytes, but the header says {geometry.max_size}")
    if not geometry.size <= header.size <= geometry.max_size:
        raise DecodeError(f"size {header.size} is not between {geometry.size} and max_size")
    if not geometry.off_arena <= header.watermark <= geometry.max_size:
        raise DecodeError(f"the watermark {header.watermark} lies outside the arena")
    reader = _Reader(view, header, geometry)
    return Segment(
        header,
        geometry,
        reader.rows(),
        reader.deaths(),
        reader.stripes(),
        reader.pages(),
        reader.ghost(),
    )


def attachments(read: Read) -> Attachments:
    """Rows, deaths and locks of a segment: a few hundred KiB of it, however large it is.

    Reads what can be read though the rest is damaged: only the identity and the configuration must
    be sound (DecodeError). What lies beyond the end of a file that was cut reads as zero.
    """
    header = _header(memoryview(read(0, HEADER_BYTES)))
    geometry = geometry_of(header.config)
    if geometry is None:
        raise DecodeError(f"no store has the configuration {header.config}")
    front, g = geometry.off_board, geometry
    reader = _Reader(memoryview(read(0, front).ljust(front, b"\0")), header, g)
    length = g.stripes * STRIPE.size
    locks = memoryview(read(g.off_stripes, length).ljust(length, b"\0"))
    words = tuple(STRIPE.read(locks, at)["lock"] for at in range(0, length, STRIPE.size))
    return Attachments(header, g, reader.rows(), reader.deaths(), words)


def _header(view: memoryview) -> Header:
    if len(view) < HEADER_BYTES:
        raise DecodeError(f"{len(view)} bytes are shorter than a header")
    found = HEADER.read(view, 0)
    magic, version = found.pop("magic"), found.pop("layout_version")
    stranger = found.pop("fingerprint")
    if magic != MAGIC:
        raise DecodeError(f"the magic is {magic:#018x}: half-made, or no segment at all")
    if version != LAYOUT_VERSION:
        raise DecodeError(f"layout version {version}; this decoder reads {LAYOUT_VERSION}")
    if stranger != fingerprint():
        raise DecodeError(f"fingerprint {stranger:#x}, not {fingerprint():#x}: another machine's")
    config = Config(**CONFIG.read(memoryview(found.pop("config")), 0))
    if config.options not in OPTIONS:
        raise DecodeError(f"unknown options {config.options:#x}")
    journal = JOURNAL.read(memoryview(found.pop("journal")), 0)
    cleaners = memoryview(found.pop("cleaners"))
    appenders = memoryview(found.pop("appenders"))
    return Header(
        config=config,
        journal=Journal(**journal),
        cleaners=tuple(CLEANER.read(cleaners, 64 * i)["lock"] for i in range(CLEANERS)),
        appenders=tuple(Appender(**APPENDER.read(appenders, 64 * i)) for i in range(APPENDERS)),
        **found,
    )


def _notes(raw: bytes) -> tuple[Note, ...]:
    view = memoryview(raw)
    found = (Note(**NOTE.read(view, i * NOTE.size)) for i in range(NOTES))
    cut = (note._replace(key=note.key[: min(note.len, NOTE_KEY)]) for note in found if note.turn)
    return tuple(sorted(cut, key=lambda note: note.turn))


class _Reader:
    """The parts of one segment whose header and geometry are known."""

    def __init__(self, view: memoryview, header: Header, geometry: Geometry) -> None:
        self.view = view
        self.header = header
        self.g = geometry
        self.seen: dict[int, Item | Damaged] = {}

    def rows(self) -> tuple[Row, ...]:
        at = self.g.off_rows
        read = (ROW.read(self.view, at + i * ROW.size) for i in range(self.g.rows))
        return tuple(
            Row(index=i, note=_notes(fields.pop("note")), **fields) for i, fields in enumerate(read)
        )

    def deaths(self) -> tuple[Death, ...]:
        at = self.g.off_deaths
        read = (DEATH.read(self.view, at + i * DEATH.size) for i in range(DEATHS))
        found = [
            # Of one millisecond: in the order of the ring, whose next place the header counts.
            (d["found_ms"], (i - self.header.deaths) % DEATHS, d)
            for i, d in enumerate(read)
            if d["number"]
        ]
        found.sort(key=lambda one: one[:2])
        return tuple(Death(note=_notes(d.pop("note")), **d) for _, _, d in found)

    def ghost(self) -> memoryview:
        lines = self.header.ghost
        if lines & (lines - 1) or lines > self.g.ghost_within(self.header.size):
            lines = 0
        return self.view[self.g.off_ghost : self.g.off_ghost + lines * LINE]

    # ---- items ---------------------------------------------------------------------------------

    def item(self, ref: int) -> Item | Damaged:
        """What lies at a ref."""
        if ref not in self.seen:
            self.seen[ref] = self._item(ref)
        return self.seen[ref]

    def _item(self, ref: int) -> Item | Damaged:
        at, end = ref * GRANULE, self.header.watermark
        if at < self.g.off_arena or at + ITEM.size > end:
            return Damaged(ref, "lies outside the backed arena")
        value_len, key_len, kind, flags, version = ITEM.struct.unpack_from(self.view, at)
        if key_len == 0:
            return Damaged(ref, "has no key")
        if not 0 < kind <= TYPE_LAST:
            return Damaged(ref, f"has type {kind}")
        if flags & ~FLAGS:
            return Damaged(ref, f"has flags {flags:#x}")
        key = at + item_words(flags)
        value = key + key_len + item_gap(kind, key + key_len)
        if round_up(value + value_len, GRANULE) > end:
            return Damaged(ref, f"its {value_len} B leave the backed arena")
        return Item(
            ref=ref,
            size=round_up(value + value_len - at, GRANULE),
            type=kind,
            flags=flags,
            version=version,
            namespace=self._word("<I", at + NAMESPACE_AT) if flags & Flag.NAMESPACE else None,
            deadline_ms=self._word("<Q", at + DEADLINE_AT) if flags & Flag.DEADLINE else 0,
            counter=self._word("<Q", at + counter_at(flags)) if flags & Flag.COUNTER else None,
            key=bytes(self.view[key : key + key_len]),
            value=self.view[value : value + value_len],
        )

    def _word(self, code: str, at: int) -> int:
        return int(struct.unpack_from(code, self.view, at)[0])

    # ---- index ---------------------------------------------------------------------------------

    def stripes(self) -> tuple[Stripe, ...]:
        return tuple(map(self._stripe, range(self.g.stripes)))

    def _stripe(self, index: int) -> Stripe:
        fields = STRIPE.read(self.view, self.g.off_stripes + index * STRIPE.size)
        entries = 1 << self.g.dir_bits
        at = self.g.off_dirs + index * entries * 4
        directory = struct.unpack_from(f"<{entries}I", self.view, at)
        first: dict[int, tuple[int, int]] = {}
        for entry, word in enumerate(directory):
            first.setdefault(word & 0xFFFFFF, (entry, word >> 24))
        segments = (self._segment(index, n, *where) for n, where in first.items())
        return Stripe(index=index, directory=directory, segments=tuple(segments), **fields)

    def _segment(self, stripe: int, number: int, entry: int, depth: int) -> IndexSegment:
        owner = self._segment_owner(number)
        overflow: list[int] = []
        slots: list[Slot] = []
        for bucket in range(BUCKETS if owner == stripe + 1 else 0):
            at = number * INDEX_BYTES + bucket * BUCKET.size
            tags, counters, passed, *refs = BUCKET.struct.unpack_from(self.view, at)
            overflow.append(passed)
            for i in range(SLOTS):
                if refs[i]:
                    count = counters[i // 4] >> 2 * (i % 4) & 3
                    slots.append(Slot(bucket, i, tags[i], count, refs[i], self.item(refs[i])))
        return IndexSegment(number, entry, depth, owner, tuple(overflow), tuple(slots))

    def _segment_owner(self, number: int) -> int | None:
        at = number * INDEX_BYTES
        if at < self.g.off_arena or at + INDEX_BYTES > self.header.watermark:
            return None
        base = self.g.base_of(at)
        if base >= self.g.bases_max or self._page_word(base) & 15 != State.INDEX:
            return None
        which = (at - self.g.off_arena) // INDEX_BYTES % self.g.index_per_base
        return self._owners(base)[which]

    # ---- pages ---------------------------------------------------------------------------------

    def pages(self) -> tuple[Page, ...]:
        found: list[Page] = []
        base, limit = 0, self.g.bases_within(self.header.size)
        while base < limit:
            found.append(self._page(base, limit))
            base += found[-1].run
        return tuple(found)

    def _page(self, base: int, limit: int) -> Page:
        fields = PAGE.read(self.view, self.g.off_pages + base * PAGE.size)
        state = fields["word"] & 15
        run = fields["word"] >> 8 & 0xFFFFFF
        run = 1 if state in (State.FREE, State.INTERIOR) else max(run, 1)
        items, damage = self._items(base, run, fields["tail"]) if state in PARSED else ((), None)
        return Page(
            base=base,
            run=run,
            interior=tuple(map(self._page_word, range(base + 1, min(base + run, limit)))),
            owners=self._owners(base) if state == State.INDEX else (),
            items=items,
            damage=damage,
            **fields,
        )

    def _page_word(self, base: int) -> int:
        return self._word("<Q", self.g.off_pages + base * PAGE.size)

    def _owners(self, base: int) -> tuple[int, ...]:
        at = self.g.off_pages + base * PAGE.size
        return tuple(INDEX_PAGE.read(self.view, at)["segment"])

    def _items(self, base: int, run: int, tail: int) -> tuple[tuple[Item, ...], Damaged | None]:
        at = self.g.base_ref(base)
        end = at + min(tail, run * self.g.base_granules)
        found: list[Item] = []
        while at < end:
            item = self.item(at)
            if isinstance(item, Damaged):
                return tuple(found), item
            if at + item.size // GRANULE > end:
                return tuple(found), Damaged(at, f"its {item.size} B leave the page's tail")
            found.append(item)
            at += item.size // GRANULE
        return tuple(found), None
