"""Control FIDs of nodes, of which there are more than a gofer gives out: the least recently used ones go back.

A node whose FID was given back, or went with a gofer that was restarted, is found again by the names it was last
seen under: one walk from the nearest directory that has a FID, which gives all directories on the way theirs. What
is found must be the same object; if somebody moved it meanwhile, it is ESTALE, and the kernel looks the path up
anew.
"""

from __future__ import annotations

import os
from collections import OrderedDict

from gofer.fuse.connection import Connection
from gofer.fuse.nodes import Node, Nodes, stale
from gofer.protocol import Inode, Opened, SetStat, Stat

_DEPTH_MAX = 2048
"""Names from the root to a node: a path of PATH_MAX bytes has no more. (Stale names can form a ring.)"""

_HELD_MIN = 16


class FidCache:
    """The FIDs of nodes. For one thread."""

    def __init__(self, connection: Connection, nodes: Nodes) -> None:
        self._connection = connection
        self._nodes = nodes
        self._held: OrderedDict[Node, None] = OrderedDict()

    def of(self, node: Node) -> int:
        """A control FID of the node, good until other nodes' FIDs have been asked for a few hundred times."""
        if node is self._nodes.root:
            return self._connection.root.fid
        if node.fid and node.epoch == self._connection.epoch:
            self._held.move_to_end(node)
            return node.fid
        return self._walk(node)

    def any_of(self, node: Node) -> int:
        """Any FID of the node: an open file's, if there is one, is as good for everything but walking on."""
        return self._open_fid(node) or self.of(node)

    def _open_fid(self, node: Node) -> int:
        for file in reversed(node.files):
            if file.fid and file.epoch == self._connection.epoch:
                return file.fid
        return 0

    def adopt(self, node: Node, fid: int) -> None:
        """Keep a FID that came with an answer."""
        if node is self._nodes.root or (node.fid and node.epoch == self._connection.epoch):
            self._connection.release([fid], self._connection.epoch)
            return
        node.fid, node.epoch = fid, self._connection.epoch
        self._held[node] = None
        self._held.move_to_end(node)
        if len(self._held) > max(_HELD_MIN, self._connection.limits.max_fids // 2):
            self.drop(next(iter(self._held)))

    def drop(self, node: Node) -> None:
        """Give the node's FID back, if it has one."""
        self._held.pop(node, None)
        if node.fid:
            self._connection.release([node.fid], node.epoch)
            node.fid = 0

    def near(self, node: Node) -> tuple[int, list[bytes]]:
        """A FID above the node, and the names from there to it. What they lead to may be another object: look."""
        if self._has_fid(node):
            return self.of(node), []
        way, names = self._way(node)
        if len(names) >= self._connection.limits.max_names:
            return self.of(node), []
        return self.of(_name_of(way[0])[0]), names

    def stat(self, node: Node) -> Stat:
        """The node's attributes now, without a FID being made for it."""
        gofer = self._connection.gofer  # first: it may connect again, which is another epoch
        if self._has_fid(node) or self._open_fid(node):
            return gofer.stat(self.any_of(node))
        fid, names = self.near(node)
        walked = gofer.walk_stat(fid, names, False)
        if walked.walked < len(names) or not node.is_same(walked.stats[0]):
            raise stale()
        return walked.stats[0]

    def look(self, directory: Node, name: bytes) -> Stat | None:
        """What is in a directory under a name, None if nothing is, without FIDs being made."""
        gofer = self._connection.gofer  # first: it may connect again, which is another epoch
        fid, names = self.near(directory)
        try:
            looked = gofer.walk_look(fid, names, name)
        except (FileNotFoundError, NotADirectoryError):
            raise stale() from None  # the directory is elsewhere by now
        if not directory.is_same(looked.directory):
            raise stale()
        return looked.found

    def open(self, node: Node, flags: int, ahead: int) -> Opened:
        """Open the node, in one round trip whether it has a FID or not."""
        gofer = self._connection.gofer  # first: it may connect again, which is another epoch
        fid, names = self.near(node)
        try:
            opened = gofer.walk_open(fid, names, flags & ~os.O_TRUNC, ahead)
        except FileNotFoundError:
            raise stale() from None  # the kernel looks the name up anew
        if not node.is_same(opened.stat):
            self._connection.release([opened.fid], self._connection.epoch)
            raise stale()
        if flags & os.O_TRUNC:  # not before it is known whose content that is
            done = gofer.set_stat(opened.fid, SetStat(size=0))
            if done.failed:
                self._connection.release([opened.fid], self._connection.epoch)
                raise OSError(done.errno, os.strerror(done.errno))
        return opened

    def _has_fid(self, node: Node) -> bool:
        return node is self._nodes.root or (node.fid != 0 and node.epoch == self._connection.epoch)

    def _way(self, node: Node) -> tuple[list[Node], list[bytes]]:
        """The nodes from the nearest directory that has a FID, which is not among them, to this one; and names."""
        way: list[Node] = []
        names: list[bytes] = []
        while not self._has_fid(node):
            directory, name = _name_of(node)
            way.append(node)
            names.append(name)
            node = directory
            if len(way) > _DEPTH_MAX:
                raise stale()
        return way[::-1], names[::-1]

    def _walk(self, node: Node) -> int:
        gofer = self._connection.gofer  # first: it may connect again, which is another epoch
        way, names = self._way(node)
        directory = _name_of(way[0])[0]
        step = self._connection.limits.max_names
        for start in range(0, len(names), step):
            inodes = gofer.walk(self.of(directory), names[start : start + step]).inodes
            directory = self._adopt_all(way[start : start + step], inodes)
        return node.fid

    def _adopt_all(self, way: list[Node], inodes: list[Inode]) -> Node:
        """Give the nodes on the way their FIDs; the last of them. ESTALE when the way leads elsewhere."""
        for index, node in enumerate(way):
            if index >= len(inodes):
                raise stale()
            if not node.is_same(inodes[index].stat):
                self._connection.release([inode.fid for inode in inodes[index:]], self._connection.epoch)
                raise stale()
            self.adopt(node, inodes[index].fid)
        return way[-1]


def _name_of(node: Node) -> tuple[Node, bytes]:
    """Where to look for it: the latest name it was found under."""
    try:
        return next(reversed(node.names))
    except StopIteration:
        raise stale() from None
