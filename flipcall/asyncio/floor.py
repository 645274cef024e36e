"""Floor: flipcall.floor in one event loop, which serves all channels.

start() ──► the loop watches the listener
              │ a connection: a thread of its own shakes hands, for that waits for the client
              ▼
            the loop watches the channel's bell (serving.py) ──► over: leave
stop(grace): no more connections; idle channels retire at once, busy ones after their answer; what is left after
             `grace` seconds is cut, and its tasks cancelled
"""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable

from ..builtin import Builtins
from ..limits import Places, room_for
from ..listener import Source
from ..liveness import Liveness, Peer
from ..method import encode
from ..service import Service
from ..stats import ServerStats, of_workers
from ..terms import Terms
from .acceptor import Acceptor
from .admission import LoopAdmission, LoopSessions
from .connection import Connections
from .gate import Gate
from .handover import Handover
from .health import HealthServer as LoopHealth

Implementation = Service | Callable[[Peer], Service | Awaitable[Service]]


class Floor:
    """One process's channels and what they are served by. Only in the loop's thread."""

    def __init__(self, implementation: Implementation, terms: Terms) -> None:
        """Raises MisuseError for what cannot be served."""
        places = Places(terms.max_channels, terms.max_channels_per_client)
        gate = None if terms.max_calls is None else Gate(terms.max_calls)
        self._sessions = LoopSessions(
            implementation,  # type: ignore[arg-type]  # a factory may be a coroutine
            terms.tracebacks,
            gate,
            terms.interceptors,
        )
        self._builtins = Builtins(
            self._sessions, lambda: self._connections.observe(), terms.statistics, LoopHealth
        )
        admission = LoopAdmission(self._sessions, self._builtins.sessions, terms)
        self._connections = Connections(admission, self._builtins.ledger, places)
        self.health, self.statistics = self._builtins.health, self._builtins.statistics.read
        self.workers: list[int] = []
        self._source: Source | None = None
        self._acceptor: Acceptor | None = None
        self._parent: Liveness | None = None

    def start(self, source: Source, orphaned: Callable[[], None], parent: int | None) -> None:
        """Serve what comes from `source`, in the running loop. `orphaned` is called when process `parent` ends,
        this one's parent.

        Raises as Liveness.of_parent() does; the source is closed then.
        """
        self._source = source
        loop = self._sessions.loop = asyncio.get_running_loop()
        if parent is not None:
            try:
                self._parent = Liveness.of_parent(parent)
            except BaseException:
                source.close()
                raise
            loop.add_reader(self._parent.pidfd, self._orphaned, orphaned)
        self._connections.attend(source, loop)
        self._acceptor = Acceptor(loop, source, self._connections.take)

    def _orphaned(self, tell: Callable[[], None]) -> None:
        self._leave_parent()
        tell()

    def _leave_parent(self) -> None:
        parent, self._parent = self._parent, None
        if parent is not None:
            self._sessions.loop.remove_reader(parent.pidfd)
            parent.close()

    async def stop(self, grace: float) -> None:
        """See Server.stop."""
        if self._source is None or self._acceptor is None:
            return
        self._builtins.health.drain()
        if self._connections.serves_here():
            loop = asyncio.get_running_loop()
            self._stopper = loop.create_task(self.stop(grace))  # the loop itself holds tasks weakly
            return
        self._leave_parent()
        self._acceptor.close()
        self._source.close()
        await self._connections.drain(grace)

    @property
    def channels(self) -> int:
        """Connections there are now, those shaking hands included."""
        return len(self._connections)

    def disown(self) -> None:
        """In a forked child: close what was inherited, tell nobody."""
        self._connections.disown()
        if self._source is not None:
            self._source.disown()
        if self._acceptor is not None:
            self._acceptor.disown()
        if self._parent is not None:
            self._parent.close()
        self._acceptor = self._parent = None

    async def work(self, lane: socket.socket) -> None:
        """A worker's life: see flipcall.floor.Floor.work()."""
        loop, asked, statistics = asyncio.get_running_loop(), asyncio.Event(), self._builtins.statistics
        handover = Handover(lane, asked.set, lambda: encode(statistics.own()), loop)

        async def whole(own: ServerStats) -> ServerStats:
            told = await loop.run_in_executor(None, handover.ask)
            return of_workers(handover.dispatcher, told, own)

        statistics.whole = whole  # type: ignore[assignment]  # a coroutine is awaited here, as any handler's
        loop.add_signal_handler(signal.SIGTERM, asked.set)
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        self.start(handover, asked.set, None)
        handover.ready()
        await asked.wait()
        await loop.run_in_executor(None, handover.leave)
        self._builtins.health.drain()
        await self._connections.drain(handover.grace)  # the others' questions are answered meanwhile


def work(lane: socket.socket, implementation: Implementation, terms: Terms) -> None:
    """What a worker process runs."""

    async def live() -> None:
        floor = Floor(implementation, terms)
        os.register_at_fork(after_in_child=floor.disown)
        room_for(terms.max_channels)
        await floor.work(lane)

    asyncio.run(live())
