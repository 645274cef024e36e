"""The peer of the gofer's mount: a plain passthrough file system on the same FUSE library, without a proxy.

`python -m bench.passthrough DIRECTORY MOUNTPOINT`: reading only, as anyone would write it with pyfuse3: an inode
number leads to a path, and a path to `os`. It lets the kernel keep as much as the gofer's mount does (names, also
missing ones, and attributes for a second; pages until a file changes), so that what is compared is the way to the
files.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ReaddirToken,
    RequestContext,
)

from gofer.fuse.loop import Loop

CACHE_SECONDS = 1.0

_ATTRIBUTES = (
    "st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_blksize", "st_blocks",
    "st_atime_ns", "st_mtime_ns", "st_ctime_ns",
)  # fmt: skip


class Passthrough(pyfuse3.Operations):
    """A directory, mounted elsewhere."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        self._paths: dict[int, str] = {pyfuse3.ROOT_INODE: directory}
        self._lookups: dict[int, int] = {pyfuse3.ROOT_INODE: 1}
        self._listings: dict[int, tuple[str, list[str]]] = {}
        self._opened = 0

    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        path = os.path.join(self._paths[parent_inode], os.fsdecode(name))
        try:
            entry = _entry(path)
        except FUSEError as error:
            if error.errno != errno.ENOENT:
                raise
            entry = EntryAttributes()
            entry.st_ino = InodeT(0)
            entry.entry_timeout = CACHE_SECONDS
            return entry
        self._seen(entry, path)
        return entry

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for inode, count in inode_list:
            self._lookups[inode] -= count
            if self._lookups[inode] <= 0:
                del self._lookups[inode], self._paths[inode]

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return _entry(self._paths[inode])

    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        return FileNameT(os.fsencode(os.readlink(self._paths[inode])))

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        self._opened += 1
        path = self._paths[inode]
        self._listings[self._opened] = (path, os.listdir(path))
        return FileHandleT(self._opened)

    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        directory, names = self._listings[fh]
        for index in range(start_id, len(names)):
            path = os.path.join(directory, names[index])
            entry = _entry(path)
            if not pyfuse3.readdir_reply(token, FileNameT(os.fsencode(names[index])), entry, index + 1):
                break
            self._seen(entry, path)

    async def releasedir(self, fh: FileHandleT) -> None:
        del self._listings[fh]

    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        try:
            fd = os.open(self._paths[inode], flags & ~os.O_CREAT)
        except OSError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        return FileInfo(fh=FileHandleT(fd), keep_cache=True)

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    async def release(self, fh: FileHandleT) -> None:
        os.close(fh)

    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        found = os.statvfs(self._paths[pyfuse3.ROOT_INODE])
        data = pyfuse3.StatvfsData()
        data.f_bsize, data.f_frsize, data.f_blocks = found.f_bsize, found.f_frsize, found.f_blocks
        data.f_bfree, data.f_bavail = found.f_bfree, found.f_bavail
        data.f_files, data.f_ffree, data.f_favail = found.f_files, found.f_ffree, found.f_favail
        return data

    def _seen(self, entry: EntryAttributes, path: str) -> None:
        self._paths[entry.st_ino] = path
        self._lookups[entry.st_ino] = self._lookups.get(entry.st_ino, 0) + 1


def _entry(path: str) -> EntryAttributes:
    try:
        found = os.lstat(path)
    except OSError as error:
        raise FUSEError(error.errno or errno.EIO) from None
    entry = EntryAttributes()
    for name in _ATTRIBUTES:
        setattr(entry, name, getattr(found, name))
    entry.attr_timeout = entry.entry_timeout = CACHE_SECONDS
    return entry


def mount_passthrough(
    directory: str, mountpoint: str, ready: Callable[[], None], own_loop: bool = False
) -> None:
    """Mount `directory` on `mountpoint` until it is unmounted or SIGTERM comes; `ready` once it is there.

    As pyfuse3 means it, in trio; or in the loop that the gofer's mount runs in.
    """
    pyfuse3.init(Passthrough(directory), mountpoint, {"default_permissions", "fsname=passthrough"})
    try:
        if own_loop:
            with Loop(lambda: None, 60.0) as loop:
                signal.signal(signal.SIGTERM, lambda *_: pyfuse3.terminate())
                ready()
                loop.run(pyfuse3.main)
        else:
            trio.run(_until_over, ready)
    finally:
        pyfuse3.close(unmount=True)


async def _until_over(ready: Callable[[], None]) -> None:
    async def stop() -> None:
        async for _ in signals:
            pyfuse3.terminate()

    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            nursery.start_soon(stop)
            ready()
            await pyfuse3.main(min_tasks=2)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    mount_passthrough(sys.argv[1], sys.argv[2], lambda: print("ready", flush=True))
