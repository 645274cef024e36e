"""What differs in letting clients of an event loop in: handlers may be coroutines, and so may the factory."""

import asyncio
import inspect
import logging
import socket
from typing import Any

from .. import admission
from ..admission import HANDSHAKE_S
from ..endpoint import Endpoint
from ..liveness import Peer
from ..meter import Meters
from ..service import Service
from ..session import Session, Sessions
from .control import Control
from .dispatch import LoopDispatcher
from .serving import LoopServing
from .socketserving import LoopSocketServing
from .stream import LoopFrames

_log = logging.getLogger("flipcall")


class LoopSessions(Sessions):
    """Calls the factory and on_disconnect() in the loop, whatever thread shakes hands."""

    dispatcher = LoopDispatcher
    loop: asyncio.AbstractEventLoop

    def _make(self, peer: Peer) -> Service:
        async def made() -> Service:
            service: Any = super(LoopSessions, self)._make(peer)
            return await service if inspect.isawaitable(service) else service  # type: ignore[no-any-return]

        return asyncio.run_coroutine_threadsafe(made(), self.loop).result(HANDSHAKE_S)

    def _tell(self, service: Service) -> None:
        async def tell() -> None:
            try:
                done: Any = service.on_disconnect()  # type: ignore[func-returns-value]
                if inspect.isawaitable(done):
                    await done
            except Exception:  # a hook's fault: nobody waits for an answer
                _log.exception("on_disconnect() raised")

        asyncio.run_coroutine_threadsafe(tell(), self.loop)


class LoopAdmission(admission.Admission):
    """Makes channels that are served in a loop. admit() blocks: not in the loop's thread."""

    def _over_window(self, endpoint: Endpoint, session: Session, sock: socket.socket) -> LoopServing:
        assert isinstance(session.dispatcher, LoopDispatcher)
        assert isinstance(sock, Control)
        return LoopServing(endpoint, session.dispatcher, session.peer, self._message_max, sock, self._loop())

    def _over_socket(self, session: Session, sock: socket.socket, meters: Meters | None) -> LoopSocketServing:
        dispatcher, loop = session.dispatcher, self._loop()
        assert isinstance(dispatcher, LoopDispatcher)
        frames = LoopFrames(sock, self._message_max, loop, takes_fds=dispatcher.takes_fds)
        return LoopSocketServing(frames, dispatcher, meters, loop)

    def _loop(self) -> asyncio.AbstractEventLoop:
        assert isinstance(self.sessions, LoopSessions)  # the session may be a built-in service's
        return self.sessions.loop
