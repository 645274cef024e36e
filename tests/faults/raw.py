"""A client and a server that say exactly what they are told to, byte for byte: for lying with."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

import msgspec

from flipcall import lowlevel
from flipcall.handshake import (
    Hello,
    Wanted,
    Welcome,
    answer_decoder,
    hello_decoder,
    recv_message,
    send_message,
)
from flipcall.service import contract_of
from flipcall.window import PacketWindow

FOREVER = float("inf")
LENGTH = struct.Struct("=I")
HEADER = struct.Struct("=BBHIII")


def hello(service: type[Any] | None = None, transport: str = "window", **changes: Any) -> Hello:
    """An honest Hello for `service` (None for any), with `changes`."""
    contract = contract_of(service) if service else None
    methods = {m.name: Wanted(m.fingerprint, str(m)) for m in contract.methods} if contract else {}
    honest = Hello(1, contract.name if contract else "", methods, transport, 4096, ["futex"])
    return msgspec.structs.replace(honest, **changes)


def dial(path: str, timeout: float = 10.0) -> socket.socket:
    """A connected socket; reads give up after `timeout` seconds, so that a hang is a failure."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(path)
    return sock


def deadline() -> float:
    """Ten seconds from now."""
    import time

    return time.monotonic() + 10


class RawClient:
    """Shakes hands honestly, then gives the server whatever frames it is told to."""

    def __init__(self, path: str, transport: str) -> None:
        self.transport = transport
        self.sock = dial(path)
        send_message(self.sock, hello(transport=transport))
        welcome, fds = recv_message(self.sock, answer_decoder, deadline(), 1)
        assert isinstance(welcome, Welcome), welcome
        self.welcome = welcome
        self.sock.settimeout(10)
        self.endpoint: lowlevel.Endpoint | None = None
        if transport == "window":
            window = PacketWindow.attach(fds[0], welcome.window)
            self.endpoint = lowlevel.Endpoint(
                window, lowlevel.Side.CLIENT, peer=lowlevel.Liveness(socket=self.sock)
            )
            self.endpoint.connect(deadline_ns=int(deadline() * 1e9))

    def exchange(self, frame: bytes) -> bytes:
        """Give a frame (header, body, and in a window the attachment where it belongs); the reply's bytes.

        b"" when the server ends the channel instead.
        """
        if self.endpoint is not None:
            self.endpoint.data[: len(frame)] = frame
            try:
                n = self.endpoint.send_recv(len(frame), deadline_ns=int(deadline() * 1e9))
            except lowlevel_closed():
                return b""
            return bytes(self.endpoint.data[:n])
        self.sock.sendall(LENGTH.pack(len(frame)) + frame)
        return self._read_frame()

    def _read_frame(self) -> bytes:
        head = self._read(LENGTH.size)
        return self._read(LENGTH.unpack(head)[0]) if head else b""

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                part = self.sock.recv(size - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                return b""
            data += part
        return data

    def close(self) -> None:
        """Hang up."""
        if self.endpoint is not None:
            self.endpoint.close()
        self.sock.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def lowlevel_closed() -> tuple[type[Exception], ...]:
    """What an endpoint raises when the other side has ended the connection."""
    import flipcall

    return (flipcall.ClosedError, flipcall.PeerDiedError)


class RawServer:
    """Listens at a path, takes one client, reads its Hello."""

    def __init__(self, path: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.settimeout(10)
        self.open: list[socket.socket] = []

    def take(self) -> tuple[socket.socket, Hello]:
        """The next client and its Hello."""
        sock, _ = self.listener.accept()
        self.open.append(sock)
        said, fds = recv_message(sock, hello_decoder, deadline())
        assert not fds
        return sock, said

    def welcome(self, service: type[Any], window: int, **changes: Any) -> Welcome:
        """An honest Welcome, with `changes`."""
        from flipcall.handshake import Offered

        contract = contract_of(service)
        methods = [Offered.of(m) for m in contract.methods]
        honest = Welcome(1, contract.name, methods, os.urandom(16), window, 1 << 20)
        return msgspec.structs.replace(honest, **changes)

    def close(self) -> None:
        """Hang up on everybody."""
        for sock in (self.listener, *self.open):
            sock.close()

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
