"""Bulk kinds: the parameters and results that travel as a frame's attachment, outside the codec.

In the array of arguments a bulk parameter leaves its *slot*: what the other side needs to make the value of its
bytes, which is their number, or for an array its type and shape. The bytes themselves are copied once on each
side. A slot comes from the peer: what it says is checked against the attachment before anything is made of it.
"""

import sys
import typing
from typing import Annotated, Any, Protocol

import msgspec

from .filled import Filled
from .landing import Fresh, Landing

OCTETS: tuple[type, ...] = (bytes, bytearray, memoryview)

_Length = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]


class Bulk(Protocol):
    """One kind, as an annotation names it. Immutable: any thread may use it."""

    bare: bool  # of a result, the attachment says it all: there is no slot
    slot: Any  # the type of the slot
    schema: str  # what the method's shape says of it
    landing: Landing | None  # where a result goes, before unpack() makes the value of it

    def pack(self, value: Any) -> tuple[Any, bytes | memoryview]:
        """The slot and the bytes of a value, not copied where they lie in one piece. Raises TypeError."""
        ...

    def promised(self, value: Filled) -> Any:
        """The slot of bytes that are to come. Raises TypeError."""
        ...

    def size(self, slot: Any) -> int:
        """How many bytes belong to a slot. Raises ValueError for a slot that is none."""
        ...

    def unpack(self, slot: Any, part: Any) -> Any:
        """The value: a copy of a view (but for memoryview), and of what has landed the thing itself. `part` has
        the size() of the slot. Raises ValueError.
        """
        ...


_BYTEARRAY = Fresh(bytearray)


class Octets:
    """bytes, bytearray, memoryview."""

    bare = True

    def __init__(self, kind: type) -> None:
        self.slot = _Length
        self.schema = "bulk"
        self.landing: Landing | None = _BYTEARRAY if kind is bytearray else None
        self._kind = kind

    def pack(self, value: Any) -> tuple[int, bytes | memoryview]:
        """See Bulk.pack."""
        data = value if type(value) is bytes else octets(value)
        return len(data), data

    def promised(self, value: Filled) -> int:
        """See Bulk.promised."""
        return value.size

    def size(self, slot: int) -> int:
        """See Bulk.size."""
        return slot

    def unpack(self, slot: int, part: Any) -> Any:
        """See Bulk.unpack."""
        if type(part) is self._kind:
            return part
        if self._kind is bytes and type(part.obj) is bytes and len(part.obj) == len(part):
            return part.obj  # a message that came in parts, or over a socket: it is a copy already
        return self._kind(part)


def octets(data: Any) -> memoryview:
    """The bytes of any contiguous buffer, as a view: its length is their number. Raises TypeError for others."""
    view = memoryview(data)
    if not view.nbytes:
        return memoryview(b"")  # cast() refuses views with a zero in their shape
    return view.cast("B")


def bulk_of(annotation: Any) -> Bulk | None:
    """The bulk kind that an annotation names exactly, None if it is none.

    Raises TypeError for arrays that cannot be sent. NumPy is not imported but by whoever annotates with it.
    """
    if annotation in OCTETS:
        return Octets(annotation)
    origin = typing.get_origin(annotation) or annotation
    numpy = sys.modules.get("numpy")
    if numpy is None or origin is not getattr(numpy, "ndarray", None):
        return None
    from .ndarray import Array

    return Array(annotation)
