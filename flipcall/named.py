"""Named windows: for two programs that share nothing but a name.

Theory. A name in /dev/shm (shm_open(3)) outlives its maker, so unlike a memfd it can be *stale*, and it can
be fought over. Both are settled by three rules, which hold against SIGKILL between any two instructions:

1. Whoever changes what a name means (publishes, claims, reclaims, withdraws it) holds the file's lock
   (flock(2)) and, holding it, has seen that the file still has its one link. A file is linked at one place
   only, so then the name means this file, and unlinking the name unlinks this file and no other.
2. The lock is held for microseconds, never as a sign of life: a child inherits locks over fork, and would
   keep a dead maker alive. Life is the maker's pid and start time, written in the file.
3. The magic is written last. A file without it, whose lock can be had, is one whose maker died (or has not
   locked it yet, and will find the link gone, and start again).

    maker     ── O_EXCL ─▶ empty ── lock ─▶ [size, reserve, write, magic] ─ unlock ─▶ PUBLISHED ─ close ▶ gone
                             │ killed          │ killed                              │    │ killed
                             ▼                 ▼                                     │    ▼
    the next              lock, unlink      lock, unlink                             │  lock, unlink
                                                                                     ▼
    the other ───────────────────────────────────── lock, check, map, own pid, unlink ═▶ CONNECTED, no name

The unlink is the claim: of many that try, one finds a link under the lock. Nothing is left in /dev/shm
while two programs are connected, and after that the pages go with the last of them, as a memfd's do.

Trust. A file of shm_open cannot be sealed (fcntl(2): its seals are F_SEAL_SEAL from birth), so what stands
in for the seals is the owner and mode 0600: only programs of the same user get in. Such a program could
truncate the file and end us with SIGBUS, as it could with kill(2). For a peer of lesser trust use a memfd.
Another user can occupy a name first, which is WindowForeignError and not a way in.

Rejected: using the name only to find a memfd (open /proc/PID/fd/N of the maker). It would bring the seals
back, but needs ptrace-read access to the maker (proc(5)), which a maker that is not dumpable or a container
refuses. Rejected: POSIX record locks (fcntl(2), F_SETLK). They fall when *any* descriptor of the file is
closed in the process. Rejected: link(2) from a temporary name, atomic too, but what a killed maker leaves
has another name than the one the next maker looks at.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import re
import stat
import struct
import time
import weakref
from collections.abc import Iterator

import posix_ipc  # type: ignore[import-not-found, import-untyped, unused-ignore]

from .errors import ClosedError, MisuseError, WindowForeignError, WindowInUseError
from .process import ProcessId, pid_namespace
from .window import PacketWindow, check_extent, check_length, page_ceil

# The control page: the first page of the file; the window begins at the second. Only this module reads it.
# magic, version, maker's pid, its start time, its pid namespace, bytes of window
_HEADER = struct.Struct("=8sIIQQQ")
_MAGIC = b"flipcall"
_VERSION = 1
_PEER = struct.Struct("=IIQ")  # pid, zero, start time of the one that attached
_PEER_AT = 64
_WINDOW_AT = mmap.PAGESIZE

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_PAUSE_S = 0.001  # between two looks at a lock that is held for microseconds


class NamedWindow(PacketWindow):
    """One side of a named window; see NamedAllocator for the maker's, `open` for the other's.

    Closing the maker's side while nobody has attached takes the name away again. So does the end of the
    interpreter; after a kill the next one to use the name does.
    """

    def __init__(self, fd: int, length: int, name: str, maker: ProcessId | None) -> None:
        """`maker` is set on the side that attaches, None on the side that made the window."""
        self._peer = maker
        self._withdraw = weakref.finalize(self, _withdraw, fd, name, os.getpid())
        if maker is not None:
            self._withdraw.detach()
        super().__init__(fd, length, _WINDOW_AT, kind=f"named {name!r}")

    @classmethod
    def open(cls, name: str, *, timeout: float = 1.0) -> "NamedWindow":
        """Attach to the window another program made under `name`, and so remove the name.

        `timeout` (s) bounds the wait for other programs that are handling the same name at this moment.

        Raises FileNotFoundError (no such name: not made yet, or both sides are taken), WindowInUseError
        (another program was quicker, or holds the name for longer than `timeout`), WindowForeignError
        (another owner, open to others, not made by flipcall; or its maker is dead, and then the name has
        been removed), WindowTooSmallError, WindowTooLargeError, WindowTruncatedError, MisuseError (not a
        name), OSError. Unless it returns, nothing but a stale name has changed.
        """
        path = _path(name)
        fd = _shm_open(path, 0)
        try:
            with _locked(fd, name, timeout):
                maker, length = _inspect(fd, name, path)
                check_length(length)
                check_extent(os.fstat(fd), length, _WINDOW_AT)
                window = cls(os.dup(fd), length, name, maker)
                try:
                    os.pwrite(fd, _PEER.pack(os.getpid(), 0, ProcessId.current().start), _PEER_AT)
                    _unlink(path)
                except BaseException:
                    window.close()
                    raise
        finally:
            os.close(fd)
        return window

    @property
    def peer(self) -> ProcessId | None:
        """The process on the other side, as it says itself; None while nobody has attached.

        Raises ClosedError when closed before it was ever known.
        """
        if self._peer is None and os.fstat(self.fd).st_nlink == 0:
            pid, _, start = _PEER.unpack(os.pread(self.fd, _PEER.size, _PEER_AT))
            self._peer = ProcessId(pid, start)
        return self._peer

    def drop_fd(self) -> None:
        """See PacketWindow.drop_fd. Raises MisuseError while nobody has attached: the name needs it."""
        if self._fds and self.peer is None:
            raise MisuseError(f"nobody has attached to {self!r} yet: the descriptor is needed")
        self._withdraw.detach()
        super().drop_fd()

    def _before_close(self) -> None:
        self._withdraw()


class NamedAllocator:
    """Makes windows under one name, one at a time: the next when the last one has found its peer."""

    def __init__(self, name: str, *, timeout: float = 1.0) -> None:
        """`name`: 1 to 200 of A-Z a-z 0-9 _ . - (else MisuseError); it is flipcall.NAME in /dev/shm.

        `timeout` (s) bounds the wait for other programs that are handling the same name at this moment.
        """
        self._name, self._path, self._timeout = name, _path(name), timeout
        self._closed = False

    def allocate(self, length: int) -> NamedWindow:
        """See WindowAllocator.allocate. A stale name is reclaimed.

        Raises also WindowInUseError (the name is taken by a living program) and WindowForeignError (by
        something that is not ours).
        """
        if self._closed:
            raise ClosedError("the allocator is closed")
        check_length(length)
        length = page_ceil(length)
        maker, namespace = ProcessId.current(), pid_namespace()
        fd = self._create()
        try:
            # The umask may have taken bits from the mode shm_open was given.
            os.fchmod(fd, 0o600)
            os.ftruncate(fd, _WINDOW_AT + length)
            os.posix_fallocate(fd, 0, _WINDOW_AT + length)
            window = NamedWindow(os.dup(fd), length, self._name, None)
            try:
                header = _HEADER.pack(_MAGIC, _VERSION, *maker, namespace, length)
                os.pwrite(fd, header[len(_MAGIC) :], len(_MAGIC))
                os.pwrite(fd, _MAGIC, 0)
            except BaseException:
                window.close()
                raise
        except BaseException:
            if os.fstat(fd).st_nlink == 1:  # else it is withdrawn and the name may be another's by now
                _unlink(self._path)
            raise
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)
        return window

    def close(self) -> None:
        """See WindowAllocator.close."""
        self._closed = True

    def __repr__(self) -> str:
        return f"<NamedAllocator {self._name!r}, {'closed' if self._closed else 'open'}>"

    def _create(self) -> int:
        """A new empty file under the name, locked."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                fd = _shm_open(self._path, posix_ipc.O_CREX)
            except FileExistsError:
                self._reclaim()
            else:
                try:
                    if _try_lock(fd) and os.fstat(fd).st_nlink == 1:
                        return fd
                except BaseException:
                    os.close(fd)
                    raise
                os.close(fd)  # taken for a stale one before it was locked, and removed
            if time.monotonic() > deadline:
                raise WindowInUseError(f"other programs keep making and removing the window {self._name!r}")

    def _reclaim(self) -> None:
        """Remove the name if it is stale, return if it is gone already, raise if it is somebody's."""
        try:
            fd = _shm_open(self._path, 0)
        except FileNotFoundError:
            return
        try:
            with _locked(fd, self._name, self._timeout):
                try:
                    maker, _ = _inspect(fd, self._name, self._path)
                except (_Stale, _Gone):
                    return
                raise WindowInUseError(f"the window {self._name!r} is in use by process {maker.pid}")
        finally:
            os.close(fd)


