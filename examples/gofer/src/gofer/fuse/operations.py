"""The mount's operations on names and attributes; those on open files are in transfers.py.

Everything runs on one thread, which asks the gofer and waits: a call takes microseconds, a hop to another thread
and back ten times that. Only what waits for a disk is given to another thread (transfers.py: fsync).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes
import time
from collections.abc import Sequence

import pyfuse3
from pyfuse3 import EntryAttributes, FileNameT, InodeT, ModeT, RequestContext, SetattrFields, XAttrNameT

from gofer.fuse.attributes import missing
from gofer.fuse.handler import once, retried
from gofer.fuse.nodes import Node
from gofer.fuse.transfers import Transfers
from gofer.protocol import Inode, Place, SetStat

_NAMESPACE = b"user."
"""The one of extended attributes that the gofer has. The kernel asks for one of another at every write."""


class GoferOperations(Transfers):
    """A gofer's tree, as pyfuse3 asks for it.

    `cache`: seconds the kernel may keep names and attributes. What is done through this mount the kernel knows at
    once; what others do to the tree, it sees that much later.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    # ---- looking -------------------------------------------------------------------------------------

    @retried
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """A name in a directory."""
        directory = self.nodes[parent_inode]
        listing = self.listings.to_answer(directory)
        info = listing.names.get(name) if listing is not None else None
        if listing is not None and info is not None:
            node = self.nodes.found(directory, name, info, listing.asked)
            if node.asked >= listing.asked:  # else this mount has changed it since
                node.lookups += 1
                return self.entry(node)
        return self._ask(directory, name)

    def _ask(self, directory: Node, name: bytes) -> EntryAttributes:
        asked = time.monotonic()
        info = self.fids.look(directory, name)
        if info is None:
            self.nodes.removed(directory, name)
            return missing(self._cache)
        node = self.nodes.found(directory, name, info, asked)
        node.lookups += 1
        return self.entry(node)

    @retried
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """The attributes of an object."""
        node = self.nodes[inode]
        asked = time.monotonic()
        if asked - node.asked >= self._cache:
            node.told(self.fids.stat(node), asked)
        return self.entry(node)

    @retried
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """The target of a symbolic link."""
        gofer = self.connection.gofer
        return FileNameT(gofer.readlink(self.fids.of(self.nodes[inode])))

    @retried
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        """The file system the tree's root is on."""
        gofer = self.connection.gofer
        found = gofer.statfs(self.fids.of(self.nodes.root))
        data = pyfuse3.StatvfsData()
        data.f_bsize, data.f_frsize = found.bsize, found.frsize
        data.f_blocks, data.f_bfree, data.f_bavail = found.blocks, found.bfree, found.bavail
        data.f_files, data.f_ffree, data.f_favail = found.files, found.ffree, found.favail
        data.f_namemax = found.namemax
        return data

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """The kernel forgets nodes. Nothing to answer, and nothing here asks the gofer."""
        for number, lookups in inode_list:
            gone = self.nodes.forget(number, lookups)
            if gone is not None:
                self.fids.drop(gone)
                self.listings.forget(gone)

    # ---- attributes ----------------------------------------------------------------------------------

    @once
    async def setattr(
        self, inode: InodeT, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        """Mode, owner, size and times."""
        node = self.nodes[inode]
        gofer = self.connection.gofer
        file = self.files.get(fh) if fh is not None else None
        if fields.update_size and file is not None and file.writable:
            fid = self.opened(file).fid
        else:
            fid = self.fids.of(node) if fields.update_size else self.fids.any_of(node)
        done = gofer.set_stat(fid, _set_stat(attr, fields))
        if done.failed:
            raise OSError(done.errno, os.strerror(done.errno))
        node.has_changed()
        node.told(done.stat, time.monotonic())
        return self.entry(node)

    @retried
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        """The value of an extended attribute."""
        _check_namespace(name)
        gofer = self.connection.gofer
        return gofer.get_xattr(self.fids.any_of(self.nodes[inode]), name)

    @retried
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        """The names of the extended attributes."""
        gofer = self.connection.gofer
        return [XAttrNameT(name) for name in gofer.list_xattr(self.fids.any_of(self.nodes[inode]))]

    @once
    async def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        """Set one. (pyfuse3 looks after XATTR_CREATE and XATTR_REPLACE itself.)"""
        _check_namespace(name)
        gofer = self.connection.gofer
        gofer.set_xattr(self.fids.any_of(self.nodes[inode]), name, value, 0)

    @once
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        """Remove one."""
        _check_namespace(name)
        gofer = self.connection.gofer
        gofer.remove_xattr(self.fids.any_of(self.nodes[inode]), name)

    # ---- names ---------------------------------------------------------------------------------------

    @once
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        """A new directory."""
        directory = self.nodes[parent_inode]
        gofer = self.connection.gofer
        inode = gofer.mkdir(Place(self.fids.of(directory), name), modes.S_IMODE(mode), self.owner(ctx))
        return self._new(directory, name, inode)

    @once
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """A FIFO, a socket's node or a regular file; the gofer refuses devices."""
        directory = self.nodes[parent_inode]
        gofer = self.connection.gofer
        inode = gofer.mknod(Place(self.fids.of(directory), name), mode, self.owner(ctx))
        return self._new(directory, name, inode)

    @once
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """A new symbolic link."""
        directory = self.nodes[parent_inode]
        gofer = self.connection.gofer
        inode = gofer.symlink(Place(self.fids.of(directory), name), target, self.owner(ctx))
        return self._new(directory, name, inode)

    @once
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """Another name of a file."""
        directory = self.nodes[new_parent_inode]
        gofer = self.connection.gofer
        node = self.nodes[inode]
        fid = self.fids.of(node)
        made = gofer.link(fid, Place(self.fids.of(directory), new_name))
        node.has_changed()
        return self._new(directory, new_name, made)

    @once
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """Remove a name of a file."""
        self._remove(self.nodes[parent_inode], name, False)

    @once
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """Remove an empty directory."""
        self._remove(self.nodes[parent_inode], name, True)

    @once
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        """Move, replace or exchange."""
        source, target = self.nodes[parent_inode_old], self.nodes[parent_inode_new]
        gofer = self.connection.gofer
        self._hold(target, name_new)
        old = Place(self.fids.of(source), name_old)
        gofer.rename(old, Place(self.fids.of(target), name_new), flags)
        exchange = bool(flags & pyfuse3.RENAME_EXCHANGE)
        self.nodes.renamed((source, name_old), (target, name_new), exchange)
        for directory, name in ((source, name_old), (target, name_new)):
            self._renamed_in(directory, name)

    def _remove(self, directory: Node, name: bytes, is_directory: bool) -> None:
        gofer = self.connection.gofer
        self._hold(directory, name)
        gofer.unlink(Place(self.fids.of(directory), name), is_directory)
        self.nodes.removed(directory, name)
        self._renamed_in(directory, name)

    def _renamed_in(self, directory: Node, name: bytes) -> None:
        """What the name stands for is now as the nodes know it."""
        directory.has_changed()
        if directory.listing is not None:
            node = self.nodes.at(directory, name)
            directory.listing.set(name, None if node is None else node.info)

    def _hold(self, directory: Node, name: bytes) -> None:
        """Before a name goes: see to it that an object which lives on stays within reach.

        It lives on under a name this mount may not have seen; while it is open its FIDs reach it.
        """
        node = self.nodes.at(directory, name)
        for file in node.files if node is not None else ():
            if not file.fid:
                with contextlib.suppress(OSError):  # then it is not what it was when it was opened
                    self.opened(file)
        if node is not None and node.info.nlink > 1 and len(node.names) == 1 and node.kind != modes.S_IFDIR:
            self.fids.of(node)

    # ---- nodes ---------------------------------------------------------------------------------------

    def _new(self, directory: Node, name: bytes, inode: Inode) -> EntryAttributes:
        directory.has_changed()
        return self.entry(self.made(directory, name, inode, time.monotonic()))


def _check_namespace(name: bytes) -> None:
    if not name.startswith(_NAMESPACE):
        raise pyfuse3.FUSEError(errno.EOPNOTSUPP)


def _set_stat(attr: EntryAttributes, fields: SetattrFields) -> SetStat:
    return SetStat(
        mode=modes.S_IMODE(attr.st_mode) if fields.update_mode else None,
        uid=attr.st_uid if fields.update_uid else None,
        gid=attr.st_gid if fields.update_gid else None,
        size=attr.st_size if fields.update_size else None,
        atime_ns=attr.st_atime_ns if fields.update_atime else None,
        mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
    )
