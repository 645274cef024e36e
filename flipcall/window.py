"""PacketWindow: the pages two processes share, mapped only after they were checked.

Theory. A mapping of a file has one danger the C type system cannot see: touching a page the file cannot
supply is SIGBUS, which ends the process. Two things take pages away. A file that *shrinks* loses them at
once, so the side that receives a descriptor insists that the file is sealed against changing its size, and
that nobody can lift the seals again (memfd_create(2); fcntl(2), F_ADD_SEALS). A file that is *sparse* has
pages to find only when they are first touched, at a moment when there may be none, so the side that makes a
window reserves every page (posix_fallocate(3)), and the side that receives it looks at st_blocks: the
sender must already have paid.

    descriptor ─▶ regular file ─▶ open read-write ─▶ a memfd ─▶ seals ─▶ length ─▶ offset ─▶ pages ─▶ mapped
        │              └────────────────┴───────────────┤          │        │         │        │
     Misuse                                          Foreign   Unsealed  TooSmall  Foreign  Truncated
                                                                         TooLarge

Invariants:
- Every check is of something that cannot change any more once SEAL was seen, so check-then-map has no race.
  The order matters: seals first, then size and blocks.
- The one exception is stated, not hidden: fallocate(FALLOC_FL_PUNCH_HOLE) works on a sealed memfd, so a
  hostile peer can take pages back after the check. The next touch then finds a zero page, charged to
  whoever touches. It is SIGBUS only where the kernel counts commitments strictly (vm.overcommit_memory=2)
  and has none left; proto/window.md, "What the seals do not stop", says what would close this too.
- A descriptor given to `PacketWindow` is owned by it from that moment, whether or not the call succeeds.
- The mapping is an mmap.mmap and outlives close() for as long as a memoryview of it lives: a view can read
  stale bytes, it can never read unmapped memory.

Rejected: reserving on the receiving side (fallocate within the size is allowed on a grow-sealed memfd). It
would make a sparse window whole, but with *our* memory: a peer that offers a sparse 1 GiB window costs
itself nothing and us a gigabyte. It does not answer hole punching either. Refusing is cheaper and says
whose fault it is.

Rejected: trusting F_GET_SEALS alone to say "this is a memfd". hugetlbfs files carry the same seals, and a
huge page punched out of one is SIGBUS as soon as the pool is empty. So the file must also be on the very
mount that this kernel makes memfds on, which fstat(2)'s st_dev tells.
"""

import errno
import fcntl
import functools
import mmap
import operator
import os
import stat
import sys
import warnings
from types import TracebackType
from typing import Any, TypeVar

from ._core import lib
from .errors import (
    ClosedError,
    MisuseError,
    WindowForeignError,
    WindowTooLargeError,
    WindowTooSmallError,
    WindowTruncatedError,
    WindowUnsealedError,
)

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
# fcntl.F_SEAL_FUTURE_WRITE exists from Python 3.13 on; the number is Linux's ABI (linux/fcntl.h).
_WRITE_SEALS = fcntl.F_SEAL_WRITE | 0x0010
# Linux 6.3 on (memfd_create(2)): not executable, and sealed so. Asked for because vm.memfd_noexec=2 refuses
# every memfd without it. Not in Python's os module; the number is Linux's ABI.
_MFD_NOEXEC_SEAL = 0x0008
_STAT_BLOCK = 512  # the unit of st_blocks whatever the file system (stat(2))

_Window = TypeVar("_Window", bound="PacketWindow")
_Item = TypeVar("_Item")
_Default = TypeVar("_Default")