class _Stale(WindowForeignError):
    """The maker is dead; the name has been removed."""


class _Gone(WindowInUseError):
    """The name was removed between opening and locking the file: somebody else attached, or reclaimed it."""


def _inspect(fd: int, name: str, path: str) -> tuple[ProcessId, int]:
    """Maker and length of a published window. The lock is held. Removes a stale name."""
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        raise WindowForeignError(f"the window {name!r} belongs to user {status.st_uid}")
    if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o077:
        raise WindowForeignError(f"the window {name!r} is open to others: {stat.filemode(status.st_mode)}")
    if status.st_nlink == 0:
        raise _Gone(f"both sides of the window {name!r} are taken")
    if status.st_nlink > 1:
        raise WindowForeignError(f"the window {name!r} has a second name")
    header = os.pread(fd, _HEADER.size, 0).ljust(_HEADER.size, b"\0")
    magic, version, pid, start, namespace, length = _HEADER.unpack(header)
    if magic == bytes(len(_MAGIC)):
        _unlink(path)
        raise _Stale(f"the maker of the window {name!r} died before it was ready; the name has been removed")
    if magic != _MAGIC or version != _VERSION:
        raise WindowForeignError(f"{name!r} is not a window of this version of flipcall")
    if namespace != pid_namespace():
        raise WindowForeignError(f"the window {name!r} was made in another pid namespace")
    maker = ProcessId(pid, start)
    if not maker.alive():
        _unlink(path)
        raise _Stale(f"the maker of the window {name!r}, process {pid}, is dead; the name has been removed")
    return maker, length


