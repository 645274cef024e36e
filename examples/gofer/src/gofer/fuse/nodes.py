"""What the kernel may ask about, by number: a Node for every file system object it has looked up.

A Node is an *object* of the tree, known by (device, inode), with the names it was found under. The kernel is told
a number for it and gives that back, as often as it likes and long after, until it forgets it; so nodes cost this
process memory and the gofer nothing. In particular no node needs a FID: an object that lost its FID is found again
by name, and whether it is the same object is then seen from (device, inode) (fids.py).

The number is the inode's own, where that is free, so that `st_ino` is what it is at the gofer's; otherwise (two
file systems below one root, an inode used anew while the kernel remembers its predecessor) one from a range that
no file system uses.
"""

from __future__ import annotations

import errno
import os
import stat as modes
import time
from typing import TYPE_CHECKING

import msgspec

from gofer.protocol import Stat

if TYPE_CHECKING:
    from gofer.fuse.files import OpenFile
    from gofer.fuse.listings import Listing

ROOT = 1
_OWN_NUMBERS = 1 << 62

Key = tuple[int, int]
"""Device and inode."""


class Node:
    """One object. `names` are (directory, name) pairs it was found under, the latest last; the root has none."""

    __slots__ = (
        "asked", "changed", "counting_since", "epoch", "fid", "files", "info", "is_long", "key", "kind", "listing",
        "lookups", "lookups_counted", "names", "number", "opens_counted", "pages",
    )  # fmt: skip

    def __init__(self, number: int, info: Stat) -> None:
        self.number = number
        self.key: Key = (info.dev, info.ino)
        self.kind = modes.S_IFMT(info.mode)
        self.names: dict[tuple[Node, bytes], None] = {}
        self.lookups = 0
        # A control FID and the epoch it belongs to: FidCache's.
        self.fid = 0
        self.epoch = 0
        self.files: list[OpenFile] = []
        # What the gofer said of it, when (time.monotonic; 0: it is no longer so), and when this mount changed it.
        self.info = info
        self.asked = 0.0
        self.changed = 0.0
        # Modification time and size of the content that the kernel has pages of; None for no pages.
        self.pages: tuple[int, int] | None = None
        # A directory's: listings.py.
        self.listing: Listing | None = None
        self.is_long = False
        self.counting_since = 0.0
        self.lookups_counted = 0
        self.opens_counted = 0  # of files in it, since it was listed: contents.py

    def is_same(self, info: Stat) -> bool:
        """Whether what was found is this object."""
        return self.key == (info.dev, info.ino)

    def told(self, info: Stat, asked: float) -> None:
        """The gofer said this when it was asked then; which is worth nothing if it was changed since."""
        if asked >= self.asked and asked >= self.changed:
            self.info, self.asked = info, asked

    def has_changed(self) -> None:
        """This mount changed its content, attributes or entries."""
        self.changed = time.monotonic()
        self.asked = 0.0


class Nodes:
    """All nodes, by number, by object and by name."""

    def __init__(self, root: Stat) -> None:
        self.root = Node(ROOT, root)
        self.root.lookups = 1
        self._by_number: dict[int, Node] = {ROOT: self.root}
        self._by_key: dict[Key, Node] = {self.root.key: self.root}
        self._by_name: dict[tuple[Node, bytes], Node] = {}
        self._next = _OWN_NUMBERS

    def __getitem__(self, number: int) -> Node:
        """The node the kernel means. OSError ESTALE when there is none, which the kernel's own bugs aside is
        never.
        """
        try:
            return self._by_number[number]
        except KeyError:
            raise stale() from None

    def __len__(self) -> int:
        return len(self._by_number)

    def at(self, directory: Node, name: bytes) -> Node | None:
        """The node last found under the name."""
        return self._by_name.get((directory, name))

    def found(self, directory: Node, name: bytes, info: Stat, asked: float) -> Node:
        """The node of what was there when the gofer was asked. The caller counts a lookup when the kernel was told
        of it.
        """
        node = self._by_key.get((info.dev, info.ino))
        if node is None or node.kind != modes.S_IFMT(info.mode):
            node = self._new(info)
        node.told(info, asked)
        place = (directory, name)
        before = self._by_name.get(place)
        if before is not node:
            if before is not None:
                before.names.pop(place, None)
            self._by_name[place] = node
            node.names[place] = None
        return node

    def forget(self, number: int, lookups: int) -> Node | None:
        """The kernel forgot so many lookups; the node that is gone with them, if it is."""
        node = self._by_number.get(number)
        if node is None or node is self.root:
            return None
        node.lookups -= lookups
        return node if self.drop_unused(node) else None

    def drop_unused(self, node: Node) -> bool:
        """Forget a node the kernel does not know."""
        if node.lookups > 0:
            return False
        self._by_number.pop(node.number, None)
        if self._by_key.get(node.key) is node:
            del self._by_key[node.key]
        for place in node.names:
            self._by_name.pop(place, None)
            if node.changed:  # which nobody knows any more: what was listed before must not answer
                place[0].listing = None
        node.names.clear()
        return True

    def removed(self, directory: Node, name: bytes) -> None:
        """The name is gone. With the last name goes the object, and its inode number may soon be another's."""
        place = (directory, name)
        node = self._by_name.pop(place, None)
        if node is None:
            return
        node.names.pop(place, None)
        node.has_changed()
        node.info = msgspec.structs.replace(node.info, nlink=node.info.nlink - 1)
        if (node.info.nlink <= 0 or node.kind == modes.S_IFDIR) and self._by_key.get(node.key) is node:
            del self._by_key[node.key]

    def renamed(self, source: tuple[Node, bytes], target: tuple[Node, bytes], exchange: bool) -> None:
        """The object moved, and what was in its place is gone, or moved the other way."""
        moved, there = self._by_name.get(source), self._by_name.get(target)
        if moved is there and moved is not None:
            return  # two names of one file: rename(2) leaves both
        if not exchange:
            self.removed(*target)
            there = None
        for node, old, new in ((moved, source, target), (there, target, source)):
            if node is not None:
                node.has_changed()
                node.names.pop(old, None)
                node.names[new] = None
        self._set(target, moved)
        self._set(source, there)

    def _set(self, place: tuple[Node, bytes], node: Node | None) -> None:
        if node is None:
            self._by_name.pop(place, None)
        else:
            self._by_name[place] = node

    def _new(self, info: Stat) -> Node:
        number = info.ino
        if info.dev != self.root.key[0] or number in self._by_number or not ROOT < number < _OWN_NUMBERS:
            number = self._next
            self._next += 1
        node = Node(number, info)
        self._by_number[number] = node
        self._by_key[node.key] = node
        return node


def stale() -> OSError:
    """The object is not to be found again."""
    return OSError(errno.ESTALE, os.strerror(errno.ESTALE))
