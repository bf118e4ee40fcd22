"""The curve of a store beside what stores of other sizes really do: the quick form.

`python -m tests.bench.whatif` is the full one, over recorded traces.
"""

from collections.abc import Iterator

import pytest

from shmkv.replay import Chunk, Fixed, Lognormal, MadeTrace, Sizing, numbered, replay, survey
from shmkv.replay.models import Zipf
from tests.bench.whatif import SHARE, follow

CASES: dict[str, tuple[Zipf, Sizing]] = {
    "mixed sizes": (Zipf(80_000, 10_000, 0.8, shift=0.01, seed=3), Lognormal()),
    "scans": (Zipf(80_000, 8_000, 0.9, scan=1000, seed=4), Fixed(1024)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_curve_is_within_two_points(name: str) -> None:
    model, sizing = CASES[name]
    trace = made(model, sizing)
    seen = survey(trace.chunks())
    size = int(seen.footprint * SHARE * 2) // 4096 * 4096
    curve, _ = follow(trace, size, seen.requests)
    assert curve.size == size
    told = {point.size / size: point.hit_ratio for point in curve.points}
    for factor in (1, 2, 4):
        real = replay(trace, size * factor, compare=False).store.hit_ratio
        assert told[factor] == pytest.approx(real, abs=0.02), factor
    assert told[1] == pytest.approx(curve.measured)


def made(model: Zipf, sizing: Sizing) -> MadeTrace:
    def chunks() -> Iterator[Chunk]:
        return numbered(model.batches(), sizing)

    return MadeTrace("made", chunks)
