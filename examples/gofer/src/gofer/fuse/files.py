"""Open files and directories of the mount: what the kernel's file handles stand for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gofer.protocol import Dent, Gofer

if TYPE_CHECKING:
    from gofer.fuse.nodes import Node

# What the kernel passes along and the gofer has a use for. The others are the kernel's own business: it asks for an
# fsync itself for O_SYNC, and O_CREAT and O_EXCL are a `create`.
_FLAGS = os.O_ACCMODE | os.O_TRUNC | os.O_APPEND

LISTING = 1 << 18
"""Bytes of entries asked for at a time."""


def open_flags(flags: int) -> int:
    """The flags of an open on the mount, as the gofer takes them."""
    found = flags & _FLAGS
    if found & os.O_ACCMODE == os.O_ACCMODE:
        found ^= os.O_WRONLY  # access mode 3 of Linux: for ioctl alone
    if found & os.O_ACCMODE == os.O_RDONLY:
        found &= ~os.O_TRUNC
    return found


class OpenFile:
    """An open FID of a node, of one epoch: when the gofer is another, it is stale for ever."""

    __slots__ = ("epoch", "fid", "flags", "node", "size")

    def __init__(self, node: Node, fid: int, size: int, epoch: int, flags: int) -> None:
        self.node = node
        self.fid = fid
        self.size = size
        """When it was opened."""
        self.epoch = epoch
        self.flags = flags

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class OpenDirectory:
    """An open directory: the entries got so far, from where the kernel goes on reading.

    The kernel asks for some twenty entries at a time, the gofer answers with hundreds: positions are counted
    from the first entry, and the entries between what the kernel has read and what the gofer has said stay here.
    """

    def __init__(self, node: Node, fid: int, epoch: int) -> None:
        self.node = node
        self.fid = fid
        self.epoch = epoch
        self._entries: list[Dent] = []
        self._cookie = 0
        self._end = False

    def rewind(self) -> None:
        """Read anew: the directory may have changed."""
        self._entries.clear()
        self._cookie, self._end = 0, False

    def entry(self, index: int, gofer: Gofer) -> Dent | None:
        """The entry at this position, None at the end."""
        while index >= len(self._entries) and not self._end:
            dents = gofer.getdents(self.fid, self._cookie, LISTING, True)
            self._entries += dents.entries
            self._cookie, self._end = dents.next, dents.end
        return self._entries[index] if index < len(self._entries) else None
