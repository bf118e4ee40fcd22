"""Damage to memory: items, pages, the header, rows.

Owns: `DAMAGES`, one kind for each thing the arena and the attachments promise.
"""

from __future__ import annotations

from shmkv.inspect import Item, Page, Segment
from shmkv.inspect.layout import APPENDER, HEADER, ITEM, PAGE, ROW, Flag, State, Type, item_words
from tests.layout.damage import NOBODY, Edit, Kinds, a_page, a_place, edit, page_at, places

DAMAGES = Kinds()


# ---- items --------------------------------------------------------------------------------------


def item_edit(item: Item, name: str, value: int) -> Edit:
    """A field of an item's header."""
    return edit(ITEM, item.ref * 16, name, value)


@DAMAGES.add("has no key", core=True)
def item_without_key(segment: Segment) -> Edit:
    return item_edit(a_place(segment)[3], "key_len", 0)


@DAMAGES.add("has type 99", core=True)
def item_type(segment: Segment) -> Edit:
    return item_edit(a_place(segment)[3], "type", 99)


@DAMAGES.add("has flags 0x80", core=True)
def item_flags(segment: Segment) -> Edit:
    return item_edit(a_place(segment)[3], "flags", 0x80)


@DAMAGES.add("leave the backed arena", core=True)
def item_length(segment: Segment) -> Edit:
    return item_edit(a_place(segment)[3], "value_len", 0xFFFFFFF0)


@DAMAGES.add("belongs to|tag 0x", core=True)
def item_key(segment: Segment) -> Edit:
    item = a_place(segment)[3]
    return Edit(item.ref * 16 + item_words(item.flags), bytes([item.key[0] ^ 0x55]))


@DAMAGES.add("has no counter word", core=False)
def item_type_of_another_form(segment: Segment) -> Edit:
    return item_edit(a_place(segment)[3], "type", Type.INT)


@DAMAGES.add("its value is not UTF-8", core=False)
def item_text(segment: Segment) -> Edit:
    found = (p[3] for p in places(segment) if p[3].type == Type.STR and len(p[3].value))
    item = next(found)
    at = item.ref * 16 + item_words(item.flags) + len(item.key)
    return Edit(at, b"\xff")


@DAMAGES.add("is newer than its stripe's", core=False)
def item_version(segment: Segment) -> Edit:
    stripe, _, _, item = a_place(segment)
    return item_edit(item, "version", (stripe.ver + 9) & 0xFFFFFFFF)


@DAMAGES.add("is in namespace", core=True)
def item_namespace(segment: Segment) -> Edit:
    for *_, item in places(segment):
        if item.flags & Flag.DEADLINE:  # the word is there already
            return item_edit(item, "flags", item.flags | Flag.NAMESPACE)
    raise AssertionError("no item has a deadline")


# ---- pages --------------------------------------------------------------------------------------


def word(state: int, run: int = 1, owner: int = 0, queue: int = 0) -> int:
    """A page word."""
    return owner << 32 | run << 8 | queue << 4 | state


def in_queue(segment: Segment, page: Page, queue: int) -> Edit:
    """The page's word, but for the queue."""
    return page_edit(segment, page, "word", page.word & ~0xF0 | queue << 4)


def page_edit(segment: Segment, page: Page, name: str, value: int) -> Edit:
    """A field of an entry of the page table."""
    return edit(PAGE, page_at(segment, page.base), name, value)


@DAMAGES.add("lies beyond the tail", core=True)
def page_tail_lowered(segment: Segment) -> Edit:
    page = a_page(segment)
    return page_edit(segment, page, "tail", page.items[-1].ref - page.items[0].ref)


@DAMAGES.add("tail .* of .* granules", core=True)
def page_tail_beyond_the_run(segment: Segment) -> Edit:
    return page_edit(segment, a_page(segment), "tail", segment.geometry.base_granules + 1)


@DAMAGES.add("cannot be parsed", core=True)
def page_tail_inside_an_item(segment: Segment) -> Edit:
    page = a_page(segment)
    return page_edit(segment, page, "tail", page.items[-1].ref - page.items[0].ref + 1)


@DAMAGES.add("emptied", core=True)
def page_walked(segment: Segment) -> Edit:
    page = a_page(segment)
    return page_edit(segment, page, "walked", page.tail << 1)


@DAMAGES.add("granules dead of", core=True)
def page_dead(segment: Segment) -> Edit:
    page = a_page(segment)
    return page_edit(segment, page, "dead", page.tail + 1)


@DAMAGES.add("indexed, but its page is in state 0", core=True)
def page_freed(segment: Segment) -> Edit:
    return page_edit(segment, a_page(segment), "word", word(State.FREE))


@DAMAGES.add("leaves the arena", core=True)
def page_run(segment: Segment) -> Edit:
    return page_edit(segment, segment.pages[-1], "word", word(State.CLOSED, run=99_999))


@DAMAGES.add("has no head", core=True)
def page_state(segment: Segment) -> Edit:
    return page_edit(segment, a_page(segment), "word", word(9))


@DAMAGES.add("open for appender .*, which is none", core=True)
def page_open_for_none(segment: Segment) -> Edit:
    none = segment.geometry.appender_own + 1
    return page_edit(segment, a_page(segment), "word", word(State.OPEN, owner=none))


