"""Health: a built-in service of every server that says whether it serves.

A supervisor connects to it at the server's own socket, `flipcall.connect(flipcall.health.Health, path)`. While the
server drains, what is connected to Health already stays so until the last call has been answered.
"""

import threading
from collections.abc import Callable
from typing import Literal

from .errors import CallError
from .service import Service
from .status import Status

State = Literal["serving", "not serving", "draining"]


class Health(Service, name="flipcall.Health"):
    """Whether a server can be called."""

    def check(self, service: str = "") -> State:
        """The state of a service, "" for the server as a whole. CallError (NOT_FOUND) for an unknown one."""
        raise NotImplementedError

    def services(self) -> dict[str, State]:
        """All services of this server, and "" for the whole."""
        raise NotImplementedError


class HealthServer(Health):
    """The server's side, `Server.health`: what it says is set() by the program that serves. Any thread."""

    def __init__(self, known: Callable[[], list[str]]) -> None:
        self._known = known  # the names of the services there are
        self._lock = threading.Lock()
        self._set: dict[str, State] = {}
        self._draining = False

    def set(self, service: str, serving: bool) -> None:
        """Say whether a service can be called now; "" is the server as a whole. A name not known so far is one of
        the program's own parts, which Health tells of from now on.
        """
        with self._lock:
            self._set[service] = "serving" if serving else "not serving"

    def drain(self) -> None:
        """The server is stopping: whatever was said, it says so."""
        self._draining = True

    def check(self, service: str = "") -> State:
        states = self.services()
        if service not in states:
            raise CallError(Status.NOT_FOUND, f"no service {service} here")
        return states[service]

    def services(self) -> dict[str, State]:
        states: dict[str, State] = dict.fromkeys(["", *self._known()], "serving")
        with self._lock:
            states.update(self._set)
        return dict.fromkeys(states, "draining") if self._draining else states
