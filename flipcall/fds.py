"""Sending and receiving descriptors over a Unix socket (unix(7), SCM_RIGHTS; cmsg(3)).

Theory. A received descriptor is open in this process before any line of Python has seen its number.
Whatever is not closed on an error path is leaked for good, and a peer that provokes such paths on purpose
runs us out of descriptors. So there is one place that receives: it gives the kernel room for exactly as
many as are expected, collects all that came before it judges anything, and closes all of them unless it
returns them.

The kernel says MSG_CTRUNC when it had to drop some, for one of two reasons that need different answers:
the peer sent more than there was room for (the peer's fault), or this process could not take one more
(ours, EMFILE). Room that was filled tells the first from the second.

Rejected: socket.recv_fds. It leaves MSG_CMSG_CLOEXEC and MSG_CTRUNC to the caller, and rounds its room up
(CMSG_SPACE), where one more descriptor than asked for fits.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Sequence

from .errors import MisuseError, ProtocolError

SCM_MAX_FD = 253  # descriptors in one message (unix(7))
_INT = struct.Struct("=i")
_UCRED = struct.Struct("=iII")  # pid, uid, gid


def send_fds(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """Send all of `data`, and `fds` with its first byte. The descriptors stay the caller's.

    `data` is not empty: a stream carries descriptors only with bytes. Raises MisuseError (no data, more
    than 253 descriptors), OSError (EBADF, EPIPE, ETOOMANYREFS, ...), TimeoutError by the socket's
    timeout. After an error on a stream, part of the data may have gone: close it.
    """
    if not data:
        raise MisuseError("descriptors travel with at least one byte of data")
    if len(fds) > SCM_MAX_FD:
        raise MisuseError(f"{len(fds)} descriptors in one message; the maximum is {SCM_MAX_FD}")
    sent = sock.sendmsg([data], rights_of(fds), socket.MSG_NOSIGNAL)
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:], socket.MSG_NOSIGNAL)


def rights_of(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """The ancillary data that carries `fds`, for sendmsg()."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"={len(fds)}i", *fds))] if fds else []


def recv_fds(sock: socket.socket, size: int, max_fds: int) -> tuple[bytes, list[int]]:
    """One recvmsg(2): at most `size` bytes and `max_fds` descriptors, which are the caller's, close-on-exec.

    b"" means that the peer has closed. The socket must not have SO_PASSCRED or another option that adds
    control messages: there is no room for them.

    Raises ProtocolError (more descriptors than `max_fds`, or a datagram longer than `size`), OSError with
    EMFILE (this process is out of descriptors), OSError and TimeoutError as recvmsg does. On every error all
    descriptors that came have been closed.
    """
    data, fds, _ = _receive(sock, size, max_fds, 0)
    return data, fds


def recv_fds_and_sender(sock: socket.socket, size: int, max_fds: int) -> tuple[bytes, list[int], int]:
    """As recv_fds, for a socket with SO_PASSCRED, and who has sent it: by the kernel's word the number of the
    process, 0 when unknown or not visible here.
    """
    return _receive(sock, size, max_fds, socket.CMSG_SPACE(_UCRED.size))


def _receive(sock: socket.socket, size: int, max_fds: int, room: int) -> tuple[bytes, list[int], int]:
    if size <= 0 or not 0 <= max_fds <= SCM_MAX_FD:
        raise MisuseError(f"cannot receive {size} bytes with up to {max_fds} descriptors")
    data = bytearray(size)
    got, fds, flags, sender = collect(sock, data, max_fds, room=room)
    try:
        if len(fds) > max_fds or (flags & socket.MSG_CTRUNC and len(fds) == max_fds):
            raise ProtocolError(f"the peer sent more descriptors than the {max_fds} expected")
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, f"took {len(fds)} of the descriptors sent, and can take no more")
        if flags & socket.MSG_TRUNC:
            raise ProtocolError(f"the peer sent a message longer than the {size} bytes expected")
    except BaseException:
        close_fds(fds)
        raise
    return bytes(data[:got]), fds, sender


def collect(
    sock: socket.socket, into: bytearray | memoryview, max_fds: int, flags: int = 0, room: int = 0
) -> tuple[int, list[int], int, int]:
    """One recvmsg(2) that judges nothing: bytes read into `into`, the descriptors, which are the caller's and
    close-on-exec, the flags, and the sender's pid if there is `room` for that, too. MSG_CTRUNC among the flags:
    more were sent, and the room (max_fds) or this process was too small.

    Raises OSError and TimeoutError as recvmsg does; nothing has come then.
    """
    # CMSG_LEN and not CMSG_SPACE: its padding would hold a descriptor more.
    room += socket.CMSG_LEN(max_fds * _INT.size) if max_fds else 0
    fds: list[int] = []
    sender = 0
    size, ancillary, told, _ = sock.recvmsg_into([into], room, socket.MSG_CMSG_CLOEXEC | flags)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = len(payload) - len(payload) % _INT.size
            fds.extend(fd for (fd,) in _INT.iter_unpack(payload[:whole]))
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            sender = _UCRED.unpack(payload)[0]
    return size, fds, told, sender


def close_fds(fds: Iterable[int]) -> None:
    """Close every one, whatever happens to the others."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass  # EINTR and EIO of close(2) come after the descriptor is gone; EBADF: it was gone already
