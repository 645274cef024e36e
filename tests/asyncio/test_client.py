"""A client in a loop against a server of threads: what suspends, what cancels, what ends."""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections import deque
from functools import partial
from typing import Any

import pytest

import flipcall
import flipcall.asyncio
from tests.asyncio.conftest import Post, Run, ThreadPost, until
from tests.support import child
from tests.window import forks

connect = flipcall.asyncio.connect


class Posted(flipcall.Service, name="Posted"):
    async def blob(self, name: str) -> bytes: ...


class PlainPosted(flipcall.Service, name="Posted"):
    def blob(self, name: str) -> bytes: ...


class ThreadPosted(PlainPosted):
    def __init__(self) -> None:
        self.waits = False
        self.go = threading.Event()

    def blob(self, name: str) -> bytes:
        if name == "slow":
            self.waits = True
            self.go.wait(10)
        return name.encode()


@pytest.fixture(params=["window", "socket"], autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the clients' frames travel."""
    made = partial(flipcall.asyncio.connect, transport=request.param)
    monkeypatch.setitem(globals(), "connect", made)
    return str(request.param)


def pool_of(post: Any) -> Any:
    """The client's pool."""
    return post._flipcall.pool


def test_hundreds_at_once(run: Run, path: str) -> None:
    """Every one of many concurrent calls gets its own answer; channels grow to the limit and no further."""

    async def main() -> None:
        async with connect(Post, path, max_channels=8) as post:
            assert await asyncio.gather(*(post.echo(i) for i in range(500))) == list(range(500))
            waits = [asyncio.create_task(post.wait(str(i))) for i in range(100)]
            await until(lambda: len(server.entered) == 8)
            server.go.set()
            assert await asyncio.gather(*waits) == [str(i) for i in range(100)]
            assert len(pool_of(post).channels()) == 8

    server = ThreadPost()
    with flipcall.Server(server, path):
        run(main)


def test_first_come_first_served(run: Run, path: str) -> None:
    """Tasks that wait for a channel get it in the order they came, those that gave up left out."""

    async def main() -> None:
        async with connect(Post, path, max_channels=1) as post:
            tasks = [asyncio.create_task(post.wait(str(i))) for i in range(6)]
            await until(lambda: server.entered == ["0"])
            tasks[3].cancel()
            await asyncio.wait([tasks[3]])
            assert len(pool_of(post).waiters) == 4
            server.go.set()
            await asyncio.wait(tasks)
            assert server.entered == ["0", "1", "2", "4", "5"]
            assert tasks[3].cancelled()

    server = ThreadPost()
    with flipcall.Server(server, path):
        run(main)


def test_cancelling_a_task_cancels_the_call(run: Run, path: str) -> None:
    """The handler is told, and the channel is used again when it lets go, for the right answer."""

    async def main() -> None:
        async with connect(Post, path, max_channels=1) as post:
            task = asyncio.create_task(post.wait("one"))
            await until(lambda: server.entered)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await post.echo(5) == 5
            assert server.cancelled == ["one"]
            assert len(pool_of(post).channels()) == 1

    server = ThreadPost()
    with flipcall.Server(server, path):
        run(main)


def test_the_deadline(run: Run, path: str) -> None:
    """It ends a call that waits, and one that waits for a channel; the late answer is nobody's."""

    async def main() -> None:
        async with connect(Post, path, max_channels=1) as post:
            soon = flipcall.with_options(post, timeout=0.05)
            task = asyncio.create_task(flipcall.with_options(post, timeout=0.3).wait("deaf"))
            await until(lambda: server.entered)
            with pytest.raises(flipcall.DeadlineExceeded, match="channels"):
                await soon.echo(1)
            with pytest.raises(flipcall.DeadlineExceeded):
                await task
            server.go.set()
            assert [await post.echo(i) for i in range(3)] == [0, 1, 2]

    server = ThreadPost()
    with flipcall.Server(server, path):
        run(main)


def test_the_loop_runs_on(run: Run, path: str) -> None:
    """Neither quick calls without end nor slow ones keep the loop: a probe that wants to run every ms does."""

    async def main() -> None:
        async with connect(Post, path) as post:
            late: list[float] = []

            async def probe() -> None:
                while True:
                    before = time.monotonic()
                    await asyncio.sleep(0.001)
                    late.append(time.monotonic() - before)

            async def calls() -> int:
                n, end = 0, time.monotonic() + 0.5
                while time.monotonic() < end:
                    assert await post.echo(n) == n
                    n += 1
                return n

            task = asyncio.create_task(probe())
            slow = asyncio.create_task(post.wait("one"))
            await asyncio.gather(calls(), calls())
            server.go.set()
            await slow
            task.cancel()
            # Of 500 chances a loaded machine takes some; a loop that was kept would have given one.
            assert len(late) > 20
            assert sorted(late)[len(late) // 2] < 0.1

    server = ThreadPost()
    with flipcall.Server(server, path):
        run(main)


@pytest.mark.parametrize("transport", ["window"], indirect=True)
def test_a_call_answered_at_once_does_not_suspend(path: str) -> None:
    """Quick calls run through without a round of the loop: their coroutine never yields."""

    async def main() -> None:
        async with connect(Post, path, policy=flipcall.WaitPolicy(spin_ns=10**9, adaptive=False)) as post:
            through, patience = 0, time.monotonic() + 10
            while through < 10 and time.monotonic() < patience:  # on a busy machine few are quick
                i = through
                await asyncio.sleep(0)  # a new hold
                call: Any = post.echo(i)
                try:
                    call.send(None)
                except StopIteration as e:
                    through += e.value == i
                else:  # parked after all, as on one CPU
                    call.close()
                    await until(lambda: pool_of(post).free)
            assert through == 10

    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("nothing spins on one CPU")
    with flipcall.Server(ThreadPost(), path):
        asyncio.run(main())


def serving(path: str) -> None:
    """A server in a child."""
    import flipcall
    from tests.asyncio.conftest import ThreadPost

    server = flipcall.Server(ThreadPost(), path)
    server.start()
    say("serves")  # type: ignore[name-defined]  # noqa: F821
    hear()  # type: ignore[name-defined]  # noqa: F821
    server.stop(grace=0.1)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_the_server_goes_away(run: Run, path: str, how: str, transport: str) -> None:
    """Killed or stopped, its end wakes every call that waits, at once; later calls fail, too. (A stream that a
    process closes just before its end tells of its end.)
    """

    async def main() -> None:
        async with connect(Post, path) as post:
            waits = [asyncio.create_task(post.wait(str(i))) for i in range(3)]
            await asyncio.sleep(0)
            await until(lambda: len(pool_of(post).channels()) == 3)
            await asyncio.sleep(0.05)
            if how == "kill":
                server.kill()
            else:
                server.tell("end")
            done, _ = await asyncio.wait(waits, timeout=10)
            kinds: tuple[type[Exception], ...] = (flipcall.PeerDiedError,)
            if how == "stop":
                kinds = (flipcall.ClosedError, flipcall.CallError, *(kinds if transport == "socket" else ()))
            assert len(done) == 3
            assert all(isinstance(t.exception() or flipcall.ClosedError(), kinds) for t in done)
            if how == "stop":
                assert server.wait() == 0
            with pytest.raises((flipcall.ClosedError, flipcall.PeerDiedError, OSError)):
                await post.echo(1)

    with child(serving, path) as server:
        server.expect("serves")
        run(main)
    gc.collect()  # exceptions and tasks hold one another, and the channels' windows


def test_close_ends_what_waits(run: Run, path: str) -> None:
    """close() ends calls under way and those that wait for a channel, with ClosedError; and later ones."""

    async def main() -> None:
        post = await connect(Post, path, max_channels=1)
        waits = [asyncio.create_task(post.wait(str(i))) for i in range(2)]
        await until(lambda: server.entered)
        post.close()
        for done in await asyncio.gather(*waits, return_exceptions=True):
            assert isinstance(done, flipcall.ClosedError)
        with pytest.raises(flipcall.ClosedError):
            await post.echo(1)
        post.close()
        server.go.set()

    server = ThreadPost()
    with flipcall.Server(server, path):
        run(main)


@pytest.mark.parametrize("transport", ["window"], indirect=True)
def test_rings_without_end(run: Run, path: str) -> None:
    """A server that floods the control socket with rings and nonsense does not keep the loop, nor mix up
    answers."""

    async def main() -> None:
        async with connect(Post, path) as post:
            assert await post.echo(1) == 1
            (serving,) = server._inside._connections.live()
            for junk in (bytes(8), b"\x01" * 8, b"\x00" * 3):
                try:
                    while True:
                        serving.socket.send(junk)
                except BlockingIOError:
                    pass
                began = time.monotonic()
                assert [await post.echo(i) for i in range(10)] == list(range(10))
                await asyncio.sleep(0.01)
                assert time.monotonic() - began < 5

    server = flipcall.Server(ThreadPost(), path)
    with server:
        run(main)


def test_streams_that_fill_the_window(run: Run, path: str) -> None:
    """More items than the window holds, both ways and each way; a stream that is left early."""

    async def main() -> None:
        async with connect(Post, path, max_channels=1) as post:
            assert await post.total(_numbers(30_000)) == sum(range(30_000))
            assert [x async for x in post.count(30_000)] == list(range(30_000))
            assert [x async for x in post.doubled(_numbers(300))] == [2 * x for x in range(300)]
            async for x in post.count(10**9):
                if x == 1000:
                    break
            assert await post.echo(1) == 1

    with flipcall.Server(ThreadPost(), path):
        run(main)


async def _numbers(n: int) -> Any:
    for i in range(n):
        yield i


def test_a_request_larger_than_the_window(run: Run, path: str) -> None:
    """It goes in parts, several at once over several channels."""

    async def main() -> None:
        async with connect(Post, path) as post:
            sizes = [10**6, 10**5, 3 * 10**6, 0]
            assert await asyncio.gather(*(post.size(bytes(n)) for n in sizes)) == sizes

    with flipcall.Server(ThreadPost(), path):
        run(main)


def test_a_contract_of_the_wrong_kind(path: str) -> None:
    """Each door wants its own kind of method, and says which one is not."""

    class Mixed(flipcall.Service):
        async def a(self) -> int: ...
        def b(self) -> int: ...

    with pytest.raises(flipcall.MisuseError, match=r"Mixed\.b must be `async def`"):
        connect(Mixed, path)
    with pytest.raises(flipcall.MisuseError, match=r"Mixed\.a must be a plain `def`"):
        flipcall.connect(Mixed, path)


def test_nobody_listens(run: Run, path: str) -> None:
    """What connecting raises, connect() raises."""

    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await connect(Post, path)

    run(main)


def test_in_a_forked_child(path: str) -> None:
    """There it raises ForkedError, and what the child drops is not missed by the parent's loop."""

    async def main() -> None:
        async with connect(Post, path) as post:
            assert await post.echo(1) == 1
            pid = os.fork()
            if not pid:
                code = 1
                pool_of(post).hold.until = 0.0  # so that the call looks whose loop this is
                try:
                    post.echo(2).send(None)  # type: ignore[attr-defined]
                except flipcall.ForkedError:
                    post.close()
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0
            task = asyncio.create_task(post.wait("one"))
            await until(lambda: server.entered)
            server.go.set()
            assert await task == "one"

    server = ThreadPost()
    with flipcall.Server(server, path):
        asyncio.run(main())


def test_a_stream_in_a_forked_child(path: str) -> None:
    """What had come before the fork is there; then it raises ForkedError, and the parent reads on."""

    async def main() -> None:
        async with connect(Post, path) as post:
            numbers = post.count(100_000)
            assert await numbers.__anext__() == 0

            async def read_all() -> None:
                async for _ in numbers:
                    pass

            def read_on() -> None:
                reading = read_all()
                with pytest.raises(flipcall.ForkedError):
                    deque(
                        iter(partial(reading.send, None), reading), 0
                    )  # though no loop runs, it takes breath

            assert forks.run(read_on) == 0
            assert [n async for n in numbers] == list(range(1, 100_000))
            assert await post.echo(1) == 1

    with flipcall.Server(ThreadPost(), path):
        asyncio.run(main())


def test_in_a_forked_childs_own_loop(path: str) -> None:
    """A client that was inherited is refused as such, not for the loop."""

    async def main() -> None:
        async with connect(Post, path) as post:
            assert await post.echo(1) == 1

            async def call() -> None:
                with pytest.raises(flipcall.ForkedError):
                    await post.echo(2)

            assert await asyncio.to_thread(forks.run, lambda: asyncio.run(call())) == 0
            assert await post.echo(3) == 3

    with flipcall.Server(ThreadPost(), path):
        asyncio.run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_in_another_loop(path: str, debug: bool) -> None:
    """A call that would have to wait there is a MisuseError, and the client's own loop goes on using it."""

    async def there(call: Any) -> str:
        with pytest.raises(flipcall.MisuseError, match="another event loop"):
            await call
        return "refused"

    async def main() -> None:
        async with connect(Post, path, max_channels=1) as post:
            away = await asyncio.to_thread(asyncio.run, there(post.wait("one")))
            server.go.set()
            assert away == "refused"
            assert await asyncio.wait_for(post.echo(5), 5) == 5
            pool_of(post).free.clear()  # as when all are in use
            away = await asyncio.to_thread(asyncio.run, there(post.echo(1)))
            assert away == "refused"

    server = ThreadPost()
    with flipcall.Server(server, path):
        asyncio.run(main(), debug=debug)


def test_ctrl_c(path: str) -> None:
    """It cancels the main task, and with it the call it waits for."""

    def calling(path: str) -> None:
        import asyncio

        import flipcall.asyncio
        from tests.asyncio.conftest import Post

        async def main() -> None:
            async with flipcall.asyncio.connect(Post, path) as post:
                say("calls")  # type: ignore[name-defined]  # noqa: F821
                await post.wait("one")

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            say("interrupted")  # type: ignore[name-defined]  # noqa: F821

    server = ThreadPost()
    with flipcall.Server(server, path), child(calling, path) as caller:
        caller.expect("calls")
        while not server.entered:
            time.sleep(0.001)
        caller.signal(signal.SIGINT)
        caller.expect("interrupted")
        while not server.cancelled:
            time.sleep(0.001)


def test_a_view_in_a_task_that_is_cancelled(run: Run, path: str) -> None:
    """Cancelled before it is there, or inside the block: the channel is given back either way."""
    server = ThreadPosted()

    async def main() -> None:
        with flipcall.Server(server, path):
            async with connect(Posted, path, max_channels=1) as post:
                entered = asyncio.Event()

                async def look() -> None:
                    async with flipcall.asyncio.view(post.blob, "slow") as seen:
                        assert bytes(seen) == b"slow"
                        entered.set()
                        await asyncio.Event().wait()

                waiting = asyncio.create_task(look())
                await until(lambda: server.waits)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                server.go.set()
                inside = asyncio.create_task(look())
                await entered.wait()
                inside.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await inside
                buffer = bytearray(5)
                assert await flipcall.asyncio.into(buffer, post.blob, "ab") == 2
                assert buffer == b"ab\0\0\0"

    run(main)
