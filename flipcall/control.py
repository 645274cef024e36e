"""The control socket of a channel, once hands were shaken: messages of eight bytes, beside the packet window.

    u32 call_id, u32 count   with `count` descriptors, sent before the frame of that call which has FC_FLAG_FDS
    u32 0, u32 0             a ring of the doorbell (flipcall.asyncio), without any

The window carries no descriptors, and the frame cannot wait for them: so they go first, and are there when the
frame is. The number of the call ties the two together; messages of other calls (one whose answer nobody waited
for) are dropped on the way. Nothing here ever waits, whatever the peer does: what does not fit the socket's
buffer is a peer that has not read for hundreds of messages, and what has not come was never sent.

A peer can send descriptors without announcing any: they stay in the kernel until the next announced ones are
taken, or the channel ends, and are never this process's.
"""

import errno
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from .errors import CallError, ClosedError, MisuseError, ProtocolError
from .fd import Fd
from .fds import SCM_MAX_FD, close_fds, collect, rights_of
from .rights import Rights
from .status import Status

MESSAGE = struct.Struct("=II")
_MOST = 1024  # messages looked at for the one announced: more than a socket's buffer holds


def hand_over(sock: socket.socket, call_id: int, fds: Sequence[Fd]) -> None:
    """Send the descriptors of a message of call `call_id`, before its frame is given.

    All or nothing. Raises CallError (RESOURCE_EXHAUSTED: too many are under way), MisuseError (a number that is
    not open), with nothing sent; ProtocolError for a peer that does not read, ClosedError.
    """
    try:
        sent = sock.sendmsg(
            [MESSAGE.pack(call_id, len(fds))],
            rights_of([fd.fileno() for fd in fds]),
            socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
        )
    except BlockingIOError:
        raise ProtocolError("the peer does not read the descriptors sent to it") from None
    except OSError as e:
        raise unsent(e, len(fds)) from None
    if sent != MESSAGE.size:
        raise ProtocolError("the peer does not read the descriptors sent to it")
    for fd in fds:
        fd.mark_sent()


def unsent(error: OSError, count: int) -> Exception:
    """What it means that descriptors could not be sent."""
    if error.errno in (errno.ETOOMANYREFS, errno.ENOMEM, errno.ENOBUFS):
        what = f"{count} descriptors cannot be sent: {error.strerror}"
        return CallError(Status.RESOURCE_EXHAUSTED, what)
    if error.errno in (errno.EPIPE, errno.ECONNRESET):
        return ClosedError("the peer closed the control socket")
    return MisuseError(f"one of {count} descriptors cannot be sent: {error.strerror}")


def take(sock: socket.socket, call_id: int) -> Rights:
    """The descriptors that a frame of call `call_id` announced. Never waits.

    Raises ProtocolError: none came, or another number of them than was said.
    """
    for _ in range(_MOST):
        message = _next(sock)
        if message is None:
            raise ProtocolError("descriptors were announced and did not come")
        if message.call_id == call_id:
            return message.rights()
        close_fds(message.fds)  # a ring, or a call's that nobody waits for any more
    raise ProtocolError(f"{_MOST} messages on the control socket, and none of this call")


class _Message(NamedTuple):
    """One of them, as it came. fds: the receiver's to close."""

    call_id: int
    announced: int
    fds: list[int]
    cut: bool  # there were more than this process could take

    def rights(self) -> Rights:
        """Its descriptors. Raises ProtocolError when they are not what it says; all are closed then."""
        if self.cut and len(self.fds) < self.announced <= SCM_MAX_FD:
            close_fds(self.fds)
            return Rights(lost=True)
        if not self.fds or len(self.fds) != self.announced:
            close_fds(self.fds)
            raise ProtocolError(f"{len(self.fds)} descriptors came, {self.announced} were announced")
        return Rights(self.fds)


def _next(sock: socket.socket) -> _Message | None:
    """The next message; None when there is none, or will be no more. Raises ProtocolError for a part of one."""
    buffer = bytearray(MESSAGE.size)
    try:
        size, fds, flags, _ = collect(sock, buffer, SCM_MAX_FD, socket.MSG_DONTWAIT)
    except (BlockingIOError, ConnectionResetError):
        return None
    if size == MESSAGE.size:
        call_id, announced = MESSAGE.unpack(buffer)
        return _Message(call_id, announced, fds, bool(flags & socket.MSG_CTRUNC))
    close_fds(fds)
    if size:
        raise ProtocolError(f"a message of {size} bytes on the control socket")
    return None


class Inbox:
    """For a side that reads its control socket whenever something is there, as an event loop does, and so before a
    frame has announced it: keeps the descriptors that came last until they are taken. One thread at a time.

    A peer can put 253 descriptors into this process unannounced, so it is for channels whose signatures have Fd;
    for others read without room for any.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._last: _Message | None = None

    def read(self) -> None:
        """Read what is there; rings have done their work with it. Never waits. Raises ProtocolError."""
        for _ in range(_MOST):
            message = _next(self._socket)
            if message is None:
                return
            if message.call_id == 0:
                close_fds(message.fds)
                continue
            self.close()
            self._last = message

    def take(self, call_id: int) -> Rights:
        """As the function take()."""
        self.read()
        message, self._last = self._last, None
        if message is None or message.call_id != call_id:
            close_fds(message.fds if message else ())
            raise ProtocolError("descriptors were announced and did not come")
        return message.rights()

    def close(self) -> None:
        """Close what nobody has taken. Idempotent."""
        message, self._last = self._last, None
        if message is not None:
            close_fds(message.fds)


def drop(sock: socket.socket) -> None:
    """Read and drop what is there: of a call whose answer has come too late. Never waits.

    Without room for descriptors: the kernel closes what comes, and this process never has it.
    """
    try:
        for _ in range(_MOST):
            if not sock.recv(4096, socket.MSG_DONTWAIT):
                return
    except OSError:
        return  # nothing more, or hung up: the next call finds out
