"""WindowAllocator: where windows come from; MemfdAllocator, the kind that leaves nothing behind.

One memfd per window (memfd_create(2)). It has no name, so `kill -9` at any instant leaves nothing; its
pages go with the last mapping and descriptor.

Rejected: gVisor's way, one file that grows as windows are carved out of it. A file that must grow cannot be
sealed against growing, and whoever is handed one window is handed a descriptor to all of them.
"""

import fcntl
import os
from typing import Protocol

from .errors import ClosedError
from .window import SEALS, PacketWindow, check_length, close_quietly, new_memfd, page_ceil


class WindowAllocator(Protocol):
    """Makes windows, one for each connection. Implementations are used from one thread at a time."""

    def allocate(self, length: int) -> PacketWindow:
        """A new window of at least `length` bytes, all zero, owned by the caller.

        `length` is rounded up to whole pages. Raises WindowTooSmallError, WindowTooLargeError, ClosedError
        after close(), and OSError when the system has no memory, space or descriptor left; nothing is left
        behind then.
        """
        ...

    def close(self) -> None:
        """Make no more windows. Idempotent; those already made are not touched."""
        ...


class MemfdAllocator:
    """Windows in sealed memfds: the default kind, for a peer that can be sent a descriptor."""

    def __init__(self) -> None:
        self._closed = False

    def allocate(self, length: int) -> PacketWindow:
        """See WindowAllocator.allocate."""
        if self._closed:
            raise ClosedError("the allocator is closed")
        check_length(length)
        length = page_ceil(length)
        fd = new_memfd()
        try:
            os.ftruncate(fd, length)
            os.posix_fallocate(fd, 0, length)  # every page now, while failing is an exception and not SIGBUS
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        except BaseException:
            close_quietly(fd)
            raise
        return PacketWindow(fd, length)

    def close(self) -> None:
        """See WindowAllocator.close."""
        self._closed = True

    def __repr__(self) -> str:
        return f"<MemfdAllocator, {'closed' if self._closed else 'open'}>"
