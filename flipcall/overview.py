"""What can be asked of a server, whichever kind it is and wherever its calls are served."""

from typing import NoReturn, Protocol

from .errors import MisuseError
from .health import HealthServer
from .stats import ServerStats


class Inside(Protocol):
    """Where a server's calls are served: a floor of either kind, or a front before several."""

    @property
    def channels(self) -> int: ...
    @property
    def workers(self) -> list[int]: ...
    @property
    def health(self) -> HealthServer: ...
    def statistics(self) -> ServerStats: ...


class Overview:
    """The part of Server that is the same for both kinds."""

    def __init__(self, inside: Inside) -> None:
        self.__inside = inside

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
