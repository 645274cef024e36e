"""Health: a built-in service of every server that says whether it serves.

A supervisor connects to it at the server's own socket, `flipcall.connect(flipcall.health.Health, path)`. While the
server drains, what is connected to Health already stays so until the last call has been answered.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from .context import context
from .errors import CallError
from .service import Service
from .status import Status

State = Literal["serving", "not serving", "draining"]
Watched = Literal["serving", "not serving", "draining", "unknown"]

LOOK_S = (
    0.25  # how late a watch may learn what nobody tells it of: that its caller is gone, a name that is new
)


class Health(Service, name="flipcall.Health"):
    """Whether a server can be called."""

    def check(self, service: str = "") -> State:
        """The state of a service, "" for the server as a whole. CallError (NOT_FOUND) for an unknown one."""
        raise NotImplementedError

    def services(self) -> dict[str, State]:
        """All services of this server, and "" for the whole."""
        raise NotImplementedError

    def watch(self, service: str = "") -> Iterator[Watched]:
        """The state of a service, then each other one it comes to; "unknown" while there is no such service. Ends
        after "draining". Its deadline is that of any call: with_options(client, timeout=None) for a watch without.
        """
        raise NotImplementedError


class HealthServer(Health):
    """The server's side, `Server.health`: what it says is set() by the program that serves. Any thread."""

    def __init__(self, known: Callable[[], list[str]]) -> None:
        self._known = known  # the names of the services there are
        self._lock = threading.Lock()
        self._set: dict[str, State] = {}
        self._draining = False
        self._watches: set[Callable[[], None]] = set()

    def set(self, service: str, serving: bool) -> None:
        """Say whether a service can be called now; "" is the server as a whole. A name not known so far is one of
        the program's own parts, which Health tells of from now on.
        """
        with self._lock:
            self._set[service] = "serving" if serving else "not serving"
        self._tell()

    def drain(self) -> None:
        """The server is stopping: whatever was said, it says so."""
        self._draining = True
        self._tell()

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

    def watch(self, service: str = "") -> Iterator[Watched]:
        changed, state = threading.Event(), None
        with self.told(changed.set):
            while state != "draining" and not context().cancelled:
                changed.clear()
                before, state = state, self.state(service)
                if state != before:
                    yield state
                else:
                    changed.wait(LOOK_S)

    def state(self, service: str) -> Watched:
        """The state of a service, one that there is not, too."""
        if self._draining:
            return "draining"
        return self.services().get(service, "unknown")

    @contextmanager
    def told(self, changed: Callable[[], None]) -> Iterator[None]:
        """Inside, `changed` is called when a state may have changed, in any thread."""
        with self._lock:
            self._watches.add(changed)
        try:
            yield
        finally:
            with self._lock:
                self._watches.discard(changed)

    def _tell(self) -> None:
        with self._lock:
            watches = list(self._watches)
        for changed in watches:
            changed()