@DAMAGES.add("in queue 1, its appender 0 fills 0", core=False)
def page_open_in_a_main_queue(segment: Segment) -> Edit:
    small = next(p for p in segment.pages if p.state == State.OPEN and p.owner == 0)
    return in_queue(segment, small, 1)


@DAMAGES.add("in queue 0, its appender .* fills [1-6]", core=False)
def page_open_in_the_small_queue(segment: Segment) -> Edit:
    main = next(p for p in segment.pages if p.state == State.OPEN and p.queue)
    return in_queue(segment, main, 0)


@DAMAGES.add("in queue 15, but ref .* has", core=False)
def page_in_the_queue_of_larger_items(segment: Segment) -> Edit:
    return in_queue(segment, a_page(segment), 15)


@DAMAGES.add("in queue 6, but ref .* has", core=False)
def page_in_another_main_queue(segment: Segment) -> Edit:
    low = (p for p in segment.pages if p.state == State.CLOSED and 0 < p.queue < 6 and p.items)
    return in_queue(segment, next(low), 6)


@DAMAGES.add("state 0 in queue 3", core=False)
def page_free_in_a_queue(segment: Segment) -> Edit:
    free = next(page for page in segment.pages if page.state == State.FREE)
    return in_queue(segment, free, 3)


@DAMAGES.add("open, but not the current page of appender 0", core=False)
def page_open_but_not_current(segment: Segment) -> Edit:
    return page_edit(segment, a_page(segment), "word", word(State.OPEN, owner=0))


@DAMAGES.add(f"state 1 of attachment {NOBODY}", core=True)
def page_taken_by_nobody(segment: Segment) -> Edit:
    free = next(page for page in segment.pages if page.state == State.FREE)
    return page_edit(segment, free, "word", word(State.TAKEN, owner=NOBODY))


@DAMAGES.add("base pages too close", core=False)
def page_birth_twice(segment: Segment) -> Edit:
    first, second, *_ = (page for page in segment.pages if page.state == State.CLOSED)
    return page_edit(segment, second, "birth", first.birth)


@DAMAGES.add("born 1 base pages too close", core=False)
def page_birth_inside_a_longer_page(segment: Segment) -> Edit:
    closed = [page for page in segment.pages if page.state == State.CLOSED]
    longer = next(page for page in closed if page.run > 1)
    other = next(page for page in closed if page is not longer)
    return page_edit(segment, other, "birth", longer.birth + longer.run - 1)


@DAMAGES.add("the next is", core=False)
def page_birth_too_near_the_next(segment: Segment) -> Edit:
    longer = next(p for p in segment.pages if p.run > 1 and p.state == State.CLOSED)
    return page_edit(segment, longer, "birth", segment.header.next_birth - 1)


@DAMAGES.add("birth 0;", core=False)
def page_birth_zero(segment: Segment) -> Edit:
    return page_edit(segment, a_page(segment), "birth", 0)


@DAMAGES.add("of its run has the word", core=False)
def page_interior(segment: Segment) -> Edit:
    page = next(p for p in segment.pages if p.run > 1 and p.state == State.CLOSED)
    return edit(PAGE, page_at(segment, page.base + 1), "word", word(State.INTERIOR, run=77))


# ---- header, rows -------------------------------------------------------------------------------


@DAMAGES.add("index_high is 0", core=False)
def header_index_high(segment: Segment) -> Edit:
    return edit(HEADER, 0, "index_high", 0)


@DAMAGES.add("the ghost has 3 lines, no power of two", core=False)
def header_ghost_of_an_odd_length(segment: Segment) -> Edit:
    return edit(HEADER, 0, "ghost", 3)


@DAMAGES.add("the ghost has .* lines, there is room for", core=False)
def header_ghost_too_large(segment: Segment) -> Edit:
    most = segment.geometry.ghost_within(segment.header.size)
    return edit(HEADER, 0, "ghost", 1 << most.bit_length())


@DAMAGES.add("in use, but the last one is", core=False)
def appender_beyond_the_last(segment: Segment) -> Edit:
    none = segment.geometry.appender_own + 1
    at = HEADER.fields["appenders"][0] + none * APPENDER.size
    return edit(APPENDER, at, "current", a_page(segment).base + 1)


@DAMAGES.add("appender 1: locked by attachment", core=False)
def appender_locked_by_nobody(segment: Segment) -> Edit:
    return edit(APPENDER, HEADER.fields["appenders"][0] + APPENDER.size, "lock", NOBODY)


@DAMAGES.add("row 9: number 5 does not belong", core=False)
def row_of_another(segment: Segment) -> Edit:
    return edit(ROW, segment.geometry.off_rows + 9 * ROW.size, "number", 5)


@DAMAGES.add("row 9: belongs to nobody and holds pin", core=False)
def row_of_nobody_with_a_pin(segment: Segment) -> Edit:
    at = segment.geometry.off_rows + 9 * ROW.size
    return edit(ROW, at, "pin", a_place(segment)[3].ref, nth=3)


@DAMAGES.add("reservation 3 lies outside", core=False)
def row_reservation(segment: Segment) -> Edit:
    row = next(row for row in segment.rows if row.number)
    return edit(ROW, segment.geometry.off_rows + row.index * ROW.size, "reservation", 3, nth=7)
