"""What a scrape holds: names, numbers, labels; what killed processes and bad stores do to it."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

import shmkv
from shmkv import launch, segment
from shmkv.metrics import StoreCollector, text
from shmkv.metrics.table import FAMILIES
from tests.conftest import MIB, Clock, segment_path
from tests.stress.support import brood, until
from tests.unit.daemon.saving import break_journal
from tests.unit.metrics.scrapes import Samples, numbers, scrape

NAMES = {
    "shmkv_attached_processes": "gauge",
    "shmkv_bytes": "gauge",
    "shmkv_damage_total": "counter",
    "shmkv_deletes_total": "counter",
    "shmkv_evictions_total": "counter",
    "shmkv_expired_total": "counter",
    "shmkv_hits_total": "counter",
    "shmkv_items": "gauge",
    "shmkv_journal_broken": "gauge",
    "shmkv_journal_pending_keys": "gauge",
    "shmkv_lock_recoveries_total": "counter",
    "shmkv_misses_total": "counter",
    "shmkv_nospace_total": "counter",
    "shmkv_sets_refused_total": "counter",
    "shmkv_sets_total": "counter",
    "shmkv_up": "gauge",
}
SNAPSHOT = "shmkv_snapshot_last_success_timestamp_seconds"


def test_names_do_not_change(store: shmkv.Store) -> None:
    """Dashboards and alerts of others name them."""
    assert {family.name: family.kind for family in FAMILIES} == NAMES | {SNAPSHOT: "gauge"}
    lines = text(StoreCollector(store.name)).decode().splitlines()
    assert {
        line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE")
    } == NAMES
    assert all(f"# HELP {name} " in "\n".join(lines) for name in NAMES)


def test_numbers_are_those_of_stats(store: shmkv.Store, clock: Clock) -> None:
    store.set("short", 1, ttl=1)
    store.update({"a": 1, "b": b"x" * 1000})
    store.get("a")
    store.get("nowhere")
    store.delete("b")
    clock.advance(2)
    with pytest.raises(shmkv.TooLarge):
        store.set("large", b"x" * 2 * MIB)
    assert store._compact() >= 0
    stats, name = store.stats(), store.name
    assert stats.expired == 1
    assert scrape(name) == {
        ("shmkv_up", name): 1,
        ("shmkv_hits_total", name): 1,
        ("shmkv_misses_total", name): 1,
        ("shmkv_sets_total", name): 3,
        ("shmkv_deletes_total", name): 1,
        ("shmkv_expired_total", name): 1,
        ("shmkv_evictions_total", name, "small"): 0,
        ("shmkv_evictions_total", name, "main"): 0,
        ("shmkv_evictions_total", name, "index"): 0,
        ("shmkv_sets_refused_total", name, "full"): 0,
        ("shmkv_sets_refused_total", name, "large"): 1,
        ("shmkv_items", name): 1,
        ("shmkv_bytes", name, "live"): stats.bytes_live,
        ("shmkv_bytes", name, "garbage"): stats.bytes_garbage,
        ("shmkv_bytes", name, "free"): stats.bytes_free,
        ("shmkv_bytes", name, "index"): stats.bytes_index,
        ("shmkv_bytes", name, "backed"): stats.bytes_backed,
        ("shmkv_bytes", name, "size"): 8 * MIB,
        ("shmkv_bytes", name, "max"): 32 * MIB,
        ("shmkv_lock_recoveries_total", name): 0,
        ("shmkv_nospace_total", name): 0,
        ("shmkv_damage_total", name): 0,
        ("shmkv_journal_broken", name): 0,
        ("shmkv_journal_pending_keys", name): 0,
        ("shmkv_attached_processes", name): 1,
    }


def test_reasons_add_up(open_store: Callable[..., shmkv.Store]) -> None:
    store = open_store(size=2 * MIB, max_size=2 * MIB)
    for n in range(40_000):
        store.set(f"key:{n}", b"x" * 100)
        store.get(f"key:{n % 100}")
    found, stats = scrape(store.name), store.stats()
    parts = {key[2]: n for key, n in found.items() if key[0] == "shmkv_evictions_total"}
    assert sum(parts.values()) == stats.evictions > 10_000
    assert parts["small"] == stats.evictions_small > 0
    full = open_store(store.name + "-db", size=2 * MIB, max_size=2 * MIB, evict=False)
    try:
        with pytest.raises(shmkv.Full):
            full.update((f"key:{n}", b"x" * 100) for n in range(40_000))
        refused = scrape(full.name)["shmkv_sets_refused_total", full.name, "full"]
        assert refused == full.stats().refused_full == 1
    finally:
        shmkv.unlink(full.name)


def test_the_time_of_a_snapshot_is_a_sample_once_there_is_one(
    store: shmkv.Store, tmp_path: Path
) -> None:
    assert (SNAPSHOT, store.name) not in scrape(store.name)
    store.snapshot(tmp_path / "copy.shmkv")
    said = scrape(store.name)[SNAPSHOT, store.name]
    assert said == store.stats().snapshot_time
    assert abs(time.time() - said) < 60
    assert f"# TYPE {SNAPSHOT} gauge" in text(StoreCollector(store.name)).decode()


def test_a_journal_is_seen(
    open_store: Callable[..., shmkv.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ensure", lambda *_, **__: None)
    store = open_store(path=tmp_path / "store", journal="everysec")
    store._journal_sync()
    with shmkv.open(store.name, create=False) as blind:
        blind["k"] = 1
    found = scrape(store.name)
    assert found["shmkv_journal_pending_keys", store.name] == 1
    assert found["shmkv_journal_broken", store.name] == 0
    break_journal(store.name)
    assert scrape(store.name)["shmkv_journal_broken", store.name] == 1
    store.snapshot()
    assert scrape(store.name)["shmkv_journal_broken", store.name] == 0


def test_no_label_has_a_key(store: shmkv.Store) -> None:
    store["secret-key"] = "secret-value"
    store.get("secret-miss")
    said = text(StoreCollector(store.name)).decode()
    assert "secret" not in said
    labels = {
        label
        for family in text_string_to_metric_families(said)
        for sample in family.samples
        for label in sample.labels
    }
    assert labels == {"store", "reason", "kind"}


def test_openmetrics(store: shmkv.Store) -> None:
    said = text(StoreCollector(store.name), openmetrics=True).decode()
    assert said.endswith("# EOF\n")
    names = {sample.name for family in openmetrics_families(said) for sample in family.samples}
    assert names == set(NAMES)


def test_a_scrape_only_reads(store: shmkv.Store) -> None:
    store.update({f"key:{n}": n for n in range(1000)})
    before = bytes(store._raw())
    for _ in range(3):
        assert scrape(store.name)["shmkv_items", store.name] == 1000
    assert bytes(store._raw()) == before


def test_in_a_registry_of_ones_own(store: shmkv.Store, new_name: Callable[[], str]) -> None:
    """Registering asks for names and opens nothing; a store made later is there later."""
    failed: list[str] = []
    later = new_name()
    registry = CollectorRegistry()
    registry.register(
        StoreCollector(store.name, later, on_error=lambda name, _error: failed.append(name))
    )
    assert failed == []
    assert registry.get_sample_value("shmkv_up", {"store": store.name}) == 1
    assert registry.get_sample_value("shmkv_up", {"store": later}) == 0
    assert failed[0] == later
    with shmkv.open(later, size=2 * MIB):
        assert numbers(generate_latest(registry))["shmkv_up", later] == 1
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(StoreCollector(store.name))


def test_arguments(store: shmkv.Store) -> None:
    with pytest.raises(ValueError, match="no name of a store"):
        StoreCollector("a/b")
    with pytest.raises(TypeError, match="owner"):
        StoreCollector(owner="me")  # type: ignore[arg-type]
    assert scrape(store.name, store.name) == scrape(store.name, owner=os.geteuid())
    assert scrape(store.name, owner=4_000_000_000) == {("shmkv_up", store.name): 0}


# ---- stores that cannot be read -----------------------------------------------------------------


@pytest.fixture
def bad(new_name: Callable[[], str]) -> dict[str, str]:
    """Stores that nobody can attach to, by what is wrong with them."""
    good = new_name()
    with shmkv.open(good, size=2 * MIB, max_size=2 * MIB) as store:
        store["k"] = "v"
    image = bytearray(segment_path(good).read_bytes())
    shmkv.unlink(good)
    version = bytes(image[:8]) + struct.pack("<I", 99) + bytes(image[12:])
    contents = {
        "half made": b"",
        "damaged": os.urandom(2 * MIB),
        "cut": bytes(image[:MIB]),
        "version": version,
    }
    made = {"missing": new_name()}
    for what, content in contents.items():
        made[what] = new_name()
        path = segment_path(made[what])
        path.touch(mode=0o600)
        path.write_bytes(content)
    return made


@pytest.mark.parametrize("named", [True, False])
def test_a_bad_store_spoils_no_other(store: shmkv.Store, bad: dict[str, str], named: bool) -> None:
    failed: dict[str, Exception] = {}
    names = [*bad.values(), store.name] if named else []
    found = scrape(*names, on_error=failed.__setitem__)
    assert found["shmkv_up", store.name] == 1
    assert found["shmkv_attached_processes", store.name] == 1
    for what, name in bad.items():
        there = [key for key in found if key[1] == name]
        assert there == ([("shmkv_up", name)] if named or what != "missing" else [])
        assert [found[key] for key in there] == [0] * len(there)
        assert (name in failed) == bool(there)
    assert isinstance(failed[bad["damaged"]], shmkv.Corrupt)
    assert isinstance(failed[bad["version"]], shmkv.Mismatch)


def test_a_store_that_goes_while_it_is_listed(
    store: shmkv.Store, store_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = store_name + "-gone"
    monkeypatch.setattr(segment, "names", lambda *, owner: [gone, store.name])
    failed: dict[str, Exception] = {}
    found = scrape(on_error=failed.__setitem__)
    assert {key[1] for key in found} == {store.name}
    assert failed == {}


# ---- processes that come, go and die ------------------------------------------------------------


def test_counters_never_fall(store: shmkv.Store) -> None:
    """Children work and are killed, their rows are folded and taken again by the next."""
    name = store.name
    seen = scrape(name)

    def look() -> Samples:
        nonlocal seen
        last, seen = seen, scrape(name)
        fallen = [key for key in last if key[0].endswith("_total") and seen[key] < last[key]]
        assert not fallen, fallen
        return seen

    def busy() -> None:
        with shmkv.open(name, create=False) as own:
            n = 0
            while True:
                n += 1
                own.set(f"key:{n % 5000}", b"x" * (n % 700))
                own.get(f"key:{n % 7000}")
                own.delete(f"key:{n % 300}")

    with brood() as child:
        for _ in range(6):
            before = seen["shmkv_sets_total", name]
            children = [child(busy), child(busy)]
            until(lambda before=before: look()["shmkv_sets_total", name] > before + 2000, "sets")
            until(lambda: look()["shmkv_attached_processes", name] == 3, "both attached")
            for one in children:
                one.end()
            assert look()["shmkv_attached_processes", name] == 1
            with shmkv.open(name) as other:  # folds the dead, and takes one of their rows
                other["mine"] = 1
                look()
            assert store.check().ok
            look()
    assert seen["shmkv_sets_total", name] > 12_000
