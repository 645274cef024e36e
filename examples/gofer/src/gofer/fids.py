"""The FID table: the numbers a client holds for the descriptors the server holds.

One table a session. A client's channels call concurrently, so a FID may be closed while another channel's
read is in the middle of it; closing the host descriptor there would let the kernel give its number to the
next open, and the read would go on in the wrong file. Hence three rules, which are all this module is about:

1. An operation *pins* the handle for as long as it uses the descriptor (`with table.control(fid) as handle`).
   Closing a pinned handle takes it out of the table at once and closes the descriptor when the last pin is
   gone.
2. What a request makes becomes visible all at once or not at all (`with table.batch(n) as new`): a walk that
   fails half way, or whose session ended meanwhile, leaves nothing behind.
3. A number is never used twice, and no two sessions of a process share one: stale and foreign FIDs are EBADF,
   always.

Locks: `_lock` guards the dict, the reservation count and every handle's pin count. It is held for a few
instructions, never across a system call. It is a leaf: nothing else is acquired while it is held.
"""

from __future__ import annotations

import enum
import errno
import itertools
import os
import stat
import threading
from types import TracebackType

from gofer.locks import NodeLock

_sessions = itertools.count(1)
"""Session numbers of this process; the upper half of every FID (next() on it is atomic)."""


class Kind(enum.Enum):
    """What a handle is for."""

    CONTROL = enum.auto()
    OPEN = enum.auto()
    BOUND = enum.auto()


def bad_fid() -> OSError:
    """The error for a FID that is not the caller's, or not of the kind the operation needs."""
    return OSError(errno.EBADF, os.strerror(errno.EBADF))


class Handle:
    """A host descriptor behind a FID, handed out pinned; `with` unpins it at the end."""

    __slots__ = ("_closing", "_pins", "_table", "fd", "kind", "node", "position", "type")

    def __init__(self, table: FidTable, fd: int, kind: Kind, mode: int, node: NodeLock) -> None:
        self.fd = fd
        self.kind = kind
        self.node = node
        """The lock of its inode."""
        self.type = stat.S_IFMT(mode)
        """An inode's type never changes, so that what was seen at the walk holds at the open."""
        self.position = threading.Lock() if kind is Kind.OPEN and self.type == stat.S_IFDIR else None
        """Held from the seek to the end of the listing: the position belongs to the descriptor."""
        self._table = table
        self._pins = 0
        self._closing = False

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(
            error, OSError
        ):  # which crosses with its names: of /proc/self/fd, of one step of a walk
            error.filename = error.filename2 = None
        with self._table._lock:
            self._pins -= 1
            last = self._closing and self._pins == 0
        if last:
            os.close(self.fd)


class Batch:
    """The handles one request makes: visible together when it succeeds, closed when it does not."""

    __slots__ = ("_made", "_reserved", "_table")

    def __init__(self, table: FidTable, reserved: int) -> None:
        self._table = table
        self._reserved = reserved
        self._made: list[tuple[int, Handle]] = []

    def add(self, fd: int, kind: Kind, mode: int, node: NodeLock) -> int:
        """Take over a descriptor; the FID it will have."""
        fid = next(self._table._numbers)
        self._made.append((fid, Handle(self._table, fd, kind, mode, node)))
        return fid

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._table._lock:
            self._table._reserved -= self._reserved
            keep = kind is None and not self._table._closed
            if keep:
                self._table._handles.update(self._made)
        if keep:
            return
        for _, handle in self._made:
            os.close(handle.fd)
        if kind is None:
            raise bad_fid()  # the session ended while the request was running


class FidTable:
    """One session's FIDs. Every method may be called from any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers = itertools.count((next(_sessions) << 32) + 1)
        self._handles: dict[int, Handle] = {}
        self._reserved = 0
        self._closed = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._handles)

    def batch(self, count: int) -> Batch:
        """Room for `count` new FIDs, taken before anything is opened or made; EMFILE when it is not there."""
        with self._lock:
            if len(self._handles) + self._reserved + count > self._limit:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self._reserved += count
        return Batch(self, count)

    def require_room(self) -> None:
        """EMFILE when there is no room for one more FID: before something is done that `put` could not keep."""
        if len(self._handles) + self._reserved >= self._limit:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def put(self, fd: int, kind: Kind, mode: int, node: NodeLock) -> int:
        """Take over a descriptor, for a request that makes one FID and can do nothing wrong after; the FID.

        EMFILE, and EBADF when the session has ended; the descriptor is closed then.
        """
        fid = next(self._numbers)
        handle = Handle(self, fd, kind, mode, node)
        with self._lock:
            full = len(self._handles) + self._reserved >= self._limit
            if not full and not self._closed:
                self._handles[fid] = handle
                return fid
        os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) if full else bad_fid()

    def any(self, fid: int) -> Handle:
        """The handle of a FID of either kind, pinned."""
        with self._lock:
            handle = self._handles.get(fid)
            if handle is None:
                raise bad_fid()
            handle._pins += 1
            return handle

    def control(self, fid: int) -> Handle:
        """The handle of a control FID, pinned; EBADF for one of another kind."""
        with self._lock:
            handle = self._handles.get(fid)
            if handle is None or handle.kind is not Kind.CONTROL:
                raise bad_fid()
            handle._pins += 1
            return handle

    def opened(self, fid: int) -> Handle:
        """The handle of an open FID, pinned; EBADF for one of another kind."""
        with self._lock:
            handle = self._handles.get(fid)
            if handle is None or handle.kind is not Kind.OPEN:
                raise bad_fid()
            handle._pins += 1
            return handle

    def bound(self, fid: int) -> Handle:
        """The handle of a bound FID, pinned; EBADF for one of another kind."""
        with self._lock:
            handle = self._handles.get(fid)
            if handle is None or handle.kind is not Kind.BOUND:
                raise bad_fid()
            handle._pins += 1
            return handle

    def close(self, fids: list[int]) -> None:
        """Give back FIDs; every one that is known goes, then EBADF if one was not."""
        unknown = False
        free: list[Handle] = []
        with self._lock:
            for fid in fids:
                handle = self._handles.pop(fid, None)
                if handle is None:
                    unknown = True
                elif self._doom(handle):
                    free.append(handle)
        for handle in free:
            os.close(handle.fd)
        if unknown:
            raise bad_fid()

    def close_all(self) -> None:
        """The session is over: nothing is found any more, and nothing can be added."""
        with self._lock:
            self._closed = True
            free = [handle for handle in self._handles.values() if self._doom(handle)]
            self._handles.clear()
        for handle in free:
            os.close(handle.fd)

    @staticmethod
    def _doom(handle: Handle) -> bool:
        """Mark for closing (lock held); True when nobody has it pinned and the caller must close it."""
        handle._closing = True
        return handle._pins == 0
