"""The bytes of the layout, written down once and for all.

Owns: the golden table of sizes, offsets and codes, and golden geometries. Three parties must say
the same: the table, the C structures (a small program compiled against `layout.h` prints them), and
the decoder. Whoever changes the layout must raise the version and change this table by hand.

Does not: read a segment; see test_decode.py.
"""

from __future__ import annotations

import dataclasses
import random
import re
import string

import pytest
import xxhash

from shmkv.inspect import layout
from shmkv.inspect.geometry import GIB, MIB, Config, Geometry, Hash, geometry_of, queue_of
from shmkv.inspect.layout import Record
from tests.layout.probe import CSRC, Probe

FINGERPRINT = 1823438275
RECORDS: dict[str, Record] = {
    "kv_header": layout.HEADER,
    "kv_config": layout.CONFIG,
    "kv_appender": layout.APPENDER,
    "kv_journal": layout.JOURNAL,
    "kv_row": layout.ROW,
    "kv_note": layout.NOTE,
    "kv_death": layout.DEATH,
    "kv_stripe": layout.STRIPE,
    "kv_bucket": layout.BUCKET,
    "kv_page": layout.PAGE,
    "kv_item": layout.ITEM,
}
GOLDEN = {
    "kv_header": 4096,
    "kv_header.magic": 0,
    "kv_header.layout_version": 8,
    "kv_header.fingerprint": 12,
    "kv_header.config": 16,
    "kv_header.created_ms": 48,
    "kv_header.sampled": 56,
    "kv_header.deaths": 60,
    "kv_header.size": 64,
    "kv_header.watermark": 72,
    "kv_header.next_number": 80,
    "kv_header.index_high": 84,
    "kv_header.index_hint": 88,
    "kv_header.take_hint": 92,
    "kv_header.next_id": 96,
    "kv_header.nospace": 104,
    "kv_header.damage": 108,
    "kv_header.tidy_hint": 112,
    "kv_header.ghost": 116,
    "kv_header.daemon": 120,
    "kv_header.ahead": 124,
    "kv_header.next_birth": 128,
    "kv_header.next_sample": 136,
    "kv_header.tick_ns": 144,
    "kv_header.mortal": 152,
    "kv_header.journal": 192,
    "kv_header.wait": 256,
    "kv_header.cleaners": 512,
    "kv_header.appenders": 1024,
    "kv_config": 32,
    "kv_config.size": 0,
    "kv_config.max_size": 8,
    "kv_config.seed": 16,
    "kv_config.options": 24,
    "kv_config.appenders": 28,
    "kv_appender": 64,
    "kv_appender.lock": 0,
    "kv_appender.current": 4,
    "kv_journal": 64,
    "kv_journal.lock": 0,
    "kv_journal.wanted": 4,
    "kv_journal.broken": 8,
    "kv_journal.due": 12,
    "kv_journal.started": 16,
    "kv_journal.done": 24,
    "kv_journal.place": 32,
    "kv_journal.saved_ms": 40,
    "kv_journal.looked_ms": 48,
    "kv_journal.synced_ms": 56,
    "kv_row": 1024,
    "kv_row.number": 0,
    "kv_row.pid": 4,
    "kv_row.pid_start": 8,
    "kv_row.pid_namespace": 16,
    "kv_row.attached_ms": 24,
    "kv_row.first": 32,
    "kv_row.reservation": 64,
    "kv_row.replaced": 96,
    "kv_row.pin": 128,
    "kv_row.stat": 256,
    "kv_row.note": 512,
    "kv_note": 64,
    "kv_note.turn": 0,
    "kv_note.what": 4,
    "kv_note.ended": 5,
    "kv_note.len": 6,
    "kv_note.at_ns": 8,
    "kv_note.place": 16,
    "kv_note.owner": 20,
    "kv_note.waited_us": 24,
    "kv_note.key": 28,
    "kv_death": 640,
    "kv_death.number": 0,
    "kv_death.pid": 4,
    "kv_death.pid_start": 8,
    "kv_death.pid_namespace": 16,
    "kv_death.attached_ms": 24,
    "kv_death.found_ms": 32,
    "kv_death.finder": 40,
    "kv_death.locks": 44,
    "kv_death.lock": 48,
    "kv_death.reservations": 80,
    "kv_death.pins": 84,
    "kv_death.clock_ns": 88,
    "kv_death.note": 128,
    "kv_stripe": 64,
    "kv_stripe.lock": 0,
    "kv_stripe.txn": 4,
    "kv_stripe.ver": 8,
    "kv_stripe.live": 24,
    "kv_stripe.count": 32,
    "kv_bucket": 64,
    "kv_bucket.tag": 0,
    "kv_bucket.counters": 12,
    "kv_bucket.overflow": 15,
    "kv_bucket.ref": 16,
    "kv_page": 64,
    "kv_page.word": 0,
    "kv_page.tail": 8,
    "kv_page.dead": 12,
    "kv_page.birth": 16,
    "kv_page.suspect": 24,
    "kv_page.walked": 28,
    "kv_page.opened_ms": 40,
    "kv_page.expiry": 48,
    "kv_page.segment": 32,
    "kv_item": 12,
    "kv_item.value_len": 0,
    "kv_item.key_len": 4,
    "kv_item.type": 6,
    "kv_item.flags": 7,
    "kv_item.version": 8,
}
CODES = {
    "KV_APPENDERS": 16,
    "KV_MAINS": 6,
    "KV_QUEUES": 16,
    "KV_GHOST_SHARE": 128,
    "KV_CLEANERS": 8,
    "KV_WAIT_WORDS": 64,
    "KV_MARKS": 64,
    "KV_OPT_EVICT": 1,
    "KV_OPT_JOURNAL": 2,
    "KV_OPT_ALWAYS": 4,
    "KV_RESERVATIONS": 8,
    "KV_PINS": 32,
    "KV_NOTES": 8,
    "KV_NOTE_KEY": 36,
    "KV_DEATHS": 32,
    "KV_DEATH_LOCKS": 8,
    "KV_KEY_MAX": 65_535,
    "KV_STAT_HITS": 0,
    "KV_STAT_MISSES": 1,
    "KV_STAT_SETS": 2,
    "KV_STAT_DELETES": 3,
    "KV_STAT_EXPIRED": 4,
    "KV_STAT_EVICTED": 5,
    "KV_STAT_EVICTED_INDEX": 6,
    "KV_STAT_REFUSED_FULL": 7,
    "KV_STAT_REFUSED_LARGE": 8,
    "KV_STAT_RECOVERIES": 9,
    "KV_STAT_FOLDS": 10,
    "KV_STAT_WRITTEN": 11,
    "KV_STAT_COPIED": 12,
    "KV_STAT_CLEANED": 13,
    "KV_STAT_SPLITS": 14,
    "KV_STAT_RETRIES": 15,
    "KV_STAT_EVICTED_MAIN": 16,
    "KV_STAT_PROMOTED": 17,
    "KV_STAT_RETURNED": 18,
    "KV_STATS": 19,
    "KV_STATS_MAX": 24,
    "KV_NOTE_LOOKS": 32,
    "KV_AWAITED_PAGE": 1,
    "KV_AWAITED_JOURNAL": 2,
}
NOTED = {
    "SET": 1, "ADD": 2, "REPLACE": 3, "CAS": 4, "REWRITE": 5, "DELETE": 6, "INCR": 7, "APPEND": 8,
    "TOUCH": 9, "RENAME": 10, "CLEAR": 11, "WORK": 12, "ROUND": 13, "WAIT": 14,
}  # fmt: skip
CODES |= {f"KV_NOTED_{name}": code for name, code in NOTED.items()}
STATUSES = {f"KV_{name.upper()}": code for code, name in enumerate(layout.STATUSES)}
# (size, max_size, appenders, options): the geometry, in the order of its fields after these sizes.
GEOMETRIES: dict[tuple[int, int, int, int], tuple[int, ...]] = {
    (2 * MIB, 8 * MIB, 2, 1): (
        *(4096, 69632, 90112, 98304),
        *(102400, 102912, 107008, 147456, 8323072, 8323072),
        *(64, 8, 61, 7, 14),
        *(499, 118, 1, 1, 2, 6, 2, 7, 4, 0, 4096, 512),
    ),
    (2 * MIB, 8 * MIB, 2, 0): (
        *(4096, 69632, 90112, 98304),
        *(102400, 102912, 107008, 147456, 8388608, 8388608),
        *(64, 8, 61, 7, 14),
        *(503, 119, 1, 1, 2, 0, 2, 7, 4, 0, 4096, 512),
    ),
    (8 * MIB, 32 * MIB, 2, 1): (
        *(4096, 69632, 90112, 106496),
        *(122880, 124928, 141312, 229376, 33292288, 33292288),
        *(64, 32, 59, 7, 15),
        *(1009, 247, 1, 3, 2, 6, 2, 15, 8, 0, 8192, 2048),
    ),
    (64 * MIB, 256 * MIB, 4, 1): (
        *(4096, 266240, 286720, 417792),
        *(548864, 565248, 696320, 983040, 266338304, 266338304),
        *(256, 256, 56, 7, 16),
        *(4049, 1001, 2, 15, 4, 6, 2, 62, 16, 0, 65536, 16384),
    ),
    (64 * MIB, 64 * MIB, 4, 3): (
        *(4096, 266240, 286720, 417792),
        *(548864, 565248, 598016, 720896, 65531904, 66584576),
        *(256, 256, 56, 5, 16),
        *(988, 988, 2, 15, 4, 6, 2, 61, 16, 131072, 65536, 16384),
    ),
    (2 * MIB, 8 * MIB, 2, 6): (
        *(4096, 69632, 90112, 98304),
        *(102400, 102912, 107008, 147456, 8351744, 8388608),
        *(64, 8, 61, 7, 14),
        *(500, 116, 1, 1, 2, 0, 2, 7, 4, 4096, 4096, 512),
    ),
    (64 * GIB, 64 * GIB, 8, 1): (
        *(4096, 266240, 286720, 417792),
        *(942080, 958464, 34512896, 101646336, 68182605824, 68182605824),
        *(256, 256, 56, 15, 16),
        *(1038833, 1038833, 16, 16, 8, 6, 8, 64927, 16, 0, 65536, 65536),
    ),
}
REFUSED = [
    (2 * MIB - 4096, 8 * MIB, 2),
    (2 * MIB + 1, 8 * MIB, 2),
    (4 * MIB, 2 * MIB, 2),
    (4 * MIB, 4 * MIB + 512, 2),
    (4 * MIB, 64 * GIB + 4096, 2),
    (4 * MIB, 16 * MIB, 0),
    (4 * MIB, 16 * MIB, 9),
    (2 * MIB, 64 * GIB, 2),
]
FIELDS = [field.name for field in dataclasses.fields(Geometry)]


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """The C compiler's view."""
    return Probe(tmp_path_factory.mktemp("probe"), GOLDEN, CODES | STATUSES, FIELDS)


