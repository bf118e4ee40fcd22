"""The parts of examples/webapp that need no server: pages, application, load, judgement.

The judgement matters most: a demo that cannot fail shows nothing. Every promise it checks is
broken here once, by figures made for it, and must be reported. Does not start gunicorn.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from examples.webapp import app as webapp
from examples.webapp import articles, server
from examples.webapp.load import Client, Failure, Tally, Zipf, address_of
from examples.webapp.report import Counters, Run, problems, summary, table
from examples.webapp.rivals import Dict, NoPages
from examples.webapp.server import Memory

KILLED = 4242
MOMENT = 100.0


@pytest.fixture(autouse=True)
def quick_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Articles come without the wait of the query."""
    monkeypatch.setattr(articles, "QUERY_SECONDS", 0.0)


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(app: webapp.App, path: str, client: str = "10.0.0.1") -> tuple[str, bytes, dict[str, str]]:
    """One request through the WSGI door."""
    environ: dict[str, Any] = {"PATH_INFO": path, "HTTP_X_FORWARDED_FOR": client}
    setup_testing_defaults(environ)
    seen: list[tuple[str, dict[str, str]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: object = None, /
    ) -> Callable[[bytes], object]:
        seen.append((status, dict(headers)))
        return lambda _: pytest.fail("the old way of writing a body")

    body = b"".join(app(environ, start_response))
    ((status, headers),) = seen
    assert int(headers["Content-Length"]) == len(body)
    return status, body, headers


# ---- articles ---------------------------------------------------------------------------------


def test_the_same_article_is_always_the_same_page() -> None:
    pages = [articles.render(articles.fetch(number)) for number in (7, 8, 7)]
    assert pages[0] == pages[2] != pages[1]


def test_pages_have_the_promised_size_and_escape_what_the_text_holds() -> None:
    pages = [articles.render(articles.fetch(number)) for number in range(1, 60)]
    assert all(8_000 < len(page) < 26_000 for page in pages)
    text = b"".join(pages)
    assert b"&lt;stdio.h&gt;" in text
    assert b"<stdio.h>" not in text
    assert b"<em>never</em>" in text
    assert b"<code>mmap</code>" in text


@pytest.mark.parametrize("number", [0, -1, articles.COUNT + 1])
def test_an_article_that_does_not_exist_is_a_lookup_error(number: int) -> None:
    with pytest.raises(LookupError, match=str(number)):
        articles.fetch(number)


# ---- application ------------------------------------------------------------------------------


def test_a_page_is_made_once_and_visits_are_counted() -> None:
    app = webapp.App(Dict())
    _, first, made = ask(app, "/article/5")
    _, second, found = ask(app, "/article/5")
    assert (made["X-Cache"], found["X-Cache"]) == ("miss", "hit")
    assert first.endswith(b"<footer>visit 1 of this page, 1 of all</footer></html>")
    assert second.endswith(b"<footer>visit 2 of this page, 2 of all</footer></html>")
    assert first.rpartition(b"<footer>")[0] == second.rpartition(b"<footer>")[0]


def test_without_pages_every_request_makes_its_page() -> None:
    app = webapp.App(NoPages())
    assert [ask(app, "/article/5")[2]["X-Cache"] for _ in range(3)] == ["miss"] * 3


def test_a_client_over_its_limit_waits_for_the_next_second() -> None:
    hand = Hand()
    app = webapp.App(Dict(clock=hand), clock=hand)
    within = [ask(app, "/article/1")[0] for _ in range(webapp.CLIENT_LIMIT)]
    assert set(within) == {"200 OK"}
    status, body, headers = ask(app, "/article/1")
    assert status.startswith("429")
    assert headers["Retry-After"] == "1"
    assert b"article" not in body
    assert ask(app, "/article/1", client="10.0.0.2")[0] == "200 OK"
    hand.now += 1
    assert ask(app, "/article/1")[0] == "200 OK"


def test_requests_count_whatever_the_answer_and_visits_only_pages() -> None:
    store = Dict()
    app = webapp.App(store)
    for path in ("/article/3", "/nowhere", "/stats", "/article/3"):
        ask(app, path)
    assert (store.get("requests"), store.get("visits:3")) == (3, 2)


def test_the_stats_page_shows_the_figures() -> None:
    app = webapp.App(Dict())
    ask(app, "/article/3")
    status, body, _ = ask(app, "/stats")
    assert status == "200 OK"
    assert b"<th>requests<td>1" in body


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/", 1),
        ("/article/1", 1),
        (f"/article/{articles.COUNT}", articles.COUNT),
        (f"/article/{articles.COUNT + 1}", None),
        ("/article/0", None),
        ("/article/", None),
        ("/article/-1", None),
        ("/article/\N{SUPERSCRIPT TWO}", None),
        ("/article/" + "9" * 5000, None),
        ("17", None),
    ],
)
def test_paths(path: str, number: int | None) -> None:
    assert webapp.article_number(path) == number


