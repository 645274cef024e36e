"""The gofer's protocol: what can be asked, as a table, and the messages that travel.

The operations are those of gVisor's lisafs. A client names files by FIDs, numbers the server hands out. There
are three kinds:
- a *control* FID stands for a file system object, opened with O_PATH: it can be walked from, asked about,
  changed;
- an *open* FID stands for an open file: it can be read, written, listed, synchronised;
- a *bound* FID stands for a Unix socket this client has bound: it can listen and accept.
A FID belongs to the session (client object) it was given to, is never given out twice, and is EBADF to
everybody else, and to its owner after `close_fids`. A FID of the wrong kind is EBADF too. When a client is
gone, all its FIDs go.

A name is one directory entry's: bytes, never a path (see names.py). The server follows no symbolic link and
knows no `..`; both are the client's business (resolve.py), which walks again from where it wants to go.

lisafs's *channel*, by which a client asks for one more way to talk, is not an operation here: a flipcall client
opens a channel by itself when calls overlap (`max_channels`), and the server recognises it as the same
session's. So the FIDs are one session's over all its channels, and calls on different channels run at once.

Guarantees. Each operation says what the server keeps away from it while it runs (`Guarantee`): the server holds
the locks, a client need not. They are lisafs's, but for `fsync`, which has none: it may take as long as the
disk likes, and nothing may wait for it.

Errors travel as OSError with their errno. Numbers (modes, open flags, errno) are Linux's: both sides are on
one machine. Sizes and offsets are bytes, times nanoseconds since 1970.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeVar

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

MAX_AHEAD = 1 << 16
"""Most bytes of content that come along with an open."""

XATTR_MAX = 65536
"""Most bytes of an extended attribute's value (linux/limits.h)."""

NOW = -(1 << 63)
"""As a time in SetStat: the server's clock, at the moment it is set (UTIME_NOW)."""


# ---- the table's columns -----------------------------------------------------------------------------


class Guarantee(enum.Enum):
    """What does not run at the same time as an operation. The *node* is the inode behind its FID."""

    NONE = "none"
    """Anything may."""
    READ = "read"
    """No write operation of the same node, and no global one. Other reads may."""
    WRITE = "write"
    """No other operation of the same node, read or write, and no global one."""
    GLOBAL = "global"
    """No read, no write and no other global operation anywhere in the tree, but those of open and bound FIDs:
    data is not concerned by what files are called.
    """


class Operation(msgspec.Struct, frozen=True):
    """A row of the table, beside the signature and the docstring."""

    guarantee: Guarantee
    changes: bool
    """Refused with EROFS by a read-only gofer."""


F = TypeVar("F", bound=Callable[..., object])


def operation(guarantee: Guarantee, *, changes: bool = False) -> Callable[[F], F]:
    """Mark a method of Gofer as a row of the table."""

    def mark(method: F) -> F:
        method.operation = Operation(guarantee, changes)  # type: ignore[attr-defined]
        return method

    return mark


NONE, READ, WRITE, GLOBAL = Guarantee


# ---- messages ----------------------------------------------------------------------------------------


class Stop(enum.IntEnum):
    """Why a walk ended where it did."""

    DONE = 0
    """Every name was walked, and the last is not a symbolic link."""
    SYMLINK = 1
    """The last inode given is a symbolic link: the names after it were not looked at."""
    MISSING = 2
    """The name after the last inode given does not exist."""


class Attribute(enum.IntFlag):
    """What set_stat sets; its failure mask is of these."""

    MODE = 1
    UID = 2
    GID = 4
    SIZE = 8
    ATIME = 16
    MTIME = 32


class RenameFlag(enum.IntFlag):
    """renameat2(2)'s flags that are allowed (linux/fs.h)."""

    NOREPLACE = 1
    """EEXIST if the new name is taken."""
    EXCHANGE = 2
    """Both names must exist and trade what they stand for."""


class Place(msgspec.Struct, array_like=True, frozen=True):
    """A name in a directory: how an operation that takes a name says where."""

    fid: int
    """Control FID of the directory."""
    name: bytes


class Owner(msgspec.Struct, array_like=True, frozen=True):
    """Whose a new object shall be, as the client counts users (the server may map them)."""

    uid: int
    gid: int


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


