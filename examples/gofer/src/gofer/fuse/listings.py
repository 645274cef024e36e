"""Directories as they lately were: what answers many questions with one round trip.

The kernel asks for one name at a time, and keeps what it was told for `cache` seconds. A gofer lists a directory
with all attributes in little more than the time of one such answer. So when a second name of a directory is asked
for within that time, the directory is listed, and for as long as the kernel could have kept an answer itself, the
listing answers, and it serves who reads the directory. An answer from a listing is given to the kernel for the
rest of its time only; so `cache` is still how old anything can be. A name that is not in the listing is asked for
all the same: who makes a file at the gofer's and says so expects it to be found.

A program that goes through a tree asks for one directory after the other. So while listings are of use, those of
the directories beside one that is asked for come along: at first one, then twice as many as were of use of the
last; those that follow in the listing for who reads directories, in the alphabet for who asks for names (as git
does). They wait here, by object, until the kernel asks for something in them (_take).

What this mount changes is changed in the listing, too. Attributes change with a node, not with a name: an entry
is worth nothing once its node has changed since (Node.changed).
"""

from __future__ import annotations

import stat as modes
import time
from collections import OrderedDict
from itertools import islice

from gofer.fuse.connection import Connection
from gofer.fuse.contents import TOGETHER, Contents
from gofer.fuse.fids import FidCache
from gofer.fuse.nodes import Key, Node, Nodes, stale
from gofer.protocol import Content, Listed, Stat

LISTING = 1 << 18
"""Bytes of entries asked for at a time by who reads a directory."""

_AHEAD = 1 << 15
"""The same when nobody has asked for the whole: some 150 entries. Longer directories are not listed ahead."""

_ENOUGH = 2
"""Names asked for until it is worth listing the directory; one while it has lately been worth it elsewhere."""

_PER_NAME = 8
"""Entries listed in the time that asking for one name takes."""

_LATELY = 0.1
"""Seconds."""

_KEPT = 256
"""Listings that nobody has asked for yet."""


