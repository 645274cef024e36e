"""connect(): a client that has the type of the service, and whose methods are calls.

A method of the client is a closure over its codec and the pool, so that a call is: encode, take a channel, one
C call, decode, give the channel back.
"""

import os
import socket
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from msgspec import DecodeError

from ._core import lib
from .agreement import shapes_of
from .bulk import Bulk
from .channel import Attachment, Reply, WindowChannel
from .context import NO_METADATA, inherited, serving
from .endpoint import Endpoint
from .errors import (
    CallError,
    ClosedError,
    DeadlineExceeded,
    FlipcallError,
    ForkedError,
    MisuseError,
    ProtocolError,
)
from .fd import Fd
from .fds import close_fds
from .frame import timeout_us
from .handshake import (
    VERSION,
    Compare,
    Hello,
    Refused,
    Transport,
    Wanted,
    Welcome,
    answer_decoder,
    recv_message,
    send_message,
)
from .interceptor import ClientCall, ClientInterceptor, ClientProceed, client_chain
from .landing import Landing
from .liveness import Liveness, Peer, hang_up
from .metadata import WITH_METADATA, wrapped
from .method import Method, encode
from .notify import NotifyLink
from .outcome import Side
from .policy import WaitPolicy
from .pool import Channel, Pool
from .rights import pack
from .service import Contract, Service, contract_of
from .socketchannel import SocketChannel
from .status import Status
from .stream import FrameSocket
from .streams import Stream, as_requests, outcome, steps
from .switch import NOTIFY, offered
from .window import PacketWindow

S = TypeVar("S", bound=Service)
Path = str | os.PathLike[str]

_BACKLOG_PAUSE_S = 0.005
UNDECODABLE = (DecodeError, UnicodeDecodeError, RecursionError)  # what msgspec raises for a hostile body

_NO_FDS: Sequence[Fd] = ()

_clients: "weakref.WeakSet[Connection]" = weakref.WeakSet()


class Maker:
    """What has made a client, which has it as `_flipcall`."""

    def again(self, client: Any, timeout: float | None) -> Any:
        """The same client with another timeout."""
        raise NotImplementedError


