"""The golden vectors: what both sides, over both transports, must make of each byte."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

import flipcall
from flipcall import lowlevel
from flipcall._core import ffi, lib
from flipcall.frame import HEADER
from flipcall.handshake import Compare, Welcome, answer_decoder, recv_message, send_message
from flipcall.service import contract_of
from tests.conformance.conftest import path, stack
from tests.conformance.plain import serve
from tests.faults.raw import LENGTH, RawClient, RawServer, deadline, dial
from tests.proto.services import Vectors, VectorsServer
from tests.support import REPOSITORY, wait_until

__all__ = ["path", "serve", "stack"]

pytestmark = [
    pytest.mark.skipif(sys.byteorder != "little", reason="the vectors are those of a little-endian machine"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
FRAMES = json.loads((REPOSITORY / "proto/vectors/frames.json").read_text())
HANDSHAKE = json.loads((REPOSITORY / "proto/vectors/handshake.json").read_text())
TRANSPORTS = ["window", "socket"]


def vectors(cases: list[dict[str, Any]]) -> Any:
    """One test for each case, named after it."""
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


def datagram(frame: dict[str, str], transport: str) -> bytes:
    """The frame's bytes as the transport carries them, without the socket's length."""
    if "datagram" in frame:
        return bytes.fromhex(frame["datagram"])
    front = bytes.fromhex(frame["head"] + frame["body"])
    attachment = bytes.fromhex(frame["attachment"])
    if transport == "window" and attachment:
        front = front.ljust(lib.fc_attach_offset(len(front) - HEADER.size) - lib.FC_PACKET_HEADER, b"\0")
    return front + attachment


@vectors(FRAMES["requests"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_request(
    serve: Callable[..., flipcall.Server],
    path: str,
    transport: str,
    case: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server gives exactly this reply, or ends the channel with a protocol error; then it serves on."""
    serve(VectorsServer())
    with RawClient(path, transport) as client:
        reply = client.exchange(datagram(case, transport))
        if case["outcome"] == "reply":
            assert reply == datagram(case["reply"], transport)
        else:
            assert reply == b""
            wait_until(lambda: "a channel was closed" in caplog.text)
    with flipcall.connect(Vectors, path, transport=transport) as honest:  # type: ignore[arg-type]
        assert honest.add(1) == 11


def answering(path: str, transport: str, frame: bytes) -> Callable[[], bytes]:
    """A server that welcomes one client and answers its first request with `frame`; returns that request."""
    server = RawServer(path)

    def run() -> bytes:
        with server:
            sock, hello = server.take()
            if transport == "socket":
                send_message(sock, server.welcome(Vectors, 0))
                sock.settimeout(10)
                request = sock.recv(65536)
                sock.sendall(LENGTH.pack(len(frame)) + frame)
                sock.recv(1)
                return request[LENGTH.size :]
            window = lowlevel.MemfdAllocator().allocate(hello.window)
            send_message(sock, server.welcome(Vectors, window.length), (window.fd,))
            with lowlevel.Endpoint(
                window, lowlevel.Side.SERVER, peer=lowlevel.Liveness(socket=sock)
            ) as endpoint:
                n = endpoint.recv_first(deadline_ns=int(deadline() * 1e9))
                request = bytes(endpoint.data[:n])
                endpoint.data[: len(frame)] = frame
                with pytest.raises((flipcall.ClosedError, flipcall.PeerDiedError)):
                    endpoint.send_recv(len(frame), deadline_ns=int(deadline() * 1e9))
                return request

    return run


