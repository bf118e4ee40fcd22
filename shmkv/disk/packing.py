"""Compression of blocks: zstd, through the `zstandard` package, which `shmkv[zstd]` installs.

Owns: `Packer` and `unpack`. Promises: unpacking never makes more bytes than the block says, and no
window beyond what a block may hold. Imported only where a file is compressed or is to be.
"""

from __future__ import annotations

import zstandard

from shmkv.disk.format import Bytes, FormatError

LEVEL = 3
_WINDOW = 2 << 20


class Packer:
    """Compresses payloads, one after the other."""

    def __init__(self, level: int = LEVEL) -> None:
        self._zstd = zstandard.ZstdCompressor(level=level)

    def pack(self, payload: Bytes) -> bytes | None:
        """The payload, compressed; None: that would not make it shorter."""
        packed = self._zstd.compress(payload)
        return packed if len(packed) < len(payload) else None


def unpack(stored: Bytes, raw: int) -> bytes:
    """The `raw` bytes that were packed. FormatError: it is not exactly these."""
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(stored)
        found = reader.read(raw + 1)
    except (zstandard.ZstdError, MemoryError) as error:
        raise FormatError(f"it cannot be decompressed: {error}") from None
    if len(found) != raw:
        count = f"more than {raw}" if len(found) > raw else f"{len(found)}"
        raise FormatError(f"decompressed it has {count} bytes, its header says {raw}")
    return found
