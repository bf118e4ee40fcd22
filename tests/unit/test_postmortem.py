"""Who died and what it was doing: real deaths of all kinds, and deaths made of bytes.

Owns: what the notes tell of processes that end between two operations, and the meaning of every
field by bytes put there by hand. Deaths inside operations: tests/stress/test_postmortem.py.

Does not: damage anything; see test_postmortem_damage.py.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

import shmkv
from shmkv.cli.postmortem import lines
from shmkv.inspect import decode
from shmkv.inspect.blackbox import of_file
from shmkv.inspect.geometry import Config, geometry_of
from shmkv.inspect.layout import HEADER, ROW, STRIPE
from shmkv.inspect.postmortem import Attachment, lock_name, postmortem
from tests.conftest import MIB, segment_path
from tests.layout.notes import (
    NOTES_OF_ROW,
    NOW,
    death_at,
    geometry,
    known_of,
    put,
    put_death,
    put_note,
    reported,
    row_at,
)

Opener = Callable[..., shmkv.Store]


def killed(*acts: Callable[[], object]) -> int:
    """The number of a process that did this and was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            for act in acts:
                act()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    return pid


def told(store: shmkv.Store, **how: bool) -> tuple[Attachment, ...]:
    return of_file(segment_path(store.name), **how).attachments


def text_of(one: Attachment) -> str:
    return "\n".join(lines(one, time.time()))


# ---- real deaths --------------------------------------------------------------------------------


def test_a_death_before_and_after_it_is_folded(store: shmkv.Store) -> None:
    began = time.time()
    pid = killed(
        lambda: store.set("user:7", "Ada"),
        lambda: store.delete("nobody"),
        lambda: store.incr("hits"),
        lambda: store.add("hits", 1),
    )
    (before,) = told(store)
    assert (before.state, before.pid, before.doing, before.found) == ("unfolded", pid, (), None)
    noted = [(did.what, did.key, did.result) for did in before.before]
    assert noted == [
        ("add", b"hits", "exists"),
        ("incr", b"hits", "ok"),
        ("delete", b"nobody", "miss"),
        ("set", b"user:7", "ok"),
    ]
    assert before.started is not None
    assert began - 10 < before.started <= time.time()
    assert all(did.began and began - 1 < did.began <= time.time() for did in before.before)
    store.check()
    (after,) = told(store)
    assert (after.state, after.pid, after.number) == ("dead", pid, before.number)
    assert [(did.what, did.key, did.result) for did in after.before] == noted
    assert after.found is not None
    assert began <= after.found <= time.time() + 0.001
    assert (after.finder, after.finder_pid) == (store._number(), os.getpid())
    assert "doing     nothing: its last operation had ended" in text_of(after)
    assert "delete 'nobody': no such key" in text_of(after)


def test_who_only_reads_leaves_no_note(store: shmkv.Store) -> None:
    store.set("k", "v")
    killed(lambda: store.get("k"), lambda: "k" in store)
    (one,) = told(store)
    assert one.doing == one.before == ()
    assert "nothing is noted: it changed nothing" in text_of(one)


def test_a_pin_is_told(store: shmkv.Store) -> None:
    store.set("k", bytes(100_000))
    views: list[Any] = []
    killed(lambda: views.append(store.view("k")), lambda: views.append(views[0].__enter__()))
    (one,) = told(store)
    assert one.pins == 1
    store.check()
    (one,) = told(store)
    assert one.pins == 1
    assert "items to read: 1" in text_of(one)


def test_parent_and_child_are_two(store: shmkv.Store) -> None:
    store.set("of the parent", 1)

    def child() -> None:
        store.set("of the child", 1)
        killed(lambda: store.set("of the grandchild", 1))

    killed(child)
    keys = {did.key for one in told(store) for did in one.before}
    assert keys == {b"of the child", b"of the grandchild"}
    lives = [one for one in told(store, living=True) if one.state == "living"]
    assert [(one.pid, one.before[0].key) for one in lives] == [(os.getpid(), b"of the parent")]


def test_who_closes_is_no_death(open_store: Opener) -> None:
    open_store()
    other = open_store()
    other.set("k", 1)
    other.close()
    assert told(other) == ()


def test_the_last_32_deaths_stay(store: shmkv.Store) -> None:
    pids = []
    for i in range(40):
        pids.append(killed(lambda i=i: store.set(f"k{i}", i)))  # type: ignore[misc]
        store.check()
    found = of_file(segment_path(store.name))
    assert found.deaths == 40
    assert [one.pid for one in found.attachments] == pids[:-33:-1]
    assert [one.before[0].key for one in found.attachments][:2] == [b"k39", b"k38"]


