"""How much a store of some size holds when it is full, and how many who left it remembers.

Owns: `sizes_around`, the sizes that are asked about, `held_bytes` and `ghost_items`.

`held_bytes` is what the layout leaves of a size: its pages without those that are withheld for
cleaning, the open ones half full, what is too short at the end of a page for one more item, and
the index. Real stores that are full hold up to 3 % less, where items are of many sizes 6 %, where
few fit into a page 8 %. Whoever has a full store measures it and corrects the others by that.

Does not: know what is garbage: that depends on how much is overwritten.
"""

from __future__ import annotations

from shmkv.inspect.geometry import SIZE_MAX, SIZE_MIN, Config, Geometry, geometry_of
from shmkv.inspect.layout import GHOST_SHARE, LINE

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
STEP = 4096  # sizes are multiples of it
GROWTH = 4  # max_size of a new store as a multiple of its size
INDEX_BYTES = 8.6  # for an item, in a store that is full
OPEN_PAGES = 4  # half of them is empty
FINGERPRINTS = 32  # in a line of the ghost
GHOST_PART = 0.9  # fingerprints for an item


def sizes_around(size: int) -> dict[float, int]:
    """Sizes by factor, those that a store can have."""
    all_sizes = {factor: int(size * factor) // STEP * STEP for factor in FACTORS}
    return {f: other for f, other in all_sizes.items() if SIZE_MIN <= other <= SIZE_MAX}


def held_bytes(config: Config, size: int, item: float) -> float:
    """Bytes of items in a full store that was made like this one with another size."""
    g = geometry_of(config._replace(size=size, max_size=min(GROWTH * size, SIZE_MAX)))
    if g is None:
        return 0.0
    page = _page_bytes(g, item)
    pages = g.bases - 2 * g.cleaners * g.std_run
    bytes_left = pages * g.base_bytes - OPEN_PAGES * page / 2
    return max(bytes_left * _filled(page, item) * (1 - INDEX_BYTES / max(item, 16.0)), 0.0)


def _page_bytes(g: Geometry, item: float) -> int:
    """Of a log page that an item of this size opens."""
    run = g.std_run
    while run < g.log_run_max and run * g.base_bytes < 8 * item:
        run *= 2
    return min(run, g.log_run_max) * g.base_bytes


def _filled(page: int, item: float) -> float:
    """The part of a page that items of about one size fill."""
    if item > page:
        return 1.0
    return max(int(page / item) * item / page, 0.5) if item > page / 4 else 1 - item / 2 / page


def ghost_items(size: int, items: float) -> int:
    """How many are remembered by a store of this size that holds so many items."""
    most = size // GHOST_SHARE // LINE
    wanted = items * GHOST_PART / FINGERPRINTS
    lines = 1
    while lines * 2 <= most and lines * 3 < wanted * 2:
        lines *= 2
    return lines * FINGERPRINTS
