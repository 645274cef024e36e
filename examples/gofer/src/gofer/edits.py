"""Changing a tree by path: the names and behaviour of `os`."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator

from gofer import names
from gofer.bound import BoundSocket
from gofer.mounted import MountedTree, Path
from gofer.protocol import NOW, Place, RenameFlag, SetStat
from gofer.resolve import Resolved


class Edits(MountedTree):
    """What changes files without opening them. Errors are as of the function of `os` that has the name."""

    # ---- making and removing -------------------------------------------------------------------------

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """As os.mkdir."""
        with self._parent(path, errno.EEXIST) as (found, name):
            self.release([self.gofer.mkdir(Place(found.inode.fid, name), mode, None).fid])

    def mknod(self, path: Path, mode: int = 0o600 | stat.S_IFREG) -> None:
        """As os.mknod, for regular files, FIFOs and sockets."""
        with self._new(path) as place:
            self.release([self.gofer.mknod(place, mode, None).fid])

    def mkfifo(self, path: Path, mode: int = 0o666) -> None:
        """As os.mkfifo."""
        self.mknod(path, mode | stat.S_IFIFO)

    def symlink(self, target: Path, path: Path) -> None:
        """As os.symlink: the target is written down as it is given, and means something to who follows it."""
        with self._new(path) as place:
            self.release([self.gofer.symlink(place, os.fsencode(target), None).fid])

    def link(self, old: Path, new: Path, *, follow_symlinks: bool = True) -> None:
        """As os.link."""
        with self._at(old, follow_symlinks) as file, self._new(new) as place:
            self.release([self.gofer.link(file.inode.fid, place).fid])

    def unlink(self, path: Path) -> None:
        """As os.unlink."""
        with self._parent(path, errno.EISDIR) as (found, name):
            if _slashed(path):
                raise _error(errno.EISDIR if self._is_directory(found, name) else errno.ENOTDIR)
            self._remove(found, name, False)

    def rmdir(self, path: Path) -> None:
        """As os.rmdir."""
        with self._parent(path, errno.EINVAL) as (found, name):
            self._remove(found, name, True)

    def _remove(self, found: Resolved, name: bytes, directory: bool) -> None:
        self.close_fids([])
        self.gofer.unlink(Place(found.inode.fid, name), directory)

    def rename(self, old: Path, new: Path, *, exchange: bool = False, replace: bool = True) -> None:
        """As os.rename. `exchange`: both exist and trade names. `replace=False`: EEXIST when `new` exists."""
        flags = RenameFlag.EXCHANGE * exchange | RenameFlag.NOREPLACE * (not replace)
        with (
            self._parent(old, errno.EBUSY) as (source, name),
            self._parent(new, errno.EBUSY) as (target, new_name),
        ):
            if (_slashed(old) or _slashed(new)) and not self._is_directory(source, name):
                raise _error(errno.ENOTDIR)
            if exchange and _slashed(new) and not self._is_directory(target, new_name):
                raise _error(errno.ENOTDIR)
            self.close_fids([])
            self.gofer.rename(Place(source.inode.fid, name), Place(target.inode.fid, new_name), flags)

    @contextlib.contextmanager
    def _new(self, path: Path) -> Iterator[Place]:
        """Where something that is no directory is to be made."""
        with self._parent(path, errno.EEXIST) as (found, name):
            if _slashed(path):  # a directory's name: ENOENT, but where something is
                self._is_directory(found, name)
                raise _error(errno.EEXIST)
            yield Place(found.inode.fid, name)

    def _is_directory(self, found: Resolved, name: bytes) -> bool:
        """Whether an entry of a directory is one itself, not a link to one; FileNotFoundError."""
        entry = self.gofer.walk_look(found.inode.fid, [], name).found
        if entry is None:
            raise _error(errno.ENOENT)
        return stat.S_ISDIR(entry.mode)

    # ---- sockets, where the gofer allows them ----------------------------------------------------------

    def connect(self, path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A connection to a Unix socket in the tree, blocking."""
        with self._at(path) as found:
            connection = socket.socket(fileno=self.gofer.connect(found.inode.fid, kind).detach())
        connection.setblocking(True)
        return connection

    def bind(self, path: Path, kind: int = socket.SOCK_STREAM, mode: int = 0o777) -> BoundSocket:
        """A new Unix socket in the tree."""
        with self._new(path) as place:
            return BoundSocket(self, self.gofer.bind(place, kind, mode, None), kind)

    # ---- attributes ----------------------------------------------------------------------------------

    def chmod(self, path: Path, mode: int) -> None:
        """As os.chmod."""
        self._set(path, True, SetStat(mode=stat.S_IMODE(mode)))

    def chown(self, path: Path, uid: int, gid: int, *, follow_symlinks: bool = True) -> None:
        """As os.chown: -1 leaves one as it is."""
        what = SetStat(uid=None if uid == -1 else uid, gid=None if gid == -1 else gid)
        self._set(path, follow_symlinks, what)

    def utime(self, path: Path, ns: tuple[int, int] | None = None, *, follow_symlinks: bool = True) -> None:
        """As os.utime with `ns`: access and modification time; None stands for now."""
        atime, mtime = ns or (NOW, NOW)
        self._set(path, follow_symlinks, SetStat(atime_ns=atime, mtime_ns=mtime))

    def truncate(self, path: Path, length: int) -> None:
        """As os.truncate."""
        self._set(path, True, SetStat(size=length))

    def _set(self, path: Path, follow: bool, what: SetStat) -> None:
        with self._at(path, follow) as found:
            done = self.gofer.set_stat(found.inode.fid, what)
            if done.failed:
                raise OSError(done.errno, os.strerror(done.errno))

    # ---- extended attributes -------------------------------------------------------------------------

    def getxattr(self, path: Path, name: str | bytes, *, follow_symlinks: bool = True) -> bytes:
        """As os.getxattr."""
        with self._at(path, follow_symlinks) as found:
            return self.gofer.get_xattr(found.inode.fid, os.fsencode(name))

    def setxattr(
        self, path: Path, name: str | bytes, value: bytes, flags: int = 0, *, follow_symlinks: bool = True
    ) -> None:
        """As os.setxattr."""
        with self._at(path, follow_symlinks) as found:
            self.gofer.set_xattr(found.inode.fid, os.fsencode(name), value, flags)

    def listxattr(self, path: Path, *, follow_symlinks: bool = True) -> list[str]:
        """As os.listxattr."""
        with self._at(path, follow_symlinks) as found:
            return [os.fsdecode(name) for name in self.gofer.list_xattr(found.inode.fid)]

    def removexattr(self, path: Path, name: str | bytes, *, follow_symlinks: bool = True) -> None:
        """As os.removexattr."""
        with self._at(path, follow_symlinks) as found:
            self.gofer.remove_xattr(found.inode.fid, os.fsencode(name))


def _slashed(path: Path) -> bool:
    """Whether a path says that its last name is a directory's."""
    return names.encode(path).endswith(b"/")


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
