"""Open files and directories of the mount: what the kernel's file handles stand for."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from gofer.protocol import Dents, Gofer, Opened

if TYPE_CHECKING:
    from gofer.fuse.listings import Listing
    from gofer.fuse.nodes import Node

# What the kernel passes along and the gofer has a use for. The others are the kernel's own business: it asks for
# an fsync itself for O_SYNC, and O_CREAT and O_EXCL are a `create`.
_FLAGS = os.O_ACCMODE | os.O_TRUNC | os.O_APPEND

_ENTRIES = 4096
"""Entries of an open directory that stay here, for who seeks backwards."""

_USES = 2
"""Reads and writes after which a descriptor of the host's is worth a call."""


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

    __slots__ = ("ahead", "asked", "epoch", "fid", "flags", "host", "node", "size", "uses")

    def __init__(self, node: Node, opened: Opened, asked: float, epoch: int, flags: int) -> None:
        self.node = node
        self.fid = opened.fid
        self.size = opened.stat.size
        self.ahead = opened.data
        """What came along, of a small file: all of it; or nothing."""
        self.asked = asked
        """When it was opened, to which the two above belong."""
        self.host = -1
        self.uses = 0
        self.epoch = epoch
        self.flags = flags

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    def on_host(self, gofer: Gofer, donates: bool) -> int:
        """The host's descriptor of the file, -1 while there is none.

        Asked for when the file is used a second time: the first takes one round trip either way.
        """
        self.uses += 1
        if self.uses == _USES and donates:
            with contextlib.suppress(OSError):  # no regular file, or no descriptor left here: then by calls
                self.host = gofer.donate(self.fid).detach()
        return self.host

    def close_host(self) -> None:
        """Let go of the host's descriptor."""
        if self.host >= 0:
            os.close(self.host)
            self.host = -1

    def take_ahead(self, offset: int, size: int, cache: float) -> bytes | None:
        """The bytes from what came along with the open; None when that is nothing, too old, or another content."""
        if not self.ahead:
            return None
        data = self.ahead[offset : offset + size]
        good = time.monotonic() - self.asked < cache and self.node.changed < self.asked
        if not good or offset + size >= len(self.ahead):
            self.ahead = b""  # the kernel has it in its pages
        return data if good else None


class OpenDirectory:
    """An open directory: the entries got so far, from where the kernel goes on reading.

    The kernel asks for some twenty entries at a time, the gofer answers with hundreds: positions are counted
    from the first entry, and the entries between what the kernel has read and what the gofer has said stay here
    (`entries`, of which the first is at position `first`).
    The FID is 0 until it is needed: for a directory that is too long for one answer, or for an fsync.
    """

    def __init__(self, node: Node, listing: Listing) -> None:
        self.node = node
        self.fid = 0
        self.epoch = 0
        self.is_read = False
        self.restart(listing)

    def restart(self, listing: Listing) -> None:
        """From the first entry, as it is now."""
        self.entries = list(listing.dents)
        self.first = 0
        self.asked = listing.asked
        self.next = listing.next
        self.end = listing.whole

    def is_new(self, cache: float) -> bool:
        """Whether what was listed when it was opened is still to be read. (rewinddir asks for how it is now.)"""
        return not self.is_read and time.monotonic() - self.asked < cache and self.node.changed < self.asked

    @property
    def last(self) -> int:
        """The position after what is here."""
        return self.first + len(self.entries)

    def extend(self, dents: Dents, asked: float) -> None:
        """What the gofer said follows. What the kernel has read long ago is let go of: a directory can be long."""
        if len(self.entries) > _ENTRIES:
            self.first = self.last
            self.entries.clear()
        self.entries += dents.entries
        self.asked = asked
        self.next, self.end = dents.next, dents.end