def of_the_decoder() -> dict[str, int]:
    """Sizes and offsets as the decoder has them."""
    found = {name: record.size for name, record in RECORDS.items()}
    for name, record in RECORDS.items():
        found |= {f"{name}.{field}": offset for field, (offset, _) in record.fields.items()}
    found["kv_page.segment"] = layout.INDEX_PAGE.fields["segment"][0]
    return found


def codes_of_the_decoder() -> dict[str, int]:
    """Constants as the decoder has them; of the counters their places."""
    found = {
        name: getattr(layout, name.removeprefix("KV_").replace("OPT_", "OPTION_"))
        for name in CODES
        if not any(kind in name for kind in ("STAT", "NOTED", "AWAITED"))
    }
    found |= {f"KV_NOTED_{name.upper()}": i for i, name in enumerate(layout.NOTED) if name}
    found |= {f"KV_AWAITED_{name.upper()}": i for i, name in enumerate(layout.AWAITED) if name}
    found |= {f"KV_STAT_{name.upper()}": place for place, name in enumerate(layout.STATS)}
    return found | {"KV_STATS": len(layout.STATS), "KV_STATS_MAX": layout.STATS_MAX}


def as_config(size: int, max_size: int, appenders: int, options: int = 1) -> Config:
    """A configuration whose seed does not matter."""
    return Config(size, max_size, 0, options, appenders)