class Connection(Maker):
    """What all channels of one client share: where the server is, what was agreed, and the pool."""

    def __init__(
        self,
        contract: Contract | None,
        path: Path,
        *,
        connect_timeout: float,
        transport: Transport,
        window_size: int,
        max_channels: int,
        message_max: int = lib.FC_MESSAGE_DEFAULT,
        policy: WaitPolicy,
        switch: str | None = None,
        service: str = "",
        interceptors: Sequence[ClientInterceptor] = (),
    ) -> None:
        if transport not in ("window", "socket"):
            raise MisuseError(f"transport is 'window' or 'socket', not {transport!r}")
        if max_channels < 1:
            raise MisuseError(f"max_channels must be at least 1, not {max_channels}")
        self.path = os.fspath(path)
        self.transport: Transport = transport
        self.policy = policy
        self.switch = switch
        self.interceptors = tuple(interceptors)
        self._switches = offered(switch)
        self._connect_timeout = connect_timeout
        self._window_size = window_size
        self._message_max = message_max
        self._wanted = {m.name: Wanted(m.fingerprint, str(m)) for m in contract.methods} if contract else {}
        self._contract = contract
        self._service = contract.name if contract else service
        self._takes_fds = any(m.fd_result for m in contract.methods) if contract else False
        self.welcome: Welcome | None = None
        self.peer_pid = 0  # of the first channel
        self.pool = Pool(self.channel, max_channels)
        _clients.add(self)

    def open(self) -> Welcome:
        """Make the first channel, so that whatever is wrong is told at once."""
        self.pool.give(self.pool.take(self._connect_timeout))
        assert self.welcome is not None
        return self.welcome

    def again(self, client: Any, timeout: float | None) -> Any:
        """See Maker."""
        return client_of(contract_of(type(client)), self, timeout)

    def channel(self, deadline: float | None = None) -> Channel:
        """A new channel, by the deadline (time.monotonic() seconds) and the connect timeout.

        One that was hung up on without a word is tried once more: a worker that was just ending had it.
        """
        latest = time.monotonic() + self._connect_timeout
        deadline = latest if deadline is None else min(deadline, latest)
        try:
            return self._connected(deadline)
        except ClosedError as e:
            try:
                return self._connected(deadline)
            except (ConnectionRefusedError, FileNotFoundError):
                raise e from None  # it was the server that ended

    def _connected(self, deadline: float) -> Channel:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link: NotifyLink | None = None
        try:
            _reach(sock, self.path, deadline)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # a worker may answer for who listens
            session = self.welcome.session if self.welcome else b""
            if self.switch == NOTIFY and self.transport == "window":
                link = NotifyLink.make(Peer.of(sock).pid)
            hello = Hello(
                VERSION,
                self._service,
                self._wanted,
                self.transport,
                self._window_size,
                self._switches,
                link.identity if link else b"",
                session,
            )
            try:
                send_message(sock, hello, link.descriptors() if link else ())
            except ClosedError:
                pass  # a server that is full says so and hangs up without listening: hear it
            senders: list[int] = []
            answer, fds = recv_message(sock, answer_decoder, deadline, max_fds=1, senders=senders)
            while isinstance(answer, Compare) and not fds:
                send_message(sock, shapes_of(self._contract, answer))
                senders.clear()
                answer, fds = recv_message(sock, answer_decoder, deadline, max_fds=1, senders=senders)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
            if not isinstance(answer, Welcome):
                close_fds(fds)
                raise _refusal(answer)
            return self._welcomed(sock, answer, fds, deadline, link, senders[0])
        except ClosedError as e:
            with sock:
                raise hang_up(Peer.of(sock), str(e)) from None
        except TimeoutError as e:
            sock.close()
            if isinstance(e, DeadlineExceeded):
                raise
            raise DeadlineExceeded(f"{self.path}: nobody took the connection in time") from None
        except BaseException:
            sock.close()
            raise
        finally:
            if link is not None and not link.used:
                link.close()

    def _welcomed(
        self,
        sock: socket.socket,
        welcome: Welcome,
        fds: list[int],
        deadline: float,
        link: NotifyLink | None,
        server: int,
    ) -> Channel:
        pid = Liveness.of(sock, server)
        try:
            if welcome.version != VERSION:
                raise ProtocolError(
                    f"the server speaks version {welcome.version}, this side {VERSION}", pid.pid
                )
            if len(fds) != (self.transport == "window"):
                raise ProtocolError(f"{len(fds)} descriptors came with the welcome", pid.pid)
            if self.welcome and welcome.methods != self.welcome.methods:
                what = f"{self.path}: another server answers there now, with other methods: connect again"
                raise CallError(Status.FAILED_PRECONDITION, what)
            if self.transport == "socket":
                pid.close()
                frames = FrameSocket(sock, self._most(welcome), pid.pid, takes_fds=self._takes_fds)
                channel: Channel = SocketChannel(frames)
            else:
                window = PacketWindow.attach(fds.pop(), welcome.window)
                window.drop_fd()
                if link is not None:
                    link.sent()
                endpoint = Endpoint(
                    window,
                    Side.CLIENT,
                    peer=pid,
                    policy=self.policy,
                    switch=self.switch,
                    notify=link,
                    doorbell=sock,
                )
                channel = WindowChannel(endpoint, sock, self._most(welcome))
                try:
                    endpoint.connect(deadline_ns=int(deadline * 1e9))
                except BaseException:
                    endpoint.close()
                    raise
        except BaseException:
            close_fds(fds)
            pid.close()
            raise
        if self.welcome is None:
            self.welcome, self.peer_pid = welcome, pid.pid
        return channel

    def _most(self, welcome: Welcome) -> int:
        """The largest message, bytes: the smaller limit of both sides."""
        return min(welcome.message_max, self._message_max)


