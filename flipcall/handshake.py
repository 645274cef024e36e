"""Setting up a channel over a Unix socket (proto/handshake.md): who speaks what, then the window's descriptor.

    client                                 server
      Hello: version, service, what it     SO_PEERCRED checked, versions and fingerprints compared
      would call, transport, window size
                                  ────►  with switch notify: and its listener and bell
                                  ◄────    where they differ: Compare
      Shapes: of those methods    ────►    can each side read what the other writes?
                                  ◄────    Welcome (with the window's descriptor), or Refused

A message is a u32 length and a msgpack map, so that fields can be added; unknown fields are ignored.
"""

import socket
import time
from typing import Literal, TypeVar

import msgspec

from ._core import lib
from .errors import ClosedError, DeadlineExceeded, MisuseError, ProtocolError
from .fds import close_fds, recv_fds, recv_fds_and_sender, send_fds
from .frame import LENGTH
from .method import Method, Param, encode
from .shape import MethodShape

VERSION: int = lib.FC_PROTOCOL_VERSION
Transport = Literal["window", "socket"]


class Wanted(msgspec.Struct):
    """A method the client's contract has."""

    fingerprint: str
    signature: str


class Hello(msgspec.Struct, tag="hello"):
    """The client's first message. service "" asks for whatever there is (flipcall call, inspect)."""

    version: int
    service: str
    methods: dict[str, Wanted]
    transport: str
    window: int
    switches: list[str]  # that the client can do, best first
    notify: bytes = b""  # which listener comes along, and a bell (flipcall.notify); two descriptors
    session: bytes = b""  # of an earlier Welcome: this channel belongs to the same client


class Compare(msgspec.Struct, tag="compare"):
    """The server's wish to see what these methods of the client's look like: their fingerprints differ."""

    methods: list[str]


class Shapes(msgspec.Struct, tag="shapes"):
    """The client's answer to Compare."""

    methods: dict[str, MethodShape]


class Offered(msgspec.Struct):
    """A method the server has; its number is its place in the list."""

    name: str
    fingerprint: str
    signature: str
    params: tuple[Param, ...]
    bulk_result: bool
    stream_result: bool = False
    fd_result: bool = False  # descriptors come with it

    @classmethod
    def of(cls, method: Method) -> "Offered":
        return cls(
            method.name,
            method.fingerprint,
            str(method),
            method.all_params,
            method.bulk_result,
            method.stream_out is not None,
            method.fd_result,
        )


class Welcome(msgspec.Struct, tag="welcome"):
    """The server's answer. window: bytes of the window whose descriptor comes along, 0 on the socket transport."""

    version: int
    service: str
    methods: list[Offered]
    session: bytes
    window: int
    message_max: int  # bytes of one frame


class Refused(msgspec.Struct, tag="refused"):
    """The server's other answer, before it hangs up."""

    status: int
    message: str


M = TypeVar("M")

hello_decoder = msgspec.msgpack.Decoder(Hello)
shapes_decoder = msgspec.msgpack.Decoder(Shapes)
Answer = Welcome | Refused | Compare
answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def send_message(sock: socket.socket, message: msgspec.Struct, fds: tuple[int, ...] = ()) -> None:
    """Write one handshake message. Raises ClosedError when the other side has hung up, MisuseError when it is
    longer than the other side would take: a service of very many or very long signatures.
    """
    body = encode(message)
    if len(body) > lib.FC_HANDSHAKE_MAX:
        what = f"the signatures of this service make a handshake of {len(body)} bytes"
        raise MisuseError(f"{what}, more than the {lib.FC_HANDSHAKE_MAX} allowed")
    try:
        send_fds(sock, LENGTH.pack(len(body)) + body, fds)
    except (BrokenPipeError, ConnectionResetError):
        raise ClosedError("the other side hung up during the handshake") from None


def recv_message(
    sock: socket.socket,
    decoder: msgspec.msgpack.Decoder[M],
    deadline: float,
    max_fds: int = 0,
    senders: list[int] | None = None,
) -> tuple[M, list[int]]:
    """Read one handshake message and the descriptors that came with it, which are the caller's.

    senders: for a socket with SO_PASSCRED, takes the numbers of the processes that have sent it.
    deadline: time.monotonic() seconds. Raises DeadlineExceeded, ClosedError at the end of the stream,
    ProtocolError; no descriptor is left open then.
    """
    fds: list[int] = []
    try:
        head = _read(sock, LENGTH.size, deadline, max_fds, fds, senders)
        (size,) = LENGTH.unpack(head)
        if size > lib.FC_HANDSHAKE_MAX:
            raise ProtocolError(f"a handshake message of {size} bytes, allowed are {lib.FC_HANDSHAKE_MAX}")
        body = _read(sock, size, deadline, max_fds, fds, senders)
        try:
            return decoder.decode(body), fds
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise ProtocolError(f"a handshake message cannot be read: {e}") from e
    except BaseException:
        close_fds(fds)
        raise


def _read(
    sock: socket.socket, size: int, deadline: float, max_fds: int, fds: list[int], senders: list[int] | None
) -> bytes:
    data = b""
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("the handshake was not finished in time")
        sock.settimeout(left)
        try:
            if senders is None:
                part, more = recv_fds(sock, size - len(data), max_fds - len(fds))
            else:
                part, more, sender = recv_fds_and_sender(sock, size - len(data), max_fds - len(fds))
                senders.append(sender)
        except TimeoutError:
            continue
        except ConnectionResetError:
            part, more = b"", []
        fds.extend(more)
        if not part:
            raise ClosedError("the other side hung up during the handshake")
        data += part
    return data
