"""One client's session: the operations.

Every operation follows the same order: check what was asked (names, numbers, read-only), pin the FIDs, make
the one system call, publish what was made. No operation knows a path; each starts from a descriptor.

A FID follows its object, not a name. One the tree's owner moves out of the tree stays within reach of the
sessions that hold a FID of it, as of any process that has it open; nobody can climb from there to what is
around it.

Threads: a session's channels call concurrently. The FID table has its own lock (fids.py); the one lock taken
here is an open directory's `position`, across a seek and the listing that follows it, under which nothing
else is locked but the table. Everything else is one system call on a pinned descriptor, which the kernel
orders.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import cast

import flipcall
from examples.gofer import names, syscalls
from examples.gofer.export import Export
from examples.gofer.fids import Batch, FidTable, Kind
from examples.gofer.protocol import (
    STAT_BYTES,
    Created,
    Dent,
    Dents,
    Gofer,
    Inode,
    Mounted,
    Place,
    Stat,
    Stop,
    Walked,
    WalkedStat,
)

_OPEN_FLAGS = os.O_ACCMODE | os.O_TRUNC | os.O_APPEND | os.O_DIRECTORY
_CREATE_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC
_WALK = os.O_PATH | os.O_NOFOLLOW
# Never wait in open (a FIFO without a writer, a lease being broken), never acquire a terminal.
_ALWAYS = os.O_NONBLOCK | os.O_NOCTTY
_OFFSET_MAX = (1 << 63) - 1
_LISTING_MAX = 64 * 1024
"""Bytes of kernel records one getdents handles: a bound on how long one request can take."""


class Session(Gofer):
    """What one client can do in an exported tree."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._fids = FidTable(export.max_fids)

    def on_disconnect(self) -> None:
        """The client is gone: give its descriptors back; those a running operation holds, when it ends."""
        self._fids.close_all()

    # ---- finding -------------------------------------------------------------------------------------

    def mount(self) -> Mounted:
        export = self._export
        with self._fids.batch(1) as new:
            root = _adopt(new, os.dup(export.root))
        return Mounted(
            root, export.max_io, export.max_io, export.max_names, export.max_fids, export.read_only
        )

    def walk(self, fid: int, names: list[bytes]) -> Walked:
        self._check_names(names)
        inodes: list[Inode] = []
        stop = Stop.DONE
        with self._fids.control(fid) as start, self._fids.batch(len(names)) as new:
            at = start.fd
            for name in names:
                try:
                    at = syscalls.open_beneath(at, name, _WALK)
                except FileNotFoundError:
                    stop = Stop.MISSING
                    break
                inodes.append(_adopt(new, at))
                if stat.S_ISLNK(inodes[-1].stat.mode):
                    stop = Stop.SYMLINK
                    break
        return Walked(inodes, stop)

    def walk_stat(self, fid: int, names: list[bytes]) -> WalkedStat:
        self._check_names(names)
        stats: list[Stat] = []
        stop = Stop.DONE
        with self._fids.control(fid) as start:
            at = start.fd
            try:
                for left, name in zip(range(len(names) - 1, -1, -1), names, strict=True):
                    try:
                        if left == 0:  # nobody walks on from the last: it need not be opened to be looked at
                            info = os.stat(name, dir_fd=at, follow_symlinks=False)
                        else:
                            previous, at = at, syscalls.open_beneath(at, name, _WALK)
                            if previous != start.fd:
                                os.close(previous)
                            info = os.fstat(at)
                    except FileNotFoundError:
                        stop = Stop.MISSING
                        break
                    stats.append(_stat(info))
                    if stat.S_ISLNK(info.st_mode):
                        stop = Stop.SYMLINK
                        break
            finally:
                if at != start.fd:
                    os.close(at)
        return WalkedStat(stats, stop)

    def stat(self, fid: int) -> Stat:
        with self._fids.any(fid) as handle:
            return _stat(os.fstat(handle.fd))

    def readlink(self, fid: int) -> bytes:
        with self._fids.control(fid) as handle:
            if handle.type != stat.S_IFLNK:
                raise _error(errno.EINVAL)
            return os.readlink(b"", dir_fd=handle.fd)

    # ---- opening -------------------------------------------------------------------------------------

    def open(self, fid: int, flags: int) -> int:
        self._check_flags(flags, _OPEN_FLAGS)
        with self._fids.control(fid) as handle, self._fids.batch(1) as new:
            # Before the open, not after: opening a device is already an action on it. The type cannot change.
            if handle.type in (stat.S_IFCHR, stat.S_IFBLK):
                raise _error(errno.EACCES)
            if handle.type == stat.S_IFLNK:
                raise _error(errno.ELOOP)
            fd = self._export.reopen(handle.fd, flags | _ALWAYS)
            return new.add(fd, Kind.OPEN, handle.type)

    def create(self, at: Place, flags: int, mode: int) -> Created:
        self._check_flags(flags, _CREATE_FLAGS)
        self._check_writable()
        self._check_new(at.name, mode)
        with self._fids.control(at.fid) as parent, self._fids.batch(2) as new:
            how = flags | _ALWAYS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            fd = syscalls.open_beneath(parent.fd, at.name, how, mode)
            opened = new.add(fd, Kind.OPEN, stat.S_IFREG)
            return Created(_adopt(new, self._export.reopen(fd, os.O_PATH)), opened)

    # ---- bulk data
    # -------------------------------------------------------------------------------------------

    def read(self, fid: int, offset: int, length: int) -> bytes:
        _check_offset(offset)
        if length < 0:
            raise _error(errno.EINVAL)
        with self._fids.opened(fid) as handle:
            # The kernel reads straight into the window: these bytes are copied once, out of the page cache.
            view = flipcall.context().reply_view(min(length, self._export.max_io))
            count = os.preadv(handle.fd, [view], offset)
        return cast(bytes, view[:count])  # the attachment, already in its place: a slice of reply_view

    def write(self, fid: int, offset: int, data: memoryview) -> int:
        _check_offset(offset)
        with self._fids.opened(fid) as handle:
            return os.pwrite(handle.fd, data, offset)

    def getdents(self, fid: int, cookie: int, limit: int, stats: bool) -> Dents:
        _check_offset(cookie)
        # A record is at least 24 bytes, and longer than the Dent made of it without stat.
        room = limit * 24 // (24 + STAT_BYTES) if stats else limit
        room = min(room, _LISTING_MAX)
        if room < syscalls.DIRENT_MAX:
            raise _error(errno.EINVAL)
        found: list[syscalls.RawDent] = []
        end = False
        with self._fids.opened(fid) as handle:
            if handle.position is None:
                raise _error(errno.ENOTDIR)
            with handle.position:
                os.lseek(handle.fd, cookie, os.SEEK_SET)
                # Asked again while there is room for any one entry: only an empty answer is the end.
                while room >= syscalls.DIRENT_MAX:
                    end = True
                    for raw in syscalls.getdents(handle.fd, room):
                        end = False
                        cookie = raw.next
                        room -= syscalls.record_size(raw.name)
                        found.append(raw)
                    if end:
                        break
            entries = [_dent(handle.fd, raw, stats) for raw in found if raw.name not in (b".", b"..")]
        return Dents(entries, cookie, end)

    # ---- changing ------------------------------------------------------------------------------------

    def mkdir(self, at: Place, mode: int) -> Inode:
        self._check_writable()
        self._check_new(at.name, mode)
        with self._fids.control(at.fid) as parent, self._fids.batch(1) as new:
            os.mkdir(at.name, mode, dir_fd=parent.fd)
            # By name again, one step: should somebody have replaced it meanwhile, the FID is of what is there
            # now.
            return _adopt(new, syscalls.open_beneath(parent.fd, at.name, _WALK))

    def unlink(self, at: Place, directory: bool) -> None:
        self._check_writable()
        names.check(at.name)
        with self._fids.control(at.fid) as parent:
            if directory:
                os.rmdir(at.name, dir_fd=parent.fd)
            else:
                os.unlink(at.name, dir_fd=parent.fd)

    def rename(self, old: Place, new: Place) -> None:
        self._check_writable()
        names.check(old.name)
        names.check(new.name)
        with self._fids.control(old.fid) as source, self._fids.control(new.fid) as target:
            os.rename(old.name, new.name, src_dir_fd=source.fd, dst_dir_fd=target.fd)

    def fsync(self, fids: list[int], data_only: bool) -> None:
        if len(fids) > self._export.max_fids:
            raise _error(
                errno.EINVAL
            )  # one request keeps the disk busy for each FID once, not for a megabyte
        failed: OSError | None = None
        for fid in fids:
            try:
                with self._fids.opened(fid) as handle:
                    (os.fdatasync if data_only else os.fsync)(handle.fd)
            except OSError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def close_fids(self, fids: list[int]) -> None:
        self._fids.close(fids)

    # ---- checks --------------------------------------------------------------------------------------

    def _check_writable(self) -> None:
        if self._export.read_only:
            raise _error(errno.EROFS)

    def _check_names(self, walked: list[bytes]) -> None:
        if len(walked) > self._export.max_names:
            raise _error(errno.ENAMETOOLONG)
        for name in walked:
            names.check(name)

    def _check_new(self, name: bytes, mode: int) -> None:
        """A name to be created. Nobody is given set-uid and set-gid files of the server's user (EPERM)."""
        names.check(name)
        if not 0 <= mode <= 0o7777:
            raise _error(errno.EINVAL)
        if mode & (stat.S_ISUID | stat.S_ISGID):
            raise _error(errno.EPERM)

    def _check_flags(self, flags: int, allowed: int) -> None:
        """Refuse flags with a meaning of their own on the server (O_PATH, O_TMPFILE, O_DIRECT, ...)."""
        access = flags & os.O_ACCMODE
        if flags & ~allowed or access == os.O_ACCMODE:
            raise _error(errno.EINVAL)
        if access != os.O_RDONLY:
            self._check_writable()
        elif flags & os.O_TRUNC:
            raise _error(errno.EINVAL)  # Linux would truncate, POSIX says nothing, a reader has no use for it


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def _check_offset(offset: int) -> None:
    """Refuse what cannot be said to the kernel, which has 63 bits; what is too far for a file, it says."""
    if offset < 0:
        raise _error(errno.EINVAL)
    if offset > _OFFSET_MAX:
        raise _error(errno.EOVERFLOW)


def _adopt(new: Batch, fd: int) -> Inode:
    """A control FID for a descriptor just made, which is closed should that fail."""
    try:
        info = os.fstat(fd)
    except BaseException:
        os.close(fd)
        raise
    return Inode(new.add(fd, Kind.CONTROL, info.st_mode), _stat(info))


def _stat(info: os.stat_result) -> Stat:
    return Stat(
        info.st_mode,
        info.st_size,
        info.st_mtime_ns,
        info.st_ino,
        info.st_nlink,
        info.st_uid,
        info.st_gid,
        info.st_dev,
        info.st_rdev,
        info.st_blksize,
        info.st_blocks,
        info.st_atime_ns,
        info.st_ctime_ns,
    )


def _dent(directory: int, raw: syscalls.RawDent, stats: bool) -> Dent:
    found: Stat | None = None
    if stats:
        try:
            # A name from the kernel, one step, no link followed: safe without openat2.
            found = _stat(os.stat(raw.name, dir_fd=directory, follow_symlinks=False))
        except FileNotFoundError:
            pass  # removed since it was listed
    return Dent(raw.name, raw.ino, raw.kind, found)
