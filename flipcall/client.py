"""connect(): a client that has the type of the service, and whose methods are calls (stub.py)."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from ._core import lib
from .dialer import Connection
from .errors import (
    CallError,
    MisuseError,
)
from .handshake import (
    Transport,
)
from .interceptor import ClientCall, ClientInterceptor, ClientProceed, called, chained, client_chain
from .method import Method
from .options import checked
from .policy import WaitPolicy
from .service import Contract, Service, contract_of
from .status import Status
from .stub import BulkCall, stream_stub, stub

S = TypeVar("S", bound=Service)
Path = str | os.PathLike[str]


class Maker:
    """What has made a client, which has it as `_flipcall`."""

    def again(self, client: Any, timeout: float | None) -> Any:
        """The same client with another timeout."""
        raise NotImplementedError


@checked()
def connect(
    service: type[S],
    path: Path,
    *,
    timeout: float | None = 30.0,
    connect_timeout: float = 5.0,
    transport: Transport = "window",
    window_size: int = lib.FC_WINDOW_DEFAULT,
    max_channels: int = 8,
    message_max: int = lib.FC_MESSAGE_DEFAULT,
    policy: WaitPolicy | None = None,
    switch: str | None = None,
    interceptors: Sequence[ClientInterceptor] = (),
) -> S:
    """A client of the server at socket `path`; it has the methods of `service`, and is its context manager.

    timeout: seconds each call may take, None for ever. connect_timeout: seconds a channel may take to be made.
    window_size: bytes of shared memory a channel has; what is larger crosses in parts. message_max: bytes that
    a request, a reply or an item of a stream may have (or what the server allows, if that is less).
    max_channels: calls at the same time (more wait for one another). policy, switch: how to wait
    (flipcall.lowlevel; a switch asked for by name is used or refused, by default it is the best both sides can
    do). interceptors: what each call passes, the first outermost (flipcall.interceptor). All methods are for
    any thread.

    Raises OSError (no such socket, nobody listens, not permitted), CallError (the server refused: other
    signatures (FAILED_PRECONDITION), no room, not authorized), DeadlineExceeded, ProtocolError,
    MisuseError, UnsupportedError (the switch).
    Calls raise what the handler raised (see flipcall.failure), CallError, DeadlineExceeded, ClosedError,
    PeerDiedError, ProtocolError.
    """
    contract = contract_of(service)
    contract.for_clients(asynchronous=False)
    connection = Connection(
        contract,
        path,
        connect_timeout=connect_timeout,
        transport=transport,
        window_size=window_size,
        max_channels=max_channels,
        message_max=message_max,
        policy=policy or WaitPolicy.balanced(),
        switch=switch,
        interceptors=interceptors,
    )
    try:
        connection.open()
        client: S = client_of(contract, connection, timeout)
        return client
    except BaseException:
        connection.pool.close()
        raise


@checked()
def with_options(client: S, *, timeout: float | None) -> S:
    """The same client, of either kind, with other options for calls made through it; channels are shared."""
    maker = getattr(client, "_flipcall", None)
    if isinstance(maker, Connection):
        again: S = client_of(contract_of(type(client)), maker, timeout)
    elif isinstance(maker, Maker):
        again = maker.again(client, timeout)
    else:
        raise MisuseError(f"{client!r} was not made by connect()")
    return again


def client_of(contract: Contract, connection: Connection, timeout: float | None) -> Any:
    def make(method: Method, number: int) -> Callable[..., Any]:
        if not connection.interceptors:
            return stub(method, number, connection, timeout)
        proceed = chained(connection.interceptors, _maker(method, number, connection))
        return client_chain(called(contract.name, method, timeout), proceed)

    own = {"close": connection.pool.close, "_flipcall": connection}  # the latter for with_options()
    return client_object(contract, connection, make, own)


def client_object(
    contract: Contract,
    connection: Connection,
    make: Callable[[Method, int], Callable[..., Any]],
    own: dict[str, Any],
) -> Any:
    """An object of a subclass of the contract, whose methods are calls, made by `make` from method and number."""
    assert connection.welcome is not None
    numbers = {m.name: number for number, m in enumerate(connection.welcome.methods)}
    # The names are in the class, too, so that a contract may have abstract methods.
    names = dict.fromkeys((m.name for m in contract.methods), None)
    namespace: dict[str, Any] = {"__init__": lambda self: None, "__reduce__": _not_sent, **names}
    client = type(f"{contract.name}Client", (contract.owner,), namespace)()
    for method in contract.methods:
        number = numbers.get(method.name)
        if number is None:
            call = _missing(method)
        else:
            call = make(method, number)
            known = len(connection.welcome.methods[number].params)
            if known < len(method.all_params):
                call = _shorter(method, known, call)
        setattr(client, method.name, call)
    vars(client).update(own)
    return client


def _not_sent(client: object) -> NoReturn:
    raise MisuseError("a client cannot be sent to another process: connect there")


def _missing(method: Method) -> Callable[..., Any]:
    def missing(*args: Any, **kwargs: Any) -> Any:
        raise CallError(Status.UNIMPLEMENTED, f"the server has no method {method.name}")

    return missing


def _maker(method: Method, number: int, connection: Connection) -> ClientProceed:
    """What makes a call that has passed the interceptors, with its own timeout and metadata."""

    kind = stream_stub if method.streaming else BulkCall

    def make(call: ClientCall) -> Any:
        made = kind(method, number, connection.pool, call.timeout, dict(call.metadata))
        return method.call(made, call.args)

    return make


def _shorter(method: Method, known: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, of a method that has fewer parameters at the server: an older one, that lacks optional ones."""

    def shorter(*args: Any, **kwargs: Any) -> Any:
        bound = method.bind(args, kwargs)
        if len(bound) > known:
            what = f"the server's {method.name} has no parameter {method.all_params[known].name}"
            raise CallError(Status.UNIMPLEMENTED, what)
        return call(*args, **kwargs)

    return shorter
