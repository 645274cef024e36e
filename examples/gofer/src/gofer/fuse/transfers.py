"""The mount's operations on open files and directories."""

from __future__ import annotations

import errno
import itertools
import os
import stat as modes

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
)

from gofer.fuse.attributes import entry_of
from gofer.fuse.connection import Connection
from gofer.fuse.fids import FidCache
from gofer.fuse.files import OpenDirectory, OpenFile, open_flags
from gofer.fuse.handler import once, retried
from gofer.fuse.nodes import Node, Nodes, stale
from gofer.protocol import Opened, Owner, Place


class Transfers(pyfuse3.Operations):
    """Half of the operations (the other is operations.py), and what both share.

    A handle's FID belongs to an epoch: after the gofer was restarted, all that is done with it is ESTALE.
    """

    def __init__(self, connection: Connection, nodes: Nodes, fids: FidCache) -> None:
        super().__init__()
        self.connection = connection
        self.nodes = nodes
        self.fids = fids
        self.files: dict[int, OpenFile] = {}
        self.directories: dict[int, OpenDirectory] = {}
        self._handles = itertools.count(1)
        self._cache = 0.0
        self._own = Owner(os.geteuid(), os.getegid())

    def current(self, file: OpenFile) -> OpenFile:
        """The file, if its FID is of the gofer that is there now; OSError ESTALE otherwise."""
        if self.connection.gofer and file.epoch != self.connection.epoch:
            raise stale()
        return file

    def owner(self, ctx: RequestContext) -> Owner | None:
        """Whose what this request makes is to be; None for whoever the gofer takes this process for."""
        caller = Owner(ctx.uid, ctx.gid)
        return None if caller == self._own else caller

    # ---- files ---------------------------------------------------------------------------------------

    @retried
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Open a file."""
        node = self.nodes[inode]
        given = open_flags(flags)
        return self._opened(node, self.fids.open(node, given), given)

    @once
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Make and open a file; open the one somebody else has made meanwhile, unless O_EXCL forbids."""
        directory = self.nodes[parent_inode]
        gofer = self.connection.gofer
        given = open_flags(flags)
        try:
            made = gofer.create(Place(self.fids.of(directory), name), given, modes.S_IMODE(mode), self.owner(ctx))
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            walked = gofer.walk(self.fids.of(directory), [name])
            inode = walked.inodes[0]
            opened = gofer.open(inode.fid, given)
        else:
            inode, opened = made.inode, Opened(made.opened, made.inode.stat)
        node = self.nodes.found(directory, name, inode.stat)
        self.fids.adopt(node, inode.fid)
        node.lookups += 1
        return self._opened(node, opened, given), entry_of(inode.stat, node.number, self._cache)

    def _opened(self, node: Node, opened: Opened, flags: int) -> FileInfo:
        file = OpenFile(node, opened.fid, opened.stat.size, self.connection.epoch, flags)
        node.files.append(file)
        handle = next(self._handles)
        self.files[handle] = file
        # Pages stay from one open to the next. The kernel drops them when it sees size or mtime change, which for
        # others' changes it looks at as often as at attributes.
        return FileInfo(fh=FileHandleT(handle), keep_cache=self._cache > 0)

    @once
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Bytes of a file; fewer than asked for is the end of it, to the kernel."""
        file = self.current(self.files[fh])
        gofer, most = self.connection.gofer, self.connection.client.max_read
        data = gofer.read(file.fid, off, min(size, most))
        if len(data) == size or not data or (off + len(data) >= file.size and len(data) < most):
            return data
        chunks = [data]
        done = len(data)
        while done < size and (data := gofer.read(file.fid, off + done, min(size - done, most))):
            chunks.append(data)
            done += len(data)
        return b"".join(chunks)

    @once
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """All of the bytes, or an error before the first."""
        file = self.current(self.files[fh])
        gofer, most = self.connection.gofer, self.connection.client.max_write
        view = memoryview(buf)
        done = 0
        while done < len(view):
            done += gofer.write(file.fid, off + done, view[done : done + most])
        return done

    @once
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        """To the disk; on another thread and channel, so that nothing else waits for it."""
        await self._sync(self.current(self.files[fh]).fid, datasync)

    @once
    async def release(self, fh: FileHandleT) -> None:
        """The last use of an open file is over."""
        file = self.files.pop(fh)
        file.node.files.remove(file)
        if file.epoch == self.connection.epoch:
            if file.writable:
                self.connection.client.close_fids([file.fid])
            else:
                self.connection.release([file.fid], file.epoch)

    async def _sync(self, fid: int, datasync: bool) -> None:
        gofer = self.connection.gofer
        await trio.to_thread.run_sync(gofer.fsync, [fid], datasync)

    # ---- directories ---------------------------------------------------------------------------------

    @retried
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Open a directory for listing."""
        node = self.nodes[inode]
        fid = self.fids.open(node, os.O_RDONLY | os.O_DIRECTORY).fid
        handle = FileHandleT(next(self._handles))
        self.directories[handle] = OpenDirectory(node, fid, self.connection.epoch)
        return handle

    @once
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """Entries with their attributes, as many as the kernel has room for."""
        directory = self.directories[fh]
        gofer = self.connection.gofer
        if directory.epoch != self.connection.epoch:
            raise stale()
        if start_id == 0:
            directory.rewind()
        index = start_id
        while (dent := directory.entry(index, gofer)) is not None:
            index += 1
            if dent.stat is None:  # it went while it was listed
                continue
            node = self.nodes.found(directory.node, dent.name, dent.stat)
            entry = entry_of(dent.stat, node.number, self._cache)
            if not pyfuse3.readdir_reply(token, FileNameT(dent.name), entry, index):
                self.nodes.drop_unused(node)
                break
            node.lookups += 1

    @once
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """A directory's entries to the disk."""
        directory = self.directories[fh]
        if self.connection.gofer and directory.epoch != self.connection.epoch:
            raise stale()
        await self._sync(directory.fid, datasync)

    @once
    async def releasedir(self, fh: FileHandleT) -> None:
        """The listing is over."""
        directory = self.directories.pop(fh)
        self.connection.release([directory.fid], directory.epoch)

    async def flush(self, fh: FileHandleT) -> None:
        """Nothing is held back here; the kernel, told so once, asks no more at every close."""
        raise pyfuse3.FUSEError(errno.ENOSYS)
