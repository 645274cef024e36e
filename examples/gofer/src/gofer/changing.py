"""Changing: attributes, and what is called what."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from gofer import names, syscalls
from gofer.data import Data
from gofer.fids import Handle, Kind
from gofer.operations import ALWAYS, WALK, check_mode, check_offset, directory, error
from gofer.protocol import NOW, Attribute, Inode, Owner, Place, RenameFlag, SetStat, StatSet

_MAKEABLE = (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK)
_RENAME_FLAGS = (0, RenameFlag.NOREPLACE, RenameFlag.EXCHANGE)


class Changing(Data):
    """The operations on directories' entries and on inodes' attributes."""

    # ---- attributes ----------------------------------------------------------------------------------

    def set_stat(self, fid: int, what: SetStat) -> StatSet:
        self._check_writable()
        _check_set(what)
        self._owner(what.uid, what.gid)
        failed, code = Attribute(0), 0
        with self._fids.any(fid) as handle, self._tree.here.lock, handle.node.writing:
            for attributes, do in self._settings(handle, what):
                try:
                    do()
                except OSError as e:
                    failed |= attributes
                    code = e.errno or errno.EIO
            return StatSet(failed, code, self._stat(os.fstat(handle.fd)))

    def _settings(self, handle: Handle, what: SetStat) -> list[tuple[Attribute, Callable[[], object]]]:
        """What is to be done, in this order: truncating changes times, and chown clears bits of the mode."""
        todo: list[tuple[Attribute, Callable[[], object]]] = []
        if (size := what.size) is not None:
            todo.append((Attribute.SIZE, lambda: self._truncate(handle, size)))
        if what.uid is not None or what.gid is not None:
            owner = self._owner(what.uid, what.gid)
            which = Attribute.UID * (what.uid is not None) | Attribute.GID * (what.gid is not None)
            todo.append((Attribute(which), lambda: syscalls.chown(handle.fd, *owner)))
        if (mode := what.mode) is not None:
            todo.append((Attribute.MODE, lambda: self._export.chmod(handle.fd, handle.type, mode)))
        times = what.atime_ns, what.mtime_ns
        if times != (None, None):
            which = Attribute.ATIME * (times[0] is not None) | Attribute.MTIME * (times[1] is not None)
            todo.append((Attribute(which), lambda: syscalls.utime(handle.fd, *times, NOW)))
        return todo

    def _truncate(self, handle: Handle, size: int) -> None:
        if handle.kind is Kind.OPEN:
            os.ftruncate(handle.fd, size)
            return
        if handle.type != stat.S_IFREG:
            raise error(errno.EISDIR if handle.type == stat.S_IFDIR else errno.EINVAL)
        fd = self._export.reopen(handle.fd, os.O_WRONLY | ALWAYS)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    # ---- making --------------------------------------------------------------------------------------

    def mkdir(self, at: Place, mode: int, owner: Owner | None) -> Inode:
        self._check_new(at.name, mode, owner)
        return self._make(at, owner, lambda parent: os.mkdir(at.name, mode, dir_fd=parent), directory=True)

    def mknod(self, at: Place, mode: int, owner: Owner | None) -> Inode:
        self._check_new(at.name, mode & 0o7777, owner)
        if mode & ~0o7777 not in _MAKEABLE:
            raise error(errno.EPERM)
        return self._make(at, owner, lambda parent: os.mknod(at.name, mode, dir_fd=parent))

    def symlink(self, at: Place, target: bytes, owner: Owner | None) -> Inode:
        self._check_new(at.name, 0, owner)
        if b"\0" in target:
            raise error(errno.EINVAL)
        return self._make(at, owner, lambda parent: os.symlink(target, at.name, dir_fd=parent))

    def _make(
        self, at: Place, owner: Owner | None, make: Callable[[int], None], directory: bool = False
    ) -> Inode:
        with self._fids.control(at.fid) as parent, self._fids.batch(1) as new, self._tree.change(parent.node):
            make(parent.fd)
            # By name again, one step: should somebody have replaced it meanwhile, the FID is of what is there
            # now.
            made = self._adopt(new, fd := syscalls.open_beneath(parent.fd, at.name, WALK))
            if owner is None:
                return made
            self._give(fd, owner, parent.fd, at.name, directory)
            return Inode(made.fid, self._stat(os.fstat(fd)))

    def link(self, fid: int, at: Place) -> Inode:
        self._check_new(at.name, 0, None)
        with (
            self._fids.control(fid) as file,
            self._fids.control(at.fid) as parent,
            self._fids.batch(1) as new,
            self._tree.change(directory(parent).node, file.node),
        ):
            self._export.link(file.fd, parent.fd, at.name)
            return self._adopt(new, syscalls.open_beneath(parent.fd, at.name, WALK))

    # ---- renaming and removing -----------------------------------------------------------------------

    def unlink(self, at: Place, directory: bool) -> None:
        self._check_writable()
        names.check(at.name)
        with self._fids.control(at.fid) as parent, self._tree.change(parent.node):
            (os.rmdir if directory else os.unlink)(at.name, dir_fd=parent.fd)

    def rename(self, old: Place, new: Place, flags: int) -> None:
        self._check_writable()
        names.check(old.name)
        names.check(new.name)
        if flags not in _RENAME_FLAGS:
            raise error(errno.EINVAL)
        with (
            self._fids.control(old.fid) as source,
            self._fids.control(new.fid) as target,
            self._tree.alone(),
        ):
            syscalls.rename(source.fd, old.name, target.fd, new.name, flags)


def _check_set(what: SetStat) -> None:
    if what.mode is not None:
        check_mode(what.mode)
    if what.size is not None:
        check_offset(what.size)
    for moment in (what.atime_ns, what.mtime_ns):
        if moment is not None and not -(1 << 63) <= moment < 1 << 63:
            raise error(errno.EINVAL)
