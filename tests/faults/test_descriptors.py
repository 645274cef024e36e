"""Peers that lie about descriptors: more, fewer, none, unannounced, other bytes on the control socket."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flipcall
from flipcall import Fd, lowlevel
from flipcall.control import MESSAGE
from flipcall.fds import send_fds
from flipcall.frame import FLAG_FDS, HEADER, REPLY, REQUEST
from flipcall.handshake import send_message
from flipcall.method import encode
from tests.faults.raw import LENGTH, RawClient, RawServer, deadline
from tests.leaks import Holdings
from tests.support import REPOSITORY, child, wait_until

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FOREVER = 0xFFFFFFFF
RING = MESSAGE.pack(0, 0)


class Store(flipcall.Service):
    """Method 0 takes descriptors, method 1 none, method 2 returns one."""

    def count(self, fds: list[Fd]) -> int: ...
    def double(self, x: int) -> int: ...
    def give(self) -> Fd: ...


class StoreServer(Store):
    def count(self, fds: list[Fd]) -> int:
        for fd in fds:
            fd.close()
        return len(fds)

    def double(self, x: int) -> int:
        return 2 * x

    def give(self) -> Fd:
        return Fd(os.open("/dev/null", os.O_RDONLY))


@pytest.fixture
def null() -> Iterator[int]:
    """A descriptor to send."""
    fd = os.open("/dev/null", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def store(serve: Callable[..., flipcall.Server], capfd: pytest.CaptureFixture[str]) -> flipcall.Server:
    """A server of StoreServer, whose complaints about clients are expected."""
    return serve(StoreServer())


def request(number: int, arguments: Any, *, flags: int = FLAG_FDS, call_id: int = 1) -> bytes:
    body = encode(arguments)
    return HEADER.pack(REQUEST, flags, number, call_id, len(body), FOREVER) + body


def result(reply: bytes) -> tuple[int, bytes]:
    """Status and body of a reply; -1 for the end of the channel."""
    return (HEADER.unpack_from(reply)[2], reply[HEADER.size :]) if reply else (-1, b"")


def honest(path: str, transport: Any) -> None:
    """Another client is served, descriptors and all."""
    with flipcall.connect(Store, path, transport=transport) as client, client.give() as fd:
        assert client.count([fd, fd]) == 2


# ---- clients, over a window ---------------------------------------------------------------------------------

ENDS = -1
INVALID = int(flipcall.Status.INVALID_ARGUMENT)
OUTCOMES = {"reply": 0, "INVALID_ARGUMENT": INVALID, "closed": ENDS}
VECTORS = json.loads((REPOSITORY / "proto/vectors/descriptors.json").read_text())
little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="the vectors are of such a machine")


def vectors(transport: str) -> Any:
    """A test for each case of the golden vectors."""
    cases = VECTORS[transport]["cases"]
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


@little_endian
@vectors("window")
def test_what_is_on_the_control_socket(
    store: flipcall.Server, path: str, null: int, case: dict[str, Any]
) -> None:
    """A call with two descriptors is served when they are there; what only a liar sends ends the channel."""
    with RawClient(path, "window") as client:
        for data, many in case["messages"]:
            send_fds(client.sock, bytes.fromhex(data), [null] * many)
        status, body = result(client.exchange(bytes.fromhex(VECTORS["window"]["head"] + VECTORS["body"])))
        assert status == OUTCOMES[case["outcome"]]
        assert status or body == encode(2)
    wait_until(lambda: store.channels == 0)
    honest(path, "window")


def test_descriptors_without_an_announcement(store: flipcall.Server, path: str, null: int) -> None:
    """They are never this process's: calls without the flag are served, and the count of open files stays."""
    with RawClient(path, "window") as client:
        result(client.exchange(request(1, [1], flags=0)))
        before = Holdings.now().descriptors
        for call_id in range(2, 50):
            send_fds(client.sock, MESSAGE.pack(call_id, 3), [null] * 3)
            assert result(client.exchange(request(1, [4], flags=0, call_id=call_id))) == (0, encode(8))
        assert Holdings.now().descriptors == before
        send_fds(client.sock, MESSAGE.pack(50, 1), [null])
        assert result(client.exchange(request(0, [[0]], call_id=50))) == (0, encode(1))
        assert Holdings.now().descriptors == before


@pytest.mark.parametrize("transport", ["window", "socket"])
def test_a_method_without_fd_is_sent_some(
    store: flipcall.Server, path: str, null: int, transport: str
) -> None:
    """It is called, as it would be by a client whose structs have grown a field, and they are closed."""
    before = Holdings.now().descriptors
    with RawClient(path, transport) as client:
        frame = request(1, [4])
        if transport == "window":
            send_fds(client.sock, MESSAGE.pack(1, 2), [null] * 2)
            assert result(client.exchange(frame)) == (0, encode(8))
        else:
            send_fds(client.sock, LENGTH.pack(len(frame)) + frame, [null] * 2)
            assert result(client._read_frame()) == (0, encode(8))
    wait_until(lambda: Holdings.now().descriptors <= before)


