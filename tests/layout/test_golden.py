"""The bytes of layout version 1, written down once and for all.

Owns: the golden table of sizes and offsets, and golden geometries. Three parties must say the same:
the table, the C structures (a small program compiled against `layout.h` prints them), and the
decoder. Whoever changes the layout must raise the version and change this table by hand.

Does not: read a segment; see test_decode.py.
"""

from __future__ import annotations

import dataclasses
import random
import string

import pytest
import xxhash

from shmkv.inspect import layout
from shmkv.inspect.geometry import GIB, MIB, Config, Geometry, Hash, geometry_of
from shmkv.inspect.layout import Record
from tests.layout.probe import Probe

FINGERPRINT = 1_082_274_745
RECORDS: dict[str, Record] = {
    "kv_header": layout.HEADER,
    "kv_config": layout.CONFIG,
    "kv_appender": layout.APPENDER,
    "kv_row": layout.ROW,
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
    "kv_header.next_birth": 128,
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
    "kv_row": 512,
    "kv_row.number": 0,
    "kv_row.pid": 4,
    "kv_row.pid_start": 8,
    "kv_row.pid_namespace": 16,
    "kv_row.attached_ms": 24,
    "kv_row.reservation": 64,
    "kv_row.replaced": 96,
    "kv_row.pin": 128,
    "kv_row.stat": 256,
    "kv_stripe": 64,
    "kv_stripe.lock": 0,
    "kv_stripe.txn": 4,
    "kv_stripe.ver": 8,
    "kv_stripe.jpos": 16,
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
    "kv_page.jpos": 32,
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
# (size, max_size, appenders): the geometry, in the order of its fields after size and max_size.
GEOMETRIES: dict[tuple[int, int, int], tuple[int, ...]] = {
    (2 * MIB, 8 * MIB, 2): (
        *(4096, 36864, 37376, 41472, 81920),
        *(64, 8, 61, 7, 14),
        *(507, 123, 1, 1, 2, 2, 7, 4),
    ),
    (8 * MIB, 32 * MIB, 2): (
        *(4096, 36864, 38912, 55296, 131072),
        *(64, 32, 59, 7, 15),
        *(1020, 252, 1, 3, 2, 2, 15, 8),
    ),
    (64 * MIB, 256 * MIB, 4): (
        *(4096, 135168, 151552, 282624, 589824),
        *(256, 256, 56, 7, 16),
        *(4087, 1015, 2, 15, 4, 2, 63, 16),
    ),
    (64 * GIB, 64 * GIB, 8): (
        *(4096, 135168, 151552, 33705984, 100859904),
        *(256, 256, 56, 15, 16),
        *(1047037, 1047037, 16, 16, 8, 8, 65439, 16),
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
    return Probe(tmp_path_factory.mktemp("probe"), GOLDEN, FIELDS)


def of_the_decoder() -> dict[str, int]:
    """Sizes and offsets as the decoder has them."""
    found = {name: record.size for name, record in RECORDS.items()}
    for name, record in RECORDS.items():
        found |= {f"{name}.{field}": offset for field, (offset, _) in record.fields.items()}
    found["kv_page.segment"] = layout.INDEX_PAGE.fields["segment"][0]
    return found


def as_config(size: int, max_size: int, appenders: int) -> Config:
    """A configuration whose seed and options do not matter."""
    return Config(size, max_size, 0, 0, appenders)


def test_structures_are_golden_in_the_decoder() -> None:
    assert of_the_decoder() == GOLDEN


def test_structures_are_golden_in_c(probe: Probe) -> None:
    found = probe.layout()
    assert found.pop("version") == layout.LAYOUT_VERSION == 2
    assert found.pop("fingerprint") == layout.fingerprint() == FINGERPRINT
    assert found == GOLDEN


def test_fields_do_not_overlap() -> None:
    for name, record in RECORDS.items():
        assert record.struct.size == record.size, name


@pytest.mark.parametrize("config", GEOMETRIES)
def test_geometries_are_golden(probe: Probe, config: tuple[int, int, int]) -> None:
    golden = dict(zip(FIELDS, (*config[:2], *GEOMETRIES[config]), strict=True))
    geometry = geometry_of(as_config(*config))
    assert geometry is not None
    assert dataclasses.asdict(geometry) == golden
    assert probe.geometries([config]) == [golden]


@pytest.mark.parametrize("config", REFUSED)
def test_impossible_geometries_are_refused(probe: Probe, config: tuple[int, int, int]) -> None:
    assert geometry_of(as_config(*config)) is None
    assert probe.geometries([config]) == [None]


def test_any_geometry_is_the_same_in_both(probe: Probe) -> None:
    rng = random.Random(11)
    configs = []
    for _ in range(600):
        size = 4096 * rng.randrange(1, 1 << rng.randrange(2, 25))
        factor = rng.choice([1, 1, 2, 4, 100])
        configs.append((size, size * factor + 4096 * rng.randrange(3), rng.randrange(10)))
    for config, found in zip(configs, probe.geometries(configs), strict=True):
        geometry = geometry_of(as_config(*config))
        assert found == (geometry and dataclasses.asdict(geometry)), config


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
            assert place.bucket == h >> 8 & 63
            assert place.stride % 2 == 1
            assert sorted(place.path()) == list(range(64))