def test_the_client_is_the_last_address_the_proxy_names() -> None:
    direct = {"REMOTE_ADDR": "127.0.0.1"}
    assert webapp.client_of(direct) == "127.0.0.1"
    assert webapp.client_of({**direct, "HTTP_X_FORWARDED_FOR": "6.6.6.6, 10.1.2.3"}) == "10.1.2.3"


# ---- rivals -----------------------------------------------------------------------------------


def test_the_dict_keeps_time_to_live_as_a_store_does() -> None:
    hand = Hand()
    store = Dict(clock=hand)
    store.set("page", b"x", ttl=5.0)
    store.set("page", b"y", ttl=10.0)
    assert [store.incr("rate", ttl=2.0) for _ in range(3)] == [1, 2, 3]
    hand.now += 1.9
    assert store.incr("rate", ttl=2.0) == 4
    hand.now += 0.1
    assert store.incr("rate", ttl=2.0) == 1
    hand.now += 7.9
    assert store.get("page") == b"y"
    hand.now += 0.2
    assert store.get("page", "gone") == "gone"


def test_the_dict_gives_expired_items_back() -> None:
    hand = Hand()
    store = Dict(clock=hand)
    for number in range(1000):
        store.incr(f"rate:{number}", ttl=1.0)
    hand.now += 2
    for _ in range(3000):
        store.incr("requests")
    assert store.stats().as_dict() == {"items": 1}


# ---- load -------------------------------------------------------------------------------------


def test_zipf_prefers_the_first_in_proportion_and_stays_in_range() -> None:
    choose = Zipf(100, random.Random(5))
    drawn = Counter(choose() for _ in range(50_000))
    assert set(drawn) <= set(range(1, 101))
    assert len(drawn) == 100
    assert drawn[1] / drawn[2] == pytest.approx(2, rel=0.1)
    assert drawn[1] / drawn[10] == pytest.approx(10, rel=0.2)


def test_addresses_differ() -> None:
    assert len({address_of(n) for n in range(0, 1 << 24, 4099)}) == len(range(0, 1 << 24, 4099))
    assert address_of(1 << 23 | 258) == "10.128.1.2"


def test_a_tally_survives_json_and_adds_up() -> None:
    one = Tally(pages=3, limited=1, hits=2, seconds=1.0, sums={7: 70})
    one.failures.append(Failure(1.5, KILLED, "gone"))
    assert Tally.from_json(json.dumps(dataclasses.asdict(one))) == one
    two = Tally(pages=4, seconds=2.0, sums={8: 80})
    two.add(one)
    assert (two.answered, two.hits, two.seconds) == (8, 2, 2.0)
    assert two.sums == {7: 70, 8: 80}
    assert two.failures == one.failures


def test_two_clients_that_saw_different_pages_disagree_aloud() -> None:
    one = Tally(sums={7: 70})
    one.add(Tally(sums={7: 71}))
    assert one.other == ["article 7 came with other bytes than before"]


GOOD = b"<article id=a7>x</article><footer>visit 1</footer></html>"


@pytest.mark.parametrize(
    ("answer", "pages", "limited", "others"),
    [
        ((200, GOOD), 1, 0, 0),
        ((200, GOOD[:-3]), 1, 0, 1),
        ((200, GOOD.replace(b"a7", b"a8")), 1, 0, 1),
        ((200, b"<article id=a7>"), 1, 0, 1),
        ((429, b"slow down"), 0, 1, 0),
        ((500, b"oh"), 0, 0, 1),
        ((0, b""), 0, 0, 0),
    ],
)
def test_the_client_checks_every_page(
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[int, bytes],
    pages: int,
    limited: int,
    others: int,
) -> None:
    monkeypatch.setattr(Client, "get", lambda *_: answer)
    tally = Tally()
    Client(1, tally).article(7, "10.0.0.1")
    assert (tally.pages, tally.limited, len(tally.other)) == (pages, limited, others)


# ---- processes --------------------------------------------------------------------------------


def test_the_parent_is_found_behind_any_command() -> None:
    assert server.parent_of("17 (a b) c) S 99 17 17 0 -1") == 99


