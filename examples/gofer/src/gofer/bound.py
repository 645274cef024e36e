"""A Unix socket this client has bound in the gofer's tree."""

from __future__ import annotations

import select
import socket

from gofer.mounted import MountedTree
from gofer.protocol import Bound


class BoundSocket:
    """What `socket.socket` offers of a server's socket, which is in another process. A context manager."""

    def __init__(self, tree: MountedTree, bound: Bound, kind: int) -> None:
        self._tree = tree
        self._fid = bound.bound
        self._kind = kind
        self._host = bound.host
        tree.release([bound.inode.fid])

    def fileno(self) -> int:
        """To wait on, with select or an event loop: readable when there is a connection, or a datagram."""
        return self._host.fileno()

    def listen(self, backlog: int = 128) -> None:
        """As socket.listen."""
        self._tree.gofer.listen(self._fid, backlog)

    def accept(self, timeout: float | None = None) -> tuple[socket.socket, bytes]:
        """The next connection and its address; waits up to `timeout` seconds for it, None for ever.

        Raises TimeoutError.
        """
        while True:
            try:
                accepted = self._tree.gofer.accept(self._fid)
            except BlockingIOError:
                if not select.select([self], [], [], timeout)[0]:
                    raise TimeoutError("nobody has connected") from None
                continue
            connection = socket.socket(fileno=accepted.connection.detach())
            connection.setblocking(True)
            return connection, accepted.peer

    def datagrams(self) -> socket.socket:
        """Of SOCK_DGRAM: the socket itself, to send and receive with."""
        return socket.socket(socket.AF_UNIX, self._kind, fileno=socket.dup(self._host.fileno()))

    def close(self) -> None:
        """Give it back; its name stays. Idempotent."""
        if not self._host.closed:
            self._host.close()
            self._tree.close_fids([self._fid])

    def __enter__(self) -> BoundSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