class PacketWindow:
    """A mapped window: `length` bytes at `offset` of a shared memory file, shared with one peer.

    `PacketWindow(...)` itself maps without asking: it is for the side that has just made the file (see
    flipcall.allocator and flipcall.named). The receiving side uses `attach`.

    Owns `fd`, also when it raises. Raises OSError when the mapping fails (ENOMEM, EMFILE). Any thread may
    call close(), at any time.
    """

    offset: int
    length: int
    kind: str

    def __init__(self, fd: int, length: int, offset: int = 0, *, kind: str = "memfd") -> None:
        # Each is emptied by whoever closes it: list.pop is atomic, and no lock for a fork to leave held.
        self._fds = [fd]
        self._maps: list[mmap.mmap] = []
        self.offset, self.length, self.kind = offset, length, kind
        try:
            os.set_inheritable(fd, False)
            self._maps.append(map_pages(fd, length, offset))
        except BaseException:
            self.close()
            raise

    @classmethod
    def attach(cls, fd: int, length: int, offset: int = 0) -> "PacketWindow":
        """Map a memfd window received from a peer, after checking everything the peer could have got wrong.

        `fd` is owned from here on: on every error it has been closed, the caller never closes it. `length`
        and `offset` are bytes, as the peer stated them; `offset` must be a multiple of the page size.

        Raises WindowForeignError (not a memfd, not open for writing, sealed against writing, or an offset
        where no window can begin), WindowUnsealedError (its size could still change), WindowTooSmallError,
        WindowTooLargeError, WindowTruncatedError (the file ends before the window, or has fewer pages than
        it claims), MisuseError (`fd` is not an open descriptor, an argument is not an integer), OSError
        (the mapping itself failed).
        """
        try:
            status = _fstat(fd)
            length, offset = _integers(length, offset)
            check_is_memfd(fd, status)
            check_length(length)
            check_extent(status, length, offset)
        except BaseException:
            close_quietly(fd)
            raise
        return cls(fd, length, offset)

    @property
    def fd(self) -> int:
        """The descriptor, to be handed to the peer; stays ours. ClosedError after close() or drop_fd()."""
        try:
            return self._fds[0]
        except IndexError:
            raise ClosedError(f"{self!r} has no descriptor any more") from None

    @property
    def buffer(self) -> mmap.mmap:
        """The whole window; byte 0 is the first of conn_state. Raises ClosedError after close()."""
        try:
            return self._maps[0]
        except IndexError:
            raise ClosedError(f"{self!r} is closed") from None

    @property
    def closed(self) -> bool:
        return not self._maps

    def drop_fd(self) -> None:
        """Close the descriptor and keep the mapping. Idempotent.

        For a side that will not hand the window on: a server with a thousand channels would otherwise hold a
        thousand descriptors nobody uses.
        """
        close_quietly(_pop(self._fds, -1))

    def close(self) -> None:
        """Unmap, and close the descriptor. Idempotent, callable from any thread.

        Views of `buffer` that are still alive keep the pages mapped until the last of them is gone.
        """
        fd, buffer = _pop(self._fds, -1), _pop(self._maps, None)
        try:
            self._before_close()
        finally:
            if buffer is not None:
                try:
                    buffer.close()
                except BufferError:
                    pass  # exported: each view holds the mmap object, which unmaps when the last one goes
            close_quietly(fd)

    def _before_close(self) -> None:
        """What a kind of window does first when it is closed, the descriptor still open; maybe twice."""

    def __enter__(self: _Window) -> _Window:
        if self.closed:
            raise ClosedError(f"{self!r} is closed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # getattr: an interrupt can end __init__ before its first line.
        if getattr(self, "_maps", None):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open" if self._fds else "open, descriptor dropped"
        return f"<{type(self).__name__} {self.kind}, {self.length} bytes at {self.offset}, {state}>"


def _pop(owned: list[_Item], default: _Default) -> _Item | _Default:
    try:
        return owned.pop()
    except IndexError:
        return default


def map_pages(fd: int, length: int, offset: int) -> mmap.mmap:
    """Map shared and writable. The mapping does not depend on `fd` staying open. Raises OSError."""
    # Before 3.13 mmap.mmap keeps a duplicate of the descriptor for resize(), which a window never does.
    extra: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    prot = mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(fd, length, flags=mmap.MAP_SHARED, prot=prot, offset=offset, **extra)


def page_ceil(n: int) -> int:
    """`n` bytes rounded up to whole pages."""
    return -(-n // mmap.PAGESIZE) * mmap.PAGESIZE


def check_length(length: int) -> None:
    """Raise WindowTooSmallError or WindowTooLargeError unless the protocol allows `length` bytes."""
    if length < lib.FC_WINDOW_MIN:
        raise WindowTooSmallError(f"a window of {length} bytes; the minimum is {lib.FC_WINDOW_MIN}")
    if length > lib.FC_WINDOW_MAX:
        raise WindowTooLargeError(f"a window of {length} bytes; the maximum is {lib.FC_WINDOW_MAX}")


def check_extent(status: os.stat_result, length: int, offset: int) -> None:
    """Raise unless `length` bytes at `offset` lie inside a file of this fstat(2), which must be whole.

    st_blocks counts the file, not a range of it, so the whole file must be reserved: then every range is.
    """
    if offset < 0 or offset % mmap.ALLOCATIONGRANULARITY:
        raise WindowForeignError(f"no window begins at offset {offset}: not a multiple of the page size")
    if offset + length > status.st_size:  # Python integers: the sum cannot wrap
        raise WindowTruncatedError(
            f"a window of {length} bytes at {offset} in a file that ends at {status.st_size}"
        )
    if status.st_blocks * _STAT_BLOCK < status.st_size:
        raise WindowTruncatedError(
            f"a file of {status.st_size} bytes with pages for {status.st_blocks * _STAT_BLOCK} only: "
            "the side that made the window has not reserved it"
        )


def check_is_memfd(fd: int, status: os.stat_result) -> None:
    """Raise WindowForeignError or WindowUnsealedError unless `fd` is a writable memfd of fixed size."""
    if not stat.S_ISREG(status.st_mode):
        raise WindowForeignError(f"not a memfd but {_file_kind(status.st_mode)}")
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_ACCMODE != os.O_RDWR:  # O_PATH, too, says 0 here
        raise WindowForeignError("the descriptor is not open for reading and writing")
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as exc:  # EINVAL: this file system knows no seals, so the file is no memfd
        raise WindowForeignError("not a memfd but a file on disk or of another file system") from exc
    if status.st_dev != _memfd_device():
        raise WindowForeignError("not a memfd but a tmpfs or hugetlbfs file")
    if seals & SEALS != SEALS:
        missing = [n for n in ("SHRINK", "GROW", "SEAL") if not seals & getattr(fcntl, f"F_SEAL_{n}")]
        raise WindowUnsealedError(f"the memfd lacks the seal{'s'[: len(missing) > 1]} {', '.join(missing)}")
    if seals & _WRITE_SEALS:
        raise WindowForeignError("the memfd is sealed against writing: no side could answer")


def new_memfd() -> int:
    """An empty memfd that can be sealed. Raises OSError."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("flipcall", flags | _MFD_NOEXEC_SEAL)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
    return os.memfd_create("flipcall", flags)  # a kernel before 6.3


@functools.cache
def _memfd_device() -> int:
    """st_dev of this kernel's memfds, found by making one."""
    fd = new_memfd()
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def _fstat(fd: int) -> os.stat_result:
    try:
        return os.fstat(fd)
    except (OSError, TypeError, OverflowError) as exc:
        raise MisuseError(f"not an open file descriptor: {fd!r}") from exc


def _integers(length: int, offset: int) -> tuple[int, int]:
    try:
        return operator.index(length), operator.index(offset)
    except TypeError as exc:
        raise MisuseError(f"length and offset are numbers of bytes, not {length!r} and {offset!r}") from exc


def close_quietly(fd: int) -> None:
    """Close what may be no descriptor at all. Errors of close(2) say nothing about a memory file."""
    try:
        if fd >= 0:
            os.close(fd)
    except (OSError, TypeError, OverflowError):
        pass


def _file_kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
        stat.S_IFLNK: "a symbolic link",
    }
    return kinds.get(stat.S_IFMT(mode), "an anonymous kernel object")