def geometry_as_probed(config: tuple[int, int, int, int]) -> dict[str, int] | None:
    """The decoder's geometry with what the probe shows besides."""
    geometry = geometry_of(as_config(*config))
    if geometry is None:
        return None
    found = dataclasses.asdict(geometry) | {"own": geometry.appender_own}
    for i in range(4):
        size = config[0] + (config[1] - config[0]) // 3 * i
        found[f"within{i}"] = geometry.bases_within(size)
        found[f"ghost{i}"] = geometry.ghost_within(size)
    return found


def test_structures_are_golden_in_the_decoder() -> None:
    assert of_the_decoder() == GOLDEN
    assert codes_of_the_decoder() == CODES
    assert layout.ROW.fields["stat"] == (256, f"{layout.STATS_MAX}Q")


def test_structures_are_golden_in_c(probe: Probe) -> None:
    found = probe.layout()
    assert found.pop("version") == layout.LAYOUT_VERSION == 5
    assert found.pop("fingerprint") == layout.fingerprint() == FINGERPRINT
    assert found == GOLDEN | CODES | STATUSES


def test_every_status_and_operation_is_known() -> None:
    status = (CSRC / "status.h").read_text()
    assert set(re.findall(r"^    (KV_[A-Z]+)\b", status, re.M)) == set(STATUSES)
    noted = re.findall(r"\bKV_(?:NOTED|AWAITED)_[A-Z]+", (CSRC / "layout.h").read_text())
    assert set(noted) == {name for name in CODES if "NOTED" in name or "AWAITED" in name}
    assert layout.NOTED[layout.NOTE_LOOKS_FROM] == "clear"


