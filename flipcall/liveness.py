"""How one side notices that the other's process is gone: a pidfd, a socket's hang-up, or both.

A pidfd names one process for ever, so a reused pid is never mistaken for the peer; it wants the pid to be visible
in this pid namespace. A socket's hang-up works across namespaces, but only comes when the *last* holder closes
it, and a child the peer forked holds it too. Hence both, where there are both.
"""

import errno
import os
import select
import struct
import warnings
from socket import SO_PEERCRED, SOL_SOCKET
from socket import socket as UnixSocket

from .errors import ClosedError, FlipcallError, MisuseError, PeerDiedError, UnsupportedError

SO_PEERPIDFD = 77  # Linux 6.5, include/uapi/asm-generic/socket.h; no race with a reused pid
_UCRED = struct.Struct("iII")
_DYING_MS = 50


class Peer:
    """Who is on the other end of a Unix socket, by the kernel's word (SO_PEERCRED, unix(7)).

    pid is 0 when that process is not visible here (another pid namespace).
    """

    __slots__ = ("gid", "pid", "uid")

    def __init__(self, pid: int, uid: int, gid: int) -> None:
        self.pid = pid
        self.uid = uid
        self.gid = gid

    @classmethod
    def of(cls, sock: UnixSocket) -> "Peer":
        """The process that connected (or listened on) the other end of `sock`."""
        return cls(*_UCRED.unpack(sock.getsockopt(SOL_SOCKET, SO_PEERCRED, _UCRED.size)))

    def __repr__(self) -> str:
        return f"Peer(pid={self.pid}, uid={self.uid}, gid={self.gid})"


def hang_up(peer: Peer, what: str) -> FlipcallError:
    """The error for a stream that `peer` has closed: PeerDiedError when its process is gone, else ClosedError.

    A dying process closes its files a moment before its pidfd tells, so that is waited for, 50 ms at most.
    """
    if peer.pid:
        try:
            life = Liveness(peer.pid)
        except ProcessLookupError:
            return PeerDiedError(f"{what}: the peer (process {peer.pid}) is gone", peer.pid)
        except UnsupportedError:
            return ClosedError(what)
        try:
            ending = select.poll()
            ending.register(life.pidfd, select.POLLIN)
            if ending.poll(_DYING_MS):
                return PeerDiedError(f"{what}: the peer (process {peer.pid}) is gone", peer.pid)
        finally:
            life.close()
    return ClosedError(f"{what} (process {peer.pid or '?'} lives on)")


def _peer_pidfd(sock: UnixSocket) -> int:
    """A pidfd of the process that connected or listened on the other end. Raises OSError."""
    try:
        pidfd = sock.getsockopt(SOL_SOCKET, SO_PEERPIDFD)
    except OSError:  # before Linux 6.5
        pid = Peer.of(sock).pid
        if not pid:
            raise
        return os.pidfd_open(pid)
    os.set_inheritable(pidfd, False)
    return pidfd


class Liveness:
    """Descriptors that tell when the peer is gone. Owns its pidfd; borrows the socket, which must outlive it."""

    __slots__ = ("pid", "pidfd", "socket")

    def __init__(self, pid: int | None = None, socket: UnixSocket | None = None) -> None:
        """Watch process `pid`, the other end of `socket`, or both.

        Raises ProcessLookupError when the process is gone already, UnsupportedError without pidfds (Linux 5.3),
        OSError (EMFILE: no descriptor left; EINVAL: not the number of a process).
        """
        self.socket = socket
        self.pid = pid or 0
        self.pidfd = -1
        if pid:
            try:
                self.pidfd = os.pidfd_open(pid)
            except OSError as e:
                if e.errno not in (errno.ENOSYS, errno.EPERM):  # an old kernel, or a seccomp filter
                    raise
                raise UnsupportedError(f"cannot watch process {pid}: pidfd_open: {e.strerror}") from e

    @classmethod
    def of(cls, sock: UnixSocket, pid: int = 0) -> "Liveness":
        """Watch the process at the other end of a connected Unix socket, and the socket.

        pid: of that process, where it is another than the one that connected or listened.
        """
        other = Peer.of(sock).pid
        life = cls(socket=sock)
        life.pid = pid or other
        try:
            life.pidfd = _peer_pidfd(sock) if life.pid == other else os.pidfd_open(life.pid)
        except OSError:  # gone, or not to be watched: its hang-up will tell
            pass
        return life

    @classmethod
    def of_parent(cls, pid: int) -> "Liveness":
        """Watch process `pid`, which was this one's parent. Raises MisuseError when it has ended already, or is in
        another pid namespace.
        """
        if not pid:
            raise MisuseError("the parent process is not visible here (another pid namespace)")
        try:
            life = cls(pid)
        except ProcessLookupError:
            raise MisuseError("the parent process has ended already") from None
        if os.getppid() != pid:
            life.close()
            raise MisuseError("the parent process has ended already")
        return life

    @classmethod
    def named(cls, pid: int) -> "Liveness":
        """Watches nothing, but knows whom to name in errors: somebody else watches."""
        life = cls()
        life.pid = pid
        return life

    def close(self) -> None:
        """Close the pidfd. Idempotent."""
        fd, self.pidfd = self.pidfd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "pidfd", -1) >= 0:
            warnings.warn(
                f"unclosed Liveness of process {self.pid}", ResourceWarning, source=self, stacklevel=2
            )
            self.close()
