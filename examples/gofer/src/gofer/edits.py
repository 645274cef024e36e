"""Changing a tree by path: the names and behaviour of `os`."""

from __future__ import annotations

import os
import socket
import stat

from gofer.bound import BoundSocket
from gofer.mounted import MountedTree, Path
from gofer.protocol import NOW, Place, RenameFlag, SetStat


class Edits(MountedTree):
    """What changes files without opening them. Errors are as of the function of `os` that has the name."""

    # ---- making and removing -------------------------------------------------------------------------

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """As os.mkdir."""
        with self._parent(path) as (found, name):
            self.release([self.gofer.mkdir(Place(found.inode.fid, name), mode, None).fid])

    def mknod(self, path: Path, mode: int = 0o600 | stat.S_IFREG) -> None:
        """As os.mknod, for regular files, FIFOs and sockets."""
        with self._parent(path) as (found, name):
            self.release([self.gofer.mknod(Place(found.inode.fid, name), mode, None).fid])

    def mkfifo(self, path: Path, mode: int = 0o666) -> None:
        """As os.mkfifo."""
        self.mknod(path, mode | stat.S_IFIFO)

    def symlink(self, target: Path, path: Path) -> None:
        """As os.symlink: the target is written down as it is given, and means something to who follows it."""
        with self._parent(path) as (found, name):
            self.release([self.gofer.symlink(Place(found.inode.fid, name), os.fsencode(target), None).fid])

    def link(self, old: Path, new: Path, *, follow_symlinks: bool = True) -> None:
        """As os.link."""
        with self._at(old, follow_symlinks) as file, self._parent(new) as (found, name):
            self.release([self.gofer.link(file.inode.fid, Place(found.inode.fid, name)).fid])

    def unlink(self, path: Path) -> None:
        """As os.unlink."""
        self._remove(path, False)

    def rmdir(self, path: Path) -> None:
        """As os.rmdir."""
        self._remove(path, True)

    def _remove(self, path: Path, directory: bool) -> None:
        with self._parent(path) as (found, name):
            self.close_fids([])
            self.gofer.unlink(Place(found.inode.fid, name), directory)

    def rename(self, old: Path, new: Path, *, exchange: bool = False, replace: bool = True) -> None:
        """As os.rename. `exchange`: both exist and trade names. `replace=False`: EEXIST when `new` exists."""
        flags = RenameFlag.EXCHANGE * exchange | RenameFlag.NOREPLACE * (not replace)
        with self._parent(old) as (source, name), self._parent(new) as (target, new_name):
            self.close_fids([])
            self.gofer.rename(Place(source.inode.fid, name), Place(target.inode.fid, new_name), flags)

    # ---- sockets, where the gofer allows them ----------------------------------------------------------

    def connect(self, path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A connection to a Unix socket in the tree, blocking."""
        with self._at(path) as found:
            connection = socket.socket(fileno=self.gofer.connect(found.inode.fid, kind).detach())
        connection.setblocking(True)
        return connection

    def bind(self, path: Path, kind: int = socket.SOCK_STREAM, mode: int = 0o777) -> BoundSocket:
        """A new Unix socket in the tree."""
        with self._parent(path) as (found, name):
            return BoundSocket(self, self.gofer.bind(Place(found.inode.fid, name), kind, mode, None), kind)

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