def test_fields_do_not_overlap() -> None:
    for name, record in RECORDS.items():
        assert record.struct.size == record.size, name


@pytest.mark.parametrize("config", GEOMETRIES)
def test_geometries_are_golden(probe: Probe, config: tuple[int, int, int, int]) -> None:
    golden = dict(zip(FIELDS, (*config[:2], *GEOMETRIES[config]), strict=True))
    geometry = geometry_of(as_config(*config))
    assert geometry is not None
    assert dataclasses.asdict(geometry) == golden
    assert probe.geometries([config]) == [geometry_as_probed(config)]


@pytest.mark.parametrize("config", REFUSED)
def test_impossible_geometries_are_refused(probe: Probe, config: tuple[int, int, int]) -> None:
    assert geometry_of(as_config(*config)) is None
    assert probe.geometries([(*config, 1)]) == [None]


def test_any_geometry_is_the_same_in_both(probe: Probe) -> None:
    rng = random.Random(11)
    configs = []
    for _ in range(600):
        size = 4096 * rng.randrange(1, 1 << rng.randrange(2, 25))
        factor = rng.choice([1, 1, 2, 4, 100])
        more = 4096 * rng.randrange(3)
        configs.append((size, size * factor + more, rng.randrange(10), rng.choice(layout.OPTIONS)))
    for config, found in zip(configs, probe.geometries(configs), strict=True):
        assert found == geometry_as_probed(config), config


def test_journal_and_ghost_lie_behind_the_last_base_page() -> None:
    for config in GEOMETRIES:
        g = geometry_of(as_config(*config))
        assert g is not None
        end = g.off_arena + g.bases_max * g.base_bytes
        assert end <= g.off_journal < end + g.base_bytes + 4096
        assert g.off_ghost - g.off_journal == g.journal_bytes >= 8 * g.words
        assert g.max_size - g.off_ghost >= 64 * g.ghost_within(g.max_size)
        assert g.off_ghost % 4096 == 0


def test_queues_are_the_same_in_both(probe: Probe) -> None:
    rng = random.Random(13)
    edges = [(1 << n) + more for n in range(6, 37) for more in (-1, 0, 1)]
    sizes = [1, 16, *edges, *(rng.randrange(1, 1 << rng.randrange(5, 37)) for _ in range(500))]
    assert [queue_of(size) for size in sizes] == probe.queues(sizes)
    golden = {1: 1, 255: 1, 256: 2, 1023: 2, 1024: 3, 1 << 18: 7, (1 << 34) - 1: 14, 1 << 36: 15}
    assert {size: queue_of(size) for size in golden} == golden


def test_hashes_are_the_same_in_both(probe: Probe) -> None:
    geometry = geometry_of(as_config(2 * MIB, 8 * MIB, 2))
    assert geometry is not None
    rng = random.Random(12)
    letters = string.ascii_letters + "\u00e9\u2603"
    keys = ["".join(rng.choices(letters, k=n)) for n in range(1, 200)]
    for seed in (0, 1, rng.getrandbits(64)):
        for key, h in zip(keys, probe.hashes(seed, keys), strict=True):
            assert h == xxhash.xxh64_intdigest(key.encode(), seed=seed), (seed, key)
            place = Hash.of(key.encode(), seed, geometry)
            assert (place.stripe, place.tag) == (h >> 61, h & 0xFF)
            assert (place.ghost, place.ghost_line) == (h >> 20 & 0xFFFF or 1, h >> 36)
            assert place.bucket == h >> 8 & 63
            assert place.stride % 2 == 1
            assert sorted(place.path()) == list(range(64))