def test_hostile_keys_cannot_act(store: shmkv.Store) -> None:
    keys = [b"\x1b[2J\x07\r\nprocess 1", b"\xff\xfe", "é".encode() * 40, b"x" * 60_000, b'"']
    killed(*(lambda key=key: store.set(key, 1) for key in keys))  # type: ignore[misc]
    (one,) = told(store)
    text = text_of(one)
    assert all(char.isprintable() or char == "\n" for char in text)
    assert r'set "\x1b[2J\x07\r\nprocess 1"' in text
    assert r'set "\xff\xfe"' in text
    assert f"set '{'é' * 18}'… (80 bytes)" in text
    assert f"set '{'x' * 36}'… (60000 bytes)" in text


# ---- deaths made of bytes -----------------------------------------------------------------------


@pytest.fixture
def image(store_name: str) -> bytearray:
    """A segment nobody is attached to."""
    with shmkv.open(store_name, size=2 * MIB, max_size=2 * MIB) as store:
        store.set("k", b"v")
    return bytearray(segment_path(store_name).read_bytes())


def test_times_are_translated(image: bytearray) -> None:
    notes = put_death(image, 0)
    put_note(image, notes, 1, "set", b"exact", at_ns=4_987_500_000_000, ended=1)
    put_note(image, notes, 2, "set", b"least", at_ns=4_987_500_000_000, ended=2)
    put_note(image, notes, 3, "set", b"never", at_ns=0)
    put_note(image, notes, 4, "set", b"later", at_ns=4_990_000_000_001)
    put_note(image, notes, 5, "clear", at_ns=4_990_000_000_000)
    (one,) = reported(image).attachments
    assert (one.attached, one.found) == (1_699_999_000.0, 1_699_999_990.0)
    assert one.started == pytest.approx(1_700_000_000 - 6000 + 2000)
    least, exact = one.before
    assert (exact.began, exact.exact, exact.result) == (1_699_999_987.5, True, "ok")
    assert (least.began, least.exact, least.result) == (1_699_999_987.5, False, "miss")
    clear, later, never = one.doing
    assert (clear.what, clear.began, clear.exact) == ("clear", 1_699_999_990.0, True)
    assert (later.began, never.began) == (None, None)


def test_rows_are_translated_by_the_present(image: bytearray) -> None:
    at = row_at(geometry(image), 7)
    put(image, at, ROW, number=71, pid=99, attached_ms=1_699_999_000_000)
    put_note(image, at + NOTES_OF_ROW, 33, "incr", b"n", at_ns=4_999_000_000_000)
    (one,) = reported(image).attachments
    assert (one.state, one.doing[0].began, one.doing[0].exact) == (
        "unfolded",
        1_699_999_999.0,
        True,
    )
    assert one.started is None
    alive = frozenset({7})
    assert postmortem(known_of(image), alive, NOW).attachments == ()
    (one,) = postmortem(known_of(image), alive, NOW, living=True).attachments
    assert one.state == "living"


