"""Shell completion: names of stores, keys of a store, and names of files where one is wanted.

Owns: what is offered for each argument of a verb.

Promises: a press of the tab key reads for a quarter of a second at most, changes nothing, and never
shows an error. Keys that a shell line cannot carry as they are are not offered.

Does not: know shells; click writes their scripts.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import click

import shmkv
from shmkv.cli.target import stores

SECONDS = 0.25
MOST = 100  # keys offered

Completer = Callable[[click.Context, click.Parameter, str], list[Any]]


def names(ctx: click.Context, _param: click.Parameter | None, incomplete: str) -> list[Any]:
    """Stores of the user in question."""
    owner = ctx.params.get("owner")
    uid = owner if isinstance(owner, int) else os.geteuid()
    return [name for other, name in stores() if other == uid and name.startswith(incomplete)]


def keys(ctx: click.Context, name: str, incomplete: str) -> list[Any]:
    """Keys of a store that begin so."""
    owner = ctx.params.get("owner")
    uid = owner if isinstance(owner, int) else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with shmkv.open(name, owner=uid, readonly=True, mode=0o777) as store:
                return sorted(_some(iter(store), incomplete))
    except (shmkv.Error, OSError, ValueError):
        return []


def _some(found: Iterator[str | bytes], incomplete: str) -> set[str]:
    """The first ones that fit, within the time there is."""
    some: set[str] = set()
    end = time.monotonic() + SECONDS
    for key in found:
        if isinstance(key, str) and key.startswith(incomplete) and key.isprintable():
            some.add(key)
        if len(some) == MOST or time.monotonic() > end:
            break
    return some


def operands(usage: str) -> Completer:
    """What may stand where the cursor is, by a verb's usage line such as "KEY [SECONDS]"."""
    words = usage.split()

    def offer(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        args = ctx.params.get("args") or ()
        option = ctx.params.get("store")
        if option:
            return _at(ctx, option, words, len(args), incomplete)
        default = os.environ.get("SHMKV_STORE")
        offered = _at(ctx, default, words, len(args), incomplete) if default else []
        if not args:
            return offered + names(ctx, param, incomplete)
        return offered + _at(ctx, args[0], words, len(args) - 1, incomplete)

    return offer


def _at(ctx: click.Context, name: str, words: list[str], place: int, incomplete: str) -> list[Any]:
    """What the operand at a place may be."""
    if words and words[-1].endswith("..."):
        place = min(place, len(words) - 1)
    word = words[place].strip("[.]") if place < len(words) else ""
    if word == "FILE":
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]
    return keys(ctx, name, incomplete) if word == "KEY" else []
