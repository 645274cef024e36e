"""Landing: where the attachment of a reply goes, so that it is copied once, or not at all.

A reply lies in the window, which is the caller's until it gives the channel back; by default its attachment
becomes a bytes object. Who wants it elsewhere says so before the call: in memory of another kind, in a buffer it
has already (Into), or left where it is (Borrowed).
"""

from typing import Any, Protocol

from ._core import ffi
from .errors import MisuseError


class Landing(Protocol):
    """A place for attachments."""

    def copied(self, memory: Any, start: int, size: int) -> Any:
        """What becomes of `size` bytes at memory[start], a char[] of cffi's that stays mapped while it is held."""
        ...


class Fresh:
    """Writable memory made for it by `room(size)`."""

    def __init__(self, room: Any) -> None:
        self._room = room

    def copied(self, memory: Any, start: int, size: int) -> Any:
        """See Landing.copied."""
        made = self._room(size)
        if size:
            ffi.memmove(made, memory + start, size)
        return made


class Into:
    """The beginning of a buffer of the caller's; what lands is the number of bytes."""

    def __init__(self, buffer: Any) -> None:
        """Raises TypeError for what is no writable contiguous buffer."""
        view = memoryview(buffer)
        if view.readonly:
            raise TypeError("the buffer is read-only")
        self._view = view.cast("B") if view.nbytes else memoryview(bytearray())

    def copied(self, memory: Any, start: int, size: int) -> int:
        """See Landing.copied. Raises MisuseError when the buffer is too small: nothing is written then."""
        if size > len(self._view):
            raise MisuseError(f"the result has {size} bytes, the buffer {len(self._view)}")
        if size:
            ffi.memmove(self._view, memory + start, size)
        return size


class Borrowed:
    """Nowhere: what lands is an object that keeps the memory mapped, and a read-only view made of it.

    One object for each reply, so that when it is gone nobody has a view of these bytes any more: slices of a
    memoryview are not counted in it, but all of them hold the object it was made of.
    """

    def copied(self, memory: Any, start: int, size: int) -> tuple[Any, memoryview]:
        """See Landing.copied."""
        holder = ffi.buffer(memory)
        return holder, memoryview(holder)[start : start + size].toreadonly()


BORROWED = Borrowed()
