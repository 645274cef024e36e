"""Peers that lie: bytes nobody honest sends, descriptors nobody asked for, windows that are none."""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flipcall
from flipcall import lowlevel
from flipcall.fds import send_fds
from flipcall.frame import HEADER
from flipcall.handshake import send_message
from flipcall.method import encode
from tests.conformance.conftest import loop, serve, transport
from tests.faults.programs import Site, SiteServer
from tests.faults.raw import LENGTH, RawClient, RawServer, deadline, dial, hello
from tests.leaks import Holdings
from tests.support import wait_until

__all__ = ["kind", "loop", "serve", "transport"]

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["window", "socket", "socket to loop server"])
def kind(request: pytest.FixtureRequest) -> str:
    """How frames travel, and where the server lives. (A RawClient does not ring a loop.)"""
    return str(request.param)


@pytest.fixture
def site(serve: Callable[..., flipcall.Server], capfd: pytest.CaptureFixture[str]) -> flipcall.Server:
    """A server of SiteServer, whose complaints about clients are expected."""
    return serve(SiteServer())


# ---- clients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [1, 2, 200])
def test_descriptors_nobody_asked_for(
    site: flipcall.Server, connect: Callable[..., Site], many: int, path: str
) -> None:
    """Descriptors with a Hello end the connection, and none of them stays open at the server."""
    before = Holdings.now().descriptors
    for _ in range(3):
        with dial(path) as sock:
            body = encode(hello())
            null = os.open("/dev/null", os.O_RDONLY)
            try:
                send_fds(sock, LENGTH.pack(len(body)) + body, [null] * many)
            finally:
                os.close(null)
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
    wait_until(lambda: site.channels == 0)
    wait_until(lambda: Holdings.now().descriptors <= before)
    assert connect(Site).add(1, 2) == 3


@FUZZ
@given(said=st.binary(max_size=300), framed=st.booleans())
def test_any_bytes_for_a_hello(site: flipcall.Server, path: str, said: bytes, framed: bool) -> None:
    """Whatever a client says first, it is answered or hung up on, and the server serves on."""
    with dial(path) as sock:
        try:
            sock.sendall(LENGTH.pack(len(said)) + said if framed else said)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass  # hung up on
    with flipcall.connect(Site, path) as honest:
        assert honest.add(1, 2) == 3


