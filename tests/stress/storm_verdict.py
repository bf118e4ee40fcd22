"""The last look after a storm: everybody has ended, every key is judged, then the memory.

own keys   the state acknowledged last, or the one that was begun and not acknowledged; with
           eviction the value may be missing: as often as the store counts evictions, and once for
           each death between an eviction and its count
counters   between what was acknowledged and what was begun; with eviction they may start again
boards     a value that its writer had not replaced, and with `evict=False` there is one
bytes      with `evict=False` exactly the items that must be there, and their bytes to the byte
memory     support.settle: every page accounted for, nothing left in an emptied store
"""

from __future__ import annotations

import shmkv
from tests.stress.storm_values import (
    BOARDS,
    COUNTERS,
    FULLS,
    OWN,
    SLOTS,
    VANISHED,
    Table,
    board_name,
    counter_name,
    item_bytes,
    own_name,
)
from tests.stress.storm_worker import Lost, Worker, judge_board
from tests.stress.support import settle


def judge(store: shmkv.Store, table: Table, deaths: int) -> list[str]:
    """What is wrong with a store that was left. Empties it."""
    wrong: list[str] = []
    for slot in range(SLOTS):
        try:
            worker = Worker(store, table, slot, 0)
            worker.recover()
            for i in range(OWN):
                worker.found(i, store.get(own_name(slot * OWN + i)))
        except Lost as lost:
            wrong.append(f"the end: {lost}")
    wrong += _counters(store, table)
    for b in range(BOARDS):
        least = [desk.posted[b] for desk in table.desks]
        try:
            judge_board(table, b, least, store.get(board_name(b)), store.evict)
        except Lost as lost:
            wrong.append(f"the end: {lost}")
    stats = store.stats()
    if table.total(VANISHED) > stats.evictions + deaths:
        wrong.append(f"{table.total(VANISHED)} values vanished, {stats.evictions} were evicted")
    if table.total(FULLS):
        wrong.append(f"{table.total(FULLS)} writes were refused in a store with room")
    if not store.evict and not wrong:
        wrong += _bytes(store)
    return wrong + settle(store)


def _counters(store: shmkv.Store, table: Table) -> list[str]:
    wrong = []
    for c in range(COUNTERS):
        least = sum(desk.counted[c] for desk in table.desks)
        most = sum(desk.started[c] for desk in table.desks)
        value = store.get(counter_name(c))
        if value is None and store.evict:
            continue
        if type(value) is not int or not (store.evict or least <= value) or value > most:
            wrong.append(f"{counter_name(c)} = {value!r}, {least} acknowledged, {most} begun")
    return wrong


def _bytes(store: shmkv.Store) -> list[str]:
    """All keys have been judged: what they take is what the store says."""
    names = [own_name(key) for key in range(SLOTS * OWN)]
    names += [counter_name(c) for c in range(COUNTERS)] + [board_name(b) for b in range(BOARDS)]
    found = store.get_many(names)
    wanted = sum(item_bytes(key, value) for key, value in found.items())
    checked = store.check()
    if (checked.items, checked.bytes_live) != (len(found), wanted):
        return [
            f"{checked.items} items of {checked.bytes_live} bytes are indexed, "
            f"there are {len(found)} of {wanted}"
        ]
    return []
