"""Control: a channel's control socket (flipcall.control) in an event loop, which reads it whenever it is
readable."""

import socket
from collections import deque
from typing import Any

from .._core import lib
from ..control import MESSAGE
from ..fds import SCM_MAX_FD, close_fds, collect

_RING = bytes(lib.FC_RING_BYTES)
_AT_ONCE = (
    64  # messages read in one pass of the loop: a peer that rings without end gets no more than its turn
)
_KEPT = 16  # messages with descriptors: an honest peer has one under way, and some whose call was given up
_ANCILLARY = socket.CMSG_LEN(SCM_MAX_FD * 4)

Message = tuple[int, list[Any], int, Any]


class Control(socket.socket):
    """Takes a connected socket over. Rings are dropped when heard; what comes between them is kept in its
    order, and read by recvmsg_into(), for flipcall.control.take(), before what has not been heard yet.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self._kept: deque[tuple[bytes, Message]] = deque()

    def hear(self) -> bool:
        """Read what there is; False when the peer has hung up. Never waits."""
        for _ in range(_AT_ONCE):
            buffer = bytearray(MESSAGE.size)
            try:
                message = super().recvmsg_into(
                    [buffer], _ANCILLARY, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return True
            except OSError:
                return False
            size, ancillary, told, _ = message
            if size == 0:
                return False
            if ancillary or told & socket.MSG_CTRUNC or buffer != _RING:
                self._kept.append((bytes(buffer[:size]), message))
                if len(self._kept) > _KEPT:
                    self._drop_one()
        return True

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> Message:
        """See socket.socket.recvmsg_into."""
        if not self._kept:
            return super().recvmsg_into(buffers, ancbufsize, flags)
        data, message = self._kept.popleft()
        memoryview(buffers[0])[: len(data)] = data
        return message

    def _drop_one(self) -> None:
        _, fds, _, _ = collect(self, bytearray(MESSAGE.size), SCM_MAX_FD)
        close_fds(fds)

    def close(self) -> None:
        """Close it, and the descriptors that nobody has taken."""
        while self._kept:
            self._drop_one()
        super().close()
