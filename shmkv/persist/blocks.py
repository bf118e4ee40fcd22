"""Files of blocks, read and written block by block.

Owns: `Reader` and `Writer` on a descriptor, and `opened`, which opens a file that is to be read.

Promises: a length is compared with what is left of the file before anything is read or allocated; a
reader holds one block in memory. Bytes that are wrong raise Damaged with their place; bytes that
are not for this program, and refusals of the system, raise PersistError. The order of blocks is
judged here too: BEGIN first, pieces together, END last and nothing after it.

Does not: know names of files, or what is in a payload.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from shmkv import _core
from shmkv.config import SIZE_MAX, SIZE_MIN, SIZE_STEP
from shmkv.errors import PersistError
from shmkv.persist import format
from shmkv.persist.format import BLOCK_BYTES, FILE_BYTES, Begin, Bytes, End, File, Kind, What
from shmkv.persist.trouble import Damaged, refused

if TYPE_CHECKING:
    from shmkv.persist.packing import Packer


def opened(path: str, *, dir_fd: int | None = None, name: str | None = None) -> int:
    """A descriptor of a regular file, to read; `name` is what the folder `dir_fd` calls it."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path if name is None else name, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PersistError(f"{path} is a symbolic link: name the file itself") from None
        raise refused(error, "cannot read", path) from None
    try:
        mode = os.fstat(fd).st_mode
    except OSError as error:
        os.close(fd)
        raise refused(error, "cannot read", path) from None
    if not stat.S_ISREG(mode):
        os.close(fd)
        what = "a directory, a file is wanted" if stat.S_ISDIR(mode) else "no regular file"
        raise PersistError(f"{path} is {what}")
    return fd


class Part(NamedTuple):
    """A block that was read. The payload is good until the next one is asked for, or as long as
    the buffer that the reader was told to use."""

    number: int
    offset: int
    end: int
    kind: Kind
    flags: int
    many: int
    payload: memoryview