GOOD = [
    HEADER.pack(1, 0, 0, 1, 3, 0xFFFFFFFF) + encode([1, 2]),
    HEADER.pack(1, 0, 2, 1, 2, 0xFFFFFFFF) + encode([5]),
]


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A good frame with some bytes changed, cut off or added; or any bytes."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    frame = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(0, 3))):
        frame[draw(st.integers(0, len(frame) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, len(frame)))
    return bytes(frame[: cut or None]) + draw(st.binary(max_size=40))


@FUZZ
@given(frame=frames())
def test_any_bytes_for_a_request(site: flipcall.Server, path: str, transport: str, frame: bytes) -> None:
    """Whatever frame a client gives, it gets a reply or the end of the channel; other clients notice nothing."""
    # The method that kills its process is not to be called by chance.
    if len(frame) >= 4 and struct.unpack_from("=H", frame, 2)[0] == 1:
        frame = frame[:2] + b"\0\0" + frame[4:]
    if len(frame) >= 4 and struct.unpack_from("=H", frame, 2)[0] == 3:  # nor the one that waits
        frame = frame[:2] + b"\2\0" + frame[4:]
    with RawClient(path, transport) as client:
        reply = client.exchange(frame)
        assert reply == b"" or reply[0] == 2
    with flipcall.connect(Site, path, transport=transport) as honest:  # type: ignore[arg-type]
        assert honest.add(1, 2) == 3


@pytest.mark.parametrize("kind", ["window"])
def test_any_bytes_all_over_the_window(site: flipcall.Server, path: str) -> None:
    """A client that scribbles over its window, words and all, while the server reads it, ends only itself."""
    chance = random.Random(1)
    for _ in range(60):
        client = RawClient(path, "window")
        with client:
            assert client.endpoint is not None
            buffer = client.endpoint.core()[1]
            client.endpoint.data[: len(GOOD[0])] = GOOD[0]
            for _ in range(20):
                at = chance.choice([0, 0, 4, 8, 12, chance.randrange(16, 4096)])
                buffer[at] = bytes([chance.choice([0, 1, 2, 255, chance.randrange(256)])])
            try:
                client.endpoint.send_recv(len(GOOD[0]), deadline_ns=int((deadline() - 9.99) * 1e9))
            except flipcall.FlipcallError:
                pass
    with flipcall.connect(Site, path) as honest:
        assert honest.add(1, 2) == 3
    wait_until(lambda: site.channels == 0)


# ---- servers ------------------------------------------------------------------------------------------------


def small() -> int:
    """A memfd of one byte, sealed."""
    fd = os.memfd_create("flipcall-test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 1)
    return _sealed(fd)


def _sealed(fd: int) -> int:
    import fcntl

    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def unsealed() -> int:
    """A memfd that can still shrink."""
    fd = os.memfd_create("flipcall-test", os.MFD_ALLOW_SEALING)
    os.posix_fallocate(fd, 0, 65536)
    return fd


def sparse() -> int:
    """A memfd without the pages it claims."""
    fd = os.memfd_create("flipcall-test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 65536)
    return _sealed(fd)


def good() -> int:
    """An honest window's memfd."""
    fd = unsealed()
    return _sealed(fd)


LIES: list[tuple[str, list[Callable[[], int]], int]] = [
    ("no descriptor", [], 65536),
    ("two descriptors", [good, good], 65536),
    ("not a memfd", [lambda: os.open("/dev/null", os.O_RDWR)], 65536),
    ("a directory", [lambda: os.open("/", os.O_RDONLY)], 65536),
    ("unsealed", [unsealed], 65536),
    ("sparse", [sparse], 65536),
    ("tiny", [small], 65536),
    ("length beyond the file", [good], 1 << 20),
    ("length zero", [good], 0),
    ("length negative", [good], -65536),
    ("length beyond a u32", [good], 1 << 33),
]


@pytest.mark.parametrize(("lie", "fds", "length"), LIES, ids=[lie for lie, _, _ in LIES])
def test_servers_that_lie_about_the_window(
    path: str, lie: str, fds: list[Callable[[], int]], length: int
) -> None:
    """A window that is not what was agreed is an error at connect, and every descriptor is closed."""
    with RawServer(path) as server, ThreadPoolExecutor(1) as threads:
        connecting = threads.submit(flipcall.connect, Site, path)
        sock, _ = server.take()
        sent = [make() for make in fds]
        send_message(sock, server.welcome(Site, length), tuple(sent))
        for fd in sent:
            os.close(fd)
        error = connecting.exception(20)
        assert isinstance(error, (flipcall.WindowError, flipcall.ProtocolError)), lie


def test_a_descriptor_for_the_socket_transport(path: str) -> None:
    """A descriptor where none belongs is refused and closed."""
    with RawServer(path) as server, ThreadPoolExecutor(1) as threads:
        connecting = threads.submit(flipcall.connect, Site, path, transport="socket")
        sock, _ = server.take()
        fd = good()
        send_message(sock, server.welcome(Site, 0), (fd,))
        os.close(fd)
        assert isinstance(connecting.exception(20), flipcall.ProtocolError)


@pytest.mark.parametrize("most", [-1, 0, 2, 1 << 40])
def test_servers_that_lie_about_the_largest_message(path: str, most: int) -> None:
    """A message_max that is none makes calls fail, not this process."""
    with RawServer(path) as server, ThreadPoolExecutor(1) as threads:
        connecting = threads.submit(flipcall.connect, Site, path, transport="socket", timeout=5.0)
        sock, _ = server.take()
        send_message(sock, server.welcome(Site, 0, message_max=most))
        with connecting.result(20) as site:
            call = threads.submit(site.add, 1, 2)
            if most == 1 << 40:
                sock.settimeout(10)
                assert sock.recv(65536)
                sock.sendall(b"\xff\xff\xff\xff" + bytes(100))
            assert isinstance(call.exception(20), (flipcall.CallError, flipcall.ProtocolError))


def test_a_server_that_never_connects_the_window(path: str) -> None:
    """Silence after the welcome ends at the connect timeout."""
    with RawServer(path) as server, ThreadPoolExecutor(1) as threads:
        connecting = threads.submit(flipcall.connect, Site, path, connect_timeout=0.3)
        sock, _ = server.take()
        window = lowlevel.MemfdAllocator().allocate(65536)
        with window:
            send_message(sock, server.welcome(Site, window.length), (window.fd,))
            assert isinstance(connecting.exception(20), flipcall.DeadlineExceeded)


def test_any_bytes_for_a_window_reply(path: str) -> None:
    """A server that scribbles over the window while a client waits: the call fails in time, the client lives."""
    chance = random.Random(2)
    with RawServer(path) as server, ThreadPoolExecutor(1) as threads:
        for _ in range(40):
            connecting = threads.submit(flipcall.connect, Site, path, timeout=0.2)
            sock, said = server.take()
            window = lowlevel.MemfdAllocator().allocate(said.window)
            send_message(sock, server.welcome(Site, window.length), (window.fd,))
            with lowlevel.Endpoint(
                window, lowlevel.Side.SERVER, peer=lowlevel.Liveness(socket=sock)
            ) as endpoint:
                endpoint.accept(deadline_ns=int(deadline() * 1e9))
                with connecting.result(20) as site:
                    call = threads.submit(site.add, 1, 2)
                    endpoint.recv(deadline_ns=int(deadline() * 1e9))
                    buffer = endpoint.core()[1]
                    for _ in range(20):
                        buffer[chance.randrange(4, 64)] = bytes([chance.choice([0, 1, 2, 3, 255])])
                    buffer[0] = bytes([chance.choice([0, 0, 0, 2, 3, 255])])
                    error = call.exception(20)
                    assert error is None or isinstance(error, (flipcall.FlipcallError, OSError)), error
