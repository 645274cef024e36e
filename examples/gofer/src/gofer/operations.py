"""What all operations of a session have in common: the tree, the FIDs, the checks.

Every operation follows the same order: check what was asked (names, numbers, read-only), pin the FIDs, take the
locks its row of the table promises, make the one system call, publish what was made. No operation knows a
path; each starts from a descriptor.

A FID follows its object, not a name. One the tree's owner moves out of the tree stays within reach of the
sessions that hold a FID of it, as of any process that has it open; nobody can climb from there to what is
around it.
"""

from __future__ import annotations

import errno
import os
import stat

from gofer import names
from gofer.export import Export
from gofer.fids import Batch, FidTable, Handle, Kind
from gofer.ids import IdMap, Ids
from gofer.protocol import Gofer, Inode, Owner, Stat

WALK = os.O_PATH | os.O_NOFOLLOW
"""How a control FID's descriptor is opened."""

ALWAYS = os.O_NONBLOCK | os.O_NOCTTY
"""Never wait in open (a FIFO without a writer, a lease being broken), never acquire a terminal."""

_OFFSET_MAX = (1 << 63) - 1
_SAME = Ids(IdMap([]), IdMap([]))


class Operations(Gofer):
    """One client's session, before it can do anything. Its channels call concurrently."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._tree = export.tree
        self._fids = FidTable(export.max_fids)

    def on_disconnect(self) -> None:
        """The client is gone: give its descriptors back; those a running operation holds, when it ends."""
        self._fids.close_all()

    def _adopt(self, new: Batch, fd: int) -> Inode:
        """A control FID for a descriptor just made, which is closed should that fail."""
        try:
            info = os.fstat(fd)
        except BaseException:
            os.close(fd)
            raise
        node = self._tree.node(info.st_dev, info.st_ino)
        return Inode(new.add(fd, Kind.CONTROL, info.st_mode, node), self._stat(info))

    def _stat(self, info: os.stat_result) -> Stat:
        uid, gid, ids = info.st_uid, info.st_gid, self._export.ids
        if ids is not None:
            uid, gid = ids.uid.to_client(uid), ids.gid.to_client(gid)
        return Stat(
            info.st_mode,
            info.st_size,
            info.st_mtime_ns,
            info.st_ino,
            info.st_nlink,
            uid,
            gid,
            info.st_dev,
            info.st_rdev,
            info.st_blksize,
            info.st_blocks,
            info.st_atime_ns,
            info.st_ctime_ns,
        )

    # ---- checks --------------------------------------------------------------------------------------

    def _check_writable(self) -> None:
        if self._export.read_only:
            raise error(errno.EROFS)

    def _check_walk(self, walked: list[bytes]) -> None:
        if len(walked) > self._export.max_names:
            raise error(errno.ENAMETOOLONG)
        for name in walked:
            names.check(name)

    def _check_new(self, name: bytes, mode: int, owner: Owner | None) -> None:
        """A name to be made, its permissions and whose it shall be."""
        self._check_writable()
        names.check(name)
        check_mode(mode)
        if owner is not None:
            self._owner(owner.uid, owner.gid)

    def _owner(self, uid: int | None, gid: int | None) -> tuple[int, int]:
        """The numbers here of the client's; -1, which changes nothing, for None. EINVAL for what is none's."""
        ids = self._export.ids or _SAME
        return (
            -1 if uid is None else ids.uid.to_server(uid),
            -1 if gid is None else ids.gid.to_server(gid),
        )

    def _check_flags(self, flags: int, allowed: int) -> None:
        """Refuse flags with a meaning of their own on the server (O_PATH, O_TMPFILE, O_DIRECT, ...)."""
        access = flags & os.O_ACCMODE
        if flags & ~allowed or access == os.O_ACCMODE:
            raise error(errno.EINVAL)
        if access != os.O_RDONLY:
            self._check_writable()
        elif flags & os.O_TRUNC:
            raise error(errno.EINVAL)  # Linux would truncate, POSIX says nothing, a reader has no use for it


def check_mode(mode: int) -> None:
    """Permission bits alone. Nobody is given set-uid and set-gid files of the server's user (EPERM)."""
    if not 0 <= mode <= 0o7777:
        raise error(errno.EINVAL)
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise error(errno.EPERM)


def check_offset(offset: int) -> None:
    """Refuse what cannot be said to the kernel, which has 63 bits; what is too far for a file, it says."""
    if offset < 0:
        raise error(errno.EINVAL)
    if offset > _OFFSET_MAX:
        raise error(errno.EOVERFLOW)


def check_openable(kind: int) -> None:
    """Before an open, not after: opening a device is already an action on it. `kind` is st_mode's type."""
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        raise error(errno.EACCES)
    if kind == stat.S_IFLNK:
        raise error(errno.ELOOP)


def directory(handle: Handle) -> Handle:
    """The same, if it is a directory's; ENOTDIR."""
    if handle.type != stat.S_IFDIR:
        raise error(errno.ENOTDIR)
    return handle


def error(code: int) -> OSError:
    """An OSError as the kernel would have given it."""
    return OSError(code, os.strerror(code))
