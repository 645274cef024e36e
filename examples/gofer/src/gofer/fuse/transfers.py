"""The mount's operations on open files and directories."""

from __future__ import annotations

import errno
import itertools
import os
import stat as modes
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pyfuse3
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
from gofer.fuse.contents import Contents
from gofer.fuse.fids import FidCache
from gofer.fuse.files import OpenDirectory, OpenFile, open_flags
from gofer.fuse.handler import once, retried
from gofer.fuse.listings import LISTING, Listings
from gofer.fuse.nodes import Node, Nodes, stale
from gofer.protocol import MAX_AHEAD, Inode, Opened, Owner, Place


class Transfers(pyfuse3.Operations):
    """Half of the operations (the other is operations.py), and what both share.

    A handle's FID belongs to an epoch: after the gofer was restarted, all that is done with it is ESTALE.
    """

    def __init__(
        self, connection: Connection, cache: float, in_thread: Callable[..., Coroutine[Any, Any, Any]]
    ) -> None:
        """`in_thread` calls a function with arguments on another thread."""
        super().__init__()
        self.connection = connection
        self.nodes = Nodes(connection.root.stat)
        self.fids = FidCache(connection, self.nodes)
        self.contents = Contents(connection, self.nodes, self.fids, cache)
        self.listings = Listings(connection, self.nodes, self.fids, self.contents, cache)
        self.files: dict[int, OpenFile] = {}
        self.directories: dict[int, OpenDirectory] = {}
        self._handles = itertools.count(1)
        self._cache = cache
        self._in_thread = in_thread
        self._own = Owner(os.geteuid(), os.getegid())

    def opened(self, file: OpenFile) -> OpenFile:
        """The file with a FID of the gofer that is there now; OSError ESTALE if it was opened at another."""
        if not file.fid:  # it has been enough until now that its content was here
            file.fid = self.fids.open(file.node, file.flags, 0).fid
            file.epoch = self.connection.epoch
        if self.connection.gofer and file.epoch != self.connection.epoch:
            raise stale()
        return file

    def owner(self, ctx: RequestContext) -> Owner | None:
        """Whose what this request makes is to be; None for whoever the gofer takes this process for."""
        caller = Owner(ctx.uid, ctx.gid)
        return None if caller == self._own else caller

    def entry(self, node: Node) -> EntryAttributes:
        """What the kernel is told of a node: what the gofer said last, for the rest of its time."""
        left = node.asked + self._cache - time.monotonic()
        return entry_of(node.info, node.number, max(left, 0.0))

    # ---- files ---------------------------------------------------------------------------------------

    @retried
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """Open a file."""
        node = self.nodes[inode]
        given = open_flags(flags)
        # Who has no pages of the file yet will read it; a small one comes along at once, or is here already.
        reads = given == os.O_RDONLY and node.pages is None and self._cache > 0 and not flags & os.O_DIRECT
        here = self.contents.take(node) if reads else None
        if here is not None:
            content, asked = here
            return self._opened(node, Opened(0, content.stat, content.data), asked, given)
        asked = time.monotonic()
        opened = self.fids.open(node, given, MAX_AHEAD if reads else 0)
        if given & os.O_TRUNC:
            node.has_changed()
        return self._opened(node, opened, asked, given)

    @once
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Make and open a file; open the one somebody else has made meanwhile, unless O_EXCL forbids."""
        directory = self.nodes[parent_inode]
        gofer = self.connection.gofer
        given = open_flags(flags)
        asked = time.monotonic()
        try:
            made = gofer.create(
                Place(self.fids.of(directory), name), given, modes.S_IMODE(mode), self.owner(ctx)
            )
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            walked = gofer.walk(self.fids.of(directory), [name])
            inode = walked.inodes[0]
            opened = gofer.open(inode.fid, given)
            asked = time.monotonic() if given & os.O_TRUNC else asked
        else:
            inode, opened = made.inode, Opened(made.opened, made.inode.stat)
        directory.has_changed()
        node = self.made(directory, name, inode, asked)
        if given & os.O_TRUNC:
            node.has_changed()
        return self._opened(node, opened, asked, given), self.entry(node)

    def made(self, directory: Node, name: bytes, inode: Inode, asked: float) -> Node:
        """The node of what was just made, or found; the kernel is told of it."""
        node = self.nodes.found(directory, name, inode.stat, asked)
        self.fids.adopt(node, inode.fid)
        if directory.listing is not None:
            directory.listing.set(name, inode.stat)
        node.lookups += 1
        return node

    def _opened(self, node: Node, opened: Opened, asked: float, flags: int) -> FileInfo:
        file = OpenFile(node, opened, asked, self.connection.epoch, flags)
        node.files.append(file)
        handle = next(self._handles)
        self.files[handle] = file
        # Pages stay from one open to the next, unless the file is not what it was. (The kernel looks itself, too,
        # as often as at attributes.)
        node.told(opened.stat, asked)
        before, node.pages = node.pages, (opened.stat.mtime_ns, opened.stat.size)
        return FileInfo(fh=FileHandleT(handle), keep_cache=self._cache > 0 and before == node.pages)

    @once
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Bytes of a file; fewer than asked for is the end of it, to the kernel."""
        file = self.files[fh]
        ahead = file.take_ahead(off, size, self._cache)
        if ahead is not None:
            return ahead
        if file.host >= 0:
            return os.pread(file.host, size, off)
        self.opened(file)
        gofer, most = self.connection.gofer, self.connection.client.max_read
        if file.on_host(gofer, self.connection.limits.donates) >= 0:
            return os.pread(file.host, size, off)
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
        file = self.files[fh]
        if file.host < 0:
            self.opened(file).on_host(self.connection.gofer, self.connection.limits.donates)
        view = memoryview(buf)
        done = 0
        try:
            while done < len(view):
                done += self._write_some(file, off + done, view[done:])
        finally:
            file.node.has_changed()
        return done

    def _write_some(self, file: OpenFile, offset: int, data: memoryview) -> int:
        if file.host >= 0:
            return os.pwrite(file.host, data, offset)
        return self.connection.gofer.write(file.fid, offset, data[: self.connection.client.max_write])

    @once
    async def fallocate(self, fh: FileHandleT, mode: int, offset: int, length: int) -> None:
        """Reserve room, make a hole or zeros; on another thread, as the host's file system may take its time."""
        file = self.opened(self.files[fh])
        gofer = self.connection.gofer
        try:
            await self._in_thread(gofer.fallocate, file.fid, mode, offset, length)
        finally:
            file.node.has_changed()

    @retried
    async def lseek(self, fh: FileHandleT, offset: int, whence: int) -> int:
        """Where data or a hole is.

        Of a file that is open for writing, nothing is said to be a hole: the kernel may have pages of it that were
        written through a mapping, and does not send them before it asks.
        """
        file = self.opened(self.files[fh])
        gofer = self.connection.gofer
        if offset >= 0 and not any(other.writable for other in file.node.files):
            return gofer.seek(file.fid, offset, whence)
        size = gofer.stat(file.fid).size
        if not 0 <= offset < size:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return offset if whence == os.SEEK_DATA else size

    @once
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        """To the disk; on another thread and channel, so that nothing else waits for it."""
        await self._sync(self.opened(self.files[fh]).fid, datasync)

    @once
    async def release(self, fh: FileHandleT) -> None:
        """The last use of an open file is over."""
        file = self.files.pop(fh)
        file.node.files.remove(file)
        file.close_host()
        if file.fid and file.epoch == self.connection.epoch:
            if file.writable:
                self.connection.client.close_fids([file.fid])
            else:
                self.connection.release([file.fid], file.epoch)

    async def _sync(self, fid: int, datasync: bool) -> None:
        gofer = self.connection.gofer
        await self._in_thread(gofer.fsync, [fid], datasync)

    # ---- directories ---------------------------------------------------------------------------------

    @retried
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Open a directory, which is listing it."""
        node = self.nodes[inode]
        handle = FileHandleT(next(self._handles))
        self.directories[handle] = OpenDirectory(node, self.listings.of(node))
        return handle

    @once
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """Entries with their attributes, as many as the kernel has room for."""
        directory = self.directories[fh]
        again = start_id == 0 and not directory.is_new(self._cache)
        if again or start_id < directory.first:
            directory.restart(self.listings.of(directory.node))
        directory.is_read = True
        index = start_id
        while index < directory.last or self._read_on(directory):
            if index >= directory.last:  # after a seek beyond what is here
                continue
            dent = directory.entries[index - directory.first]
            index += 1
            if dent.stat is None:  # it went while it was listed
                continue
            node = self.nodes.found(directory.node, dent.name, dent.stat, directory.asked)
            if not pyfuse3.readdir_reply(token, FileNameT(dent.name), self.entry(node), index):
                self.nodes.drop_unused(node)
                break
            node.lookups += 1

    def _read_on(self, directory: OpenDirectory) -> bool:
        """Get the entries that follow; False at the end."""
        if directory.end:
            return False
        asked = time.monotonic()
        dents = self.connection.gofer.getdents(self._fid_of(directory), directory.next, LISTING, True)
        directory.extend(dents, asked)
        return bool(dents.entries)

    def _fid_of(self, directory: OpenDirectory) -> int:
        """An open FID of it, which it may not have needed until now."""
        if self.connection.gofer and directory.fid and directory.epoch != self.connection.epoch:
            raise stale()
        if not directory.fid:
            directory.fid = self.fids.open(directory.node, os.O_RDONLY | os.O_DIRECTORY, 0).fid
            directory.epoch = self.connection.epoch
        return directory.fid

    @once
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """A directory's entries to the disk."""
        await self._sync(self._fid_of(self.directories[fh]), datasync)

    @once
    async def releasedir(self, fh: FileHandleT) -> None:
        """The listing is over."""
        directory = self.directories.pop(fh)
        if directory.fid:
            self.connection.release([directory.fid], directory.epoch)

    async def flush(self, fh: FileHandleT) -> None:
        """Nothing is held back here; the kernel, told so once, asks no more at every close."""
        raise pyfuse3.FUSEError(errno.ENOSYS)