@vectors(FRAMES["replies"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_reply(path: str, transport: str, case: dict[str, Any]) -> None:
    """A client takes the result, raises what it says, or says who broke the protocol."""
    run = answering(path, transport, datagram(case, transport))
    with ThreadPoolExecutor(1) as threads:
        serving = threads.submit(run)
        with flipcall.connect(Vectors, path, transport=transport, timeout=20) as client:  # type: ignore[arg-type]
            if case["outcome"] == "result":
                assert client.add(1, 2) == case["result"]
            elif case["outcome"] == "raises":
                with pytest.raises((ValueError, OSError, flipcall.CallError)) as info:
                    client.add(1, 2)
                assert type(info.value).__name__ == case["raises"]
                for name in case.keys() & {"filename", "filename2"}:
                    found = getattr(info.value, name)
                    assert (None if found is None else os.fsencode(found).hex()) == case[name]
            else:
                with pytest.raises(flipcall.ProtocolError):
                    client.add(1, 2)
        request = serving.result(20)
    whole = next(c for c in FRAMES["requests"] if c["name"] == "all arguments")
    sent = HEADER.unpack_from(request)
    assert (sent[:4], request[HEADER.size :]) == (
        HEADER.unpack(bytes.fromhex(whole["head"]))[:4],
        bytes.fromhex(whole["body"]),
    )


@vectors(HANDSHAKE["to_server"])
def test_hello(
    serve: Callable[..., flipcall.Server],
    path: str,
    case: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A server welcomes, refuses with this status, or hangs up; then it serves on."""
    import socket

    serve(VectorsServer())
    begun = time.monotonic()
    with dial(path) as sock:
        try:
            sock.sendall(bytes.fromhex(case["hex"]))
            if "asked" in case:
                asked, _ = recv_message(sock, answer_decoder, deadline())
                assert asked == Compare(case["asked"])
                sock.sendall(bytes.fromhex(case["shapes"]))
            sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, OSError):
            assert case["outcome"] == "closed"
        try:
            answer, fds = recv_message(sock, answer_decoder, deadline(), 1)
            assert not fds
            assert not isinstance(answer, Compare)
            said = (
                "welcome" if isinstance(answer, Welcome) else f"refused {flipcall.Status(answer.status).name}"
            )
        except flipcall.ClosedError:
            said = "closed"
    assert said == case["outcome"]
    assert time.monotonic() - begun < 4.0
    with flipcall.connect(Vectors, path) as honest:
        assert honest.add(1) == 11


@vectors(HANDSHAKE["to_client"])
def test_answer(path: str, case: dict[str, Any]) -> None:
    """connect() succeeds, or raises this."""

    def run(server: RawServer) -> None:
        with server:
            sock, _ = server.take()
            sock.sendall(bytes.fromhex(case["hex"]))

    with ThreadPoolExecutor(1) as threads:
        serving = threads.submit(run, RawServer(path))
        if case["outcome"] == "connected":
            flipcall.connect(Vectors, path, transport="socket").close()
        else:
            with pytest.raises(flipcall.FlipcallError) as info:
                flipcall.connect(Vectors, path, transport="socket")
            assert type(info.value).__name__ == case["outcome"]
        serving.result(20)


def test_fingerprints_are_what_they_were() -> None:
    """The digest of a signature does not change between versions: clients and servers of both must agree."""
    methods = contract_of(Vectors).methods
    assert {m.name: m.fingerprint for m in methods} == HANDSHAKE["fingerprints"]
    shapes = {m.name: msgspec.json.encode(m.shape, order="sorted") for m in methods}
    assert {name: json.loads(shape) for name, shape in shapes.items()} == HANDSHAKE["shapes"]
    for name, shape in shapes.items():
        assert hashlib.sha256(shape).hexdigest()[:16] == HANDSHAKE["fingerprints"][name]


def test_a_docstring_is_not_part_of_a_signature() -> None:
    """What is written for people, and defaults, make no difference to the fingerprint; names and types do."""

    def fingerprint(source: str) -> str:
        names: dict[str, Any] = {"msgspec": msgspec, "flipcall": flipcall}
        exec(source + "\nclass S(flipcall.Service):\n    def f(self, p: P) -> P: ...\n", names)
        return contract_of(names["S"]).methods[0].fingerprint

    plain = fingerprint("class P(msgspec.Struct):\n    description: int\n    title: str = 'a'")
    assert (
        fingerprint("class P(msgspec.Struct):\n    'Doc.'\n    description: int\n    title: str = 'b'")
        == plain
    )
    assert fingerprint("class P(msgspec.Struct):\n    description: str\n    title: str = 'a'") != plain
    assert fingerprint("class P(msgspec.Struct):\n    description: int\n    name: str = 'a'") != plain


def test_the_header_is_the_compilers() -> None:
    """Python's struct and C's agree on the frame header."""
    assert HEADER.size == lib.FC_FRAME_HEADER
    assert HEADER.pack(1, 2, 3, 4, 5, 6) == bytes(
        ffi.buffer(ffi.new("uint32_t[4]", [1 | 2 << 8 | 3 << 16, 4, 5, 6]))
    )