class SetStat(msgspec.Struct, array_like=True, frozen=True):
    """What to set; None leaves an attribute as it is."""

    mode: int | None = None
    """Permission bits alone."""
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    """NOW, or nanoseconds."""
    mtime_ns: int | None = None


class StatSet(msgspec.Struct, array_like=True, frozen=True):
    """How set_stat went. Every attribute is tried, whatever becomes of the others."""

    failed: int
    """Attributes that were not set; 0 when all were."""
    errno: int
    """Of one of those; 0 when there are none."""
    stat: Stat
    """Afterwards."""


class StatFs(msgspec.Struct, array_like=True, frozen=True):
    """What statvfs(3) tells of the file system."""

    bsize: int
    frsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    favail: int
    flag: int
    namemax: int
    fsid: int


class Inode(msgspec.Struct, array_like=True, frozen=True):
    """A file system object a walk arrived at, or that was made."""

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
    donates: bool
    """`donate` is allowed."""
    sockets: bool
    """`connect` and `bind` are."""


class Walked(msgspec.Struct, array_like=True, frozen=True):
    """The inodes a walk passed, in order; as many as names when it got to the end."""

    inodes: list[Inode]
    stop: Stop


class WalkedStat(msgspec.Struct, array_like=True, frozen=True):
    """As Walked, for a client that only wants to look: no FIDs are made."""

    stats: list[Stat]
    """Of the names walked, in order; of the last of them alone when that was all that was asked for."""
    walked: int
    """How many names were."""
    stop: Stop


class Looked(msgspec.Struct, array_like=True, frozen=True):
    """What is in a directory under a name."""

    directory: Stat
    found: Stat | None
    """None: nothing is."""


class Opened(msgspec.Struct, array_like=True, frozen=True):
    """A file opened."""

    fid: int
    """A new open FID."""
    stat: Stat
    """When it was opened, before O_TRUNC."""
    data: bytes = b""
    """The whole content, where walk_open was asked for it and it is not too long."""


class Created(msgspec.Struct, array_like=True, frozen=True):
    """A file that did not exist before this call."""

    inode: Inode
    opened: int
    """Its open FID."""


class Bound(msgspec.Struct, array_like=True, frozen=True):
    """A Unix socket made and bound to a new name."""

    inode: Inode
    """Of the name."""
    bound: int
    """Its bound FID."""
    host: flipcall.Fd
    """The socket, to wait for connections with."""


class Accepted(msgspec.Struct, array_like=True, frozen=True):
    """A connection to a bound socket."""

    connection: flipcall.Fd
    peer: bytes
    """The address of who has connected; empty for most."""


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


class Listed(msgspec.Struct, array_like=True, frozen=True):
    """A directory and how its entries begin."""

    stat: Stat
    dents: Dents
    contents: list[bytes | None]
    """Of the entries in their order, as far as `ahead` went; None where there is none to have."""


class Content(msgspec.Struct, array_like=True, frozen=True):
    """A small file."""

    stat: Stat
    data: bytes
    """All of it."""


# ---- the table ---------------------------------------------------------------------------------------


