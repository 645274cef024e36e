"""Watcher: the thread that takes a server's connections and notices that its clients, or its parent, are gone."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .acceptor import Acceptor
from .listener import Source
from .liveness import Liveness

_HANG_UP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Watched(Protocol):
    """A channel of the server."""

    socket: socket.socket

    def condemn(self) -> None:
        """Its client is gone."""
        ...


class Watcher:
    """One thread with one epoll set: the listener, every channel's socket and client, perhaps the parent.

    Channel descriptors are one-shot: a client that is gone is told of once, however long its handler runs on.
    taken: called with each new connection, which it owns then. orphaned: called when the parent has ended.
    accepting: held while a connection is taken.
    """

    def __init__(
        self,
        listener: Source,
        taken: Callable[[socket.socket], None],
        orphaned: Callable[[], None],
        accepting: AbstractContextManager[Any],
    ) -> None:
        self._listener = listener
        self._accepting = accepting
        self._acceptor = Acceptor(listener, taken)
        self._orphaned = orphaned
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.EPOLLIN)
        self._poll.register(listener.socket, select.EPOLLIN)
        self._parent: Liveness | None = None
        self._lock = threading.Lock()  # _by_fd, against descriptors being closed and used again
        self._by_fd: dict[int, tuple[Watched, int]] = {}
        self._thread = threading.Thread(target=self._run, name="flipcall-watcher", daemon=True)
        self._running = True

    def watch_parent(self, pid: int) -> None:
        """Call `orphaned` when process `pid`, the parent, ends. Raises as Liveness.of_parent() does."""
        self._parent = Liveness.of_parent(pid)
        self._poll.register(self._parent.pidfd, select.EPOLLIN)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close everything. Any thread, idempotent."""
        with self._lock:
            if not self._running:
                return
            self._running = False
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.disown()

    def disown(self) -> None:
        """Close every descriptor. In a forked child, too: the thread and the epoll set are the parent's."""
        self._running = False
        self._poll.close()
        self._acceptor.close()
        if self._wake >= 0:
            os.close(self._wake)
        self._wake = -1
        if self._parent is not None:
            self._parent.close()

    def add(self, channel: Watched, life: Liveness) -> None:
        """Condemn `channel` when its socket hangs up or its client's process ends."""
        with self._lock:
            if not self._running:
                return
            for fd, events in self._descriptors(channel, life):
                self._by_fd[fd] = (channel, events)
                self._poll.register(fd, events | select.EPOLLONESHOT)

    def remove(self, channel: Watched, life: Liveness) -> None:
        """Before its descriptors are closed."""
        with self._lock:
            for fd, _ in self._descriptors(channel, life):
                if self._by_fd.pop(fd, None) is not None and self._running:
                    self._poll.unregister(fd)

    @staticmethod
    def _descriptors(channel: Watched, life: Liveness) -> list[tuple[int, int]]:
        fds = [(channel.socket.fileno(), _HANG_UP)]
        return [*fds, (life.pidfd, select.EPOLLIN)] if life.pidfd >= 0 else fds

    def _run(self) -> None:
        parent = self._parent.pidfd if self._parent else -1
        while self._running:
            for fd, _ in self._poll.poll():
                if fd == self._listener.socket.fileno():
                    with self._accepting:
                        self._accept()
                elif fd == parent:
                    self._poll.unregister(parent)
                    self._orphaned()
                elif fd != self._wake:
                    self._gone(fd)

    def _accept(self) -> None:
        time.sleep(self._acceptor.accept())

    def _gone(self, fd: int) -> None:
        """The descriptor told of a death; by now it may be another one's, so it is asked once more."""
        with self._lock:
            channel, events = self._by_fd.get(fd, (None, 0))
            if channel is None:
                return
            again = select.poll()
            again.register(fd, events)
            if again.poll(0):
                channel.condemn()
