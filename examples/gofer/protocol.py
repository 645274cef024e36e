"""The gofer's protocol: what can be asked, as a table, and the messages that travel.

A client names files by FIDs, numbers the server hands out. There are two kinds:
- a *control* FID stands for a file system object, opened with O_PATH: it can be walked from, asked about,
  changed;
- an *open* FID stands for an open file: it can be read, written, listed, synchronised.
A FID belongs to the session (client object) it was given to, is never given out twice, and is EBADF to
everybody else, and to its owner after `close_fids`. A FID of the wrong kind is EBADF too. When a client is
gone, all its FIDs go.

A name is one directory entry's: bytes, never a path (see names.py). The server follows no symbolic link and
knows no `..`; both are the client's business (resolve.py), which walks again from where it wants to go.

Errors travel as OSError with their errno. Numbers (modes, open flags, errno) are Linux's: both sides are on
one machine. Sizes and offsets are bytes, times nanoseconds since 1970.
"""

from __future__ import annotations

import enum

import msgspec

import flipcall

MAX_IO = 1 << 20
"""Most bytes one read or write moves; the server offers no more, whatever the window."""

WINDOW = MAX_IO + 4096
"""The window a gofer's client asks for: MAX_IO bytes of data, and room for the rest of the message."""

MAX_NAMES = 256
"""Most names in one walk: its reply, an Inode for each, is then at most about 40 KiB."""

STAT_BYTES = 128
"""No encoded Stat is longer: 13 integers of at most 9 bytes, and their array's header."""


class Stop(enum.IntEnum):
    """Why a walk ended where it did."""

    DONE = 0
    """Every name was walked, and the last is not a symbolic link."""
    SYMLINK = 1
    """The last inode given is a symbolic link: the names after it were not looked at."""
    MISSING = 2
    """The name after the last inode given does not exist."""


class Place(msgspec.Struct, array_like=True, frozen=True):
    """A name in a directory: how an operation that takes a name says where."""

    fid: int
    """Control FID of the directory."""
    name: bytes


class Stat(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What `stat(2)` tells of a file."""

    mode: int
    """Type and permission bits, as st_mode."""
    size: int
    mtime_ns: int
    ino: int
    nlink: int
    uid: int
    gid: int
    dev: int
    rdev: int
    blksize: int
    blocks: int
    """Of 512 bytes."""
    atime_ns: int
    ctime_ns: int


class Inode(msgspec.Struct, array_like=True, frozen=True):
    """A file system object a walk arrived at."""

    fid: int
    """A new control FID."""
    stat: Stat


class Mounted(msgspec.Struct, array_like=True, frozen=True):
    """What a client needs to know before anything else."""

    root: Inode
    max_read: int
    """Bytes; a longer read is answered with this many at most. The window may allow fewer."""
    max_write: int
    max_names: int
    """Names in one walk."""
    max_fids: int
    """FIDs held at a time by this session; one more is EMFILE."""
    read_only: bool


class Walked(msgspec.Struct, array_like=True, frozen=True):
    """The inodes a walk passed, in order; as many as names when it got to the end."""

    inodes: list[Inode]
    stop: Stop


class WalkedStat(msgspec.Struct, array_like=True, frozen=True):
    """As Walked, for a client that only wants to look: no FIDs are made."""

    stats: list[Stat]
    stop: Stop


class Created(msgspec.Struct, array_like=True, frozen=True):
    """A file that did not exist before this call."""

    inode: Inode
    opened: int
    """Its open FID."""


class Dent(msgspec.Struct, array_like=True, frozen=True):
    """One directory entry."""

    name: bytes
    ino: int
    kind: int
    """The file type, st_mode >> 12 (dirent.h's DT_*); 0 where the file system does not say."""
    stat: Stat | None
    """Only when asked for; None also when the entry was gone before it could be looked at."""


class Dents(msgspec.Struct, array_like=True, frozen=True):
    """A stretch of a directory's entries, without `.` and `..`."""

    entries: list[Dent]
    next: int
    """The cookie that continues after these."""
    end: bool
    """Nothing follows."""


class Gofer(flipcall.Service):
    """The operations. Those marked W are refused with EROFS by a read-only gofer.

    All may be called concurrently, on one FID too: the kernel orders them as it does threads' system calls.
    """

    def mount(self) -> Mounted:
        """A control FID of the root, and the limits."""
        raise NotImplementedError

    def walk(self, fid: int, names: list[bytes]) -> Walked:
        """From a directory, name by name. ENOTDIR when a name follows something that is no directory."""
        raise NotImplementedError

    def walk_stat(self, fid: int, names: list[bytes]) -> WalkedStat:
        """The same, answered with stats alone."""
        raise NotImplementedError

    def stat(self, fid: int) -> Stat:
        """Of a control or an open FID."""
        raise NotImplementedError

    def readlink(self, fid: int) -> bytes:
        """The target of a symbolic link; EINVAL for anything else."""
        raise NotImplementedError

    def open(self, fid: int, flags: int) -> int:
        """An open FID for a control FID. Write access: W.

        Flags: an access mode, O_TRUNC with write access, O_APPEND, O_DIRECTORY; EINVAL for others. Opening
        never waits: a FIFO opens as with O_NONBLOCK. EACCES for a device, ENXIO for a socket, ELOOP for a
        symbolic link.
        """
        raise NotImplementedError

    def create(self, at: Place, flags: int, mode: int) -> Created:
        """W. A new regular file, opened; EEXIST when the name is taken, by a symbolic link too.

        Its mode is the one given less the server's umask.
        """
        raise NotImplementedError

    def read(self, fid: int, offset: int, length: int) -> bytes:
        """At most `length` and max_read bytes. Fewer does not mean the end of the file; none does."""
        raise NotImplementedError

    def write(self, fid: int, offset: int, data: memoryview) -> int:
        """W. Bytes written, which may be fewer than given. With O_APPEND the offset is ignored."""
        raise NotImplementedError

    def getdents(self, fid: int, cookie: int, limit: int, stats: bool) -> Dents:
        """Entries of an open directory from `cookie` on (0: the start), `limit` bytes of reply at most.

        EINVAL for a limit too small for any one entry (4096 is enough). With `stats`, each entry's attributes
        come along: one round trip lists a directory and looks at it.
        """
        raise NotImplementedError

    def mkdir(self, at: Place, mode: int) -> Inode:
        """W. A new directory."""
        raise NotImplementedError

    def unlink(self, at: Place, directory: bool) -> None:
        """W. Remove a name; an empty directory's when `directory` is set, and only then."""
        raise NotImplementedError

    def rename(self, old: Place, new: Place) -> None:
        """W. As rename(2): an existing `new` is replaced."""
        raise NotImplementedError

    def fsync(self, fids: list[int], data_only: bool) -> None:
        """Bring what was written to the disk: all are tried, then the first error is raised."""
        raise NotImplementedError

    def close_fids(self, fids: list[int]) -> None:
        """Give back FIDs of either kind: all are tried, then EBADF if any was not the caller's."""
        raise NotImplementedError