class Gofer(flipcall.Service):
    """The operations. All may be called concurrently, on one FID too.

    `fid: int` is a control FID unless the docstring says otherwise; "either" is a control or an open FID.
    """

    @operation(NONE)
    def mount(self) -> Mounted:
        """A control FID of the root, and the limits."""
        raise NotImplementedError

    # ---- finding and looking

    @operation(READ)
    def walk(self, fid: int, names: list[bytes]) -> Walked:
        """From a directory, name by name. ENOTDIR when a name follows something that is no directory."""
        raise NotImplementedError

    @operation(READ)
    def walk_stat(self, fid: int, names: list[bytes], every: bool) -> WalkedStat:
        """As walk, answered with stats alone; unless `every` is set, with the last one alone."""
        raise NotImplementedError

    @operation(READ)
    def walk_look(self, fid: int, names: list[bytes], name: bytes) -> Looked:
        """Walk to a directory and look a name up in it, in one round trip without FIDs. Not in lisafs."""
        raise NotImplementedError

    @operation(READ)
    def stat(self, fid: int) -> Stat:
        """Attributes of either."""
        raise NotImplementedError

    @operation(READ)
    def statfs(self, fid: int) -> StatFs:
        """The file system that holds either."""
        raise NotImplementedError

    @operation(READ)
    def readlink(self, fid: int) -> bytes:
        """The target of a symbolic link; EINVAL for anything else."""
        raise NotImplementedError

    # ---- opening and closing

    @operation(READ)
    def open(self, fid: int, flags: int) -> Opened:
        """Open what a control FID stands for; with write access only if the gofer is not read-only (EROFS).

        Flags: an access mode, O_TRUNC with write access, O_APPEND, O_DIRECTORY; EINVAL for others. Opening
        never waits: a FIFO opens as with O_NONBLOCK. EACCES for a device, ENXIO for a socket, ELOOP for a
        symbolic link.
        """
        raise NotImplementedError

    @operation(READ)
    def walk_open(self, fid: int, names: list[bytes], flags: int, ahead: int) -> Opened:
        """Walk and open in one round trip, without control FIDs. Not in lisafs.

        As open; also ENOENT for a missing name, ELOOP for a symbolic link anywhere on the way. A regular file
        opened for reading that has at most `ahead` bytes (and no more than MAX_AHEAD) comes with its content.
        """
        raise NotImplementedError

    @operation(WRITE, changes=True)
    def create(self, at: Place, flags: int, mode: int, owner: Owner | None) -> Created:
        """Make a regular file and open it; EEXIST when the name is taken, by a symbolic link too.

        Its mode is the one given less the server's umask; so it is for every operation that makes something.
        """
        raise NotImplementedError

    @operation(NONE)
    def close_fids(self, fids: list[int]) -> None:
        """Give back FIDs of any kind: all are tried, then EBADF if any was not the caller's."""
        raise NotImplementedError

    # ---- data, by open FID

    @operation(READ)
    def read(self, fid: int, offset: int, length: int) -> bytes:
        """At most `length` and max_read bytes of an open FID. Fewer is not the end of the file; none is."""
        raise NotImplementedError

    @operation(WRITE)
    def write(self, fid: int, offset: int, data: memoryview) -> int:
        """Write to an open FID; the bytes written, perhaps fewer than given. O_APPEND ignores the offset."""
        raise NotImplementedError

    @operation(READ)
    def seek(self, fid: int, offset: int, whence: int) -> int:
        """Where an open FID's next data (SEEK_DATA) or hole (SEEK_HOLE) is; ENXIO past the end. Not in lisafs."""
        raise NotImplementedError

    @operation(WRITE)
    def fallocate(self, fid: int, mode: int, offset: int, length: int) -> None:
        """As fallocate(2), of an open FID."""
        raise NotImplementedError

    @operation(READ)
    def flush(self, fid: int) -> None:
        """What close(2) would report of an open FID, which stays open."""
        raise NotImplementedError

    @operation(NONE)
    def fsync(self, fids: list[int], data_only: bool) -> None:
        """Bring what was written by open FIDs to the disk: all are tried, then the first error is raised."""
        raise NotImplementedError

    @operation(READ)
    def getdents(self, fid: int, cookie: int, limit: int, stats: bool) -> Dents:
        """Entries of an open directory from `cookie` on (0: the start), `limit` bytes of reply at most.

        EINVAL for a limit too small for any one entry (4096 is enough). With `stats`, each entry's attributes
        come along: one round trip lists a directory and looks at it.
        """
        raise NotImplementedError

    @operation(READ)
    def walk_list(self, fid: int, names: list[bytes], limit: int, ahead: int) -> Listed:
        """Walk to a directory and list it from the start, with attributes, as getdents. Not in lisafs.

        One round trip, and no FID; who wants what follows after `dents.next` opens the directory. Contents of
        small files as of walk_read come along, `ahead` bytes at most.
        """
        raise NotImplementedError

    @operation(READ)
    def walk_lists(
        self, fid: int, names: list[bytes], directories: list[bytes], limit: int, ahead: int
    ) -> list[Listed | None]:
        """Walk to a directory and list directories in it, as walk_list each. Not in lisafs.

        One round trip, and no FIDs. `limit` and `ahead` are of all together. None for what cannot be had so: no
        directory, not readable, gone; too long for what is left of the limit, and all that follow that.
        """
        raise NotImplementedError

    @operation(READ)
    def walk_read(self, fid: int, names: list[bytes], files: list[bytes], limit: int) -> list[Content | None]:
        """Walk to a directory and read small files in it, `limit` bytes at most. Not in lisafs.

        One round trip, and no FIDs. None for what cannot be had so: no regular file, too long (MAX_AHEAD, or
        what is left of the limit), not readable, being written, gone.
        """
        raise NotImplementedError

    # ---- changing

    @operation(WRITE, changes=True)
    def set_stat(self, fid: int, what: SetStat) -> StatSet:
        """Set attributes of either. What could not be set is said in the answer, not raised."""
        raise NotImplementedError

    @operation(WRITE, changes=True)
    def mkdir(self, at: Place, mode: int, owner: Owner | None) -> Inode:
        """Make a directory."""
        raise NotImplementedError

    @operation(WRITE, changes=True)
    def mknod(self, at: Place, mode: int, owner: Owner | None) -> Inode:
        """Make a FIFO, an empty regular file or a socket nobody is bound to, by the mode's type; EPERM else."""
        raise NotImplementedError

    @operation(WRITE, changes=True)
    def symlink(self, at: Place, target: bytes, owner: Owner | None) -> Inode:
        """Make a symbolic link. Its target is anything: the server never follows it."""
        raise NotImplementedError

    @operation(WRITE, changes=True)
    def link(self, fid: int, at: Place) -> Inode:
        """One more name for a file: write of the directory, read of the file. EPERM for a directory."""
        raise NotImplementedError

    @operation(WRITE, changes=True)
    def unlink(self, at: Place, directory: bool) -> None:
        """Remove a name; an empty directory's when `directory` is set, and only then."""
        raise NotImplementedError

    @operation(GLOBAL, changes=True)
    def rename(self, old: Place, new: Place, flags: int) -> None:
        """As renameat2(2) with RenameFlag: without a flag, an existing `new` is replaced."""
        raise NotImplementedError

    # ---- extended attributes, of the `user.` namespace alone (EOPNOTSUPP)

    @operation(READ)
    def get_xattr(self, fid: int, name: bytes) -> bytes:
        """An extended attribute's value, of either; ENODATA when there is none."""
        raise NotImplementedError

    @operation(WRITE, changes=True)
    def set_xattr(self, fid: int, name: bytes, value: bytes, flags: int) -> None:
        """Set one of either; flags: 0, XATTR_CREATE or XATTR_REPLACE."""
        raise NotImplementedError

    @operation(READ)
    def list_xattr(self, fid: int) -> list[bytes]:
        """The names of either's extended attributes."""
        raise NotImplementedError

    @operation(WRITE, changes=True)
    def remove_xattr(self, fid: int, name: bytes) -> None:
        """Remove one of either; ENODATA when there is none."""
        raise NotImplementedError

    # ---- descriptors of the host, where the gofer allows it (EPERM)

    @operation(READ)
    def donate(self, fid: int) -> flipcall.Fd:
        """The host's descriptor of a regular file, with the access of its open FID, to read, write and map."""
        raise NotImplementedError

    @operation(READ)
    def connect(self, fid: int, kind: int) -> flipcall.Fd:
        """Connect to a Unix socket in the tree; kind: SOCK_STREAM, ...; EAGAIN rather than waiting."""
        raise NotImplementedError

    @operation(WRITE, changes=True)
    def bind(self, at: Place, kind: int, mode: int, owner: Owner | None) -> Bound:
        """Make a Unix socket and bind it to a name; about 85 bytes of name are possible (ENAMETOOLONG)."""
        raise NotImplementedError

    @operation(READ)
    def listen(self, fid: int, backlog: int) -> None:
        """Let a bound FID's socket be connected to."""
        raise NotImplementedError

    @operation(READ)
    def accept(self, fid: int) -> Accepted:
        """The next connection to a bound FID's socket; EAGAIN when there is none."""
        raise NotImplementedError


def table() -> list[tuple[str, Operation, str]]:
    """The operations in order: name, columns, and the first line of what they do."""
    rows = []
    for name, method in vars(Gofer).items():
        row = getattr(method, "operation", None)
        if row is not None:
            rows.append((name, row, (method.__doc__ or "").splitlines()[0]))
    return rows