def _reach(sock: socket.socket, path: str, deadline: float) -> None:
    """Connect. A full backlog is waited for, which the kernel does not do for a socket with a timeout (EAGAIN)."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"{path}: nobody took the connection in time")
        sock.settimeout(left)
        try:
            return sock.connect(path)
        except BlockingIOError:
            time.sleep(min(left, _BACKLOG_PAUSE_S))
        except (ConnectionRefusedError, FileNotFoundError) as e:
            e.filename = path  # and so it is told from what a handler raises
            raise


def _refusal(answer: Refused | Compare) -> Exception:
    if isinstance(answer, Compare):
        return ProtocolError("a descriptor came with a question about methods")
    try:
        status = Status(answer.status)
    except ValueError:
        status = Status.UNKNOWN
    return CallError(status, answer.message)


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


def with_options(client: S, *, timeout: float | None) -> S:
    """The same client, of either kind, with other options for calls made through it; channels are shared."""
    maker = getattr(client, "_flipcall", None)
    if not isinstance(maker, Maker):
        raise MisuseError(f"{client!r} was not made by connect()")
    again: S = maker.again(client, timeout)
    return again


def client_of(contract: Contract, connection: Connection, timeout: float | None) -> Any:
    def make(method: Method, number: int) -> Callable[..., Any]:
        if not connection.interceptors:
            return stub(method, number, connection, timeout)
        last = _maker(method, number, connection)
        return client_chain(contract.name, method, connection.interceptors, timeout, last)

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

    kind = _stream_stub if method.streaming else BulkCall

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


def stub(method: Method, number: int, connection: Connection, timeout: float | None) -> Callable[..., Any]:
    """The call of one method, by the quickest way that carries it."""
    if method.streaming:
        return _stream_stub(method, number, connection.pool, timeout)
    plain = not (method.bulk_params or method.bulk_result or method.fd_params or method.fd_result)
    if connection.transport == "window" and plain:
        return _window_stub(method, number, connection.pool, timeout)
    return BulkCall(method, number, connection.pool, timeout)


def _window_stub(method: Method, number: int, pool: Pool, timeout: float | None) -> Callable[..., Any]:
    """The hottest path there is: everything it needs is in its closure, and nothing is called that need not be."""
    count, bind, decode = positions(method), method.bind, method.decode_result
    what = number | timeout_us(timeout) << lib.FC_CALL_TIMEOUT_SHIFT
    pop, push, waiters, notify, mend = (
        pool.free.pop, pool.free.append, pool.waiters, pool.notify, pool.mend,
    )  # fmt: skip

    def late(body: bytes, timeout: float | None = timeout, unsent: ClosedError | None = None) -> Any:
        return decoded(method, ask(pool, timeout, number, body, b"", unsent).body)

    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != count:
            args = bind(args, kwargs)
        body = encode(args)
        if serving and (limit := inherited(timeout)) is not timeout:
            return late(body, limit)
        try:
            channel: Any = pop()
        except IndexError:
            return late(body)
        try:
            reply = channel.call(what, body)
            if reply.__class__ is not bytes:
                reply = channel.settle(reply, what, body).body
        except BaseException as e:
            mend(channel)
            if type(e) is ClosedError and channel.unsent:
                return late(body, unsent=e)
            raise
        push(channel)
        if waiters:
            notify()
        try:
            return decode(reply)
        except UNDECODABLE as e:
            raise garbled(method, e) from e

    return call


def positions(method: Method) -> int:
    """How many positional arguments need no binding: all, or never as many when some go by keyword only."""
    return -1 if method.keyword_only else len(method.params)


class BulkCall:
    """A call whose arguments or result may travel beside the body, over any transport: a stub. Any thread."""

    def __init__(
        self,
        method: Method,
        number: int,
        pool: Pool,
        timeout: float | None,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> None:
        self.method = method
        self.pool = pool
        self._number = number | WITH_METADATA if metadata else number
        self._metadata = metadata
        self._timeout = timeout
        self._count = positions(method)
        self._landing = method.result_bulk.landing if method.result_bulk else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method = self.method
        reply = self.ask(args, kwargs, self._landing)
        if method.fd_result:
            return decoded_with_fds(method, reply)
        if method.result_bulk is None:
            return decoded(method, reply.body)
        return unpacked(method, method.result_bulk, reply.body, reply.attachment)

    def ask(self, args: tuple[Any, ...], kwargs: dict[str, Any], landing: Landing | None) -> Reply:
        """The reply, its attachment where `landing` says. Raises what the call raises."""
        channel, reply = self.ask_and_hold(args, kwargs, landing)
        self.pool.give(channel)
        return reply

    def ask_and_hold(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], landing: Landing | None
    ) -> tuple[Channel, Reply]:
        """The same, and the channel, which is the caller's to give back."""
        method = self.method
        if kwargs or len(args) != self._count:
            args = method.bind(args, kwargs)
        slots, attachment = method.split(args)
        body, fds = pack(slots) if method.fd_params else (encode(slots), _NO_FDS)
        if self._metadata:
            body = wrapped(self._metadata, body)
        return _ask(self.pool, self._timeout, self._number, body, attachment, fds, landing)

    def __repr__(self) -> str:
        return f"<call of {self.method}>"


