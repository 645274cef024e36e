"""What is served: one directory tree, and the terms.

The root is opened once, by the path the operator gave; from then on there are only descriptors. A control
descriptor (O_PATH) cannot be read, and the kernel has no "open this very inode" but one: the entry of
/proc/self/fd that stands for it. Opening that is not a walk by name, nothing a client or anybody else renames
can redirect it, and it is the only magic link this process ever follows, by a number it made itself.
"""

from __future__ import annotations

import errno
import os
import resource
import stat

from gofer import detached, syscalls
from gofer.ids import Ids
from gofer.locks import Tree
from gofer.protocol import MAX_IO, MAX_NAMES

DEFAULT_MAX_FIDS = 4096


class Export:
    """A tree and its terms, shared by all sessions. Only `tree` changes, and is
    for any thread.

    Not for use across fork: /proc/self/fd is the directory of the process that opened it.

    Raises OSError when `path` is no directory, when openat2 is missing, or when /proc is not mounted.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        *,
        read_only: bool = False,
        max_fids: int = DEFAULT_MAX_FIDS,
        max_io: int = MAX_IO,
        max_names: int = MAX_NAMES,
        ids: Ids | None = None,
        donate: bool = False,
        sockets: bool = False,
    ) -> None:
        """`ids`: how clients count users and groups; None: as this machine does. `donate`: the host's descriptors
        of files are handed out. `sockets`: Unix sockets in the tree can be connected to and made.
        """
        self.path = os.fsdecode(path)
        """By which the operator named it: for what is printed."""
        self.read_only = read_only
        self.max_fids = max_fids
        self.max_io = max_io
        self.max_names = max_names
        self.ids = ids
        self.donate = donate
        self.sockets = sockets
        self.tree = Tree()
        """The locks of its operations, whichever session they are of."""
        self.root, self.own_mount = _open_root(path, read_only)
        """`own_mount`: the tree is on a mount for this process alone (detached.py), where no device opens."""
        try:
            if donate and read_only and not self.own_mount:
                # Whoever may write the file could open it again by /proc/self/fd, and write.
                why = "donated descriptors of a read-only tree take a mount of its own (CAP_SYS_ADMIN)"
                raise PermissionError(errno.EPERM, why)
            syscalls.require_openat2(self.root)
            self._proc = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY)
        except BaseException:
            os.close(self.root)
            raise
        try:
            self._require_reopen()
        except BaseException:
            self.close()
            raise

    def reopen(self, fd: int, flags: int) -> int:
        """Another descriptor of the inode behind `fd`, opened with `flags`; permissions are checked anew."""
        return os.open(b"%d" % fd, flags | os.O_CLOEXEC, dir_fd=self._proc)

    def link_to(self, fd: int) -> str:
        """A path for the calls that take no descriptor of a control FID: of the inode behind `fd`, as `reopen`."""
        return f"/proc/self/fd/{fd}"

    def chmod(self, fd: int, kind: int, mode: int) -> None:
        """Of the inode behind `fd`, whose type is `kind`; EOPNOTSUPP for a symbolic link, which has no mode."""
        if kind == stat.S_IFLNK:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        os.chmod(b"%d" % fd, mode, dir_fd=self._proc)

    def link(self, fd: int, directory: int, name: bytes) -> None:
        """One more name for the inode behind `fd`."""
        os.link(b"%d" % fd, name, src_dir_fd=self._proc, dst_dir_fd=directory, follow_symlinks=True)

    def _require_reopen(self) -> None:
        """/proc may be missing, or be something else: prove that reopening gives the same inode."""
        copy = self.reopen(self.root, os.O_PATH)
        try:
            if not os.path.samestat(os.fstat(copy), os.fstat(self.root)):
                raise OSError("/proc/self/fd does not lead to this process's descriptors: is /proc mounted?")
        finally:
            os.close(copy)

    def close(self) -> None:
        """Let go of the tree. Sessions still running keep their own descriptors."""
        os.close(self.root)
        os.close(self._proc)


def _open_root(path: str | bytes | os.PathLike[str], read_only: bool) -> tuple[int, bool]:
    try:
        return detached.mount(path, read_only), True
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.ENOSYS):
            raise
    return os.open(path, os.O_PATH | os.O_DIRECTORY), False


def raise_descriptor_limit() -> int:
    """Raise RLIMIT_NOFILE as far as allowed (every FID costs a descriptor); the new limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
