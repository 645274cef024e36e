"""The socket transport with one side in a loop, or both: what is not in the conformance suite."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import flipcall
import flipcall.asyncio
from flipcall.frame import HEADER, ITEMS, LENGTH, REQUEST, STREAM
from flipcall.handshake import send_message
from flipcall.method import encode
from tests.asyncio.conftest import LoopPost, PlainPost, Post, Run, until
from tests.faults.raw import RawClient, RawServer
from tests.support import child

Server = flipcall.asyncio.Server


class Room:
    """Threads with synchronous clients of the socket, beside the loop."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.threads = ThreadPoolExecutor(4)

    def client(self, **options: Any) -> Any:
        """One of PlainPost."""
        return flipcall.connect(PlainPost, self.path, transport="socket", **options)

    async def do(self, work: Callable[..., Any], *args: Any) -> Any:
        """The result of work(), in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *args)


@pytest.fixture
def room(path: str) -> Any:
    """See Room."""
    room = Room(path)
    yield room
    room.threads.shutdown()


def numbered(frame: dict[str, int], body: bytes = b"") -> bytes:
    """A frame with its length before it."""
    fields = {"kind": REQUEST, "flags": 0, "code": 0, "call_id": 1, "timeout": 0xFFFFFFFF, **frame}
    head = HEADER.pack(
        fields["kind"], fields["flags"], fields["code"], fields["call_id"], len(body), fields["timeout"]
    )
    return LENGTH.pack(len(head) + len(body)) + head + body


def method(name: str) -> int:
    """Its number."""
    return [m.name for m in flipcall.service.contract_of(PlainPost).methods].index(name)  # type: ignore[attr-defined]


def test_a_caller_that_gives_up(run: Run, path: str, room: Room) -> None:
    """At its deadline the handler's task is cancelled, and the channel is good for the next call."""

    async def main() -> None:
        server = LoopPost()
        async with Server(server, path) as serving:
            with await room.do(room.client) as post:
                hurried = flipcall.with_options(post, timeout=0.05)
                with pytest.raises(flipcall.DeadlineExceeded):
                    await room.do(hurried.wait, "one")
                await until(lambda: server.cancelled == ["one"])
                assert await room.do(post.echo, 5) == 5
                assert serving.channels == 1

    run(main)


def test_a_client_that_is_killed(run: Run, path: str) -> None:
    """In the middle of its call: the handler is cancelled, the channel given back."""

    def calling(path: str) -> None:
        import flipcall
        from tests.asyncio.conftest import PlainPost

        with flipcall.connect(PlainPost, path, transport="socket") as post:
            post.wait("one")

    async def main() -> None:
        server = LoopPost()
        async with Server(server, path) as serving:
            with child(calling, path) as client:
                await until(lambda: server.entered)
                client.kill()
                await until(lambda: server.cancelled == ["one"])
            await until(lambda: serving.channels == 0)

    run(main)


def test_stop(run: Run, path: str, room: Room) -> None:
    """What is under way is answered, idle channels end at once; after the grace handlers are cancelled."""

    async def main() -> None:
        server = LoopPost()
        serving = Server(server, path)
        await serving.start()
        with (
            await room.do(room.client) as busy,
            await room.do(room.client) as stuck,
            await room.do(room.client),
        ):
            answered = asyncio.ensure_future(room.do(busy.wait, "answered"))
            cut = asyncio.ensure_future(room.do(stuck.wait, "cut"))
            await until(lambda: len(server.entered) == 2)
            stopping = asyncio.create_task(serving.stop(grace=1.0))
            await until(lambda: serving.channels == 2)
            server.go["answered"].set()
            assert await answered == "answered"
            await stopping
            assert server.cancelled == ["cut"]
            with pytest.raises(flipcall.ClosedError):
                await cut
            assert serving.channels == 0

    run(main)


class Large(flipcall.Service):
    """For a loop."""

    async def get(self, n: int) -> bytes: ...
    async def ping(self) -> int: ...
    async def slowly(self, items: AsyncIterator[bytes]) -> int: ...


class LargeServer(Large):
    """slowly() takes items when it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.error: BaseException | None = None

    async def get(self, n: int) -> bytes:
        return bytes(n)

    async def ping(self) -> int:
        return 1

    async def slowly(self, items: AsyncIterator[bytes]) -> int:
        async for _ in items:
            break
        await self.may.wait()
        try:
            return sum([len(item) async for item in items])
        except BaseException as e:
            self.error = e
            raise


def call_of(name: str) -> int:
    """A method's number."""
    return [m.name for m in flipcall.service.contract_of(Large).methods].index(name)  # type: ignore[attr-defined]


