"""Directories as they lately were: what answers many questions with one round trip.

The kernel asks for one name at a time, and keeps what it was told for `cache` seconds. A gofer lists a directory
with all attributes in little more than the time of one such answer. So when a second name of a directory is asked
for within that time, the directory is listed, and for as long as the kernel could have kept an answer itself, the
listing answers, and it serves who reads the directory. An answer from a listing is given to the kernel for the
rest of its time only; so `cache` is still how old anything can be. A name that is not in the listing is asked for
all the same: who makes a file at the gofer's and says so expects it to be found.

What this mount changes is changed in the listing, too. Attributes change with a node, not with a name: an entry
is worth nothing once its node has changed since (Node.changed).
"""

from __future__ import annotations

import time

from gofer.fuse.connection import Connection
from gofer.fuse.contents import TOGETHER, Contents
from gofer.fuse.fids import FidCache
from gofer.fuse.nodes import Node, stale
from gofer.protocol import Content, Dent, Stat

LISTING = 1 << 18
"""Bytes of entries asked for at a time by who reads a directory."""

_AHEAD = 1 << 15
"""The same when nobody has asked for the whole: some 150 entries. Longer directories are not listed ahead."""

_ENOUGH = 2
"""Names asked for until it is worth listing the directory; one while it has lately been worth it elsewhere."""

_LATELY = 0.1
"""Seconds."""


class Listing:
    """How a directory began, at the time `asked` (of time.monotonic)."""

    __slots__ = ("asked", "dents", "names", "next", "whole")

    def __init__(self, dents: list[Dent], cookie: int, whole: bool, asked: float) -> None:
        self.dents = dents
        """In order; only as long as `names` was not changed."""
        self.next = cookie
        self.whole = whole
        """There is nothing after these."""
        self.asked = asked
        self.names: dict[bytes, Stat] = {dent.name: dent.stat for dent in dents if dent.stat is not None}

    def set(self, name: bytes, info: Stat | None) -> None:
        """The name is there now, or no longer."""
        self.dents = []
        if info is None:
            self.names.pop(name, None)
        else:
            self.names[name] = info


class Listings:
    """The listings of nodes, for as long as they are good."""

    def __init__(self, connection: Connection, fids: FidCache, contents: Contents, cache: float) -> None:
        self._connection = connection
        self._fids = fids
        self._contents = contents
        self._cache = cache
        self._paid = 0.0

    def of(self, directory: Node) -> Listing:
        """A listing to read the directory by: a recent one, or a new one."""
        listing = directory.listing
        if listing is not None and listing.dents and listing.whole and self.is_fresh(listing):
            return listing
        return self._list(directory, LISTING, TOGETHER if self._contents.are_read() else 0)

    def to_answer(self, directory: Node) -> Listing | None:
        """A listing in which to look a name up; None when the name is better asked for alone."""
        listing = directory.listing
        if listing is not None:
            if self.is_fresh(listing):
                self._paid = time.monotonic()
                return listing
            directory.listing = None
        if not self._cache or directory.is_long:
            return None
        now = time.monotonic()
        if now - directory.counting_since > self._cache:
            directory.counting_since, directory.lookups_counted = now, 0
        directory.lookups_counted += 1
        if directory.lookups_counted < _ENOUGH and now - self._paid > _LATELY:
            return None
        listing = self._list(directory, _AHEAD, 0)
        directory.is_long = not listing.whole
        return listing

    def is_fresh(self, listing: Listing) -> bool:
        """Whether the kernel could have kept it until now."""
        return time.monotonic() - listing.asked < self._cache

    def _list(self, directory: Node, limit: int, ahead: int) -> Listing:
        asked = time.monotonic()
        gofer = self._connection.gofer  # first: it may connect again, which is another epoch
        listed = gofer.walk_list(*self._fids.near(directory), limit, ahead)
        if not directory.is_same(listed.stat):
            raise stale()
        listing = Listing(listed.dents.entries, listed.dents.next, listed.dents.end, asked)
        directory.listing = listing if self._cache else None
        directory.opens_counted = 0
        for dent, data in zip(listing.dents, listed.contents, strict=False):
            if data is not None and dent.stat is not None:
                self._contents.keep(Content(dent.stat, data), asked)
        return listing
