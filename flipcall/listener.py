"""The listening Unix socket: made with mode 0600, a stale one replaced, only one's own removed (unix(7))."""

import errno
import os
import socket
import stat

_BACKLOG = 128


class Listener:
    """A bound, listening socket at `path`."""

    def __init__(self, path: str, mode: int = 0o600) -> None:
        """Raises OSError: EADDRINUSE when a server answers there or something else has that name, and others."""
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # On the socket before bind(2), so that there is no moment in which others may connect.
            os.fchmod(self.socket.fileno(), mode)
            try:
                self.socket.bind(path)
            except OSError as e:
                if e.errno != errno.EADDRINUSE or not _is_stale(path):
                    raise OSError(e.errno, f"{path}: {e.strerror}") from None
                os.unlink(path)
                self.socket.bind(path)
            status = os.stat(path)
            self._inode = (status.st_dev, status.st_ino)
            self.socket.listen(_BACKLOG)
        except BaseException:
            self.socket.close()
            raise

    def close(self) -> None:
        """Close, and remove the name if it is still this socket's. Idempotent."""
        if self.socket.fileno() < 0:
            return
        self.socket.close()
        try:
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == self._inode:
                os.unlink(self.path)
        except FileNotFoundError:
            pass

    def disown(self) -> None:
        """In a forked child: close the descriptor and leave the name to the parent."""
        self.socket.close()


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
