"""A client without the service's class: it calls what the handshake's method table offers.

Arguments are checked by the server, which has the types; results arrive as msgpack has them: dict, list, str.
"""

from types import TracebackType
from typing import Any

import msgspec

from ._core import lib
from .channel import WindowChannel
from .client import Connection, Path
from .errors import MisuseError, ProtocolError
from .frame import timeout_us
from .handshake import Offered, Transport
from .liveness import Peer
from .method import encode
from .policy import WaitPolicy


class Dynamic:
    """A connection to whatever is served. Any thread; there is one channel, so calls wait for one another."""

    def __init__(self, connection: Connection, timeout: float | None) -> None:
        welcome = connection.open()
        (channel,) = connection.pool.channels()
        self.service: str = welcome.service
        self.version: int = welcome.version
        self.methods: list[Offered] = welcome.methods
        self.window: int = welcome.window  # bytes; 0 on the socket transport
        self.message_max: int = welcome.message_max  # bytes of one frame
        self.peer: Peer = (
            Peer.of(channel.socket) if isinstance(channel, WindowChannel) else channel._frames.peer
        )
        self._numbers = {method.name: number for number, method in enumerate(self.methods)}
        self._pool = connection.pool
        self._timeout = timeout

    def call(self, name: str, args: tuple[Any, ...]) -> Any:
        """Call a method by name, arguments in order, bulk ones bytes-like; a bulk result is bytes.

        Raises MisuseError when there is no such method, and what calls of a typed client raise.
        """
        number = self._numbers.get(name)
        if number is None:
            raise MisuseError(f"{self.service} has no method {name}")
        method = self.methods[number]
        slots = list(args)
        parts: list[memoryview] = []
        for i, param in enumerate(method.params[: len(slots)]):
            if param.bulk:
                parts.append(memoryview(slots[i]).cast("B"))
                slots[i] = len(parts[-1])
        limit, body, attachment = timeout_us(self._timeout), encode(slots), b"".join(parts)
        channel = self._pool.take(self._timeout)
        try:
            reply = channel.bulk(number, limit, body, attachment)
        except BaseException:
            self._pool.mend(channel)
            raise
        self._pool.give(channel)
        if method.bulk_result:
            return reply.attachment
        try:
            return msgspec.msgpack.decode(reply.body)
        except msgspec.DecodeError as e:
            raise ProtocolError(f"the result of {name} is no msgpack: {e}", self.peer.pid) from e

    def close(self) -> None:
        """End the connection. Any thread, idempotent."""
        self._pool.close()

    def __enter__(self) -> "Dynamic":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def connect_dynamic(
    path: Path,
    *,
    timeout: float | None = 30.0,
    connect_timeout: float = 5.0,
    transport: Transport = "window",
    window_size: int = lib.FC_WINDOW_DEFAULT,
    policy: WaitPolicy | None = None,
) -> Dynamic:
    """Connect to the server at `path`, whatever it serves. Parameters and errors as flipcall.connect()."""
    connection = Connection(
        None,
        path,
        connect_timeout=connect_timeout,
        transport=transport,
        window_size=window_size,
        max_channels=1,
        policy=policy or WaitPolicy.balanced(),
    )
    try:
        return Dynamic(connection, timeout)
    except BaseException:
        connection.pool.close()
        raise
