"""Unix sockets in the tree, and the host's own descriptors of files: what is handed over rather than proxied.

Both are off unless the operator allows them. A socket or a file once handed over is out of this process's hands:
what its client does with it, no rule here is asked about.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat

from flipcall import Fd
from gofer import syscalls
from gofer.fids import Kind
from gofer.operations import ALWAYS, WALK, directory, error
from gofer.protocol import Accepted, Bound, Owner, Place
from gofer.xattrs import Xattrs

_KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
_BACKLOG_MAX = 4096
_PATH_MAX = 107
"""Bytes of a socket's path (unix(7)): here /proc/self/fd/N/ and the name."""


class Sockets(Xattrs):
    """The operations that answer with descriptors, and those of bound sockets."""

    def donate(self, fid: int) -> Fd:
        if not self._export.donate:
            raise error(errno.EPERM)
        with self._fids.opened(fid) as handle, handle.node.reading:
            # A directory's descriptor would lead out of the tree (`..`), a FIFO's or device's is not worth it.
            if handle.type != stat.S_IFREG:
                raise error(errno.EPERM)
            # A new open file description: what the client makes of position and flags stays the client's.
            flags = fcntl.fcntl(handle.fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND)
            return Fd(self._export.reopen(handle.fd, flags | ALWAYS))

    def connect(self, fid: int, kind: int) -> Fd:
        self._check_sockets(kind)
        with self._fids.control(fid) as handle, self._tree.here.lock, handle.node.reading:
            if handle.type != stat.S_IFSOCK:
                raise error(errno.ECONNREFUSED)
            made = _socket(kind)
            try:
                made.connect(self._export.link_to(handle.fd))
                return Fd(made.detach())
            finally:
                made.close()

    def bind(self, at: Place, kind: int, mode: int, owner: Owner | None) -> Bound:
        self._check_sockets(kind)
        self._check_new(at.name, mode, owner)
        with self._fids.control(at.fid) as parent, self._fids.batch(2) as new:
            path = os.fsencode(self._export.link_to(directory(parent).fd)) + b"/" + at.name
            if len(path) > _PATH_MAX:
                raise error(errno.ENAMETOOLONG)
            with self._tree.change(parent.node):
                made = _socket(kind)
                try:
                    os.fchmod(made.fileno(), mode)  # which bind(2) gives the name, less the umask
                    made.bind(path)
                    inode = self._adopt(new, fd := syscalls.open_beneath(parent.fd, at.name, WALK))
                    self._give(fd, owner, parent.fd, at.name)
                    host = Fd.dup(made)
                    node = self._tree.node(inode.stat.dev, inode.stat.ino)
                    bound = new.add(made.detach(), Kind.BOUND, stat.S_IFSOCK, node)
                finally:
                    made.close()
        return Bound(inode, bound, host)

    def listen(self, fid: int, backlog: int) -> None:
        if not 0 <= backlog <= _BACKLOG_MAX:
            raise error(errno.EINVAL)
        with self._fids.bound(fid) as handle, handle.node.reading, _borrowed(handle.fd) as bound:
            bound.listen(backlog)

    def accept(self, fid: int) -> Accepted:
        with self._fids.bound(fid) as handle, handle.node.reading, _borrowed(handle.fd) as bound:
            # Never waits: the client has the socket's descriptor, to wait on.
            connection, address = bound.accept()
        name = os.fsencode(address) if isinstance(address, str) else bytes(address or b"")
        return Accepted(Fd(connection.detach()), name)

    def _check_sockets(self, kind: int) -> None:
        if not self._export.sockets:
            raise error(errno.EPERM)
        if kind not in _KINDS:
            raise error(errno.EINVAL)


def _socket(kind: int) -> socket.socket:
    return socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


class _borrowed:
    """A descriptor of the FID table's as a socket, which it is again afterwards."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def __enter__(self) -> socket.socket:
        return self._socket

    def __exit__(self, *exc: object) -> None:
        self._socket.detach()