def _withdraw(fd: int, name: str, maker_pid: int) -> None:
    """Take the name away if nobody has attached. Does nothing in a forked child, which is not the maker."""
    if os.getpid() != maker_pid or os.fstat(fd).st_nlink == 0:
        return
    try:
        with _locked(fd, name, 1.0):
            if os.fstat(fd).st_nlink == 1:
                _unlink(_path(name))
    except WindowInUseError:
        # Somebody stopped while handling the name. Without its magic the next one to come takes it for stale.
        os.pwrite(fd, bytes(len(_MAGIC)), 0)


@contextlib.contextmanager
def _locked(fd: int, name: str, timeout: float) -> Iterator[None]:
    deadline = time.monotonic() + timeout
    while not _try_lock(fd):
        if time.monotonic() > deadline:
            raise WindowInUseError(f"the window {name!r} is being made or taken by another program")
        time.sleep(_PAUSE_S)
    try:
        yield
    finally:
        # Explicitly: a close would not do while a child forked at this moment holds a copy of the descriptor.
        fcntl.flock(fd, fcntl.LOCK_UN)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path(name: str) -> str:
    """The name for shm_open: with a prefix, so that nobody else's file is ever taken for a stale window."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise MisuseError(f"a window's name is 1 to 200 of A-Z a-z 0-9 _ . -, not {name!r}")
    return f"/flipcall.{name}"


def _shm_open(path: str, flags: int) -> int:
    """shm_open(3) by posix_ipc, with the exceptions every other system call has."""
    try:
        # The object does not close its descriptor when it goes: the number is ours to keep.
        fd: int = posix_ipc.SharedMemory(path, flags, mode=0o600).fd
    except posix_ipc.ExistentialError as exc:
        if flags & posix_ipc.O_EXCL:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from exc
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from exc
    except posix_ipc.PermissionsError as exc:
        raise WindowForeignError(f"{path} in /dev/shm belongs to another user") from exc
    except OSError as exc:
        if exc.errno is None:  # posix_ipc words EMFILE and ENFILE itself
            raise OSError(errno.EMFILE, str(exc)) from exc
        if exc.errno == errno.ELOOP:
            raise WindowForeignError(f"{path} in /dev/shm is a symbolic link") from exc
        raise
    return fd


def _unlink(path: str) -> None:
    try:
        posix_ipc.unlink_shared_memory(path)
    except posix_ipc.ExistentialError as exc:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from exc