def test_local_time_is_shown(monkeypatch: pytest.MonkeyPatch, image: bytearray) -> None:
    notes = put_death(image, 0)
    put_note(image, notes, 2, "set", b"a", at_ns=4_987_500_000_000)
    put_note(image, notes, 3, "set", b"b", at_ns=4_900_000_000_000, ended=1)
    put_note(image, notes, 4, "set", b"c", at_ns=1, ended=1)
    (one,) = reported(image).attachments
    for zone, hour, day in (("UTC", "22", "14"), ("Asia/Tokyo", "07", "15")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            text = "\n".join(lines(one, 1_700_000_000.0))
        finally:
            monkeypatch.undo()
            time.tzset()
        assert f"found     dead 2023-11-{day} {hour}:13:10 (10 s ago)" in text
        assert f"begun {hour}:13:07 at the earliest" in text
        assert f"{hour}:11:40+ set 'b': done" in text


def test_waits_name_lock_and_holder(image: bytearray) -> None:
    g = geometry(image)
    notes = put_death(image, 0, finder=101)
    put_death(image, 1, pid=4712)
    stripe = g.off_stripes + 3 * STRIPE.size
    put_note(image, notes, 1, "round", at_ns=1, ended=1, place=2, owner=101, waited_us=1500)
    put_note(image, notes, 2, "set", b"k", at_ns=4_989_000_000_000, place=stripe, owner=101)
    put_note(image, notes, 3, "wait", at_ns=1, ended=10, place=1, owner=0, waited_us=5_000_000)
    one = reported(image).attachments[-1]
    wait = one.doing[0].wait
    assert wait is not None
    assert (wait.what, wait.at, wait.holder, wait.holder_pid) == ("stripe 3", stripe, 101, 4712)
    text = "\n".join(lines(one, 1_700_000_000.0))
    assert "by attachment 101 (process 4712)" in text
    assert (
        "waiting for stripe 3, which attachment 101 (process 4712) had, for at most 1.0 s" in text
    )
    assert "something that changes nothing: gave up waiting (Busy), waited 5.0 s for memory" in text
    assert "a round of the journal: done, waited 1.5 ms for a round of the journal" in text


def test_locks_have_names(image: bytearray) -> None:
    g = geometry(image)
    names = {
        192: "the journal",
        512: "cleaner 0",
        512 + 64 * 7: "cleaner 7",
        1024: "appender 0 of the small queue",
        1024 + 64 * g.appenders: "the appender of main queue 1",
        1024 + 64 * g.appender_own: "the cleaners' appender",
        1024 + 64 * 15: "appender 15",
        g.off_stripes: "stripe 0",
        g.off_stripes + 64 * (g.stripes - 1): f"stripe {g.stripes - 1}",
        g.off_stripes + 64 * g.stripes: f"no lock (offset {g.off_stripes + 64 * g.stripes})",
        g.off_stripes + 4: f"no lock (offset {g.off_stripes + 4})",
        0: "no lock (offset 0)",
    }
    assert {at: lock_name(g, at) for at in names} == names
    plain = geometry_of(Config(2 * MIB, 2 * MIB, 0, 0, 2))
    assert plain is not None
    assert lock_name(plain, 1024) == "appender 0"


def test_locks_of_a_row_are_the_words_that_bear_its_number(image: bytearray) -> None:
    g = geometry(image)
    at = row_at(g, 7)
    put(image, at, ROW, number=71, pid=99)
    for word in (192, 512, 1024, g.off_stripes + 64):
        image[word : word + 4] = (71 | 1 << 31).to_bytes(4, "little")
    (one,) = reported(image).attachments
    names = ["stripe 1", "appender 0 of the small queue", "the journal", "cleaner 0"]
    assert [lock.name for lock in one.locks] == names
    assert one.locks_held == 4


def test_more_locks_than_are_kept(image: bytearray) -> None:
    put_death(image, 0, locks=9, pins=2, reservations=3)
    image[death_at(geometry(image), 0) + 48 :][:4] = b"\0\2\0\0"
    (one,) = reported(image).attachments
    assert (one.locks_held, len(one.locks)) == (9, 8)
    text = "\n".join(lines(one, NOW.wall_ms / 1000))
    assert " and 1 more" in text
    assert "pages to write into: 3" in text
    assert "items to read: 2" in text


def test_a_death_whose_row_is_still_there_is_told_once(image: bytearray) -> None:
    put_death(image, 0, number=71)
    put(image, row_at(geometry(image), 7), ROW, number=71, attached_ms=1_699_999_000_000)
    assert [one.state for one in reported(image).attachments] == ["dead"]


def test_further_rows_of_a_process_are_its_own(image: bytearray) -> None:
    g = geometry(image)
    put(image, row_at(g, 7), ROW, number=71)
    put(image, row_at(g, 8), ROW, number=72, first=71)
    image[row_at(g, 8) + 128 :][:4] = b"\1\0\0\0"
    at = row_at(g, 8) + 128
    image[at : at + 8] = b"\1\0\0\0\1\0\0\0"
    (one,) = reported(image).attachments
    assert (one.number, one.pins) == (71, 2)


def test_deaths_of_one_millisecond_are_in_the_order_of_the_ring(image: bytearray) -> None:
    for place in (30, 31, 0, 1):
        put_death(image, place)
    put(image, 0, HEADER, deaths=66)
    assert [one.number for one in reported(image).attachments] == [101, 100, 131, 130]


def test_a_decoded_segment_tells_the_same(image: bytearray) -> None:
    put_note(image, put_death(image, 0), 1, "set", b"k")
    assert decode(image).attachments() == known_of(image)


def test_the_form_in_json_is_stable(image: bytearray) -> None:
    put_note(image, put_death(image, 0, locks=1), 1, "set", b"k", place=2)
    form: dict[str, Any] = reported(image).as_dict()
    assert list(form) == ["schema", "now", "deaths", "attachments"]
    assert form["schema"] == 1
    (one,) = form["attachments"]
    assert " ".join(one) == (
        "state number pid pid_start pid_namespace started attached found finder finder_pid"
        " is_daemon locks_held locks reservations pins doing before"
    )
    assert " ".join(one["doing"][0]) == "turn what key key_length began result exact wait"
    assert " ".join(one["doing"][0]["wait"]) == "what at holder holder_pid waited_us"
    assert " ".join(one["locks"][0]) == "name at"