def test_children_are_found_while_they_live() -> None:
    me = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with me:
        assert me.pid in server.children_of(os.getpid())
        me.communicate(b"\n", timeout=30)
    assert me.pid not in server.children_of(os.getpid())


def test_memory_is_read_from_the_rollup() -> None:
    text = (
        "55d0-7ffe ---p 00000000 00:00 0   [rollup]\n"
        "Rss:   20480 kB\nPss:   10240 kB\nPss_Dirty:  1 kB\nPss_Shmem:   2048 kB\n"
    )
    assert server.memory_in(text) == Memory(10240 * 1024, 2048 * 1024)


def test_waiting_is_bounded() -> None:
    assert server.wait_until(lambda: True, 0)
    assert not server.wait_until(lambda: False, 0)


# ---- judgement --------------------------------------------------------------------------------


def good_run() -> Run:
    """Eleven pages and four refusals answered, two requests lost with the killed worker."""
    load = Tally(pages=10, limited=4, hits=6, greedy_pages=3, greedy_seconds=1, seconds=2.0)
    load.failures = [Failure(MOMENT, KILLED, "reset"), Failure(MOMENT + 1, 0, "reset")]
    return Run("shmkv", load, Tally(pages=1), Memory(30 << 20, 10 << 20), KILLED, MOMENT)


def counted(requests: int = 16, visits: int = 12, ok: bool = True) -> Counters:
    """Counters that fit `good_run`."""
    return Counters(requests, visits, ok, "()" if ok else "('a leak',)")


@pytest.mark.parametrize("requests", [15, 16, 17])
@pytest.mark.parametrize("visits", [11, 12, 13])
def test_lost_requests_may_have_been_counted_or_not(requests: int, visits: int) -> None:
    assert problems(good_run(), counted(requests, visits)) == []


@pytest.mark.parametrize(
    ("counters", "words"),
    [
        (counted(requests=14), "requests counted 14, answered 15"),
        (counted(requests=18), "requests counted 18, answered 15"),
        (counted(visits=10), "page visits counted 10, answered 11"),
        (counted(visits=14), "page visits counted 14, answered 11"),
        (counted(ok=False), "a leak"),
    ],
)
def test_a_counter_that_is_off_or_a_bad_store_is_reported(counters: Counters, words: str) -> None:
    (problem,) = problems(good_run(), counters)
    assert words in problem


@pytest.mark.parametrize(
    "failure",
    [
        Failure(MOMENT + 1, 77, "reset"),  # of a worker that lives
        Failure(MOMENT - 0.1, KILLED, "reset"),  # before the kill
        Failure(MOMENT + 30, 0, "refused"),  # long after it
    ],
)
def test_a_failure_the_kill_does_not_explain_is_reported(failure: Failure) -> None:
    run = good_run()
    run.load.failures.append(failure)
    assert problems(run, counted()) == [f"shmkv: a request failed: {failure.error}"]


def test_without_a_kill_no_failure_is_explained() -> None:
    run = dataclasses.replace(good_run(), kind="dict", killed=0)
    assert len(problems(run, None)) == 2


def test_a_broken_limit_a_wrong_page_and_silence_are_reported() -> None:
    run = good_run()
    run.load.greedy_pages = webapp.CLIENT_LIMIT + 1
    run.load.other.append("article 7 came cut off")
    run.load.pages, run.walk.pages = 0, 11
    found = problems(run, counted())
    assert ["came cut off" in found[0], "not one page" in found[1], "limited" in found[2]] == [
        True,
        True,
        True,
    ]


def test_the_table_holds_the_figures_of_every_run() -> None:
    none = dataclasses.replace(good_run(), kind="none", killed=0)
    text = table([none, good_run()], store_size="48MiB", cpus=2)
    rows = {line[:40].strip(): line[40:].split() for line in text.splitlines()}
    assert rows["compared with no cache"] == ["1.0", "x", "1.0", "x"]
    assert rows["hit ratio over all workers, from cold"] == ["85.7%", "85.7%"]
    assert rows["memory of the 4 workers (sum of PSS)"] == ["31", "MB", "31", "MB"]
    assert rows["requests lost with the killed worker"][-1] == "2"


@pytest.mark.parametrize(("requests", "word"), [(16, "exact"), (18, "OFF")])
def test_the_summary_says_whether_the_counter_is_exact(requests: int, word: str) -> None:
    assert f"{requests}: {word} (15 <= {requests} <= 17)" in summary(good_run(), counted(requests))
