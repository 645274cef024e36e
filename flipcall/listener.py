"""The listening Unix socket: made with mode 0600, a stale one replaced, only one's own removed (unix(7))."""

import contextlib
import errno
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from typing import Protocol

_Socket = socket.socket
_BACKLOG = 4096  # the kernel takes net.core.somaxconn, if that is less
_PATH_MAX = 107  # bytes, and a NUL (unix(7))


class Source(Protocol):
    """Where a server's connections come from: a Listener, or in a worker the dispatcher (handover.py)."""

    socket: _Socket  # readable when accept() has something to do

    def accept(self) -> _Socket:
        """The next connection. Raises BlockingIOError when there is none, OSError."""
        ...

    def left(self, connection: _Socket) -> None:
        """A connection that came from here has ended. Any thread."""
        ...

    def close(self) -> None:
        """Take no more. Idempotent."""
        ...

    def disown(self) -> None:
        """In a forked child: it is the parent's."""
        ...


class Listener:
    """A bound, listening socket at `path`."""

    def __init__(self, path: str, mode: int = 0o600) -> None:
        """Raises OSError: EADDRINUSE when a server answers there or something else has that name, and others."""
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # On the socket before bind(2), so that there is no moment in which others may connect.
            os.fchmod(self.socket.fileno(), mode)
            with _one_at_a_time(path):
                self._bind()
        except BaseException:
            self.socket.close()
            raise

    def _bind(self) -> None:
        """Listen, then take the name: whoever sees it can connect, and a stale one is replaced in one step."""
        if len(os.fsencode(self.path)) > _PATH_MAX:
            raise OSError(errno.ENAMETOOLONG, f"{self.path}: more than {_PATH_MAX} bytes")
        if os.path.lexists(self.path) and not _is_stale(self.path):
            raise OSError(errno.EADDRINUSE, f"{self.path}: {os.strerror(errno.EADDRINUSE)}")
        made = os.path.join(os.path.dirname(self.path), f".{secrets.token_hex(2)}")
        try:
            self.socket.bind(made)
        except OSError as e:
            raise OSError(e.errno, f"{self.path}: {e.strerror or e}") from None
        try:
            self.socket.listen(_BACKLOG)
            status = os.stat(made)
            self._inode = (status.st_dev, status.st_ino)
            os.rename(made, self.path)
        except BaseException:
            os.unlink(made)
            raise

    def accept(self) -> _Socket:
        """The next connection. Raises BlockingIOError when there is none, OSError."""
        return self.socket.accept()[0]

    def left(self, connection: _Socket) -> None:
        """A connection has ended: nobody else wants to know."""

    def close(self) -> None:
        """Close, and remove the name if it is still this socket's. Idempotent.

        The name goes first: while the socket listens nobody takes it for stale, and its inode's number cannot be
        another's.
        """
        if self.socket.fileno() < 0:
            return
        try:
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == self._inode:
                os.unlink(self.path)
        except OSError:
            pass  # it has gone, or the directory has
        self.socket.close()

    def disown(self) -> None:
        """In a forked child: close the descriptor and leave the name to the parent."""
        self.socket.close()


@contextlib.contextmanager
def _one_at_a_time(path: str) -> Iterator[None]:
    """Of several servers starting on one stale socket, the second must not remove what the first has just made:
    the directory is locked (flock(2)) between the look and the bind. One that cannot be read cannot be locked.
    """
    try:
        fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _is_stale(path: str) -> bool:
    """Whether `path` is a socket that nobody listens on."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
