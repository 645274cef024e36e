"""A process that removes the socket's name when the gofer has ended, however it ended.

The gofer itself cannot: once confined, it may make and remove nothing beside its tree. So before that it leaves
behind a child that waits for the end of a pipe, which comes with the gofer's, and then removes the name if it is
still that socket's. A name somebody else has taken meanwhile is left alone: the directory is locked while it
looks, as flipcall's listener locks it to take a name (flock(2)).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from typing import NoReturn


class Janitor:
    """The child. Make it before any thread is started."""

    def __init__(self, path: str) -> None:
        """`path` is of the socket, which exists."""
        path = os.path.abspath(path)
        inode = _inode(path)
        waiting, self._held = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            _clean(path, inode, waiting)
        os.close(waiting)

    def finish(self) -> None:
        """Have it done now, and wait for that: at the gofer's ordinary end."""
        os.close(self._held)
        os.waitpid(self._pid, 0)


def _clean(path: str, inode: tuple[int, int], waiting: int) -> NoReturn:
    """What the child does."""
    try:
        os.setsid()  # Ctrl-C is for the gofer
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.chdir("/")
        os.dup2(waiting, 0)
        os.closerange(1, 1 << 16)  # the socket among them: nobody listens on it when the gofer does not
        while os.read(0, 1):
            pass
        _remove(path, inode)
    finally:
        os._exit(0)


def _remove(path: str, inode: tuple[int, int]) -> None:
    with contextlib.suppress(OSError):
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        if _inode(path) == inode:
            os.unlink(path)


def _inode(path: str) -> tuple[int, int]:
    info = os.lstat(path)
    return info.st_dev, info.st_ino