def test_a_client_that_does_not_read(run: Run, path: str) -> None:
    """Its answer waits for room, in the loop: others are served meanwhile, and it gets all of it in the end."""

    async def main() -> None:
        size = 8 << 20
        loop = asyncio.get_running_loop()
        async with Server(LargeServer(), path) as serving, flipcall.asyncio.connect(Large, path) as other:
            slow = await loop.run_in_executor(None, RawClient, path, "socket")
            with slow:
                slow.sock.sendall(numbered({"code": call_of("get")}, encode([size])))
                await until(lambda: any(c.doing == "serving" for c in serving.statistics().channels))
                for _ in range(10):
                    assert await other.ping() == 1
                assert any(c.doing == "serving" for c in serving.statistics().channels)
                assert len(await loop.run_in_executor(None, slow._read_frame)) == HEADER.size + size

    run(main)


def test_items_that_nobody_takes(run: Run, path: str) -> None:
    """A client that sends items without end fills the socket, not this process's memory; then it goes on."""

    async def main() -> None:
        server = LargeServer()
        loop = asyncio.get_running_loop()
        async with Server(server, path) as serving:
            client = await loop.run_in_executor(None, RawClient, path, "socket")
            with client:
                client.sock.sendall(numbered({"code": call_of("slowly"), "flags": STREAM}, encode([])))
                item = numbered(
                    {"kind": ITEMS, "code": 1, "flags": STREAM, "timeout": 0}, encode(bytes(32 << 10))
                )
                client.sock.setblocking(False)
                sent = 0

                def full() -> bool:
                    nonlocal sent
                    try:
                        while sent < 64 << 20:
                            sent += client.sock.send(item[sent % len(item) :])
                    except BlockingIOError:
                        pass
                    (served,) = serving._inside._connections._all
                    return not served._serving._reading

                await until(full)
                for _ in range(100):
                    full()
                    await asyncio.sleep(0)
                assert sent < 4 << 20
                server.may.set()
                client.sock.shutdown(socket.SHUT_WR)
                await until(lambda: server.error is not None)
                await until(lambda: serving.channels == 0)
            assert isinstance(server.error, (flipcall.ClosedError, asyncio.CancelledError))

    run(main)


