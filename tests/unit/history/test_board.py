"""The board: what is written is read again, and nonsense reads as nothing."""

import random
import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmkv.history import NOTHING, Curve, Moment, Point, Remembered, read
from shmkv.history.board import HEAD, MAGIC, VERSION, packed, unpacked
from shmkv.history.moments import Moments, Totals

NOW = 1_800_000_000.0
ROOM = 65_536
CURVE = Curve(
    NOW - 7200,
    NOW,
    0.125,
    7000,
    900_000,
    64 << 20,
    0.81,
    tuple(Point(int((64 << 20) * f), 0.5 + f / 20) for f in (0.25, 0.5, 1, 2, 4, 8)),
)


def a_past(fine: int, coarse: int = 0) -> tuple[Moment, ...]:
    """Of a busy store, ending now."""
    rng = random.Random(1)
    seen, row = Moments(), [0] * 9
    looks = [-10.0 * step for step in range(fine)]
    looks += [looks[-1] - 300 * step for step in range(1, coarse)]
    for at in reversed(looks):
        row[:6] = [number + rng.randrange(3_000_000) for number in row[:6]]
        row[6:] = [rng.randrange(1 << 20), rng.randrange(1 << 30), 1 << 30]
        seen.take(Totals(*row), now=NOW + at, clock=at)
    return seen.all()


class Fake:
    """A store that has nothing but a board."""

    def __init__(self, blob: bytes | None) -> None:
        self.blob = blob

    def _board_read(self) -> bytes | None:
        return self.blob


def test_a_store_without_a_blob_remembers_nothing() -> None:
    assert read(Fake(None)) == NOTHING
    assert read(Fake(b"")) == NOTHING


def test_everything_comes_back() -> None:
    remembered = Remembered(a_past(300), CURVE)
    assert len(remembered.moments) == 299
    found = read(Fake(packed(remembered, ROOM, NOW).blob))
    assert found.curve == CURVE
    for before, after in zip(remembered.moments, found.moments, strict=True):
        assert after[2:] == before[2:]
        assert after[:2] == pytest.approx(before[:2], abs=2e-3)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.floats(0, 50),
            st.floats(0.001, 50),
            st.lists(st.integers(0, (1 << 62) - 1), min_size=9, max_size=9),
        ),
        max_size=20,
    )
)
def test_any_moments_come_back(rows: list[tuple[float, float, list[int]]]) -> None:
    moments, end = [], NOW - 3000.0
    for gap, seconds, numbers in rows:
        moments.append(Moment(end + gap, seconds, *numbers))
        end = moments[-1].end
    found = unpacked(packed(Remembered(tuple(moments)), ROOM, NOW).blob)
    assert [m[2:] for m in found.moments] == [m[2:] for m in moments]


def test_what_does_not_fit_is_thinned_and_reaches_as_far() -> None:
    past = a_past(500, 3500)
    full = packed(Remembered(past, CURVE), 1 << 20, NOW).blob
    assert len(full) > 16_384
    for room in (16_384, 4096):
        blob = packed(Remembered(past, CURVE), room, NOW).blob
        assert room // 3 < len(blob) <= room
        found = unpacked(blob)
        assert found.curve == CURVE
        assert len(found.moments) > room / 64
        assert sum(m.hits for m in found.moments) == sum(m.hits for m in past)
        assert found.moments[-1][2:] == past[-1][2:]


def test_hardly_any_room_is_no_error() -> None:
    remembered = Remembered(a_past(500), CURVE)
    for room in (0, 1, 11, 40, 300, 500):
        blob = packed(remembered, room, NOW).blob
        assert len(blob) <= room
        assert unpacked(blob).curve in (CURVE, None)
    assert unpacked(packed(remembered, 300, NOW).blob).curve == CURVE


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
def test_nonsense_is_nothing(blob: bytes) -> None:
    assert unpacked(blob) == NOTHING
    plain = HEAD.pack(MAGIC, VERSION, 1, len(blob)) + zlib.compress(blob)
    assert isinstance(unpacked(plain), Remembered)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=9))
def test_damage_does_not_raise(at: int, with_what: bytes) -> None:
    whole = packed(Remembered(a_past(60), CURVE), ROOM, NOW).blob
    at %= len(whole)
    assert isinstance(unpacked(whole[:at] + with_what + whole[at + len(with_what) :]), Remembered)
    assert isinstance(unpacked(whole[:at]), Remembered)


def altered(version: int = VERSION, count: int | None = None, length: int | None = None) -> bytes:
    """A good blob with another head."""
    blob = packed(Remembered(a_past(20), CURVE), ROOM, NOW).blob
    _, _, was_count, was_length = HEAD.unpack_from(blob)
    count = was_count if count is None else count
    length = was_length if length is None else length
    return HEAD.pack(MAGIC, version, count, length) + blob[HEAD.size :]


def test_another_version_or_a_wrong_length_is_nothing() -> None:
    assert unpacked(altered()) != NOTHING
    assert unpacked(altered(version=VERSION + 1)) == NOTHING
    assert unpacked(altered(count=18)) == NOTHING
    assert unpacked(altered(count=60_000)) == NOTHING
    assert unpacked(altered(length=(1 << 32) - 1)) == NOTHING
    assert unpacked(altered(length=100)) == NOTHING


def test_a_bomb_does_not_go_off() -> None:
    bomb = zlib.compress(bytes(1 << 26), 9)
    assert unpacked(HEAD.pack(MAGIC, VERSION, 1, 200) + bomb) == NOTHING


@pytest.mark.parametrize(
    "curve",
    [
        CURVE._replace(measured=1.5),
        CURVE._replace(rate=float("nan")),
        CURVE._replace(since=NOW, until=NOW - 1),
        CURVE._replace(until=float("inf")),
        CURVE._replace(points=(Point(5, 0.1), Point(5, 0.2))),
        CURVE._replace(points=(Point(6, 0.1), Point(5, 0.2))),
        CURVE._replace(points=(Point(6, -0.1),)),
    ],
)
def test_a_curve_that_cannot_be_is_nothing(curve: Curve) -> None:
    assert unpacked(packed(Remembered((), curve), ROOM, NOW).blob) == NOTHING


def test_moments_that_cannot_be_are_nothing() -> None:
    for row in ([0] * 11, [1 << 60, 1, *[0] * 9], [5, 1, *[0] * 8, 3]):
        plain = b"\0\0" + b"".join(struct.pack("<11Q", *row)[i::8] for i in range(8))
        blob = HEAD.pack(MAGIC, VERSION, 1, len(plain)) + zlib.compress(plain)
        assert unpacked(blob) == NOTHING
