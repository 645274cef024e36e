"""Landing: where the attachment of a reply goes, so that it is copied once, or not at all.

A reply lies in the window, which is the caller's until it gives the channel back; by default its attachment
becomes a bytes object. Who wants it elsewhere says so before the call: in memory of another kind, in a buffer it
has already (Into), or left where it is (Borrowed).
"""

from typing import Any, Protocol

from ._core import ffi
from .buffers import address, fresh
from .errors import MisuseError


class Landing(Protocol):
    """A place for attachments."""

    def copied(self, memory: Any, start: int, size: int) -> Any:
        """What becomes of `size` bytes at memory[start], a char[] of cffi's that stays mapped while it is held."""
        ...

    def room(self, size: int) -> tuple[Any, Any]:
        """The same for bytes that are to come: what will become of them, and where to write them, as a char[]."""
        ...


class _Made:
    """A place that exists before the bytes are in it."""

    def room(self, size: int) -> tuple[Any, Any]:
        raise NotImplementedError

    def copied(self, memory: Any, start: int, size: int) -> Any:
        """See Landing.copied."""
        landed, place = self.room(size)
        with place as to:
            ffi.memmove(to, memory + start, size)
        return landed


class Private(_Made):
    """A bytes object."""

    def room(self, size: int) -> tuple[bytes, Any]:
        """See Landing.room."""
        made = fresh(size)
        return made, address(made)


class Fresh(_Made):
    """Writable memory made for it by `make(size)`."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def room(self, size: int) -> tuple[Any, Any]:
        """See Landing.room."""
        made = self._make(size)
        return made, ffi.from_buffer("char[]", made, require_writable=True)


class Into(_Made):
    """The beginning of a buffer of the caller's; what lands is the number of bytes."""

    def __init__(self, buffer: Any) -> None:
        """Raises TypeError for what is no writable contiguous buffer."""
        view = memoryview(buffer)
        if view.readonly:
            raise TypeError("the buffer is read-only")
        self._view = view.cast("B") if view.nbytes else memoryview(bytearray())

    def room(self, size: int) -> tuple[int, Any]:
        """See Landing.room. Raises MisuseError when the buffer is too small: nothing is written then."""
        if size > len(self._view):
            raise MisuseError(f"the result has {size} bytes, the buffer {len(self._view)}")
        return size, ffi.from_buffer("char[]", self._view, require_writable=True)


class Borrowed:
    """Nowhere: what lands is an object that keeps the memory mapped, and a read-only view made of it.

    One object for each reply, so that when it is gone nobody has a view of these bytes any more: slices of a
    memoryview are not counted in it, but all of them hold the object it was made of.
    """

    def copied(self, memory: Any, start: int, size: int) -> tuple[Any, memoryview]:
        """See Landing.copied."""
        holder = ffi.buffer(memory)
        return holder, memoryview(holder)[start : start + size].toreadonly()

    def room(self, size: int) -> tuple[tuple[Any, memoryview], Any]:
        """See Landing.room: what comes in parts is nowhere as a whole, so it is gathered in private memory."""
        made = fresh(size)
        holder = ffi.buffer(address(made))
        return (holder, memoryview(holder).toreadonly()), address(made)


PRIVATE = Private()
BORROWED = Borrowed()