NONSENSE = {
    "a reply": [{"kind": 2}],
    "call 0": [{"call_id": 0}],
    "a method there is none of": [{"code": 999}],
    "a request in a call": [{"code": method("wait"), "name": 1}, {"call_id": 2, "name": 1}],
    "an item in a call": [{"code": method("wait"), "name": 1}, {"kind": ITEMS, "timeout": 0}],
    "a stream that is none": [{"code": method("echo"), "flags": STREAM, "name": 1}],
    "half a header": [],
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense(run: Run, path: str, room: Room, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """It ends the client's channel and cancels its call, and nobody else's."""

    async def main() -> None:
        server = LoopPost()
        loop = asyncio.get_running_loop()
        async with Server(server, path) as serving:
            client = await loop.run_in_executor(None, RawClient, path, "socket")
            with client, await room.do(room.client) as honest:
                for frame in NONSENSE[what]:
                    body = encode(["one"]) if frame.get("code") == method("wait") else encode([1])
                    fields = {key: value for key, value in frame.items() if key != "name"}
                    client.sock.sendall(numbered(fields, body))
                if not NONSENSE[what]:
                    client.sock.sendall(LENGTH.pack(3) + b"abc")
                assert await loop.run_in_executor(None, client._read_frame) == b""
                await until(lambda: serving.channels == 1)
                assert server.entered == server.cancelled
                assert await room.do(honest.echo, 5) == 5

    run(main)


def test_a_forked_child(run: Run, path: str, room: Room) -> None:
    """In a forked child the server is nobody's: the parent's channels go on."""

    async def main() -> None:
        async with Server(LoopPost(), path):
            with await room.do(room.client) as post:
                assert await room.do(post.echo, 1) == 1
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                os.waitpid(pid, 0)
                assert await room.do(post.echo, 2) == 2

    run(main)


def test_workers(path: str, room: Room) -> None:
    """Workers with loops serve the socket, too."""

    async def main() -> None:
        async with Server(LoopPost(), path, workers=2, start_method="fork"):
            with await room.do(room.client) as one, await room.do(room.client) as two:
                assert await room.do(one.echo, 1) == await room.do(two.echo, 1) == 1

    asyncio.run(main())


def test_a_server_without(run: Run, path: str, room: Room) -> None:
    """transports=["window"] refuses it, as flipcall.Server does."""

    async def main() -> None:
        async with Server(LoopPost(), path, transports=["window"]):
            with pytest.raises(flipcall.CallError, match="'socket' is not offered"):
                await room.do(room.client)

    run(main)


# ---- a client in a loop -------------------------------------------------------------------------------------

ANSWERS = {
    "another call's": numbered({"kind": 2, "call_id": 7, "timeout": 0}, encode(1)),
    "a request": numbered({}, encode(1)),
    "an item": numbered({"kind": ITEMS, "timeout": 0}, encode(1)),
    "none": LENGTH.pack(3) + b"abc",
    "of another type": numbered({"kind": 2, "timeout": 0}, encode("one")),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_server_that_lies(run: Run, path: str, what: str) -> None:
    """What is no answer to the call is a ProtocolError, and the channel ends unless it was one in form."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with RawServer(path) as server:
            connecting = asyncio.ensure_future(_connected(path))
            sock, _ = await loop.run_in_executor(None, server.take)
            send_message(sock, server.welcome(Post, 0))
            post = await connecting
            call = asyncio.ensure_future(post.echo(1))
            assert await loop.run_in_executor(None, sock.recv, 65536)
            sock.sendall(ANSWERS[what])
            with pytest.raises(flipcall.ProtocolError):
                await call
            pool = post._flipcall.pool  # type: ignore[attr-defined]
            assert len(pool.channels()) == (what == "of another type")
            post.close()

    run(main)


async def _connected(path: str) -> Post:
    return await flipcall.asyncio.connect(Post, path, transport="socket", timeout=20.0)


def test_items_that_the_client_does_not_take(run: Run, path: str) -> None:
    """A server that sends items without end fills the socket, not the client's memory."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with RawServer(path) as server:
            connecting = asyncio.ensure_future(_connected(path))
            sock, _ = await loop.run_in_executor(None, server.take)
            send_message(sock, server.welcome(Post, 0))
            post = await connecting
            numbers = post.count(5)
            first = asyncio.ensure_future(anext(numbers))
            assert await loop.run_in_executor(None, sock.recv, 65536)
            item = numbered({"kind": ITEMS, "code": 1, "flags": STREAM, "timeout": 0}, encode(1))
            sock.setblocking(False)
            sent = 0
            (channel,) = post._flipcall.pool.channels()  # type: ignore[attr-defined]

            def full() -> bool:
                nonlocal sent
                try:
                    while sent < 64 << 20:
                        sent += sock.send((item * 4096)[sent % len(item) :])
                except BlockingIOError:
                    pass
                return not channel._reading

            await until(full)
            assert await first == 1
            assert sent < 16 << 20
            await numbers.aclose()  # type: ignore[attr-defined]
            post.close()

    run(main)


def test_a_request_that_does_not_go(run: Run, path: str) -> None:
    """A server that does not read: the call ends at its deadline, the loop runs meanwhile; none goes half."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with RawServer(path) as server:
            connecting = asyncio.ensure_future(_connected(path))
            sock, _ = await loop.run_in_executor(None, server.take)
            send_message(sock, server.welcome(Post, 0, message_max=64 << 20))
            post = await connecting
            rounds = 0
            call = asyncio.ensure_future(flipcall.with_options(post, timeout=0.2).size(bytes(8 << 20)))
            while not call.done():
                await asyncio.sleep(0)
                rounds += 1
            with pytest.raises(flipcall.DeadlineExceeded):
                await call
            assert rounds > 10
            whole = LENGTH.size + HEADER.size + len(encode([0])) + (8 << 20)
            reading = loop.run_in_executor(None, _read, sock, whole - 4)
            assert len(await reading) == whole - 4  # what had begun goes on: the stream is not cut in a frame
            post.close()

    run(main)


def _read(sock: socket.socket, size: int) -> bytes:
    sock.settimeout(10)
    data = bytearray()
    while len(data) < size:
        data += sock.recv(min(1 << 20, size - len(data)))
    return bytes(data)
