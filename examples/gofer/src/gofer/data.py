"""Data: what is done by open FID."""

from __future__ import annotations

import errno
import os
import stat
from typing import cast

import flipcall
from gofer import syscalls
from gofer.opening import Opening, content_of
from gofer.operations import ALWAYS, check_offset, error
from gofer.protocol import MAX_AHEAD, STAT_BYTES, Content, Dent, Dents, Listed, Stat

_LISTING_MAX = 64 * 1024
"""Bytes of kernel records one getdents handles: a bound on how long one request can take."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | ALWAYS
"""How a directory is opened for listing: nothing else is opened by it, no device either."""

_FALLOCATE_MODES = 0x01 | 0x02 | 0x08 | 0x10 | 0x20 | 0x40
"""KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE, UNSHARE_RANGE (linux/falloc.h)."""


class Data(Opening):
    """The operations on open files. They leave the tree's lock alone (locks.py)."""

    def read(self, fid: int, offset: int, length: int) -> bytes:
        check_offset(offset)
        if length < 0:
            raise error(errno.EINVAL)
        with self._fids.opened(fid) as handle:
            # The kernel reads straight into the window: these bytes are copied once, out of the page cache.
            view = flipcall.context().reply_view(min(length, self._export.max_io))
            node = handle.node
            before, changing = node.generation, node.changing
            count = os.preadv(handle.fd, [view], offset)
            if changing or node.generation != before:
                with node.reading:
                    count = os.preadv(handle.fd, [view], offset)
        return cast(bytes, view[:count])  # the attachment, already in its place: a slice of reply_view

    def write(self, fid: int, offset: int, data: memoryview) -> int:
        check_offset(offset)
        with self._fids.opened(fid) as handle, handle.node.writing:
            return os.pwrite(handle.fd, data, offset)

    def seek(self, fid: int, offset: int, whence: int) -> int:
        check_offset(offset)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise error(errno.EINVAL)
        with self._fids.opened(fid) as handle, handle.node.reading:
            if handle.position is not None:
                raise error(errno.EISDIR)  # a directory's position is getdents's
            return os.lseek(handle.fd, offset, whence)

    def fallocate(self, fid: int, mode: int, offset: int, length: int) -> None:
        check_offset(offset)
        check_offset(length)
        if mode & ~_FALLOCATE_MODES:
            raise error(errno.EOPNOTSUPP)
        with self._fids.opened(fid) as handle, handle.node.writing:
            syscalls.fallocate(handle.fd, mode, offset, length)

    def flush(self, fid: int) -> None:
        with self._fids.opened(fid) as handle, handle.node.reading:
            os.close(os.dup(handle.fd))

    def fsync(self, fids: list[int], data_only: bool) -> None:
        if len(fids) > self._export.max_fids:
            raise error(errno.EINVAL)  # one request keeps the disk busy for each FID once, not for a megabyte
        failed: OSError | None = None
        for fid in fids:
            try:
                with self._fids.opened(fid) as handle:
                    (os.fdatasync if data_only else os.fsync)(handle.fd)
            except OSError as e:
                failed = failed or e
        if failed is not None:
            raise failed

    def getdents(self, fid: int, cookie: int, limit: int, stats: bool) -> Dents:
        check_offset(cookie)
        room = _room(limit, stats)
        with self._fids.opened(fid) as handle:
            if handle.position is None:
                raise error(errno.ENOTDIR)
            with handle.position, handle.node.reading:
                os.lseek(handle.fd, cookie, os.SEEK_SET)
                return self._dents(handle.fd, cookie, room, stats)

    def walk_list(self, fid: int, names: list[bytes], limit: int, ahead: int) -> Listed:
        self._check_walk(names)
        room = _room(limit, True)
        with self._fids.control(fid) as start, self._tree.here.lock:
            fd = self._at_once(start, names, _DIRECTORY) if names else -1
            if fd < 0:
                fd = self._reopened(self._walk_to(start, names))
            return self._listed(fd, room, min(ahead, self._export.max_io))

    def walk_lists(
        self, fid: int, names: list[bytes], directories: list[bytes], limit: int, ahead: int
    ) -> list[Listed | None]:
        self._check_walk(names)
        self._check_walk(directories)
        room = _room(limit, True)
        ahead = min(ahead, self._export.max_io)
        found: list[Listed | None] = []
        with self._fids.control(fid) as start, self._tree.here.lock:
            fd = self._walk_to(start, names)
            try:
                for name in directories:
                    listed = self._list_in(fd, name, room, ahead)
                    if listed is not None:
                        room -= sum(syscalls.record_size(dent.name) for dent in listed.dents.entries)
                        ahead -= sum(len(data) for data in listed.contents if data is not None)
                        if not listed.dents.end:  # too long, which took its time: the rest goes without
                            listed, room = None, 0
                    found.append(listed)
            finally:
                os.close(fd)
        return found

    def _list_in(self, directory: int, name: bytes, room: int, ahead: int) -> Listed | None:
        """The listing of a directory in a directory, as far as it fits; None if it is none. The tree is shared."""
        if room < syscalls.DIRENT_MAX:
            return None
        try:
            return self._listed(syscalls.open_beneath(directory, name, _DIRECTORY), room, ahead)
        except OSError:
            return None

    def _reopened(self, fd: int) -> int:
        """A descriptor to list the directory with that this O_PATH descriptor, which is closed, stands for."""
        try:
            return self._export.reopen(fd, _DIRECTORY & ~os.O_NOFOLLOW)
        finally:
            os.close(fd)

    def _listed(self, fd: int, room: int, ahead: int) -> Listed:
        """How the directory begins whose descriptor this is, which is closed."""
        try:
            info = os.fstat(fd)
            with self._tree.node(info.st_dev, info.st_ino).reading:
                dents = self._dents(fd, 0, room, True)
            # Not under the directory's lock: nobody holds one node's and takes another's (locks.py).
            return Listed(self._stat(info), dents, self._contents(fd, dents.entries, ahead))
        finally:
            os.close(fd)

    def _contents(self, directory: int, entries: list[Dent], room: int) -> list[bytes | None]:
        """What small files among the entries hold; None for one that has changed since it was listed, too."""
        found: list[bytes | None] = []
        for dent in entries:
            if room <= 0:
                break
            content = None
            if dent.stat is not None and stat.S_ISREG(dent.stat.mode) and 0 < dent.stat.size <= room:
                content = self._read_small(directory, dent.name, min(room, MAX_AHEAD))
                if content is not None:
                    room -= len(content.data)
                    if _version(content.stat) != _version(dent.stat):
                        content = None
            found.append(None if content is None else content.data)
        return found

    def walk_read(self, fid: int, names: list[bytes], files: list[bytes], limit: int) -> list[Content | None]:
        self._check_walk(names)
        self._check_walk(files)
        room = min(limit, self._export.max_io)
        found: list[Content | None] = []
        with self._fids.control(fid) as start, self._tree.here.lock:
            fd = self._walk_to(start, names)
            try:
                for name in files:
                    content = self._read_small(fd, name, min(room, MAX_AHEAD))
                    found.append(content)
                    room -= len(content.data) if content is not None else 0
            finally:
                os.close(fd)
        return found

    def _read_small(self, directory: int, name: bytes, room: int) -> Content | None:
        """A file's whole content, if it is a regular one of at most `room` bytes."""
        try:
            fd = self._open_in(directory, name)
        except OSError:
            return None
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode) or info.st_size > room:
                return None
            data, info = content_of(fd, info, self._tree.node(info.st_dev, info.st_ino))
            return Content(self._stat(info), data) if len(data) == info.st_size else None
        finally:
            os.close(fd)

    def _dents(self, fd: int, cookie: int, room: int, stats: bool) -> Dents:
        """Entries from the descriptor's position, which is `cookie`, on; the directory is locked."""
        found: list[syscalls.RawDent] = []
        end = False
        # Asked again while there is room for any one entry: only an empty answer is the end.
        while room >= syscalls.DIRENT_MAX and not end:
            raws, size = syscalls.getdents(fd, room)
            found += raws
            room -= size
            end = not raws
        if found:
            cookie = found[-1].next
        return Dents(
            [self._dent(fd, raw, stats) for raw in found if raw.name not in (b".", b"..")], cookie, end
        )

    def _dent(self, directory: int, raw: syscalls.RawDent, stats: bool) -> Dent:
        found: Stat | None = None
        if stats:
            try:
                # A name from the kernel, one step, no link followed: safe without openat2.
                found = self._stat(os.stat(raw.name, dir_fd=directory, follow_symlinks=False))
            except FileNotFoundError:
                pass  # removed since it was listed
        return Dent(raw.name, raw.ino, raw.kind, found)


def _version(info: Stat) -> tuple[int, int, int, int]:
    """What differs between two contents."""
    return info.ino, info.ctime_ns, info.mtime_ns, info.size


def _room(limit: int, stats: bool) -> int:
    """Bytes of kernel records whose entries' reply is `limit` bytes at most."""
    # A record is at least 24 bytes, and longer than the Dent made of it without stat.
    room = min(limit * 24 // (24 + STAT_BYTES) if stats else limit, _LISTING_MAX)
    if room < syscalls.DIRENT_MAX:
        raise error(errno.EINVAL)
    return room
