"""Host: a server as the program holds it, whichever kind it is and wherever its calls are served."""

import os
import weakref
from typing import NoReturn, Protocol

from .errors import ForkedError, MisuseError
from .health import HealthServer
from .listener import Listener
from .stats import ServerStats

Path = str | os.PathLike[str]

_hosts: "weakref.WeakSet[Host]" = weakref.WeakSet()


class Inside(Protocol):
    """Where a server's calls are served: a floor of either kind, or a front before several."""

    @property
    def channels(self) -> int: ...
    @property
    def workers(self) -> list[int]: ...
    @property
    def health(self) -> HealthServer: ...
    def statistics(self) -> ServerStats: ...
    def disown(self) -> None: ...


class Host:
    """The part of Server that is the same for both kinds: its socket, and what can be asked of it."""

    def __init__(self, path: Path, inside: Inside, max_channels: int, stop_with_parent: bool) -> None:
        self.path = os.fspath(path)
        self.__inside = inside
        self._max_channels = max_channels
        self._parent = os.getppid() if stop_with_parent else None
        self._listener: Listener | None = None
        self._begun = False
        self._stopping = False
        self._inherited = False
        _hosts.add(self)

    def listen(self) -> None:
        """Make the socket; clients can connect, and wait for start(), which else does this itself. For a program
        that afterwards confines itself to what its handlers need. Idempotent. Raises OSError as start() does.
        """
        if self._inherited:
            raise ForkedError("this server is the parent process's: make one after fork()")
        if self._begun or self._stopping:
            raise MisuseError("a server starts once")
        if self._listener is None:
            self._listener = Listener(self.path)

    @property
    def channels(self) -> int:
        """Connections there are now, those shaking hands included."""
        return self.__inside.channels

    @property
    def workers(self) -> list[int]:
        """The worker processes that serve or are about to, by pid; none where this process serves itself."""
        return self.__inside.workers

    @property
    def health(self) -> HealthServer:
        """What flipcall.health.Health tells is set here. Any thread. Raises MisuseError with workers."""
        return self.__inside.health

    def statistics(self) -> ServerStats:
        """What flipcall.stats.Statistics tells a client. Any thread; with workers it waits for them, up to two
        seconds, and raises CallError (UNAVAILABLE) when there is none to tell.
        """
        return self.__inside.statistics()

    def __reduce__(self) -> NoReturn:
        raise MisuseError("a server cannot be sent to another process: make one there, or ask for workers")

    def _forked(self) -> None:
        """In a forked child: this server is the parent's. Close what was inherited, tell nobody, do no more. One
        that has not begun is as much the child's as the parent's.
        """
        if self._listener is None:
            return
        self._listener.disown()
        self.__inside.disown()
        self._listener = None
        self._begun, self._inherited, self._stopping = False, True, True


def _after_fork() -> None:
    for host in list(_hosts):
        host._forked()


os.register_at_fork(after_in_child=_after_fork)