class Listing:
    """How a directory began, at the time `asked` (of time.monotonic)."""

    __slots__ = ("asked", "dents", "names", "next", "stat", "whole")

    def __init__(self, listed: Listed, asked: float) -> None:
        self.stat = listed.stat
        self.dents = dents = listed.dents.entries
        """In order; only as long as `names` was not changed."""
        self.next = listed.dents.next
        self.whole = listed.dents.end
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

    def __init__(
        self, connection: Connection, nodes: Nodes, fids: FidCache, contents: Contents, cache: float
    ) -> None:
        self._connection = connection
        self._nodes = nodes
        self._fids = fids
        self._contents = contents
        self._cache = cache
        self._paid = 0.0
        self._kept: OrderedDict[Key, Listing] = OrderedDict()
        self._taken = 0

    def of(self, directory: Node) -> Listing:
        """A listing to read the directory by: a recent one, or a new one."""
        listing = self._recent(directory)
        if listing is not None and listing.dents and listing.whole:
            return listing
        ahead = TOGETHER if self._contents.are_read() else 0
        return self._list(directory, LISTING, ahead, list(self._around(directory)))

    def to_answer(self, directory: Node) -> Listing | None:
        """A listing in which to look a name up; None when the name is better asked for alone."""
        listing = self._recent(directory)
        if listing is not None:
            self._paid = time.monotonic()
            return listing
        if not self._cache or directory.is_long:
            return None
        now = time.monotonic()
        if now - directory.counting_since > self._cache:
            directory.counting_since, directory.lookups_counted = now, 0
        directory.lookups_counted += 1
        if directory.lookups_counted < self._enough(directory, now):
            return None
        listing = self._list(directory, _AHEAD, 0, sorted(self._around(directory)))
        directory.is_long = not listing.whole
        return listing

    def forget(self, directory: Node) -> None:
        """The kernel has: with the node goes the knowledge of when this mount changed it."""
        self._kept.pop(directory.key, None)

    def _enough(self, directory: Node, now: float) -> int:
        """Names asked for that make listing the directory worth it: the more the longer it is known to be."""
        subdirectories = directory.info.nlink - 2
        return max(_ENOUGH if now - self._paid > _LATELY else 1, subdirectories // _PER_NAME)

    def _recent(self, directory: Node) -> Listing | None:
        """What is known of it, if that is as recent as what the kernel could have kept until now."""
        listing = directory.listing
        if listing is None:
            listing = directory.listing = self._take(directory)
        if listing is not None and not self._is_fresh(listing):
            listing = directory.listing = None
        return listing

    def _is_fresh(self, listing: Listing) -> bool:
        return time.monotonic() - listing.asked < self._cache

    def _take(self, directory: Node) -> Listing | None:
        """The listing that came ahead, if the directory is what it was then."""
        listing = self._kept.pop(directory.key, None) if self._kept else None
        if listing is None or directory.changed >= listing.asked:
            return None
        if _version(listing.stat) != _version(directory.info) or not self._is_fresh(listing):
            return None
        self._taken += 1
        directory.opens_counted = 0
        return listing

    def _list(self, directory: Node, limit: int, ahead: int, order: list[bytes]) -> Listing:
        """List it, and for later some of those that follow it in the `order` of the names beside it."""
        asked = time.monotonic()
        gofer = self._connection.gofer  # first: it may connect again, which is another epoch
        listed = self._list_together(directory, ahead, asked, order)
        if listed is None:
            listed = gofer.walk_list(*self._fids.near(directory), limit, ahead)
        if not directory.is_same(listed.stat):
            raise stale()
        listing = self._listing(listed, asked)
        directory.listing = listing if self._cache else None
        directory.opens_counted = 0
        return listing

    def _listing(self, listed: Listed, asked: float) -> Listing:
        listing = Listing(listed, asked)
        for dent, data in zip(listing.dents, listed.contents, strict=False):
            if data is not None and dent.stat is not None:
                self._contents.keep(Content(dent.stat, data), asked)
        return listing

    def _list_together(self, directory: Node, ahead: int, asked: float, order: list[bytes]) -> Listed | None:
        """The directory's listing, and for later those of others; None if it is better listed alone."""
        if directory.is_long or time.monotonic() - self._paid > _LATELY or not order:
            return None
        parent, name = next(reversed(directory.names))
        names = [name, *self._following(parent, name, order)]
        if len(names) == 1:
            return None
        try:
            found = self._connection.gofer.walk_lists(*self._fids.near(parent), names, LISTING, ahead)
        except (FileNotFoundError, NotADirectoryError):
            return None  # the parent is elsewhere by now; the directory may be found by itself
        self._taken = 0
        for listed in found[1:]:
            if listed is not None:
                self._kept[listed.stat.dev, listed.stat.ino] = self._listing(listed, asked)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return found[0]

    def _around(self, directory: Node) -> dict[bytes, Stat]:
        """The names beside it, if there is a recent listing of its parent."""
        parent = next(reversed(directory.names))[0] if directory.names else None
        listing = parent.listing if parent is not None else None
        return listing.names if listing is not None and self._is_fresh(listing) else {}

    def _following(self, parent: Node, name: bytes, order: list[bytes]) -> list[bytes]:
        """Directories of which no listing is here, from behind the name on."""
        at = order.index(name) + 1 if name in order else 0
        found = (one for one in order[at:] if self._is_unlisted(parent, one))
        return list(islice(found, max(1, 2 * self._taken)))

    def _is_unlisted(self, parent: Node, name: bytes) -> bool:
        info = parent.listing.names[name] if parent.listing is not None else None
        if info is None or not modes.S_ISDIR(info.mode) or (info.dev, info.ino) in self._kept:
            return False
        node = self._nodes.at(parent, name)
        return node is None or node.listing is None


def _version(info: Stat) -> tuple[int, int]:
    return info.ctime_ns, info.mtime_ns
