"""A client as the server knows it: one implementation, however many channels.

The first channel's Welcome carries a random token; a further channel that shows it, from the same process user,
joins. The session ends with its last channel.
"""

import inspect
import logging
import secrets
import threading
from collections.abc import Callable, Sequence

from .dispatch import Dispatcher
from .errors import CallError, MisuseError
from .interceptor import ServerInterceptor
from .limits import Gate
from .liveness import Peer
from .service import Contract, Service, contract_of
from .status import Status

Implementation = Service | Callable[[Peer], Service]


_log = logging.getLogger("flipcall")


def _check_factory(make: Callable[[Peer], Service]) -> None:
    """Raises MisuseError for one that cannot be called with the peer, such as a class meant to be made once."""
    try:
        inspect.signature(make).bind(None)
    except TypeError:
        name = getattr(make, "__name__", repr(make))
        what = f"{name} makes a service for each client, and is called with the Peer, which it does not take"
        raise MisuseError(f"{what}; {name}() would be one service for all clients") from None
    except ValueError:  # no signature to be had: its first call will tell
        pass


class Session:
    """A client's token, credentials and dispatcher."""

    def __init__(self, home: "Sessions", peer: Peer, dispatcher: Dispatcher) -> None:
        self.home = home
        self.token = secrets.token_bytes(16)
        self.peer = peer
        self.dispatcher = dispatcher
        self.channels = 0
        self.agreed: dict[
            str, str
        ] = {}  # other fingerprints of the client's that were found to fit, by method


class Sessions:
    """All clients of a server. Any thread."""

    dispatcher: type[Dispatcher] = Dispatcher

    def __init__(
        self,
        implementation: Implementation,
        tracebacks: bool,
        gate: Gate | None = None,
        interceptors: Sequence[ServerInterceptor] = (),
    ) -> None:
        if not isinstance(implementation, Service) and not callable(implementation):
            raise MisuseError(f"{implementation!r} is no service, nor makes one")
        if not isinstance(implementation, Service):
            _check_factory(implementation)
        self._implementation = implementation
        self._options = tracebacks, gate, interceptors
        self._lock = threading.Lock()
        self._by_token: dict[bytes, Session] = {}
        self._known: Contract | None = None
        self._shared: Dispatcher | None = None
        if isinstance(implementation, Service):
            self._shared = self.dispatcher(implementation, *self._options)

    def join(self, token: bytes, peer: Peer) -> Session:
        """The session of a new channel, to be left again. Raises CallError (UNAUTHENTICATED) for a token that
        is not this client's, and what the factory raises.
        """
        if token:
            with self._lock:
                session = self._by_token.get(token)
                if session is not None and (session.peer.pid, session.peer.uid) == (peer.pid, peer.uid):
                    session.channels += 1
                    return session
            if session is not None or self._shared is None:
                raise CallError(
                    Status.UNAUTHENTICATED, "this session is over, or another client's: connect again"
                )
            # It is over, but of a shared implementation nothing is lost with it: a new one does as well.
        session = Session(self, peer, self._shared or self._made(peer))
        with self._lock:
            session.channels = 1
            self._by_token[session.token] = session
        return session

    def leave(self, session: Session) -> None:
        """A channel of the session has ended."""
        with self._lock:
            session.channels -= 1
            last = session.channels == 0
            if last:
                del self._by_token[session.token]
        if last and session.dispatcher is not self._shared:
            self._tell(session.dispatcher.service)

    def _tell(self, service: Service) -> None:
        """Its client is gone."""
        try:
            service.on_disconnect()
        except Exception:  # a hook's fault: nobody waits for an answer
            _log.exception("on_disconnect() raised")

    def contract(self) -> Contract | None:
        """What is served here, None while nobody knows: a factory that has made nothing yet."""
        if self._shared is not None:
            return self._shared.contract
        if isinstance(self._implementation, type) and issubclass(self._implementation, Service):
            return contract_of(self._implementation)
        return self._known

    def _made(self, peer: Peer) -> Dispatcher:
        dispatcher = self.dispatcher(self._make(peer), *self._options)
        self._known = dispatcher.contract
        return dispatcher

    def _make(self, peer: Peer) -> Service:
        assert not isinstance(self._implementation, Service)
        return self._implementation(peer)
