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
"""Names from the root to a node: a path of PATH_MAX bytes has no more. Names that have gone stale can form a ring."""

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
        for file in reversed(node.files):
            if file.epoch == self._connection.epoch:
                return file.fid
        return self.of(node)

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

    def stat(self, node: Node) -> Stat:
        """The node's attributes now, without a FID being made for it."""
        gofer = self._connection.gofer  # first: it may connect again, which is another epoch
        if node is self._nodes.root or node.files or (node.fid and node.epoch == self._connection.epoch):
            return gofer.stat(self.any_of(node))
        directory, name = _name_of(node)
        walked = gofer.walk_stat(self.of(directory), [name], False)
        if not walked.walked or not node.is_same(walked.stats[0]):
            raise stale()
        return walked.stats[0]

    def open(self, node: Node, flags: int) -> Opened:
        """Open the node, in one round trip whether it has a FID or not."""
        gofer = self._connection.gofer  # first: it may connect again, which is another epoch
        if node is self._nodes.root or (node.fid and node.epoch == self._connection.epoch):
            return gofer.open(self.of(node), flags)
        directory, name = _name_of(node)
        opened = gofer.walk_open(self.of(directory), [name], flags & ~os.O_TRUNC)
        if not node.is_same(opened.stat):
            self._connection.release([opened.fid], self._connection.epoch)
            raise stale()
        if flags & os.O_TRUNC:  # not before it is known whose content that is
            gofer.set_stat(opened.fid, SetStat(size=0))
        return opened

    def _walk(self, node: Node) -> int:
        way = [node]
        directory = _name_of(node)[0]
        names = [_name_of(node)[1]]
        gofer = self._connection.gofer  # first: it may connect again, which is another epoch
        epoch = self._connection.epoch
        while directory is not self._nodes.root and not (directory.fid and directory.epoch == epoch):
            if len(way) > _DEPTH_MAX:
                raise stale()
            way.append(directory)
            directory, name = _name_of(directory)
            names.append(name)
        way.reverse()
        names.reverse()
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
