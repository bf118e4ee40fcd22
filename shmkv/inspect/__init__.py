"""Looking into a segment without the C core: read-only, offline, in plain Python.

    from shmkv.inspect import decode, problems

    segment = decode(path.read_bytes())
    for text in problems(segment):
        print(text)

    from shmkv.inspect.blackbox import of_file

    for one in of_file(path).attachments:  # who died, and what it was doing
        print(one.pid, one.doing, one.before)

Owns: a second, independent reading of the layout. It serves whoever wants to know what is in a
segment that nobody dares to attach to, and the tests as a witness beside the core's own `check`.

Does not: change a byte, take a lock, or import the C extension.
"""

from shmkv.inspect.decode import Buffer, DecodeError, attachments, decode
from shmkv.inspect.parts import (
    Appender,
    Attachments,
    Damaged,
    Death,
    Header,
    IndexSegment,
    Item,
    Note,
    Page,
    Row,
    Segment,
    Slot,
    Stripe,
)
from shmkv.inspect.problems import problems

__all__ = [
    "Appender",
    "Attachments",
    "Buffer",
    "Damaged",
    "Death",
    "DecodeError",
    "Header",
    "IndexSegment",
    "Item",
    "Note",
    "Page",
    "Row",
    "Segment",
    "Slot",
    "Stripe",
    "attachments",
    "decode",
    "problems",
]
