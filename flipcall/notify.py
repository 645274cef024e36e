"""The `notify` switch's descriptors: what a client process makes and its server adopts (core/switch_notify.c).

    client process                                     server process
      one filter, one listener, for ever       ───►      one shared end a client process
      a NotifyLink an endpoint: index, bell    ───►      a NotifyLink an endpoint, the bell's other end

What it does to the client process, which is why it is never chosen by itself:
- a seccomp filter that cannot be taken off, for every thread and every child to come, and no_new_privs, so that
  set-user-ID programs started from there no longer change user. Each system call costs some 40 ns more;
- whoever holds the listener can answer the one call it traps, and, while a thread is trapped, put descriptors
  into the process in place of its own (SECCOMP_IOCTL_NOTIF_ADDFD). *A client that uses this switch trusts its
  server.* It is not for a server that is there to be contained.

A process has one listener, so it has one server at a time; further channels to the same server share it.
"""

import errno
import fcntl
import itertools
import os
import secrets
import socket
import threading
import weakref
from typing import Any

from ._core import ffi, lib
from .errors import MisuseError, ProtocolError, UnsupportedError

_WHY = {
    errno.EBUSY: "this thread has a seccomp listener already, and the kernel allows it one",
    errno.EINVAL: "this kernel has no SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (Linux 6.6)",
    errno.ENOTTY: "this kernel has no SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (Linux 6.6)",
    errno.ENOSYS: "no seccomp here, or not for this processor",
    errno.EACCES: "no_new_privs could not be set",
    errno.EPROTO: "another seccomp filter answers the trapped call, or the kernel numbers notifications otherwise",
}
_LISTENER = "anon_inode:seccomp notify"  # kernel/seccomp.c, anon_inode_getfile()
_IDENTITY = 16  # bytes

_lock = threading.Lock()  # everything below
_links: "weakref.WeakSet[NotifyLink]" = weakref.WeakSet()
_indices = itertools.count(1)
_identity = b""  # of this process's listener
_shared: "dict[tuple[int, bytes], _Listener]" = {}  # by client: process and identity


class _Listener:
    """The server's end of one client process's listener. Owns descriptor and eventfd; counted."""

    def __init__(self, fd: int, key: tuple[int, bytes]) -> None:
        self.fd = fd
        self.key = key
        self.links = 0
        self.baton = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.core = ffi.new("struct fc_listener *")
        lib.fc_listener_init(self.core, fd, self.baton)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.baton)


class NotifyLink:
    """One endpoint's part in the switch: Endpoint(..., notify=link), which owns it then.

    Client: link = NotifyLink.make(); send `link.identity` and, as descriptors, `link.descriptors()`; link.sent().
    Server: NotifyLink.adopt(descriptors, identity).
    """

    def __init__(self, bell: socket.socket, index: int, identity: bytes) -> None:
        self.index = index
        self.identity = identity
        self.server_pid = 0
        self._bell = bell
        self._theirs: socket.socket | None = None
        self._listener: _Listener | None = None
        self._core = ffi.new("struct fc_notify_end *")
        self._ep: Any = None
        self._closed = False
        self.used = False  # an endpoint owns it

    # ---- the client -------------------------------------------------------------------------------------

    @classmethod
    def make(cls, server_pid: int = 0) -> "NotifyLink":
        """A link to process `server_pid` (0: unknown); the first one of a process installs its filter, for good.

        Raises UnsupportedError when that cannot be, or another server has the listener now.
        """
        with _lock:
            _install()
            open_links = (link for link in _links if link._listener is None and not link._core.gone)
            others = {link.server_pid for link in open_links} - {server_pid}
            if others:
                raise UnsupportedError(
                    f"switch notify: this process's listener serves process {others.pop() or '?'} now, and can "
                    f"serve one at a time"
                )
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            link = cls(ours, next(_indices), _identity)
            link.server_pid = server_pid
            link._theirs = theirs
            _links.add(link)
            return link

    def descriptors(self) -> tuple[int, int]:
        """What the server adopts: the listener and its end of the bell. They stay this link's."""
        if self._theirs is None:
            raise MisuseError("the descriptors of this link have been sent")
        return lib.fc_notify_install(), self._theirs.fileno()

    def sent(self) -> None:
        """The server has them: close its end of the bell here, so that its death hangs up."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    # ---- the server -------------------------------------------------------------------------------------

    @classmethod
    def adopt(cls, descriptors: "tuple[int, int] | list[int]", identity: bytes, pid: int = 0) -> "NotifyLink":
        """What client process `pid` has sent. The descriptors are this link's from now on, errors included.

        Raises ProtocolError when they are not what they should be.
        """
        listener, bell_fd = descriptors
        try:
            bell = socket.socket(fileno=bell_fd)
        except OSError:
            os.close(bell_fd)
            os.close(listener)
            raise ProtocolError("the bell of a notify switch is not a socket", pid) from None
        link = cls(bell, 0, identity)
        if not _is_listener(listener) or not _is_bell(bell) or len(identity) != _IDENTITY:
            os.close(listener)
            bell.close()
            raise ProtocolError(
                "the descriptors of a notify switch are not a seccomp listener and its bell", pid
            )
        with _lock:
            key = (pid, identity)
            shared = _shared.get(key)
            if shared is None:
                shared = _shared[key] = _Listener(listener, key)
            else:
                os.close(listener)
            shared.links += 1
            link._listener = shared
            _links.add(link)
        return link

    # ---- both, called by the endpoint -------------------------------------------------------------------

    def join(self, ep: Any, index: int) -> int:
        """Have the C endpoint use this link; an enum fc_result. index: of the channel, as the client says."""
        if self._listener is None:
            self.sent()
            result: int = lib.fc_notify_client(ep, self._core, self._bell.fileno(), index)
        else:
            result = lib.fc_notify_server(ep, self._core, self._listener.core, self._bell.fileno(), index)
        if result == lib.FC_OK:
            self._ep = ep
        return result

    def close(self) -> None:
        """Leave, and close what this link owns. Nobody is inside the endpoint, or will be. Idempotent."""
        with _lock:
            if self._closed:
                return
            self._closed = True
            _links.discard(self)
            if self._ep is not None:
                lib.fc_notify_leave(self._ep)
            self._bell.close()
            self.sent()
            if self._listener is not None:
                self._listener.links -= 1
                if not self._listener.links:
                    del _shared[self._listener.key]
                    self._listener.close()


def _install() -> None:
    global _identity
    result: int = lib.fc_notify_install()
    if result < 0:
        code = -result
        why = _WHY.get(code, os.strerror(code))
        raise UnsupportedError(f"switch notify cannot work here: {why} ({errno.errorcode.get(code, code)})")
    if not _identity:
        _identity = secrets.token_bytes(_IDENTITY)


def _is_listener(fd: int) -> bool:
    """Anything else could be made readable for ever, or block (a FUSE file's ioctl)."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        return os.readlink(f"/proc/self/fd/{fd}") == _LISTENER
    except OSError:
        return False


def _is_bell(sock: socket.socket) -> bool:
    return sock.family == socket.AF_UNIX and sock.type == socket.SOCK_SEQPACKET


def _after_fork() -> None:
    """In a child: what it has inherited would keep parent and peer from noticing each other's end."""
    global _identity, _lock
    _lock = threading.Lock()
    _identity = b""
    for link in list(_links):
        link._closed = True
        link._bell.close()
        link.sent()
    for shared in _shared.values():
        shared.close()
    _shared.clear()
    _links.clear()


os.register_at_fork(after_in_child=_after_fork)