def test_a_client_that_never_reads_what_it_is_given(store: flipcall.Server, path: str) -> None:
    """The server's send never waits: when the socket is full the channel ends."""
    before = Holdings.now().descriptors
    with RawClient(path, "window") as client:
        for call_id in range(1, 5000):
            status, _ = result(client.exchange(request(2, [], flags=0, call_id=call_id)))
            if status != 0:
                break
        assert status in (ENDS, flipcall.Status.RESOURCE_EXHAUSTED)
    wait_until(lambda: Holdings.now().descriptors <= before)
    honest(path, "window")


# ---- clients, over the socket -------------------------------------------------------------------------------


@little_endian
@vectors("socket")
def test_descriptors_with_a_frame(store: flipcall.Server, path: str, null: int, case: dict[str, Any]) -> None:
    """On the socket they come with the frame's bytes, wherever in it."""
    frame, batches = bytes.fromhex(case["head"] + VECTORS["body"]), case["batches"]
    data = LENGTH.pack(len(frame)) + frame
    with RawClient(path, "socket") as client:
        for i, many in enumerate(batches):
            send_fds(client.sock, data[i : i + 1], [null] * many)
        with suppress(BrokenPipeError):  # hung up on already
            client.sock.sendall(data[len(batches) :])
        assert result(client._read_frame())[0] == OUTCOMES[case["outcome"]]
    wait_until(lambda: store.channels == 0)
    honest(path, "socket")


def test_half_a_frame_with_descriptors(store: flipcall.Server, path: str, null: int) -> None:
    """A client that hangs up in the middle leaves none of them behind."""
    before = Holdings.now().descriptors
    frame = request(0, [[0, 1]])
    with RawClient(path, "socket") as client:
        send_fds(client.sock, (LENGTH.pack(len(frame)) + frame)[:10], [null] * 100)
    wait_until(lambda: store.channels == 0)
    wait_until(lambda: Holdings.now().descriptors <= before)


@FUZZ
@given(
    messages=st.lists(
        st.tuples(
            st.one_of(
                st.binary(min_size=1, max_size=20),
                st.builds(MESSAGE.pack, st.integers(0, 2), st.integers(0, 4)),
            ),
            st.integers(0, 4),
        ),
        max_size=6,
    ),
    indexes=st.lists(st.integers(-1, 4), max_size=4),
)
def test_any_bytes_and_descriptors(
    store: flipcall.Server, path: str, null: int, messages: list[tuple[bytes, int]], indexes: list[int]
) -> None:
    """Whatever comes over the control socket, the call is answered or the channel ends, and nothing leaks."""
    with RawClient(path, "window") as client:
        for data, many in messages:
            send_fds(client.sock, data, [null] * many)
        status, body = result(client.exchange(request(0, [indexes])))
        assert status in (0, INVALID, ENDS)
        if status == 0:
            assert body == encode(len(indexes))
            assert len(set(indexes)) == len(indexes)
    wait_until(lambda: store.channels == 0)


# ---- servers ------------------------------------------------------------------------------------------------


def replying(path: str, transport: str, said: list[tuple[bytes, int]], frame: bytes, null: int) -> Any:
    """A server that welcomes one client and answers its first request with descriptors and `frame`."""
    server = RawServer(path)

    def run() -> None:
        with server:
            sock, hello = server.take()
            if transport == "socket":
                send_message(sock, server.welcome(Store, 0))
                sock.settimeout(10)
                sock.recv(65536)
                data = LENGTH.pack(len(frame)) + frame
                send_fds(sock, data, [null] * sum(many for _, many in said))
                sock.recv(1)
                return
            window = lowlevel.MemfdAllocator().allocate(hello.window)
            send_message(sock, server.welcome(Store, window.length), (window.fd,))
            life = lowlevel.Liveness(socket=sock)
            with lowlevel.Endpoint(window, lowlevel.Side.SERVER, peer=life) as endpoint:
                endpoint.recv_first(deadline_ns=int(deadline() * 1e9))
                for data, many in said:
                    send_fds(sock, data, [null] * many)
                endpoint.data[: len(frame)] = frame
                with pytest.raises((flipcall.ClosedError, flipcall.PeerDiedError)):
                    endpoint.send_recv(len(frame), deadline_ns=int(deadline() * 1e9))

    return run


ONE = [(MESSAGE.pack(1, 1), 1)]


