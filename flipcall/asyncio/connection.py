"""The connections of a server in an event loop: taken, drained, ended."""

import asyncio
import socket
import time
from collections.abc import Sequence

from ..admission import HANDSHAKE_S, Admitted, refuse
from ..connection import cut, report
from ..errors import CallError
from ..limits import Client, Places, client_of
from ..listener import Source
from ..liveness import Peer
from ..meter import Counts
from ..stats import Ledger, Observed
from ..status import Status
from .admission import LoopAdmission
from .control import Control
from .serving import LoopServing
from .socketserving import LoopSocketServing
from .thread import in_thread

_LETTING_GO_S = 0.5  # for tasks that were cancelled, and handshakes that were cut


class Connection:
    """A channel of the server, from the moment it is taken."""

    def __init__(self, home: "Connections", sock: socket.socket, client: Client) -> None:
        self.came = sock  # as its source knows it; `socket` is it now
        self.socket = Control(sock)
        self.client = client
        self.builtin = False
        self._home = home
        self._serving: LoopServing | LoopSocketServing | None = None
        self._admitted: Admitted | None = None
        self._begun = False
        self._stopped = False

    def shake_hands(self) -> "Connection":
        """In a thread of its own: everything that waits for the client, who may never come."""
        admission = self._home.admission
        self._admitted = admission.admit(self.socket)
        self.builtin = self._admitted.session.home is not admission.sessions
        serving = self._admitted.serving
        assert isinstance(serving, (LoopServing, LoopSocketServing))
        self._serving = serving  # then look, as cut() stops, and then looks: one sees the other
        if self._stopped:
            serving.stop()
        serving.accept(time.monotonic_ns() + int(HANDSHAKE_S * 1e9))
        return self

    def begin(self, _: "Connection") -> None:
        """Hands were shaken."""
        assert self._serving is not None
        assert self._admitted is not None
        self._begun = True
        try:
            self._serving.begin(self._admitted.life, self._over)
        except OSError as e:
            self.refused(e)
            return
        if self._home.draining:
            self.retire()

    def refused(self, error: BaseException) -> None:
        """They were not."""
        if isinstance(error, Exception):
            report(error)
        self.close()

    def _over(self, error: Exception) -> None:
        report(error)
        self.close()

    def close(self) -> None:
        """Give everything back. Idempotent. Also called from the thread, when there is no loop any more."""
        admitted = self._admitted
        self._home.ledger.keep(self._end)
        if self._serving is not None:
            self._serving.close()
        if admitted is not None:
            admitted.life.close()
            admitted.session.home.leave(admitted.session)
        self._home.left(self)
        self.socket.close()

    def _end(self) -> dict[str, Counts]:
        """Nobody observes it any more; what it has counted."""
        admitted, self._admitted = self._admitted, None
        return {} if admitted is None else admitted.counts(last=True)

    def observed(self) -> Observed | None:
        """The channel seen from outside; None before its beginning and after its end."""
        return None if self._admitted is None else self._admitted.observed()

    def runs(self, task: "asyncio.Task[object] | None") -> bool:
        """Whether `task` is this channel's handler, or this channel runs the current code."""
        return self._serving is not None and self._serving.runs(task)

    def retire(self) -> None:
        """End it if no call is under way, else after that; none is while hands are shaken."""
        if self._begun and self._serving is not None:
            self._serving.retire()
        else:
            self.cut()

    def cut(self) -> None:
        """End it now."""
        self._stopped = True
        if self._begun and self._serving is not None:
            self._serving.cut()
            return
        cut(self.socket)
        if self._serving is not None:
            self._serving.stop()


class Connections:
    """All of them. Only in the loop's thread."""

    def __init__(self, admission: LoopAdmission, ledger: Ledger, places: Places) -> None:
        self.admission = admission
        self.ledger = ledger
        self.draining = False
        self._places = places
        self._source: Source | None = None
        self._all: set[Connection] = set()
        self._one_left = asyncio.Event()

    def attend(self, source: Source, loop: asyncio.AbstractEventLoop) -> None:
        """Once, before the first take(): where connections come from."""
        self._source = source
        self._loop = loop

    def __len__(self) -> int:
        return len(self._all)

    def serves_here(self) -> bool:
        """Whether the running task is a handler's."""
        return any(c.runs(asyncio.current_task()) for c in self._all)

    def observe(self) -> list[Observed]:
        """The channels of the server's own service, as Statistics tells of them. Any thread, in the ledger."""
        return [seen for c in list(self._all) if not c.builtin and (seen := c.observed()) is not None]

    def take(self, sock: socket.socket) -> None:
        """A client has connected."""
        client = client_of(Peer.of(sock))
        try:
            self._places.take(client)
        except CallError as e:
            refuse(sock, e)
            self._closed(sock)
            sock.close()
            return
        connection = Connection(self, sock, client)
        self._all.add(connection)
        try:
            in_thread(
                self._loop, "flipcall-handshake", connection.shake_hands, connection.begin, connection.refused
            )
        except BaseException as e:
            self.left(connection)
            what = f"the server cannot serve one more: {e}"
            refuse(connection.socket, CallError(Status.RESOURCE_EXHAUSTED, what))
            connection.close()
            raise

    def left(self, connection: Connection) -> None:
        """It is over."""
        if connection in self._all:
            self._all.remove(connection)
            self._places.give(connection.client)
            self._closed(connection.came)
            self._one_left.set()

    def _closed(self, sock: socket.socket) -> None:
        if self._source is not None:
            self._source.left(sock)

    async def drain(self, grace: float) -> None:
        """End the idle ones, wait up to `grace` seconds for the others to have answered, end what is left."""
        self.draining = True
        deadline = time.monotonic() + grace
        # Built-in services go last: Health tells that the server drains.
        await self._retire([c for c in self._all if not c.builtin], deadline)
        await self._retire(list(self._all), deadline)
        left = list(self._all)
        for connection in left:
            connection.cut()
        await self._until_left(left, time.monotonic() + _LETTING_GO_S)

    async def _retire(self, which: Sequence[Connection], deadline: float) -> None:
        for connection in which:
            connection.retire()
        await self._until_left(which, deadline)

    async def _until_left(self, which: Sequence[Connection], deadline: float) -> None:
        while not self._all.isdisjoint(which):
            self._one_left.clear()
            try:
                await asyncio.wait_for(self._one_left.wait(), max(0.0, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                return

    def disown(self) -> None:
        """In a forked child: close what was inherited, tell nobody."""
        connections, self._all = self._all, set()
        self._source = None
        for connection in connections:
            connection.socket.close()