class Reader:
    """A file, whose header and BEGIN are whole. The descriptor is closed by `close`."""

    def __init__(self, fd: int, path: str) -> None:
        self.path = path
        self._fd = fd
        try:
            self.size = os.fstat(fd).st_size
            self._buffer = bytearray()
            self._offset = self._number = 0
            self.file = self._file()
            self._offset = FILE_BYTES
            first = self._read(self.size)
            if first.kind is not Kind.BEGIN:
                raise Damaged(path, "its first block is not BEGIN", FILE_BYTES)
            self.begin = self._begin(first)
            self.begin_end = first.end
        except OSError as error:
            os.close(fd)
            if isinstance(error, PersistError):
                raise
            raise refused(error, "cannot read", path) from None
        except BaseException:
            os.close(fd)
            raise

    def use(self, buffer: bytearray) -> None:
        """Read into this buffer from now on: payloads that were read stay good."""
        self._buffer = buffer

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- parts ----------------------------------------------------------------------------------

    def damaged(self, text: str, offset: int | None = None) -> Damaged:
        """What is wrong in the block at hand; `offset` if it is not where the block begins."""
        return Damaged(self.path, text, self._offset if offset is None else offset, self._number)

    def _file(self) -> File:
        try:
            return format.parse_file(self._bytes(0, min(FILE_BYTES, self.size)))
        except format.Foreign as error:
            raise PersistError(f"{self.path} cannot be read: {error}") from None
        except format.FormatError as error:
            raise Damaged(self.path, str(error)) from None

    def _begin(self, part: Part) -> Begin:
        try:
            begin = format.parse_begin(part.payload)
        except format.Foreign as error:
            raise PersistError(f"{self.path} cannot be read: {error}") from None
        except format.FormatError as error:
            raise Damaged(self.path, str(error), part.offset) from None
        sizes = (begin.size, begin.max_size)
        if not SIZE_MIN <= sizes[0] <= sizes[1] <= SIZE_MAX or any(n % SIZE_STEP for n in sizes):
            raise Damaged(self.path, f"no store has the sizes {sizes}", part.offset)
        return begin

    def _bytes(self, offset: int, count: int) -> memoryview:
        """Bytes of the file, all of them, in the buffer."""
        if len(self._buffer) < count:
            self._buffer = bytearray(count)
        whole = memoryview(self._buffer)[:count]
        got = 0
        while got < count:
            try:
                n = os.preadv(self._fd, [whole[got:]], offset + got)
            except OSError as error:
                raise refused(error, f"cannot read from byte {offset}", self.path) from None
            if n == 0:
                raise self.damaged(f"it ends at byte {offset + got} while it is read")
            got += n
        return whole

    def _read(self, end: int) -> Part:
        """The block at `_offset`, whose sum is right."""
        at = self._offset
        if end - at < BLOCK_BYTES:
            raise self.damaged(f"it is cut off: {end - at} bytes are no block")
        head = bytes(self._bytes(at, BLOCK_BYTES))
        try:
            block = format.parse_block(head, self.file.what, at)
            body = at + BLOCK_BYTES
            if block.stored > end - body:
                raise self.damaged(f"it is cut off: {end - body} bytes of {block.stored} are there")
            payload = self._bytes(body, block.stored)
            if format.seal(head, payload, self.file.id) != block.sum:
                raise self.damaged("its sum is wrong")
            if block.compression:
                payload = memoryview(self._unpack(payload, block.raw))
        except format.FormatError as error:
            raise self.damaged(str(error)) from None
        stop = body + block.stored
        return Part(self._number, at, stop, block.kind, block.flags, block.many, payload)

    def _unpack(self, payload: memoryview, raw: int) -> bytes:
        try:
            from shmkv.persist import packing
        except ImportError:
            raise PersistError(
                f"{self.path} is compressed, to read it takes the package zstandard:"
                " pip install 'shmkv[zstd]'"
            ) from None
        return packing.unpack(payload, raw)

    def end(self) -> End:
        """END of a snapshot, which is looked at without what comes before."""
        at = self.size - format.END_BYTES
        if at < self.begin_end:
            raise Damaged(self.path, "it is cut off: there is no END", self.size)
        self._offset, self._number = at, 0
        part = self._read(self.size)
        if part.kind is not Kind.END:
            raise Damaged(self.path, "it is cut off: its last block is not END", at)
        return format.parse_end(part.payload) if len(part.payload) == 32 else self._bad_end()

    def _bad_end(self) -> End:
        raise self.damaged("END has another length")

    def parts(self, end: int | None = None) -> Iterator[Part]:
        """Every block after BEGIN, up to byte `end` of the file, or to where the file ends."""
        end = self.size if end is None else end
        if end > self.size:
            raise Damaged(self.path, f"it should have {end} bytes", self.size)
        self._offset, self._number, within = self.begin_end, 1, False
        while self._offset < end:
            part = self._read(end)
            if within and part.kind is not Kind.PIECE:
                raise self.damaged("it begins in the middle of an item")
            if part.kind is Kind.BEGIN:
                raise self.damaged("a second BEGIN")
            if part.kind is Kind.END and part.end != self.size:
                raise self.damaged("something follows after END", part.end)
            within = part.kind is Kind.PIECE and not part.flags & format.Flag.LAST
            yield part
            self._offset, self._number = part.end, self._number + 1
            if part.kind is Kind.END:
                return
        if within or self.file.what is What.SNAPSHOT:
            raise self.damaged("it is cut off")


# ---- writing ------------------------------------------------------------------------------------

WRITE_OUT = 4 << 20
"""The disk begins to write so many bytes while more are made, so that `fsync` has little to do."""


class Writer:
    """A file that is being written: header and BEGIN at once, then what comes."""

    def __init__(self, fd: int, path: str, what: What, begin: Begin) -> None:
        self.path = path
        self._fd = fd
        self._id = int.from_bytes(os.urandom(8), "little")
        self.offset = 0
        self.blocks = 0
        self._begun = 0  # the disk was told of what comes before
        self._write(format.pack_file(File(what, self._id)))
        self.block(Kind.BEGIN, format.pack_begin(begin))

    def block(
        self,
        kind: Kind,
        payload: Bytes,
        *,
        flags: int = 0,
        count: int = 0,
        packer: Packer | None = None,
    ) -> None:
        """Append a block."""
        packed = None if packer is None else packer.pack(payload)
        stored = payload if packed is None else packed
        head = format.pack_block(
            kind,
            stored,
            self._id,
            self.offset,
            compression=int(packed is not None),
            raw=len(payload),
            flags=flags,
            count=count,
        )
        self._write(head, stored)
        self.blocks += 1

    def _write(self, *buffers: Bytes) -> None:
        left = [memoryview(one) for one in buffers if len(one)]
        while left:
            n = os.writev(self._fd, left)
            self.offset += n
            while left and n >= len(left[0]):
                n -= len(left.pop(0))
            if left and n:
                left[0] = left[0][n:]
        if self.offset - self._begun >= WRITE_OUT:
            _core.write_out(self._fd, self._begun, self.offset - self._begun)
            self._begun = self.offset
