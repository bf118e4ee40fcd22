"""The slow source: articles as a database on another machine would give them, made into HTML.

Owns the articles and their look. Reading one waits `QUERY_SECONDS`, as a query over the network
does, and rendering it takes a few milliseconds of work: together some 20 ms a page. The same
number always gives the same page, of 9 to 25 KB, so that a page can be compared byte by byte.

Does not cache, count or speak HTTP: that is the application's part.
"""

import html
import random
import re
import time
from dataclasses import dataclass

COUNT = 2000
QUERY_SECONDS = 0.016

_TEXT = (
    "memory page lock reader writer queue kernel process signal version *never* *always* value"
    " slot index bucket key store segment cache line fence order commit crash repair `futex` of"
    " the a and to in is that for with as on by from it at an be this which or not are was but"
    " <stdio.h> & `mmap` `fork` clock deadline journal snapshot daemon worker client request"
)
_WORDS = _TEXT.split()
_NAMES = ("Ada", "Barbara", "Edsger", "Frances", "Grace", "Ken", "Leslie", "Margaret", "Tony")
_STYLE = "body{max-width:44em;margin:auto;font:17px/1.5 serif}aside{color:#555}footer{color:#888}"
_MARKUP = re.compile(r"\*(\w+)\*|`(\w+)`")


@dataclass(frozen=True)
class Article:
    """What the database holds about one article."""

    number: int
    title: str
    author: str
    sections: list[tuple[str, list[str]]]
    comments: list[tuple[str, str]]
    related: list[int]


def _sentence(source: random.Random, words: int) -> str:
    text = " ".join(source.choices(_WORDS, k=words))
    return text[0].upper() + text[1:] + "."


def fetch(number: int) -> Article:
    """The article `number`, 1 to `COUNT`. Waits as a query does."""
    if not 1 <= number <= COUNT:
        raise LookupError(f"there is no article {number}")
    time.sleep(QUERY_SECONDS)
    source = random.Random(number)
    sections = [
        (_sentence(source, 4), [_sentence(source, 90) for _ in range(source.randint(2, 5))])
        for _ in range(source.randint(4, 8))
    ]
    comments = [
        (source.choice(_NAMES), _sentence(source, source.randint(10, 60)))
        for _ in range(source.randint(3, 20))
    ]
    related = source.sample(range(1, COUNT + 1), 5)
    return Article(number, _sentence(source, 5), source.choice(_NAMES), sections, comments, related)


def _marked_up(text: str) -> str:
    def element(found: re.Match[str]) -> str:
        return f"<em>{found[1]}</em>" if found[1] else f"<code>{found[2]}</code>"

    return _MARKUP.sub(element, html.escape(text))


def render(article: Article) -> bytes:
    """The page of an article: everything above the footer, which changes with each visit."""
    words = sum(len(text.split()) for _, texts in article.sections for text in texts)
    title = html.escape(article.title)
    out = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>",
        f"<style>{_STYLE}</style><article id=a{article.number}><h1>{title}</h1>",
        f"<aside>by {article.author}, {words} words, {max(1, words // 230)} minutes</aside><ol>",
    ]
    for place, (heading, _) in enumerate(article.sections, 1):
        out.append(f'<li><a href="#s{place}">{_marked_up(heading)}</a>')
    out.append("</ol>")
    for place, (heading, texts) in enumerate(article.sections, 1):
        out.append(f"<h2 id=s{place}>{_marked_up(heading)}</h2>")
        out += [f"<p>{_marked_up(text)}</p>" for text in texts]
    out.append(f"<h2>{len(article.comments)} comments</h2><dl>")
    for author, text in article.comments:
        out.append(f"<dt>{author}<dd>{_marked_up(text)}")
    out.append("</dl><h2>Read on</h2><ul>")
    out += [f'<li><a href="/article/{n}">article {n}</a>' for n in article.related]
    out.append("</ul></article>")
    return "\n".join(out).encode()