@pytest.mark.parametrize("transport", ["window", "socket"])
@pytest.mark.parametrize(
    ("said", "flags", "code", "value", "expected"),
    [
        (ONE, FLAG_FDS, 0, 0, Fd),
        (ONE, FLAG_FDS, 0, 1, flipcall.ProtocolError),
        (ONE, FLAG_FDS, 0, "x", flipcall.ProtocolError),
        (ONE, FLAG_FDS, 5, {"type": "builtins.KeyError", "args": ["a"]}, KeyError),
        ([], FLAG_FDS, 0, 0, flipcall.ProtocolError),
        ([], 0, 0, 0, flipcall.ProtocolError),
    ],
    ids=["one", "another index", "no index", "with an error", "none", "none, and no flag"],
)
def test_replies(
    path: str, transport: str, null: int, said: Any, flags: int, code: int, value: Any, expected: type
) -> None:
    """A client takes the descriptor or says who broke the protocol; none stays open that it does not return."""
    body = encode(value)
    frame = HEADER.pack(REPLY, flags, code, 1, len(body), 0) + body
    with ThreadPoolExecutor(1) as threads:
        serving = threads.submit(replying(path, transport, said, frame, null))
        with flipcall.connect(Store, path, transport=transport, timeout=20) as client:  # type: ignore[arg-type]
            before = Holdings.now().descriptors
            if expected is Fd:
                with client.give() as fd:
                    assert os.path.sameopenfile(fd.fileno(), null)
            else:
                with pytest.raises(expected):
                    client.give()
            assert Holdings.now().descriptors <= before
        serving.result(20)


@pytest.mark.parametrize(
    "said",
    [
        [(MESSAGE.pack(1, 2), 1)],
        [(MESSAGE.pack(1, 1), 2)],
        [(MESSAGE.pack(2, 1), 1)],
        [(b"\1", 1)],
        [(RING, 0)],
    ],
    ids=["fewer", "more", "another call's", "one byte", "a ring"],
)
def test_a_server_that_lies_on_the_control_socket(path: str, null: int, said: Any) -> None:
    """That is a protocol error, the channel is over, and none of them stays open."""
    body = encode(0)
    frame = HEADER.pack(REPLY, FLAG_FDS, 0, 1, len(body), 0) + body
    with ThreadPoolExecutor(1) as threads:
        serving = threads.submit(replying(path, "window", said, frame, null))
        with flipcall.connect(Store, path, timeout=20) as client:
            before = Holdings.now().descriptors
            with pytest.raises(flipcall.ProtocolError):
                client.give()
            assert Holdings.now().descriptors <= before
            serving.result(20)  # the channel has ended, not only the call


# ---- the moment between ---------------------------------------------------------------------------------------


def test_an_interrupt_between_descriptors_and_frame(
    store: flipcall.Server, path: str, null: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call must not find them in the place of its own: the channel is dropped."""
    import flipcall.channel as channel

    def interrupted(sock: socket.socket, call_id: int, fds: Any) -> None:
        hand_over(sock, call_id, fds)
        raise KeyboardInterrupt

    hand_over = channel.hand_over
    with flipcall.connect(Store, path, max_channels=1) as client, Fd.dup(null) as fd:
        monkeypatch.setattr(channel, "hand_over", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.count([fd, fd, fd])
        monkeypatch.undo()
        assert client.count([fd]) == 1


def test_the_message_is_eight_bytes() -> None:
    """proto/rpc.md says so."""
    assert MESSAGE.size == struct.calcsize("=II") == 8


@pytest.mark.parametrize("transport", ["window", "socket"])
@pytest.mark.parametrize("number", [3, 65535])
def test_a_method_that_there_is_not(
    store: flipcall.Server, path: str, null: int, transport: str, number: int
) -> None:
    """The channel ends, and what came with the request is closed."""
    before = Holdings.now().descriptors
    frame = request(number, [[0, 1]])
    with RawClient(path, transport) as client:
        if transport == "window":
            send_fds(client.sock, MESSAGE.pack(1, 2), [null] * 2)
            assert client.exchange(frame) == b""
        else:
            send_fds(client.sock, LENGTH.pack(len(frame)) + frame, [null] * 2)
            assert client._read_frame() == b""
    wait_until(lambda: store.channels == 0)
    wait_until(lambda: Holdings.now().descriptors <= before)


def keeping(path: str, transport: str) -> None:
    """A process that serves Store at `path`, and keeps what it is given open, in the middle of a call."""
    import time

    import flipcall
    from tests.faults.test_descriptors import Store

    kept: list[flipcall.Fd] = []

    class Keeper(Store):
        def count(self, fds: list[flipcall.Fd]) -> int:
            kept.extend(fds)
            print("has them", flush=True)
            time.sleep(60)
            return 0

    with flipcall.Server(Keeper(), path):
        print("listens", flush=True)
        time.sleep(60)


@pytest.mark.parametrize("transport", ["window", "socket"])
def test_a_killed_server_lets_go(path: str, transport: Any) -> None:
    """What another process was given is gone with it; the caller is told, and keeps its own."""
    reader, writer = map(Fd, os.pipe())
    with reader, child(keeping, path, transport) as process:
        process.expect("listens")
        with (
            flipcall.connect(Store, path, transport=transport) as client,
            ThreadPoolExecutor(1) as threads,
            writer,
        ):
            call = threads.submit(client.count, [writer, writer])
            process.expect("has them")
            process.kill()
            with pytest.raises((flipcall.PeerDiedError, flipcall.ClosedError)):
                call.result(20)
            assert os.write(writer.fileno(), b"a") == 1  # mine still
        assert os.read(reader.fileno(), 10) == b"a"
        assert os.read(reader.fileno(), 10) == b""  # and nobody else's
