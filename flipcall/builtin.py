"""The services that every server has beside its own, at the same socket: health, reflection, statistics.

A client asks for one by its name in the Hello and gets a channel of its own, with a method table of its own: the
numbers of the user's methods, and the way a call to them takes, know nothing of it.
"""

from collections.abc import Callable

from .errors import MisuseError
from .health import HealthServer
from .reflection import ReflectionServer
from .service import Contract, Service, contract_of
from .session import Sessions
from .stats import Ledger, Observed, StatisticsServer


class Builtins:
    """The built-in services of one server. `sessions` are those of its own service, `observe` tells of the
    channels there are now.
    """

    def __init__(
        self,
        sessions: Sessions,
        observe: Callable[[], list[Observed]],
        metered: bool,
        health: type[HealthServer] = HealthServer,
    ) -> None:
        self._own = sessions
        self.ledger = Ledger()
        self.health = health(self._names)
        self.statistics = StatisticsServer(lambda: self._names()[0], self.ledger, observe, metered)
        servers: list[Service] = [self.health, ReflectionServer(self.contracts), self.statistics]
        kind = type(sessions)
        self.sessions = {contract_of(type(s)).name: kind(s, False) for s in servers}
        own = sessions.contract()
        if own is not None and own.name in self.sessions:
            raise MisuseError(f"{own.name} is the name of a built-in service")

    def contracts(self) -> dict[str, Contract | None]:
        """All services by name, the server's own first."""
        return {self._names()[0]: self._own.contract()} | {n: s.contract() for n, s in self.sessions.items()}

    def _names(self) -> list[str]:
        own = self._own.contract()
        return ["" if own is None else own.name, *self.sessions]