def _stream_stub(
    method: Method,
    number: int,
    pool: Pool,
    timeout: float | None,
    metadata: Mapping[str, str] = NO_METADATA,
) -> Callable[..., Any]:
    """A call with items to send or to receive. With results to iterate over it begins when one is asked for."""
    bind = method.bind
    if metadata:
        number |= WITH_METADATA

    def results(
        body: bytes, attachment: Attachment, requests: Iterator[Any] | None, last: list[Any]
    ) -> Iterator[Any]:
        limit = inherited(timeout) if serving else timeout
        started = time.monotonic()
        channel: Any = pool.take(limit)
        try:
            left = None if limit is None else max(0.0, limit - (time.monotonic() - started))
            flow = channel.flow(method.stream_out)
            flow.open(number, timeout_us(left), body, attachment)
            for batch in steps(flow, method, requests):
                yield from batch
        except BaseException:  # GeneratorExit: the caller wants no more
            pool.mend(channel)
            raise
        pool.give(channel)
        outcome(flow)
        last.append(flow)

    def call(*args: Any, **kwargs: Any) -> Any:
        given, source = method.part(bind(args, kwargs))
        requests = as_requests(source, method.stream_name) if method.stream_in else None
        slots, attachment = method.split(given)
        last: list[Any] = []
        body = wrapped(metadata, encode(slots)) if metadata else encode(slots)
        made = results(body, attachment, requests, last)
        if method.stream_out:
            return Stream(made)
        for _ in made:
            raise ProtocolError(f"{method.name} has one result, and items came")
        if method.result_bulk is not None:
            return unpacked(method, method.result_bulk, last[0].body, last[0].attachment)
        return decoded(method, last[0].body)

    return call


def ask(
    pool: Pool,
    timeout: float | None,
    number: int,
    body: bytes,
    attachment: Attachment,
    unsent: ClosedError | None = None,
) -> Reply:
    """One call over a channel of the pool; waiting for the channel is part of the timeout.

    unsent: what an earlier attempt came to, at which the call was not given.
    """
    channel, reply = _ask(pool, timeout, number, body, attachment, unsent=unsent)
    pool.give(channel)
    return reply


def _ask(
    pool: Pool,
    timeout: float | None,
    number: int,
    body: bytes,
    attachment: Attachment,
    fds: Sequence[Fd] = _NO_FDS,
    landing: Landing | None = None,
    unsent: ClosedError | None = None,
) -> tuple[Channel, Reply]:
    """See ask(). A channel that ended while it was idle (its worker was renewed, its server restarted) is no
    reason for a call to fail: it was not given, so it is tried over another one, until there is none.
    """
    if serving:
        timeout = inherited(timeout)
    for _ in range(pool.limit + 1):
        channel, limit = _taken(pool, timeout, unsent)
        try:
            return channel, channel.bulk(number, limit, body, attachment, fds, landing)
        except BaseException as e:
            pool.mend(channel)
            if type(e) is not ClosedError or not channel.unsent or fds:
                raise
            unsent = e
    assert unsent is not None
    raise unsent


def _taken(pool: Pool, timeout: float | None, unsent: ClosedError | None) -> tuple[Channel, int]:
    """A channel, and how long the call may take then, microseconds."""
    try:
        return pool.free.pop(), timeout_us(timeout)
    except IndexError:
        started = time.monotonic()
    try:
        channel = pool.take(timeout)
    except (DeadlineExceeded, ForkedError):
        raise
    except (FlipcallError, OSError) as e:
        raise e if unsent is None else unsent from e
    left = None if timeout is None else max(0.0, timeout - (time.monotonic() - started))
    return channel, timeout_us(left)


def decoded(method: Method, body: bytes) -> Any:
    """The result in the body of a reply; the hottest path does it itself."""
    try:
        return method.decode_result(body)
    except UNDECODABLE as e:
        raise garbled(method, e) from e


def unpacked(method: Method, bulk: Bulk, body: bytes, attachment: Any) -> Any:
    try:
        return method.unpack_result(bulk, body, attachment)
    except (*UNDECODABLE, ValueError) as e:
        raise garbled(method, e) from e


def decoded_with_fds(method: Method, reply: Reply) -> Any:
    try:
        value = reply.rights.decode(method.decode_result, reply.body)
    except UNDECODABLE as e:
        raise garbled(method, e) from e
    reply.rights.close()
    return value


def garbled(method: Method, error: Exception) -> ProtocolError:
    return ProtocolError(f"the result of {method.name} is not what its signature says: {error}")


def _after_fork() -> None:
    for connection in list(_clients):
        connection.pool.forget()


os.register_at_fork(after_in_child=_after_fork)
