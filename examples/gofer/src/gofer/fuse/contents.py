"""Small files that came ahead: who opens a second file of a directory is likely to open the next.

A program that reads a tree opens file after file, and of a small one everything comes with the open (files.py);
what is left is a round trip a file. So from the second small file of a directory on, those that follow in its
listing are fetched together; and while contents that came so are being read, those of the next directory come
along with its listing (listings.py). Like all that is known ahead, a content is good for `cache` seconds and
until this mount changes the file; a file that is opened meanwhile needs no FID (OpenFile.fid is 0) until it is
used for more than reading what is here.
"""

from __future__ import annotations

import stat as modes
import time
from collections import OrderedDict

from gofer.fuse.connection import Connection
from gofer.fuse.fids import FidCache
from gofer.fuse.nodes import Key, Node, Nodes
from gofer.protocol import Content, Stat

TOGETHER = 1 << 18
"""Bytes fetched in one round trip."""

_SMALL = 1 << 14
"""Bytes of a file that is fetched ahead."""

_FILES = 32
"""Files fetched in one round trip."""

_ENOUGH = 2
"""Files opened in a directory until it is worth fetching more."""

_KEPT = 1 << 22
"""Bytes kept altogether."""

_LATELY = 0.1
"""Seconds."""


class Contents:
    """Contents of files that the kernel has not asked for yet."""

    def __init__(self, connection: Connection, nodes: Nodes, fids: FidCache, cache: float) -> None:
        self._connection = connection
        self._nodes = nodes
        self._fids = fids
        self._cache = cache
        self._kept: OrderedDict[Key, tuple[Content, float]] = OrderedDict()
        self._size = 0
        self._taken = 0.0

    def keep(self, content: Content, asked: float) -> None:
        """A content that came ahead, and when it was asked for."""
        key = (content.stat.dev, content.stat.ino)
        self._drop(key)
        self._kept[key] = (content, asked)
        self._size += len(content.data)
        while self._size > _KEPT:
            self._drop(next(iter(self._kept)))

    def are_read(self) -> bool:
        """Whether one was of use lately: then others may be."""
        return time.monotonic() - self._taken < _LATELY

    def take(self, node: Node) -> tuple[Content, float] | None:
        """The content of a file that is opened for reading, and when it was so; None if it must be asked for."""
        if not node.names or node.info.size > _SMALL or node.kind != modes.S_IFREG:
            return None
        found = self._pop(node)
        if found is None and self._fetch(node):
            found = self._pop(node)
        return found

    def _pop(self, node: Node) -> tuple[Content, float] | None:
        found = self._drop(node.key)
        if found is None:
            return None
        now = time.monotonic()
        fresh = now - found[1] < self._cache and node.changed < found[1]
        if not fresh or _version(found[0].stat) != _version(node.info):
            return None
        self._taken = now
        return found

    def _drop(self, key: Key) -> tuple[Content, float] | None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._size -= len(found[0].data)
        return found

    def _fetch(self, node: Node) -> bool:
        """Get this file's content and those of others that may be wanted next; False if that is not worth it."""
        directory, name = next(reversed(node.names))
        listing = directory.listing
        if listing is None or time.monotonic() - listing.asked >= self._cache:
            return False
        directory.opens_counted += 1
        if directory.opens_counted < _ENOUGH:
            return False
        wanted = self._following(directory, listing.names, name)
        asked = time.monotonic()
        gofer = self._connection.gofer  # first: it may connect again, which is another epoch
        names = [one for one, _ in wanted]
        try:
            contents = gofer.walk_read(*self._fids.near(directory), names, TOGETHER)
        except (FileNotFoundError, NotADirectoryError):
            return False  # the directory is elsewhere by now; the file may be found by itself
        for (_, found), content in zip(wanted, contents, strict=True):
            if content is not None and found.is_same(content.stat):
                found.told(content.stat, asked)
                self.keep(content, asked)
        return True

    def _following(self, directory: Node, names: dict[bytes, Stat], name: bytes) -> list[tuple[bytes, Node]]:
        """This name, and those of the small files that follow in the listing, without those the kernel has."""
        found: list[tuple[bytes, Node]] = []
        size = 0
        for one, info in names.items():
            if not found and one != name:
                continue
            node = self._nodes.at(directory, one)
            if (
                node is None
                or node.pages is not None
                or node.key in self._kept
                or not modes.S_ISREG(info.mode)
            ):
                continue
            if info.size > _SMALL or not info.size:
                continue
            size += info.size
            if size > TOGETHER or len(found) == _FILES:
                break
            found.append((one, node))
        return found


def _version(info: Stat) -> tuple[int, int, int]:
    return info.ctime_ns, info.mtime_ns, info.size
