"""Opening and closing."""

from __future__ import annotations

import errno
import os
import stat

from gofer import syscalls
from gofer.fids import Kind
from gofer.locks import NodeLock
from gofer.looking import Looking
from gofer.operations import ALWAYS, WALK, check_openable, error
from gofer.protocol import MAX_AHEAD, Created, Opened, Owner, Place

_OPEN_FLAGS = os.O_ACCMODE | os.O_TRUNC | os.O_APPEND | os.O_DIRECTORY
_CREATE_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC


class Opening(Looking):
    """The operations that make and end FIDs."""

    def open(self, fid: int, flags: int) -> Opened:
        self._check_flags(flags, _OPEN_FLAGS)
        with (
            self._fids.control(fid) as handle,
            self._tree.here.lock,
            handle.node.reading,
        ):
            check_openable(handle.type)
            self._fids.require_room()
            return self._opened(self._export.reopen(handle.fd, flags | ALWAYS), flags)

    def walk_open(self, fid: int, names: list[bytes], flags: int, ahead: int) -> Opened:
        self._check_walk(names)
        self._check_flags(flags, _OPEN_FLAGS)
        if ahead < 0:
            raise error(errno.EINVAL)
        with self._fids.control(fid) as start:
            self._fids.require_room()
            # In one step where no device can be opened by mistake; what cannot be done twice is not tried so.
            if self._export.own_mount and names and not flags & os.O_TRUNC:
                try:
                    opened = self._at_once(start, names, flags | ALWAYS | os.O_NOFOLLOW)
                except NotADirectoryError:
                    if not flags & os.O_DIRECTORY:
                        raise
                    opened = -1  # said of a symbolic link, too: which it is, is found out below
                if opened >= 0:
                    return self._opened(opened, flags, ahead)
            with self._tree.here.lock:
                fd = self._walk_to(start, names)
                try:
                    check_openable(stat.S_IFMT(os.fstat(fd).st_mode))
                    return self._opened(self._export.reopen(fd, flags | ALWAYS), flags, ahead)
                finally:
                    os.close(fd)

    def _open_in(self, directory: int, name: bytes) -> int:
        """A descriptor to read what is in a directory under a plain name. The tree is shared."""
        if self._export.own_mount:  # where no device can be opened by mistake
            return syscalls.open_beneath(directory, name, os.O_RDONLY | os.O_NOFOLLOW | ALWAYS)
        fd = syscalls.open_beneath(directory, name, WALK)
        try:
            check_openable(stat.S_IFMT(os.fstat(fd).st_mode))
            return self._export.reopen(fd, os.O_RDONLY | ALWAYS)
        finally:
            os.close(fd)

    def _opened(self, fd: int, flags: int, ahead: int = 0) -> Opened:
        """The answer for a file just opened, whose descriptor is closed should there be none."""
        try:
            info = os.fstat(fd)
            node = self._tree.node(info.st_dev, info.st_ino)
            data = b""
            if ahead and info.st_size <= min(ahead, MAX_AHEAD) and flags & os.O_ACCMODE == os.O_RDONLY:
                data, info = content_of(fd, info, node)
        except BaseException:
            os.close(fd)
            raise
        return Opened(self._fids.put(fd, Kind.OPEN, info.st_mode, node), self._stat(info), data)

    def create(self, at: Place, flags: int, mode: int, owner: Owner | None) -> Created:
        self._check_flags(flags, _CREATE_FLAGS)
        self._check_new(at.name, mode, owner)
        how = flags | ALWAYS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with self._fids.control(at.fid) as parent, self._fids.batch(2) as new, self._tree.change(parent.node):
            fd = syscalls.open_beneath(parent.fd, at.name, how, mode)
            info = os.fstat(fd)
            opened = new.add(fd, Kind.OPEN, stat.S_IFREG, self._tree.node(info.st_dev, info.st_ino))
            self._give(fd, owner, parent.fd, at.name)
            return Created(self._adopt(new, self._export.reopen(fd, os.O_PATH)), opened)

    def close_fids(self, fids: list[int]) -> None:
        self._fids.close(fids)

    def _give(self, fd: int, owner: Owner | None, parent: int, name: bytes, directory: bool = False) -> None:
        """Make what was just made its owner's; should that be refused, it is made undone."""
        if owner is None:
            return
        try:
            syscalls.chown(fd, *self._owner(owner.uid, owner.gid))
        except BaseException:
            (os.rmdir if directory else os.unlink)(name, dir_fd=parent)
            raise


def content_of(fd: int, info: os.stat_result, node: NodeLock) -> tuple[bytes, os.stat_result]:
    """A small file's content and the stat that fits it; nothing if somebody outside is writing it."""
    if not stat.S_ISREG(info.st_mode):
        return b"", info
    buffer = bytearray(info.st_size + 1)  # one more than there is: a full one would be a file that grew
    with node.reading:
        count = os.preadv(fd, [buffer], 0)
        info = os.fstat(fd)
    return (bytes(buffer[:count]) if count == info.st_size else b""), info
